"""Measure what bounds the kernels of the sparse runtime: ``python benchmarks/kernel_peak.py``.

Single layers with zeros drawn at random, on one thread; time is that of the thread's processor, the least of several
repeats. GFLOP/s count weights that are not zero, two operations each, on real pixels: not padding, and not the zeros
that a block takes along. Beside them stands what the core reaches with nothing but products in registers, with loads
from its first cache, and with reads of as many bytes, over and over: the times that a layer's products, loads and bytes
would need at these rates. The longest bounds it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supertickets.cost.latency import device_name
from supertickets.runtime import native
from supertickets.runtime.graph import Graph, Node
from supertickets.runtime.kernels import build
from supertickets.runtime.library import Library, load_library
from supertickets.runtime.lowering import LOWERINGS
from supertickets.runtime.planner import PlannedStep, Planner

Array = npt.NDArray[Any]
RESULTS = Path(__file__).parent / "results" / "kernel_peak.json"
_SOURCE = Path(__file__).parent / "kernel_peak.cpp"
_DENSE = (0.0, 1)
_PATTERNS = (_DENSE, (0.85, 1), (0.85, 4), (0.85, 8))


@dataclass(frozen=True)
class Layer:
    """A layer.

    Attributes:
        kind: Its kind, as the table has it.
        size: Channels, height and width of the input; of a linear layer 1, rows and inputs.
        channels: Output channels.
        kernel: Side of the kernel; 0 for a linear layer.
        groups: Groups of channels.
        stride: Stride.
        patterns: Shares of zeros, and output channels that share them.
    """

    kind: str
    size: tuple[int, int, int]
    channels: int
    kernel: int
    groups: int = 1
    stride: int = 1
    patterns: tuple[tuple[float, int], ...] = _PATTERNS


LAYERS = (
    Layer("1x1", (128, 28, 28), 128, 1),
    Layer("3x3", (64, 28, 28), 64, 3),
    Layer("3x3, small map", (256, 7, 7), 256, 3),
    Layer("depthwise 3x3", (128, 28, 28), 128, 3, groups=128, patterns=_PATTERNS[:2]),
    Layer("stem 3x3, stride 2", (3, 112, 112), 32, 3, stride=2, patterns=(_DENSE,)),
    Layer("linear, 1 row", (1, 1, 512), 512, 0, patterns=(_DENSE,)),
    Layer("linear, 196 rows", (1, 196, 128), 128, 0, patterns=(_DENSE,)),
)


class Peaks:
    """Rates of one core.

    Attributes:
        products: Floats that are multiplied and added per second.
        loads: Floats that are loaded from the first cache per second.
        crossing_loads: The same where every other vector crosses a cache line, or every one of 64 bytes.
    """

    def __init__(self, width: int, folder: Path) -> None:
        path = folder / "peak.so"
        flags = [*build._FLAGS, *build._WIDTHS[width], f"-DVW={width}", f"-I{build.SOURCES}"]
        subprocess.run(["c++", *flags, "-o", str(path), str(_SOURCE)], check=True)
        self._library = ctypes.CDLL(str(path))
        for name in ("product_rate", "load_rate", "read_rate"):
            getattr(self._library, name).restype = ctypes.c_double
        raw = np.zeros(2**26 + 64, np.float32)
        self._values = raw[-raw.ctypes.data % 64 // 4 :][: 2**26]
        self._values[:] = 1
        self._address = ctypes.c_void_p(self._values.ctypes.data)
        self.products: float = max(self._library.product_rate(ctypes.c_int64(2_000_000)) for _ in range(5))
        self.loads, self.crossing_loads = (
            max(self._library.load_rate(self._address, offset, ctypes.c_int64(20_000)) for _ in range(5))
            for offset in (0, 5)
        )

    def bandwidth(self, size: float) -> float:
        """Return the bytes per second that are read where so many bytes are read over and over."""
        count = min(len(self._values), max(128, int(size / 4)))
        repeats = max(1, 2**24 // count)
        return max(self._library.read_rate(self._address, ctypes.c_int64(count), repeats) for _ in range(5))


def draw_weights(layer: Layer, sparsity: float, block: int) -> Array:
    """Return weights (O, I, K, K), or (O, I), with blocks of zeros."""
    random = np.random.default_rng(0)
    depth = layer.size[0] // layer.groups if layer.kernel else layer.size[2]
    shape = (depth, layer.kernel, layer.kernel) if layer.kernel else (depth,)
    flags = (random.random((-(-layer.channels // block), *shape)) >= sparsity).repeat(block, 0)[: layer.channels]
    return (random.standard_normal((layer.channels, *shape)) * flags).astype(np.float32)


def plan_layer(layer: Layer, weights: Array, library: Library) -> list[PlannedStep]:
    """Return the steps of a layer, without those that bring its input into the form of a map."""
    pads, activation = (layer.kernel // 2,) * 4, {"activation": ("relu",)}
    window = {"strides": (layer.stride,) * 2, "pads": pads, "dilations": (1, 1), "groups": layer.groups}
    attributes = {**window, **activation} if layer.kernel else activation
    node = Node("conv" if layer.kernel else "linear", ("images", "w", "b"), ("out",), attributes)
    tensors = {"w": weights, "b": np.ones(layer.channels, np.float32)}
    planner = Planner(Graph("images", (None, *layer.size), layer.size, ("out",), (node,), tensors), library, layer.size)
    steps = [step for step in planner.plan(LOWERINGS) if isinstance(step, PlannedStep)]
    kinds = (native.Convolution, native.Product)
    return _held([step for step in steps if isinstance(step.arguments, kinds)], planner)


_PLANNERS: list[Planner] = []


def _held(steps: list[PlannedStep], planner: Planner) -> list[PlannedStep]:
    _PLANNERS.append(planner)  # it has the memory that the steps point to
    return steps


@dataclass
class Work:
    """The work of a layer: floats multiplied, floats loaded in whole lines and across lines, bytes of weights."""

    products: float = 0
    loads: float = 0
    crossing_loads: float = 0
    weights: float = 0


def count_work(steps: Sequence[PlannedStep], width: int) -> Work:
    """Return the work of the steps of a layer; a weight that is loaded for a whole vector counts as one."""
    work = Work()
    for step in steps:
        a = step.arguments
        if isinstance(a, native.Product):
            matrix = a.inner * a.b_pitch
            work.products += a.count * a.rows * matrix
            work.loads += a.count * (-(-a.rows // 4) * matrix + a.rows * matrix / 4)
            work.weights += 4 * matrix
            continue
        taps = ctypes.cast(a.begins, ctypes.POINTER(ctypes.c_int32))[a.blocks]
        pixels = step.vectors * width
        work.products += taps * a.block * pixels
        work.loads += taps * pixels * a.block / max(1, min(12, 24 // a.block))
        whole = a.aligned or (a.block == 1 and width == 16)  # these are put together from whole lines
        work.loads += taps * pixels * whole
        work.crossing_loads += taps * pixels * (not whole)
        work.weights += taps * (4 + 4 * a.block)
    return work


def measure(layer: Layer, pattern: tuple[float, int], library: Library, peaks: Peaks) -> dict[str, Any]:
    """Return the figures of a layer with a pattern of zeros."""
    weights = draw_weights(layer, *pattern)
    steps = plan_layer(layer, weights, library)
    table = native.make_table([(step.arguments, 0, step.vectors, 1) for step in steps])
    seconds = 1e-3 * min(library.time(table, 50) for _ in range(20))
    height, width = (-(-side // layer.stride) for side in layer.size[1:])
    pixels = height * width if layer.kernel else layer.size[1]
    operations = 2.0 * np.count_nonzero(weights) * pixels
    work = count_work(steps, library.width)
    moved = work.weights + 4.0 * (np.prod(layer.size) + layer.channels * pixels)
    bounds = {
        "products": work.products / peaks.products,
        "loads": work.loads / peaks.loads + work.crossing_loads / peaks.crossing_loads,
        "bytes": moved / peaks.bandwidth(moved),
    }
    bound = max(bounds, key=bounds.__getitem__)
    blocks = sorted({step.arguments.block for step in steps if isinstance(step.arguments, native.Convolution)})
    return {
        **{"layer": layer.kind, "size": list(layer.size), "channels": layer.channels},
        **{"sparsity": pattern[0], "block": pattern[1], "kernel_blocks": blocks, "us": round(1e6 * seconds, 2)},
        "gflops_nonzero": round(1e-9 * operations / seconds, 1),
        "gflops_done": round(2e-9 * work.products / seconds, 1),
        "gbytes": round(1e-9 * moved / seconds, 1),
        "bounds_us": {name: round(1e6 * value, 2) for name, value in bounds.items()},
        **{"bound": bound, "share_of_bound": round(bounds[bound] / seconds, 2)},
    }


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file to write")
    options = parser.parse_args(words)
    library = load_library()
    if library is None:
        sys.exit("there are no kernels to measure")
    with tempfile.TemporaryDirectory() as folder:
        peaks = Peaks(library.width, Path(folder))
    about = {"command": " ".join(["python", "benchmarks/kernel_peak.py", *sys.argv[1:]]), "device": device_name()}
    about |= {"threads": "1", "vector": str(library.width), "numpy": np.__version__}
    peak = {
        "gflops": round(2e-9 * peaks.products, 1),
        "loads_gbytes": round(4e-9 * peaks.loads, 1),
        "crossing_loads_gbytes": round(4e-9 * peaks.crossing_loads, 1),
        "memory_gbytes": round(1e-9 * peaks.bandwidth(2**28), 1),
    }
    print(peak)
    rows = []
    for layer in LAYERS:
        for pattern in layer.patterns:
            row = measure(layer, pattern, library, peaks)
            rows.append(row)
            zeros = f"{row['sparsity']:4.0%} in {row['block']}"
            speed = f"{row['us']:8.2f} us {row['gflops_nonzero']:7.1f} GFLOP/s {row['gbytes']:6.1f} GB/s"
            print(f"{row['layer']:20} {zeros} {speed}  {row['bound']} ({row['share_of_bound']:.0%})", flush=True)
    options.out.write_text(json.dumps({**about, "peak": peak, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
