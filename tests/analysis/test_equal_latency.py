"""Fronts and gains at equal latency, worked by hand."""

from __future__ import annotations

import pytest

from supertickets.analysis.equal_latency import front_score, gain_at_equal_latency, score_front

POINTS = [(4.0, 60.0), (1.0, 40.0), (2.0, 38.0), (5.0, 60.0)]  # (2, 38) and (5, 60) are beaten
ERRORS = [(1.0, 20.0), (4.0, 10.0), (2.0, 25.0)]


def test_the_front_leaves_out_what_is_beaten() -> None:
    assert score_front(POINTS, 1) == [(1.0, 40.0), (4.0, 60.0)]
    assert score_front(ERRORS, -1) == [(1.0, 20.0), (4.0, 10.0)]
    assert score_front([], 1) == []


@pytest.mark.parametrize(
    ("latency", "score"),
    [
        (0.9, None),  # nothing is as fast
        (1.0, 40.0),
        (2.0, 50.0),  # half of the way from 1 to 4 in the logarithm
        (4.0, 60.0),
        (100.0, 60.0),  # the slowest of them is still to be had
    ],
)
def test_the_score_of_a_front(latency: float, score: float | None) -> None:
    assert front_score(score_front(POINTS, 1), latency) == (score if score is None else pytest.approx(score))


def test_a_single_reference_is_a_front() -> None:
    assert gain_at_equal_latency((3.0, 50.0), [(3.0, 45.0)], 1) == pytest.approx(5.0)
    assert gain_at_equal_latency((2.9, 50.0), [(3.0, 45.0)], 1) is None


@pytest.mark.parametrize(
    ("point", "points", "sign", "gain"),
    [
        ((2.0, 53.0), POINTS, 1, 3.0),
        ((2.0, 47.5), POINTS, 1, -2.5),
        ((2.0, 12.0), ERRORS, -1, 3.0),  # the front has an error of 15 there
        ((2.0, 18.0), ERRORS, -1, -3.0),
        ((8.0, 61.0), POINTS, 1, 1.0),
        ((0.5, 90.0), POINTS, 1, None),
    ],
)
def test_the_gain_at_equal_latency(
    point: tuple[float, float], points: list[tuple[float, float]], sign: int, gain: float | None
) -> None:
    assert gain_at_equal_latency(point, points, sign) == (gain if gain is None else pytest.approx(gain))
