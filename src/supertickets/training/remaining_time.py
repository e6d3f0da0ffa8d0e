"""The time that is left of a training, by the pace of its last steps and the epochs that were measured."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_WARMUP = 3  # steps of a process that are slower than the rest: caches fill, kernels are chosen
_RECENT = 50  # steps whose mean is the pace, since networks shrink while they train
_ENOUGH_STEPS, _ENOUGH_SECONDS = 10, 1.0  # of which either makes a first estimate


class RemainingTime:
    """An estimate of the time that is left, measured while a training passes; it is no part of the training's state.

    What an epoch takes beyond its steps (evaluation, removals, prunes at its end, checkpoints) is counted per epoch.

    Args:
        steps: Number of steps per epoch.
        epochs: Number of epochs of the whole training.
        done: Steps that are done already, of a training that goes on.
        clock: Function that returns seconds.
    """

    def __init__(self, steps: int, epochs: int, done: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._steps, self._epochs, self._done, self._clock = steps, epochs, done, clock
        self._warmup = min(_WARMUP, steps - 1)
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._overheads: list[float] = []  # seconds of every measured epoch beyond its steps
        self._is_announced = False
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self._begun, self._in_steps, self._unmeasured = self._clock(), 0.0, 0
        self._last: float | None = None

    def finish_step(self, done: int) -> None:
        """Measure a step.

        Args:
            done: Steps of the whole training that are done.
        """
        now = self._clock()
        self._done = done
        if self._warmup:
            self._warmup -= 1
            self._begun = now
        elif self._last is None:  # the first of an epoch, with loaders to start: taken for one like the others
            self._unmeasured += 1
        else:
            self._recent.append(now - self._last)
            self._in_steps += now - self._last
        self._last = now

    def finish_epoch(self) -> None:
        """Measure what an epoch took beyond its steps."""
        in_steps = self._in_steps + self._unmeasured * self.step_seconds
        self._overheads.append(max(0.0, self._clock() - self._begun - in_steps))
        self._begin_epoch()

    @property
    def step_seconds(self) -> float:
        """Seconds of a step; 0 if none was measured, since epochs have no more than one."""
        return sum(self._recent) / len(self._recent) if self._recent else 0.0

    def seconds(self) -> float | None:
        """Return the seconds that are left; None if nothing was measured yet."""
        if not self._recent and not self._overheads:
            return None
        overhead = sum(self._overheads) / len(self._overheads) if self._overheads else 0.0
        steps = max(0, self._epochs * self._steps - self._done)
        return steps * self.step_seconds + -(-steps // self._steps) * overhead

    def announcement(self) -> str | None:
        """Return the first estimate as a line for people, once, as soon as enough steps were measured."""
        measured = len(self._recent)
        if self._is_announced or measured < _WARMUP:
            return None
        if measured < _ENOUGH_STEPS and sum(self._recent) < _ENOUGH_SECONDS:
            return None
        self._is_announced = True
        seconds = self.seconds() or 0.0
        about = "about " if seconds >= 1 else ""
        return f"{about}{format_duration(seconds)} to go ({self.step_seconds:.2g} s a step)"


def format_duration(seconds: float) -> str:
    """Return a time for people to read, in at most two units: "4 min 10 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 1 else "less than 1 s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"
