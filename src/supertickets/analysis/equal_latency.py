"""Scores at equal latency: the front of some networks, and how far another one is above or below it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .statistics import pareto_front, score_at

Point = tuple[float, float]  # (latency, score), the score as it is reported


def score_front(points: Iterable[Point], sign: int) -> list[Point]:
    """Return the Pareto front of measured networks, fastest first.

    Args:
        points: Latencies and scores.
        sign: 1 if more of the score is better, -1 if less is.
    """
    return [(cost, sign * score) for cost, score in pareto_front((cost, sign * score) for cost, score in points)]


def front_score(front: Sequence[Point], latency: float) -> float | None:
    """Return the score that a front has at a latency.

    Between two networks it is linear in the logarithm of the latency. Whoever may take longer than the slowest network
    of the front takes that one.

    Args:
        front: Points of `score_front`.
        latency: A latency.

    Returns:
        None if every network of the front is slower.
    """
    if not front or latency < front[0][0]:
        return None
    return front[-1][1] if latency >= front[-1][0] else score_at(front, latency)


def gain_at_equal_latency(point: Point, others: Iterable[Point], sign: int) -> float | None:
    """Return how much better a network is than the front of others at its own latency; negative if it is worse.

    Args:
        point: Latency and score of the network.
        others: Latencies and scores of the others.
        sign: 1 if more of the score is better, -1 if less is.

    Returns:
        None if all others are slower, so that none of them can be had at this latency.
    """
    latency, score = point
    reached = front_score(score_front(others, sign), latency)
    return None if reached is None else sign * (score - reached)
