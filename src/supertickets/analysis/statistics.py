"""Comparisons of methods: over seeds, and at equal cost along their curves, as the paper does (Sec. 4.2)."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
Curve = Sequence[tuple[float, float]]  # (cost, score), by cost


@dataclass(frozen=True)
class Summary:
    """Mean and deviation over several seeds.

    Attributes:
        mean: Mean of all values.
        deviation: Standard deviation of a sample (n - 1); None of a single value.
        count: Number of values.
    """

    mean: float
    deviation: float | None
    count: int

    @property
    def error(self) -> float | None:
        """Standard error of the mean."""
        return None if self.deviation is None else self.deviation / math.sqrt(self.count)

    def __str__(self) -> str:
        return f"{self.mean:.2f}" + (f" ± {self.deviation:.2f}" if self.deviation is not None else "")


def summarize(values: Iterable[float]) -> Summary | None:
    """Return mean and deviation; None of nothing, and no number where one of the values is none."""
    numbers = list(values)
    if not numbers:
        return None
    if not all(map(math.isfinite, numbers)):
        return Summary(math.nan, None, len(numbers))
    return Summary(statistics.mean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None, len(numbers))


def paired_differences(ours: Sequence[Row], theirs: Sequence[Row], score: str) -> Summary | None:
    """Summarize the differences of two methods, seed by seed: ours minus theirs at the same recipe, ratio and seed.

    Args:
        ours: Rows of a method.
        theirs: Rows of the other; a method without ratios (0) is compared with every ratio.
        score: Column of the score.
    """
    known = {(row["recipe"], row["ratio"], row["seed"]): row[score] for row in theirs}
    differences = []
    for row in ours:
        at = (row["recipe"], row["ratio"], row["seed"])
        other = known.get(at, known.get((row["recipe"], 0.0, row["seed"])))
        if other is not None:
            differences.append(row[score] - other)
    return summarize(differences)


def build_curve(rows: Iterable[Row], cost: str, score: str) -> list[tuple[float, float]]:
    """Return a method's curve: its points by cost; of points at one cost, the mean."""
    by_cost: dict[float, list[float]] = {}
    for row in rows:
        by_cost.setdefault(float(row[cost]), []).append(float(row[score]))
    return [(at, statistics.mean(scores)) for at, scores in sorted(by_cost.items())]


def score_at(points: Curve, cost: float) -> float | None:
    """Return the score at a cost, between two points linear in the logarithm of cost; None outside of the curve."""
    for (low, before), (high, after) in itertools.pairwise(points):
        if low <= cost <= high:
            share = math.log(cost / low) / math.log(high / low)
            return before + share * (after - before)
    return next((score for at, score in points if at == cost), None)


def cost_at(points: Curve, score: float) -> float | None:
    """Return the least cost at which a curve reaches a score, by the same interpolation.

    Returns:
        None if it never does, or if its cheapest point is better already, so that what it needs is unknown.
    """
    if not points or points[0][1] > score:
        return None
    if points[0][1] == score:  # what follows may be lower, and reach it again
        return points[0][0]
    for (low, before), (high, after) in itertools.pairwise(points):
        if before <= score <= after:
            return low if after == before else low * (high / low) ** ((score - before) / (after - before))
    return next((at for at, reached in points if reached == score), None)


def pareto_front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the Pareto front: points that no other beats, being no dearer and no worse and one of both better."""
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


@dataclass(frozen=True)
class EqualScore:
    """A method beside another, along the other's curve.

    Attributes:
        ratio: Sparsity of the other's point.
        cost: Mean cost of that point.
        score: Mean score of that point.
        gain: Ours minus theirs at their cost, over the seeds for which our curve goes there.
        saved: Share of their cost that ours needs less for their score, likewise; negative if it needs more.
    """

    ratio: float
    cost: float
    score: float
    gain: Summary | None
    saved: Summary | None


def compare_at_equal_score(ours: Sequence[Row], theirs: Sequence[Row], cost: str, score: str) -> list[EqualScore]:
    """Compare a method with another at the other's costs (gain) and at its scores (savings), seed by seed.

    Args:
        ours: Rows of a method, of one recipe.
        theirs: Rows of the other, of the same recipe.
        cost: Column, e.g. "masked_macs".
        score: Column, higher is better.
    """
    curves = {seed: build_curve(rows, cost, score) for seed, rows in group_rows(ours, lambda row: row["seed"]).items()}
    comparisons = []
    for ratio, rows in sorted(group_rows(theirs, lambda row: row["ratio"]).items()):
        gains, savings = [], []
        for row in rows:
            points = curves.get(row["seed"], [])
            if (ours_there := score_at(points, row[cost])) is not None:
                gains.append(ours_there - row[score])
            if (needed := cost_at(points, row[score])) is not None:
                savings.append(1 - needed / row[cost])
        costs, scores = ([row[name] for row in rows] for name in (cost, score))
        comparisons.append(
            EqualScore(ratio, statistics.mean(costs), statistics.mean(scores), summarize(gains), summarize(savings))
        )
    return comparisons


def group_rows(rows: Iterable[Row], by: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Group rows by what they have in common, in their order."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(by(row), []).append(row)
    return groups
