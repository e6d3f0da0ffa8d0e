"""The time that is left: pace of the steps, what epochs take beyond them, and how both are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import supertickets as st
from supertickets.training.remaining_time import RemainingTime, format_duration


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def pass_epoch(remaining: RemainingTime, clock: Clock, done: int, steps: int, seconds: float, overhead: float) -> None:
    for step in range(steps):
        clock.now += seconds
        remaining.finish_step(done + step + 1)
    clock.now += overhead
    remaining.finish_epoch()


def test_nothing_is_said_before_anything_is_measured() -> None:
    clock = Clock()
    remaining = RemainingTime(20, 4, clock=clock)
    assert remaining.seconds() is None
    for step in range(3):  # the warm-up, whose length does not count
        clock.now += 50
        remaining.finish_step(step + 1)
    assert (remaining.seconds(), remaining.announcement()) == (None, None)


def test_the_first_estimate_is_the_pace_behind_the_warmup() -> None:
    clock = Clock()
    remaining = RemainingTime(20, 4, clock=clock)
    lines = []
    for step in range(15):
        clock.now += 9.0 if step < 3 else 0.05
        remaining.finish_step(step + 1)
        lines.append(remaining.announcement())
    assert [line for line in lines if line] == ["about 3 s to go (0.05 s a step)"]  # 67 steps of 0.05 s
    assert lines[12] is not None  # three steps of warm-up, then ten
    assert remaining.seconds() == pytest.approx(65 * 0.05)


def test_slow_steps_are_told_after_a_few() -> None:
    clock = Clock()
    remaining = RemainingTime(20, 4, clock=clock)
    for step in range(6):
        clock.now += 2.0
        remaining.finish_step(step + 1)
    assert remaining.announcement() == "about 2 min 28 s to go (2 s a step)"


def test_what_epochs_take_beyond_their_steps_counts() -> None:
    clock = Clock()
    remaining = RemainingTime(10, 5, clock=clock)
    pass_epoch(remaining, clock, 0, 10, 0.1, 3.0)
    assert remaining.seconds() == pytest.approx(4 * (10 * 0.1 + 3.0))
    pass_epoch(remaining, clock, 10, 10, 0.1, 1.0)
    assert remaining.seconds() == pytest.approx(3 * (10 * 0.1 + 2.0))
    for done in range(20, 50, 10):
        pass_epoch(remaining, clock, done, 10, 0.1, 2.0)
    assert remaining.seconds() == 0


def test_the_pace_is_that_of_the_last_steps() -> None:
    """A network that shrank to half of its time has half of the time left."""
    clock = Clock()
    remaining = RemainingTime(100, 3, clock=clock)
    pass_epoch(remaining, clock, 0, 100, 0.2, 0.0)
    assert remaining.seconds() == pytest.approx(200 * 0.2)
    pass_epoch(remaining, clock, 100, 100, 0.1, 0.0)
    assert remaining.seconds() == pytest.approx(100 * 0.1)


def test_epochs_of_one_step_are_measured_whole() -> None:
    clock = Clock()
    remaining = RemainingTime(1, 6, clock=clock)
    for epoch in range(2):
        pass_epoch(remaining, clock, epoch, 1, 4.0, 1.0)
    assert remaining.seconds() == pytest.approx(4 * 5.0)


def test_a_run_that_goes_on_counts_what_is_left() -> None:
    clock = Clock()
    remaining = RemainingTime(10, 4, done=25, clock=clock)
    for step in range(25, 30):
        clock.now += 0.5
        remaining.finish_step(step + 1)
    assert remaining.seconds() == pytest.approx(10 * 0.5)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.3, "less than 1 s"),
        (1.2, "1 s"),
        (59.7, "1 min 0 s"),
        (250, "4 min 10 s"),
        (3599.8, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_log_has_the_time_that_is_left(
    quick_words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    st.train(st.load_recipe("digits", [*quick_words, "--prune.ratio", "0"]), tmp_path / "run", verbose=True)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch ")]
    assert all(re.search(r", (\d+ \w+|less than 1 s)( \d+ s)? to go$", line) for line in lines[:-1])
    assert not lines[-1].endswith("to go")
    assert "to go" not in (tmp_path / "run" / "events.jsonl").read_text()  # no part of what is kept
