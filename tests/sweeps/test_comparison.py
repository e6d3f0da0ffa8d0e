"""Gains of tickets over references, worked by hand, and the sentences that tell them."""

from __future__ import annotations

import pytest

from supertickets.analysis.statistics import Summary
from supertickets.sweeps.comparison import (
    EQUAL_TIME,
    REFERENCES,
    TICKETS,
    Comparison,
    MemberResult,
    MemberRun,
    describe_gains,
    format_gain,
    with_gains,
)
from supertickets.tasks import Metric

ACCURACY = Metric("top1", "accuracy")
ERROR = Metric("mae", "MAE", is_error=True)


def member(title: str, group: str, latencies: list[float], scores: list[float]) -> MemberResult:
    """A member with a run per seed."""
    runs = [
        MemberRun(seed=seed, run=f"{title}-{seed}", validation=0.0, test=score, costs={"seconds": 1.0}, latency_ms=ms)
        for seed, (ms, score) in enumerate(zip(latencies, scores, strict=True))
    ]
    mean = sum(latencies) / len(latencies)
    known = {"onnxruntime": mean, "torch": 10 * mean}
    kind = "ticket" if group == TICKETS else "ResNet-8"
    return MemberResult(
        title=title, group=group, kind=kind, epochs=3, runtime="onnxruntime", latencies=known, runs=tuple(runs)
    )


def test_gains_are_those_of_each_seed_at_its_own_latency() -> None:
    members = [
        member("ticket", TICKETS, [2.0, 4.0], [53.0, 56.0]),
        member("narrow", REFERENCES, [1.0, 1.0], [40.0, 44.0]),
        member("wide", REFERENCES, [4.0, 4.0], [60.0, 54.0]),
        member("longer", EQUAL_TIME, [1.0, 1.0], [54.0, 57.0]),
    ]
    ticket, *others = with_gains(members, ACCURACY)
    # Seed 0: 53 against 50, half of the way from 40 to 60. Seed 1: 56 against 54.
    assert ticket.gains[REFERENCES].mean == pytest.approx(2.5)
    assert ticket.gains[REFERENCES].deviation == pytest.approx(0.5**0.5)
    assert ticket.gains[EQUAL_TIME].mean == pytest.approx(-1.0)
    assert all(not other.gains for other in others)


def test_a_ticket_that_is_faster_than_all_has_no_gain() -> None:
    members = [member("ticket", TICKETS, [0.5], [90.0]), member("narrow", REFERENCES, [1.0], [40.0])]
    assert with_gains(members, ACCURACY)[0].gains == {}


def test_less_error_is_a_gain() -> None:
    members = [member("ticket", TICKETS, [1.0], [3.0]), member("plain", REFERENCES, [1.0], [5.0])]
    assert with_gains(members, ERROR)[0].gains[REFERENCES].mean == pytest.approx(2.0)
    assert format_gain(2.0, ERROR) == "2.00 MAE better"
    assert format_gain(-1.26, ACCURACY) == "1.3 points worse"


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ([3.1, 1.2, 2.0], "Tickets are 1.2 to 3.1 points better than the references at equal latency and epochs"),
        ([-3.1, -1.2], "Tickets are 1.2 to 3.1 points worse than the references at equal latency and epochs"),
        (
            [-3.1, 1.2],
            "Tickets are between 3.1 points worse and 1.2 points better than the references at equal latency and "
            "epochs",
        ),
        ([2.0], "Tickets are 2.0 points better than the references at equal latency and epochs"),
        (
            [2.0, None],
            "Tickets are 2.0 points better than the references at equal latency and epochs; 1 of 2 are faster than any",
        ),
        ([None], "Every ticket is faster than all references, so that none is to be had at its latency"),
    ],
)
def test_the_sentence_is_honest(gains: list[float | None], said: str) -> None:
    tickets = []
    for gain in gains:
        plain = member("ticket", TICKETS, [1.0], [50.0])
        own = {} if gain is None else {REFERENCES: Summary(gain, None, 1)}
        tickets.append(MemberResult(**{**vars(plain), "gains": own}))
    assert describe_gains(tickets, REFERENCES, ACCURACY) == said


def test_the_json_has_all_members_and_marks_the_front() -> None:
    members = with_gains(
        [
            member("ticket", TICKETS, [1.0], [50.0]),
            member("beaten", REFERENCES, [1.5], [49.0]),
            member("wide", REFERENCES, [4.0], [60.0]),
        ],
        ACCURACY,
    )
    comparison = Comparison(
        recipe="digits", data="digits", metric=ACCURACY, device="a CPU", versions={}, members=tuple(members)
    )
    data = comparison.to_json()
    assert [(one["title"], one["on_front"]) for one in data["members"]] == [
        ("ticket", True),
        ("beaten", False),
        ("wide", True),
    ]
    assert data["members"][0]["latency_ms"] == 1.0
    assert data["members"][0]["test"] == {"mean": 50.0, "deviation": None, "count": 1}
    assert data["headlines"] == comparison.headlines
