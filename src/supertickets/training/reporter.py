"""Progress of a run: log records of the package, and if asked for a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ..errors import printable
from ..tasks import Metric, primary_metric
from .remaining_time import RemainingTime, format_duration

LOG = logging.getLogger("supertickets")
# Whether runs show their progress; a context's own value, so that threads do not disturb each other.
_VERBOSE: ContextVar[bool] = ContextVar("supertickets_verbose", default=False)


@contextlib.contextmanager
def show_progress(verbose: bool = True) -> Iterator[None]:
    """Let runs that begin meanwhile show their progress on standard error.

    Args:
        verbose: Whether they do; False leaves it to what surrounds this.
    """
    token = _VERBOSE.set(verbose or _VERBOSE.get())
    try:
        yield
    finally:
        _VERBOSE.reset(token)


def is_progress_shown() -> bool:
    """Return whether a run that begins now shows its progress."""
    return _VERBOSE.get()


class Reporter:
    """Steps and finished epochs of a run, shown and logged; use it as a context.

    Args:
        epochs: Number of epochs of the run.
        steps: Number of steps per epoch.
        quiet: Whether to show and log nothing (other processes than the first).
        verbose: Whether to show progress on standard error; it is logged anyway.
        metric: Figure of the task that is shown; None for the one that the name of a score tells.
    """

    def __init__(
        self, epochs: int, steps: int, *, quiet: bool, verbose: bool = True, metric: Metric | None = None
    ) -> None:
        self.metric = metric
        self.quiet = quiet
        self.epochs = epochs
        self.steps = steps
        # Standard error, so that the output of --json stays clean.
        self.console = Console(file=sys.stderr, highlight=False, quiet=quiet or not verbose)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("steps{task.fields[left]}{task.fields[state]}"),
            console=self.console,
            disable=quiet or not verbose or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=epochs * steps, state="", left="")
        self.remaining = RemainingTime(steps, epochs)

    def __enter__(self) -> Reporter:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def begin(self, done: int, last_epoch: int) -> None:
        """Begin to measure the time.

        Args:
            done: Steps that are done already, of a run that goes on.
            last_epoch: Number of the epoch that is the last one.
        """
        self.remaining = RemainingTime(self.steps, last_epoch, done)
        self.bar.reset(self.task, completed=done)

    def step(self, epoch: int, step: int) -> None:
        """Show one more step."""
        done = epoch * self.steps + step
        self.remaining.finish_step(done)
        if (line := self.remaining.announcement()) is not None:
            self.say(line)
        self.bar.update(
            self.task, completed=done, description=f"epoch {epoch + 1}/{self.epochs}", left=self._time_left()
        )

    def epoch(self, number: int, record: Mapping[str, Any], progress: str) -> None:
        """Show the figures of a complete epoch.

        Args:
            number: Number of the epoch, from 1.
            record: Entry of the event log.
            progress: Figures of the algorithm.
        """
        metric = self.metric or primary_metric(record)
        units = f"{record['units']} units, " if record["units"] else ""
        state = f"{units}{record['macs'] / 1e6:.2f} M MACs, {progress}"
        self.remaining.finish_epoch()
        left = self._time_left()
        self.bar.update(self.task, state=f", {state}", left=left)
        score = ""
        if metric is not None and metric.name in record:
            score = f", validation {metric.display_name} {metric.text(record)}"
        self.say(f"epoch {number:3d}/{self.epochs}: loss {record['train_loss']:.4f}{score}, {state}{left}")

    def _time_left(self) -> str:
        seconds = self.remaining.seconds()
        return f", {format_duration(seconds)} to go" if seconds else ""

    def say(self, line: str) -> None:
        """Log a line, and show it above the bar."""
        line = printable(line)
        if not self.quiet:
            LOG.info("%s", line)
        self.console.print(line, markup=False, soft_wrap=True)
