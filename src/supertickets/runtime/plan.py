"""A network made ready for images of one size: its memory, and its steps in the order in which they run."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from . import native
from .graph import Graph
from .library import Library
from .lowering import LOWERINGS
from .planner import PlannedStep, Planner
from .schedule import Part, schedule
from .threads import PerProcess, Pool
from .tuning import Tuner

Array = npt.NDArray[Any]
Segment = Callable[[], None]


class Plan:
    """The steps of a network for one image at a time; threads that call it wait for each other.

    Args:
        graph: The network.
        library: The kernels.
        size: Sizes (C, H, W) of an image.
        pool: Threads that share the steps; the results do not depend on their number.
        tuner: Chooses the form of every layer by timing; None for a model of the time alone.

    Attributes:
        planned: Steps that the kernels run.
        memory: Bytes that it holds.
    """

    def __init__(
        self,
        graph: Graph,
        library: Library,
        size: tuple[int, ...],
        pool: Pool | None = None,
        tuner: Tuner | None = None,
    ) -> None:
        self._pool = pool or Pool(library, 1)
        planner = Planner(graph, library, size, self._pool.threads, tuner)
        steps = planner.plan(LOWERINGS)
        self._outputs = planner.outputs()
        self._images, self._lock = planner.images, PerProcess(threading.Lock)
        planner.finish()
        self._planner = planner  # holds all memory that the steps point to
        self.memory = sum(array.nbytes for array in planner.arena.arrays)
        self.planned = [step for step in steps if isinstance(step, PlannedStep)]
        self._segments = _segments(steps, library, self._pool)

    def run(self, images: Array) -> list[Array]:
        """Return the outputs for images (B, C, H, W)."""
        results = []
        with self._lock.value:
            for image in images:
                self._images[0] = image
                for segment in self._segments:
                    segment()
                results.append([out.copy() for out in self._outputs])
        if len(results) == 1:
            return results[0]
        return [np.concatenate(parts) for parts in zip(*results, strict=True)]


def _segments(steps: Sequence[PlannedStep | Segment], library: Library, pool: Pool) -> list[Segment]:
    """Return what to call: tables of steps, which run without Python, and what numpy computes in between."""
    segments: list[Segment] = []
    for planned, group in groupby(steps, lambda step: isinstance(step, PlannedStep)):
        if planned:
            parts = schedule([step for step in group if isinstance(step, PlannedStep)], pool.threads)
            shared = any(part.pieces != 1 for part in parts)
            table = make_table(parts)
            run = pool.run if shared else library.run
            segments.append(partial(run, table, len(table)))
        else:
            segments.extend(step for step in group if not isinstance(step, PlannedStep))
    return segments


def make_table(parts: Sequence[Part]) -> ctypes.Array[native.Step]:
    """Return parts of steps as the kernels take them."""
    return native.make_table([(part.step.arguments, *part[1:]) for part in parts])
