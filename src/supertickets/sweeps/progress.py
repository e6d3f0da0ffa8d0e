"""Progress of a sweep: its jobs by state, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.table import Table

from .sweep import Job


@dataclass
class Progress:
    """The state of a sweep; jobs by their keys.

    Attributes:
        jobs: All jobs, parents before children.
        done: Finished jobs, those of earlier calls included.
        before: Jobs that were finished before this call.
        running: Jobs that a worker has begun and not ended.
        failed: Reasons of failures; jobs that begin from a failed one fail with it.
        lost: Number of times that a worker was lost.
        began: Time of the start, by `time.monotonic`, in seconds.
    """

    jobs: Mapping[str, Job]
    done: set[str] = field(default_factory=set)
    before: frozenset[str] = frozenset()
    running: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    lost: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def waiting(self) -> set[str]:
        """Jobs that wait for their parent or for a worker."""
        return set(self.jobs) - self.done - self.running - set(self.failed)

    @property
    def eta(self) -> float | None:
        """Seconds that are left, if epochs go on as fast as those that this call has trained; None before the first."""
        new = sum(count_epochs(self.jobs[key], self.jobs) for key in self.done - self.before)
        left = sum(count_epochs(self.jobs[key], self.jobs) for key in self.waiting | self.running)
        return (time.monotonic() - self.began) / new * left if new else None

    def failures(self) -> Sequence[str]:
        """Return a line per job that failed."""
        return [f"{self.jobs[key].command} {key}: {why}" for key, why in self.failed.items()]


def count_epochs(job: Job, jobs: Mapping[str, Job]) -> int:
    """Return the epochs that a job trains by itself, plus one for what else it does.

    Args:
        job: Any job.
        jobs: Jobs by key; those that it begins from are among them.
    """
    if job.command == "retrain":
        return 1 + int(job.options["epochs"])
    if job.recipe is None:
        return 1
    begins = 0 if job.parent is None else int(jobs[job.parent].options["until"])
    return 1 + int(job.options.get("until", job.recipe.epochs)) - begins


def format_progress(progress: Progress) -> str:
    """Return a line with the jobs done, running and failed, and the time that is left."""
    text = f"{len(progress.done)} of {len(progress.jobs)} jobs done"
    if progress.before:
        text += f" ({len(progress.before)} done before)"
    text += f", {len(progress.running)} running"
    if progress.failed:
        text += f", {len(progress.failed)} failed"
    if progress.lost:
        text += f", {progress.lost} resumed"
    if progress.eta is not None and (progress.waiting or progress.running):
        text += f"; {progress.eta / 60:.0f} min left"
    return text


def progress_table(progress: Progress) -> Table:
    """Return a table with a row per kind of job and a column per state; below it the line that plain logs have."""
    parts = {
        "done": progress.done,
        "running": progress.running,
        "waiting": progress.waiting,
        "failed": set(progress.failed),
    }
    table = Table(box=box.SIMPLE_HEAD, caption=format_progress(progress), caption_justify="left")
    table.add_column("jobs")
    for name in parts:
        table.add_column(name, justify="right")
    for command in dict.fromkeys(job.command for job in progress.jobs.values()):
        of_kind = {key for key, job in progress.jobs.items() if job.command == command}
        table.add_row(command, *(str(len(of_kind & part) or "") for part in parts.values()))
    return table
