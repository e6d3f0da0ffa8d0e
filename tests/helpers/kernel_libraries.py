"""The ways to run a graph of the sparse runtime: numpy, and the kernels for every vector width of this processor."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from supertickets.runtime import library
from supertickets.runtime.engine import Engine
from supertickets.runtime.graph import Graph
from supertickets.runtime.kernels import build
from supertickets.runtime.onnx_writer import write_onnx
from supertickets.runtime.rivals import OnnxRuntime

NUMPY, ONNXRUNTIME = 0, -1
BACKENDS = [NUMPY, *build.possible_widths()]


def widest_vectors() -> int:
    """Return the floats of the widest vectors that this processor has; without a compiler the test is skipped."""
    try:
        return int(ctypes.CDLL(str(library._library_path(0))).supertickets_widest())
    except build.NoCompiler as error:
        pytest.skip(str(error))


def kernels_or_skip(width: int) -> library.Library | None:
    """Return the kernels of a vector width, compiled in the user's cache; none for numpy."""
    if width == NUMPY:
        return None
    if width > widest_vectors():
        pytest.skip(f"this processor has no vectors of {width} floats")
    return library.load_library(width)


def run_on(backend: int, graph: Graph, images: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], ...]:
    """Return the outputs of a graph, computed in one of the ways."""
    if backend == ONNXRUNTIME:
        return tuple(OnnxRuntime().build(write_onnx(graph, images.shape[1:]), threads=1)(images))
    outputs = Engine(graph, {}, kernels_or_skip(backend), tune=False)(images)
    return outputs if isinstance(outputs, tuple) else (outputs,)
