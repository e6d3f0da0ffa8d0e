"""Times of calls: increments by hand, and whose turn it is."""

from __future__ import annotations

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
