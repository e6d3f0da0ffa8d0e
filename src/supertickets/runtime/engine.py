"""Run a ticket's file on images, without PyTorch."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..errors import UserError
from .choices import load_choices
from .fallback import Fallback
from .graph import Graph, infer_values, load_graph, run_node
from .library import Library, load_library
from .plan import Plan
from .threads import PerProcess, Pool, usable_cores
from .tuning import Tuner

Array = npt.NDArray[Any]
FallbackMode = Literal["auto", "never", "always"]
_FLOAT = np.dtype(np.float32)
_PLANS, _SHAPES = 16, 64  # that are kept
_PLAN_BYTES = 1 << 28  # of the memory of all plans that are kept, but for the last one


class Engine:
    """A network that is ready to run: takes preprocessed images (B, C, H, W), returns its scores.

    Attributes:
        graph: Its operations and weights.
        about: Entries of the file beside the network: classes, preprocessing and others of the task.
        library: The kernels; None to compute with numpy, which is slow.
        threads: Threads of a call; the scores do not depend on their number.

    Args:
        tune: Whether layers take the form that is the fastest by timing; see `load`.
        fallback: When another engine runs the images; see `load`.
    """

    def __init__(
        self,
        graph: Graph,
        about: Mapping[str, str],
        library: Library | None = None,
        *,
        threads: int | None = None,
        tune: bool = True,
        fallback: FallbackMode = "never",
    ) -> None:
        self.graph, self.library = graph, library
        self.threads = usable_cores() if threads is None else threads
        if self.threads < 1:
            raise UserError(f"threads={threads} is out of range; use 1 or more, or None for all cores")
        self._pool = None if library is None else Pool(library, self.threads)
        self._lock, self._tune = PerProcess(threading.Lock), tune
        self._choices = load_choices(0 if library is None else library.width)
        if fallback not in get_args(FallbackMode):
            raise UserError(f"fallback={fallback!r} is unknown; use one of {', '.join(get_args(FallbackMode))}")
        modes = {"always": fallback == "always", "slow": library is None}
        wanted = fallback == "always" or (fallback == "auto" and tune)
        self._fallback = Fallback(graph, self.threads, self._choices, **modes) if wanted else None
        self.about = {name: _plain(text) for name, text in about.items()}
        self._plans: dict[tuple[int, ...], Plan] = {}
        self._checked: set[tuple[int, ...]] = set()  # shapes of images that fit

    def __call__(self, images: Any) -> Any:
        """Return the scores of images; of networks with several outputs a tuple of arrays.

        Args:
            images: Array (B, C, H, W), float32.

        Raises:
            UserError: The images do not fit.
        """
        # Small networks take some microseconds, as does a check.
        if not (
            type(images) is np.ndarray
            and images.dtype is _FLOAT
            and images.shape in self._checked
            and images.flags.c_contiguous
        ):
            images = self._check(images)
        outputs = self._run(images) if self._fallback is None else self._fallback.run(images, self._run)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _check(self, images: Any) -> Array:
        """Return images as an array that fits; see `__call__`."""
        images = self.graph.check_images(images)
        infer_values(self.graph, (1, *images.shape[1:]))  # says what is too small for the network
        if len(self._checked) < _SHAPES:
            self._checked.add(images.shape)
        return images

    def _run(self, images: Array) -> list[Array]:
        """Return the outputs for images, without another runtime."""
        if self.library is None:
            return run_graph(self.graph, images)
        return (self._plans.get(images.shape[1:]) or self.plan(images.shape[1:])).run(images)

    def plan(self, size: tuple[int, ...]) -> Plan:
        """Return the steps for images of a size (C, H, W); those of the last few sizes are kept."""
        assert self.library is not None
        with self._lock.value:
            if size not in self._plans:
                while self._plans and (
                    len(self._plans) >= _PLANS or sum(plan.memory for plan in self._plans.values()) > _PLAN_BYTES
                ):
                    del self._plans[next(iter(self._plans))]
                tuner = Tuner(self.library, self._choices) if self._tune else None
                self._plans[size] = Plan(self.graph, self.library, size, self._pool, tuner)
                if tuner is not None:
                    tuner.finish()
            return self._plans[size]


def load(
    path: str | Path,
    *,
    kernels: bool = True,
    threads: int | None = None,
    tune: bool = True,
    fallback: FallbackMode = "auto",
) -> Engine:
    """Return a network from a file that ``supertickets export --format sparse`` wrote.

    Args:
        path: The file.
        kernels: Whether to use the kernels, if they are installed or can be compiled, or numpy alone, which no other
            engine replaces unless ``fallback`` is "always".
        threads: Threads of a call; None for one per physical core that the process may use. Threads that call one
            network at the same time wait for each other; to serve many, load it once for each with ``threads=1``.
        tune: Whether to check by timing which form of a layer is the fastest here, at the first images of a size and
            for 0.3 s at most; a model alone chooses otherwise, which makes scores the same to the bit every time.
        fallback: "auto" to time the network in onnxruntime and OpenVINO as well, at the first images of a size, and to
            run it in the fastest, which a warning says if it is another; only for networks with few zeros, or where
            there are no kernels, in those of them that are installed (with onnx), and if ``tune``. "never" for this
            runtime alone, "always" for the faster of the others.

    Raises:
        UserError: The file cannot be read, is damaged, or holds what cannot run.
    """
    graph, about = load_graph(path)
    library = load_library() if kernels else None
    if not kernels and fallback == "auto":
        fallback = "never"
    return Engine(graph, about, library, threads=threads, tune=tune, fallback=fallback)


def run_graph(graph: Graph, images: Array) -> list[Array]:
    """Return the outputs of a graph, computed operation by operation with numpy."""
    values: dict[str, Array] = {**graph.tensors, graph.input: images}
    last_use = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    for i, node in enumerate(graph.nodes):
        outputs = run_node(node, [values[name] if name else None for name in node.inputs])
        values.update(zip(node.outputs, outputs, strict=True))
        for name in set(node.inputs):
            if name and last_use[name] == i and name not in graph.outputs:
                del values[name]
    return [np.ascontiguousarray(values[name]) for name in graph.outputs]


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
