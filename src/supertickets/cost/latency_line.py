"""Latency as a function of MACs, through networks that were measured: how a budget in ms becomes one in MACs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ..errors import UserError

T = TypeVar("T")
_TOLERANCE = 0.02  # by which a network may be faster than its budget
_AIM = 0.99  # of the budget: the middle of what is allowed
_SAFER = 0.97  # of the MACs of a network that is too slow still
_TRIES = 6  # networks to measure


@dataclass(frozen=True)
class LatencyLine:
    """Networks of one architecture that were measured.

    Attributes:
        points: MACs and ms of each, in the order in which they were measured; at least two with different MACs.
    """

    points: tuple[tuple[float, float], ...]

    def macs_at(self, ms: float) -> float:
        """Return the MACs of a network with a latency.

        On the line between the largest network that is faster and the smallest that is slower; where these are none,
        or contradict each other, from the nearest point on, with the slope of all of them.
        """
        low, high = min(self.points), max(self.points)
        start = min(reversed(self.points), key=lambda point: abs(point[1] - ms))
        faster = [point for point in self.points if point[1] <= ms]
        slower = [point for point in self.points if point[1] > ms]
        if faster and slower and max(faster)[0] < min(slower)[0]:
            start = low = max(faster)
            high = min(slower)
        slope = max((high[1] - low[1]) / (high[0] - low[0]), 1e-3 * high[1] / high[0])
        return start[0] + (ms - start[1]) / slope

    def add(self, macs: float, ms: float) -> LatencyLine:
        """Return the line with one more network, which replaces one of the same MACs."""
        return LatencyLine((*(point for point in self.points if point[0] != macs), (macs, ms)))


def meet_latency(
    line: LatencyLine, budget_ms: float, attempt: Callable[[float], tuple[T, float, float]]
) -> tuple[LatencyLine, T, float]:
    """Find the slowest network within a latency budget, by measuring some.

    Args:
        line: Networks that were measured.
        budget_ms: The budget.
        attempt: Function that makes a network with at most so many MACs; returns it, its MACs and its measured ms.

    Returns:
        The line with what was measured; the network, and its ms.

    Raises:
        UserError: Even the smallest network is slower.
    """
    best: tuple[T, float] | None = None
    macs = math.inf
    for _ in range(_TRIES):
        network, macs, ms = attempt(line.macs_at(_AIM * budget_ms))
        line = line.add(macs, ms)
        if ms <= budget_ms and (best is None or ms > best[1]):
            best = network, ms
        if (1 - _TOLERANCE) * budget_ms <= ms <= budget_ms:
            break
    while best is None:
        before = macs
        network, macs, ms = attempt(_SAFER * before)
        line = line.add(macs, ms)
        if ms <= budget_ms:
            best = network, ms
        elif macs >= before:
            raise UserError(
                f"budget.latency_ms={budget_ms:.4g} cannot be met: the smallest network takes {ms:.4g} ms on this "
                f"device; set budget.latency_ms to {1.05 * ms:.4g}"
            )
    return line, *best
