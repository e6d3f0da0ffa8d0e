"""Give the sparse runtime damaged files and odd shapes: ``python benchmarks/fuzz_runtime.py --inputs 100000``.

The kernels are compiled with AddressSanitizer and UBSan, one process per vector width. Every input has to end in scores
or in one UserError of one line; everything else is a fault, and is printed with its number, which makes it again.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fuzz_files import write_case
from supertickets import UserError
from supertickets.runtime import arena, limits, planner
from supertickets.runtime.engine import Engine
from supertickets.runtime.graph import load_graph
from supertickets.runtime.kernels import build
from supertickets.runtime.library import Library

RESULTS = Path(__file__).parent / "results" / "fuzz_runtime.json"
ROOT = Path(__file__).parents[1]
FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g", "-O1", "-fno-omit-frame-pointer")
_SECONDS = 60  # of one input
_LARGEST = 2**20  # elements of a value: here nothing is large, so that many inputs fit into an hour


def separate_arrays(self: arena.Arena, count: int, kind: Any = np.float32) -> Any:
    """Give every array memory of its own, with just the room behind it that kernels may read: more is noticed."""
    size = count * np.dtype(kind).itemsize
    self._left -= size
    if self._left < 0:
        raise UserError("the network needs too much memory for images of this size; give smaller images")
    raw = np.zeros(size + 64 + 128, np.uint8)
    first = -raw.ctypes.data % 64
    out = raw[first : first + size + 128].view(kind)[:count]
    self.arrays.append(out)
    return out


def run_case(seed: int, kernels: Library, path: Path) -> str:
    """Return what became of an input: "scores", "refused", or a fault in words."""
    kind, size = write_case(seed, path)
    random = np.random.default_rng(seed)
    signal.alarm(_SECONDS)
    try:
        graph, about = load_graph(path)
        engine = Engine(graph, about, kernels, threads=1, tune=False)
        images = random.standard_normal((1, *(size or graph.example))).astype(np.float32)
        with np.errstate(all="ignore"):
            engine(images)
        return f"{kind}: scores"
    except UserError as error:
        return f"{kind}: refused" if len(str(error).splitlines()) == 1 else f"fault: several lines: {error}"
    except Exception:
        return "fault: " + " | ".join(traceback.format_exc().strip().splitlines()[-3:])
    finally:
        signal.alarm(0)


def run_cases(library: Path, first: int, count: int) -> None:
    """Run inputs one after the other; prints the number of each before it, faults, and the sums."""
    arena.Arena.zeros = separate_arrays  # type: ignore[method-assign]
    limits.LARGEST = planner.LARGEST = _LARGEST
    warnings.simplefilter("ignore")
    kernels, ends = Library(library), collections.Counter[str]()
    with tempfile.TemporaryDirectory() as folder, (library.parent / "at").open("w") as at:
        for seed in range(first, first + count):
            at.seek(0)
            at.write(f"{seed:12}")
            at.flush()
            end = run_case(seed, kernels, Path(folder) / "file")
            ends[end if not end.startswith("fault") else "fault"] += 1
            if end.startswith("fault"):
                print(f"input {seed}: {end}", file=sys.stderr, flush=True)
    print(json.dumps(ends))


def sanitizer_libraries() -> str | None:
    """Return the libraries to load in front of Python; None if the compiler has none."""
    compiler = os.environ.get("CXX", "c++")
    names = ("libasan.so", "libubsan.so")
    paths = [subprocess.check_output([compiler, f"-print-file-name={name}"], text=True).strip() for name in names]
    return " ".join(paths) if all(Path(path).is_absolute() for path in paths) else None


def compile_sanitized(folder: Path, width: int) -> tuple[Path, bool]:
    """Return the kernels with sanitizers, and whether two vectors stand for one that this processor has not got.

    Only AVX-512 can be replaced so: the kernels read and write the same memory, by other instructions.

    Raises:
        build.NoCompiler: They cannot be compiled.
    """
    widest = ctypes.CDLL(str(build.compile_library(folder, 0))).supertickets_widest()
    replaced = width == 16 and widest == 8
    narrow = ("-mno-avx512f", "-mavx2", "-mfma") if replaced else ()
    return build.compile_library(folder, width, (*FLAGS, *narrow)), replaced


def fuzz(path: Path, first: int, count: int) -> tuple[dict[str, int], list[str]]:
    """Return how inputs ended with kernels that were compiled with sanitizers, and the faults.

    Raises:
        build.NoCompiler: The compiler has no sanitizers.
    """
    libraries = sanitizer_libraries()
    if libraries is None:
        raise build.NoCompiler("the compiler has no sanitizers")
    places = os.pathsep.join(str(ROOT / place) for place in ("src", "benchmarks"))
    environment = {**os.environ, "LD_PRELOAD": libraries, "PYTHONPATH": places}
    environment |= {"ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1", "SUPERTICKETS_KERNELS": "off"}
    ends, faults, end = collections.Counter[str](), [], first + count
    while first < end:
        command = [sys.executable, __file__, "--cases", str(path), "--first", str(first), "--inputs", str(end - first)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        faults += [line for line in done.stderr.splitlines() if line.startswith("input ")]
        said = [line for line in done.stderr.splitlines() if "SUMMARY" in line or "runtime error" in line]
        if done.returncode == 0:
            ends.update(json.loads(done.stdout.splitlines()[-1]))
            break
        at = int((path.parent / "at").read_text())
        reason = said or done.stderr.splitlines()[-1:] or [f"status {done.returncode}"]
        faults.append(f"input {at}: the process ended: {reason[0]}")
        ends["fault"] += 1
        ends["unknown"] += at - first
        first = at + 1
    return dict(ends), faults


def main(words: Sequence[str] | None = None) -> int:
    """Fuzz with the kernels of every width, print faults, write the sums."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs of all widths together (default: 100000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first (default: 0)")
    parser.add_argument("--widths", type=int, nargs="+", default=build.possible_widths(), help="floats per vector")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file to write")
    parser.add_argument("--cases", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.cases:
        run_cases(options.cases, options.first, options.inputs)
        return 0
    rows, count, begin = [], -(-options.inputs // len(options.widths)), time.perf_counter()
    for i, width in enumerate(options.widths):
        with tempfile.TemporaryDirectory() as folder:
            path, replaced = compile_sanitized(Path(folder), width)
            ends, faults = fuzz(path, options.first + i * count, count)
        print(f"vectors of {width}{' (as two of 8)' if replaced else ''}: {ends}", *faults, sep="\n", flush=True)
        row: dict[str, Any] = {"width": width, "as_two_of_8": replaced, "inputs": sum(ends.values())}
        rows.append(row | {"faults": len(faults), "ends": ends})
    about = {"command": " ".join(["python", "benchmarks/fuzz_runtime.py", *sys.argv[1:]])}
    about |= {"numpy": np.__version__, "minutes": str(round((time.perf_counter() - begin) / 60, 1))}
    options.out.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")
    return int(any(row["faults"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
