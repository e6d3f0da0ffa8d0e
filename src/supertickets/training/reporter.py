"""Display of a long run: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..tasks import Metric, primary_metric


class Reporter:
    """The display of steps and finished epochs; use it as a context.

    Args:
        epochs: Number of epochs of the run.
        steps: Number of steps per epoch.
        quiet: Whether to show nothing (other processes than the first).
        metric: Figure of the task that is shown; None for the one that the name of a score tells.
    """

    def __init__(self, epochs: int, steps: int, *, quiet: bool, metric: Metric | None = None) -> None:
        self.metric = metric
        self.quiet = quiet
        self.epochs = epochs
        self.steps = steps
        # Standard error, so that the output of --json stays clean.
        self.console = Console(file=sys.stderr, highlight=False, quiet=quiet)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("steps, left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=epochs * steps, state="")

    def __enter__(self) -> Reporter:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def resume(self, done: int) -> None:
        """Go on behind epochs that are complete, without counting them as fast ones."""
        self.bar.reset(self.task, completed=done * self.steps)

    def step(self, epoch: int, step: int) -> None:
        """Show one more step."""
        self.bar.update(self.task, completed=epoch * self.steps + step, description=f"epoch {epoch + 1}/{self.epochs}")

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
        self.bar.update(self.task, state=state)
        score = ""
        if metric is not None and metric.name in record:
            score = f", validation {metric.display_name} {metric.text(record)}"
        self.say(f"epoch {number:3d}/{self.epochs}: loss {record['train_loss']:.4f}{score}, {state}")

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.console.print(line, markup=False, soft_wrap=True)
