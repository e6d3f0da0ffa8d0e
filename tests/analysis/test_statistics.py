"""Comparisons against figures worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertickets.analysis.statistics import (
    build_curve,
    compare_at_equal_score,
    cost_at,
    paired_differences,
    pareto_front,
    score_at,
    summarize,
)


def row(ratio: float, seed: int, macs: float, score: float, recipe: str = "r") -> dict[str, Any]:
    return {"recipe": recipe, "ratio": ratio, "seed": seed, "macs": macs, "score": score}


def test_summary_by_hand() -> None:
    """1, 2, 3, 6: mean 3, squares of distances 4 + 1 + 0 + 9 = 14 over n - 1 = 3, and over 4 seeds half as much."""
    summary = summarize([1, 2, 3, 6])
    assert summary is not None
    assert (summary.mean, summary.count) == (3, 4)
    assert summary.deviation == pytest.approx((14 / 3) ** 0.5)
    assert summary.error == pytest.approx((14 / 3) ** 0.5 / 2)
    assert str(summary) == "3.00 ± 2.16"
    single = summarize([5.0])
    assert single is not None
    assert (str(single), single.error) == ("5.00", None)
    assert summarize([]) is None


def test_a_seed_without_a_number_leaves_none() -> None:
    summary = summarize([1.0, float("nan")])
    assert summary is not None
    assert (str(summary), summary.deviation, summary.count) == ("nan", None, 2)


def test_pairs_are_of_one_seed_and_ratio() -> None:
    """Seeds differ by 10 points, methods by 1 and 3: the deviation is that of the differences."""
    ours = [row(0.5, 0, 1, 81), row(0.5, 1, 1, 93), row(0.5, 2, 1, 50)]
    theirs = [row(0.5, 0, 1, 80), row(0.5, 1, 1, 90), row(0.8, 2, 1, 10)]
    summary = paired_differences(ours, theirs, "score")
    assert summary is not None
    assert (summary.mean, summary.count) == (2, 2)
    assert summary.deviation == pytest.approx(2**0.5)
    dense = [row(0.0, 0, 9, 85)]
    assert paired_differences(ours, dense, "score") == summarize([-4])
    assert paired_differences(ours, [row(0.5, 0, 1, 1, recipe="other")], "score") is None


def test_curves_are_read_between_points_by_hand() -> None:
    """From (1, 10) over (4, 20) to (16, 40): the cost 2 is half way to 4, and 8 half way to 16, by their logarithms."""
    points = build_curve([row(0, 0, 4, 19), row(0, 1, 4, 21), row(0, 0, 16, 40), row(0, 0, 1, 10)], "macs", "score")
    assert points == [(1, 10), (4, 20), (16, 40)]
    assert score_at(points, 2) == pytest.approx(15)
    assert score_at(points, 8) == pytest.approx(30)
    assert [score_at(points, at) for at in (0.5, 17)] == [None, None]
    assert score_at([(4, 20)], 4) == 20
    assert cost_at(points, 15) == pytest.approx(2)
    assert cost_at(points, 30) == pytest.approx(8)
    assert [cost_at(points, score) for score in (9, 41)] == [None, None]


def test_the_least_cost_of_a_curve_that_falls_again() -> None:
    assert cost_at([(1, 10), (2, 30), (4, 20), (8, 40)], 25) == pytest.approx(2**0.75)
    assert cost_at([(1, 10), (2, 10)], 10) == 1
    assert cost_at([(1, 10), (2, 9), (4, 12)], 10) == 1  # where it is reached first
    assert cost_at([], 10) is None


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), max_size=12))
def test_the_front_is_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    def beaten(point: tuple[float, float]) -> bool:
        return any(a <= point[0] and b >= point[1] and (a, b) != point for a, b in points)

    assert pareto_front(points) == sorted({point for point in points if not beaten(point)})


def test_at_equal_cost_and_at_equal_score_by_hand() -> None:
    """Ours is a straight line through (1, 10) and (100, 30) in seed 0, five points higher in seed 1."""
    ours = [
        row(r, seed, macs, score + 5 * seed) for seed in (0, 1) for r, macs, score in ((0.9, 1, 10), (0.5, 100, 30))
    ]
    theirs = [row(0.7, 0, 10, 15), row(0.7, 1, 10, 20), row(0.1, 0, 1000, 50)]
    half, tenth = compare_at_equal_score(ours, theirs, "macs", "score")[::-1]
    assert (half.ratio, half.cost, half.score) == (0.7, 10, 17.5)
    assert half.gain == summarize([20 - 15, 25 - 20])
    # 15 is a quarter of the way from 10 to 30, at 100^(1/4) = 3.162 instead of 10; in seed 1 likewise.
    assert half.saved is not None
    assert half.saved.mean == pytest.approx(1 - 100**0.25 / 10)
    assert half.saved.deviation == pytest.approx(0)
    assert (tenth.gain, tenth.saved) == (None, None)
