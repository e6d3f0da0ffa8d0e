"""Times of calls: increments by hand, and whose turn it is."""

from __future__ import annotations

from functools import partial

import pytest

from supertickets.cost import latency


def test_increments_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of 1, 2, 4 and of 2, 3, 4 ms: 100, 50 and 0% longer."""
    taken = {"plain": [1.0, 2.0, 4.0], "other": [2.0, 3.0, 4.0]}
    monkeypatch.setattr(latency, "interleaved_rounds", lambda calls, repeats: taken)
    assert latency.time_increments({}, 3) == {"other": latency.TimeIncrement(percent=50.0, low=25.0, high=75.0, ms=3.0)}


def test_calls_take_turns() -> None:
    seen: list[str] = []
    rounds = latency.interleaved_rounds(
        {"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, repeats=2, warmup=1
    )
    assert seen == ["a", "b"] * 3
    assert {name: len(times) for name, times in rounds.items()} == {"a": 2, "b": 2}


def test_short_calls_are_made_once_more_before_they_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock says 1 ms for "short" and 30 ms for "long"; the first round finds out."""
    seen: list[str] = []
    now = [0.0]

    def call(name: str, ms: float) -> None:
        seen.append(name)
        now[0] += ms / 1e3

    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])
    calls = {"short": partial(call, "short", 1.0), "long": partial(call, "long", 30.0)}
    rounds = latency.interleaved_rounds(calls, repeats=3, warmup=0, hot=True)
    assert seen == ["short", "long"] + ["short", "short", "long"] * 2
    assert rounds == {"short": pytest.approx([1.0] * 3), "long": pytest.approx([30.0] * 3)}
