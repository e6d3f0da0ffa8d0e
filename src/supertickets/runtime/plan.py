"""A network made ready for images of one size: its memory, and its steps in the order in which they run."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from . import native
from .graph import Graph
from .library import Library
from .lowering import LOWERINGS
from .planner import PlannedStep, Planner
from .schedule import schedule

Array = npt.NDArray[Any]
Segment = Callable[[], None]


class Plan:
    """The steps of a network for one image at a time; threads that call it wait for each other."""

    def __init__(self, graph: Graph, library: Library, size: tuple[int, ...]) -> None:
        planner = Planner(graph, library, size)
        steps = planner.plan(LOWERINGS)
        self._outputs = planner.outputs()
        self._images, self._lock = planner.images, threading.Lock()
        self._planner = planner  # holds all memory that the steps point to
        self.planned = [step for step in steps if isinstance(step, PlannedStep)]
        self._segments = _segments(steps, library)

    def run(self, images: Array) -> list[Array]:
        """Return the outputs for images (B, C, H, W)."""
        results = []
        with self._lock:
            for image in images:
                self._images[0] = image
                for segment in self._segments:
                    segment()
                results.append([out.copy() for out in self._outputs])
        return [np.concatenate(parts) for parts in zip(*results, strict=True)]


def _segments(steps: Sequence[PlannedStep | Segment], library: Library) -> list[Segment]:
    """Return what to call: tables of steps, which run without Python, and what numpy computes in between."""
    segments: list[Segment] = []
    for planned, group in groupby(steps, lambda step: isinstance(step, PlannedStep)):
        if planned:
            table = make_table(schedule([step for step in group if isinstance(step, PlannedStep)]))
            segments.append(lambda table=table: library.run(table, len(table)))  # type: ignore[misc]
        else:
            segments.extend(step for step in group if not isinstance(step, PlannedStep))
    return segments


def make_table(parts: Sequence[tuple[PlannedStep, int, int]]) -> ctypes.Array[native.Step]:
    """Return steps, each with its first and last vector, as the kernels take them."""
    table = (native.Step * len(parts))()
    for entry, (step, first, last) in zip(table, parts, strict=True):
        entry.kind, entry.first, entry.last = step.arguments.kind, first, last
        entry.arguments = ctypes.addressof(step.arguments)
    return table
