"""Write a graph as a C program for images of one size, compile it, run it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import UserError
from ...runtime.graph import Graph
from ...runtime.lowering import LOWERINGS
from ...runtime.planner import PlannedStep, Planner
from ...runtime.schedule import schedule
from .calls import make_call
from .layout import Layout
from .text import COMMAND, PROGRAM, makefile, network_header, network_readme, network_source, rename

Array = npt.NDArray[Any]
SOURCE = "network.c"
_OTHER_SOURCES = ("vectors.h", "convolution.h", "maps.h", "products.h", "main.c")


class _AnyVectors:
    """Vectors of 16 floats: what is laid out for them suits those of 8 and 4 as well."""

    width = 16


def check_name(name: str) -> None:
    """Check that names in C may begin with a word.

    Raises:
        UserError: They may not.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,40}", name):
        raise UserError(f"--name {name} begins no name in C; use letters, digits and _, a letter first")


def write_program(graph: Graph, folder: Path, about: Mapping[str, Any], name: str = PROGRAM) -> None:
    """Write the sources of a network for images of the graph's example size.

    Args:
        graph: The network.
        folder: Folder to write into.
        about: Entries of the ticket beside the network; "preprocessing" is needed.
        name: Word that all names begin with which other sources see, so that one program may hold several networks.

    Raises:
        UserError: The network has operations that the C kernels lack; all of them are named.
    """
    planner = Planner(graph, _AnyVectors(), graph.example)
    planner.plan(LOWERINGS)
    outputs = planner.outputs()
    if planner.left_to_numpy:
        kinds = ", ".join(sorted({node.operation for node in planner.left_to_numpy}))
        raise UserError(f"there is no C for {kinds} as this network uses it; export with --format sparse instead")
    layout = Layout(planner)
    steps = [step for step in planner.steps if isinstance(step, PlannedStep)]
    calls = {id(step): make_call(layout, step.arguments) for step in steps}
    parts = [(calls[id(step)], first, last) for step, first, last, *_ in schedule(steps)]
    before = [f"memcpy({layout.expression(planner.images.ctypes.data)}, images, {planner.images.nbytes});"]
    after, scores = [], 0
    for out in outputs:
        after.append(f"memcpy(scores + {scores}, {layout.expression(out.ctypes.data)}, {out.nbytes});")
        scores += out.size
    numbers = {
        **dict(zip(("channels", "height", "width"), graph.example, strict=True)),
        "scores": scores,
        "shapes": ", ".join(" x ".join(map(str, out.shape[1:])) for out in outputs),
        "memory": 4 * (layout.floats + layout.integers),
        "constants": layout.constants.bytes,
    }
    sizes = {"floats": layout.floats, "integers": max(layout.integers, 1)}
    texts = {
        SOURCE: network_source(sizes, layout.prepare, parts, before, after),
        "weights.h": "/* Constants of the network. */\n" + layout.constants.source(),
        "network.h": network_header(numbers, about),
        "README.md": network_readme(numbers),
        "Makefile": makefile(),
    }
    texts |= {file: (Path(__file__).parent / file).read_text() for file in _OTHER_SOURCES}
    for file, text in texts.items():
        (folder / file).write_text(rename(text, name))


def find_compiler() -> list[str]:
    """Return the command of this machine's C compiler: ``CC``, which may be several words, or cc, gcc, clang.

    It is empty if there is none.
    """
    commands = (shlex.split(os.environ.get("CC", "")), ["cc"], ["gcc"], ["clang"])
    return next((command for command in commands if command and shutil.which(command[0])), [])


def compile_program(folder: Path, out: Path, command: str = COMMAND) -> None:
    """Compile the sources in a folder for this machine.

    Args:
        folder: The sources.
        out: The program to write.
        command: What the instructions say; its first word stands for the compiler of this machine.

    Raises:
        RuntimeError: There is no compiler, or it refuses them.
    """
    words = [str(out.absolute()) if word == PROGRAM else word for word in command.split()[1:]]
    compiler = find_compiler() or ["cc"]
    done = subprocess.run([*compiler, *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the C compiler refuses the network: {done.stderr.strip()[:2000]}")


def run_program(program: Path, images: Array) -> Array:
    """Return the scores (B, scores) that a program prints for preprocessed images (B, C, H, W)."""
    given = np.ascontiguousarray(images, np.float32).tobytes()
    done = subprocess.run([str(program)], input=given, capture_output=True, check=True)
    scores = np.array([line.split() for line in done.stdout.splitlines()], np.float32)
    return scores.reshape(len(images), -1)
