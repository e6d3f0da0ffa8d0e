"""Doing the jobs of a sweep: one after the other or many at once, on this machine or on many."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ..errors import UserError
from ..restate import prune_recipe, retrain_recipe
from ..runs import branch, draw, prune, resume, retrain, train, trunk
from ..ticket import load
from ..training.rundir import write_json
from .results import rows, write_csv
from .sweep import Job, Plan

ATTEMPTS = 5  # that a job gets whose worker is lost
Submit = Callable[[Job], "Future[None]"]


class WorkerLost(Exception):
    """A worker was killed, or its machine went away; the job can be taken up again."""


def do(job: Job, root: Path) -> None:
    """Does a job in its directory, unless it is done; goes on with what an earlier worker left.

    Args:
        job: What to do; its parent must be done.
        root: Directory of the sweep.

    Raises:
        UserError: It cannot work.
    """
    out, options = root / job.key, dict(job.options)
    if is_done(job, root):
        return
    out.mkdir(parents=True, exist_ok=True)
    if job.command in ("prune", "retrain"):  # a trunk's epochs are counted in the draws that begin there
        write_json(out / "parent.json", job.parent)
    begun = (out / "run.json").exists()
    recipe = job.recipe
    parent = None if job.parent is None else root / job.parent
    if recipe is not None and parent is not None and not begun:
        branch(parent, recipe, out, options.get("until"))
        begun = True
    if job.command == "trunk" and recipe is not None:
        trunk(recipe, out, options["until"])
    elif begun:
        resume(out)
    elif recipe is not None:
        (train if job.command == "train" else draw)(recipe, out)
    elif job.command == "prune" and parent is not None:
        ticket, ratio = load(parent), options.pop("ratio")
        prune(ticket, prune_recipe(ticket, ratio, options["criterion"]), out, **options)
    elif parent is not None:
        ticket = load(parent)
        retrain(ticket, retrain_recipe(ticket, options["epochs"]), out)


def is_done(job: Job, root: Path) -> bool:
    """Whether the job's run is finished."""
    return (root / job.key / "result.json").exists()


@dataclass
class Progress:
    """Where a sweep stands.

    Attributes:
        done: Jobs that are finished, those of earlier calls included.
        skipped: Those that were finished before.
        running: Jobs that a worker has now.
        failed: What was wrong, by the job's key; jobs that begin from a failed one fail with it.
        lost: How often a worker was lost.
        total: Jobs of the sweep.
        began: When, by `time.monotonic`.
    """

    total: int
    done: set[str] = field(default_factory=set)
    skipped: int = 0
    running: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    lost: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def eta(self) -> float | None:
        """Seconds that are left, if jobs go on as fast as those that this call has done; None before the first."""
        new = len(self.done) - self.skipped
        left = self.total - len(self.done) - len(self.failed)
        return (time.monotonic() - self.began) / new * left if new else None


def run_all(plan: Plan, root: Path, submit: Submit, told: Callable[[Progress], None], most: int) -> Progress:
    """Does all jobs of a sweep, parents before children; what is done already is skipped.

    Args:
        plan: The sweep.
        root: Its directory.
        submit: Gives a job to a worker.
        told: Called after every change.
        most: Jobs that are submitted at once.
    """
    jobs = {job.key: job for job in plan.jobs}
    progress = Progress(len(jobs), {key for key, job in jobs.items() if is_done(job, root)})
    progress.skipped = len(progress.done)
    attempts = dict.fromkeys(jobs, 0)
    running: dict[Future[None], Job] = {}
    while True:
        for job in jobs.values():
            is_open = job.key not in progress.done | progress.running and job.key not in progress.failed
            if is_open and job.parent in progress.failed:
                progress.failed[job.key] = f"its {jobs[job.parent].command} failed"
            elif is_open and len(running) < most and (job.parent is None or job.parent in progress.done):
                running[submit(job)] = job
                progress.running.add(job.key)
        told(progress)
        if not running:
            return progress
        finished, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
        for future in finished:
            job = running.pop(future)
            progress.running.discard(job.key)
            error = future.exception()
            attempts[job.key] += 1
            if error is None:
                progress.done.add(job.key)
            elif isinstance(error, WorkerLost) and attempts[job.key] < ATTEMPTS:
                progress.lost += 1  # it is open again
            else:
                progress.failed[job.key] = " ".join(str(error).split()) or type(error).__name__


class LocalWorkers:
    """Processes on this machine, one per job, so that a killed one takes no other with it.

    Args:
        root: Directory of the sweep.
        workers: How many at once.
        threads: CPU threads of each.
    """

    def __init__(self, root: Path, workers: int, threads: int = 1) -> None:
        self.root, self.threads = root, threads
        self._pool = ThreadPoolExecutor(workers)
        self._children: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, job: Job) -> Future[None]:
        """Gives a job to a process."""
        return self._pool.submit(self._run, job)

    def close(self) -> None:
        """Stops all processes; each saves a checkpoint first, as on Ctrl-C."""
        with self._lock:
            self._closed = True
            for child in self._children:
                child.send_signal(signal.SIGINT)
        self._pool.shutdown(cancel_futures=True)

    def _run(self, job: Job) -> None:
        words = [sys.executable, "-m", "supertickets.study.worker", str(self.root), json.dumps(job.to_json())]
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads), "SUPERTICKETS_WORKER": "1"}
        folder = self.root / job.key
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.txt").open("a") as log:
            with self._lock:
                if self._closed:
                    raise WorkerLost
                child = subprocess.Popen(
                    words, stdout=log, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
                )
                self._children.add(child)
            _, said = child.communicate()
            log.write(said)
        with self._lock:
            self._children.discard(child)
        check_end(child.returncode, said)


def check_end(status: int, said: str) -> None:
    """Turns the end of a worker process into nothing, or what went wrong.

    Raises:
        WorkerLost: It was killed.
        UserError: It said why it cannot work.
    """
    if status < 0:
        raise WorkerLost(f"its worker was ended by signal {-status}")
    if status:
        lines = [line for line in said.splitlines() if line.strip()]
        raise UserError(lines[-1].removeprefix("error: ") if lines else f"its worker ended with status {status}")


def failures(progress: Progress, plan: Plan) -> Sequence[str]:
    """A line per job that failed."""
    commands: Mapping[str, str] = {job.key: job.command for job in plan.jobs}
    return [f"{commands[key]} {key}: {why}" for key, why in progress.failed.items()]


def run_sweep(plan: Plan, root: Path, workers: int, threads: int, console: Console) -> list[dict[str, Any]]:
    """Runs a sweep on this machine; what is done is skipped, what was begun goes on.

    Args:
        plan: What to do.
        root: Its directory; every job has one of its own in it, and the results are ``results.csv``.
        workers: Processes at once.
        threads: CPU threads of each.
        console: Where progress is told.

    Returns:
        A row per point: see `results.rows`.

    Raises:
        UserError: A job failed; all others are done first.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / "points.json").write_text(json.dumps([vars(point) for point in plan.points], indent=1))
    pool = LocalWorkers(root, workers, threads)
    with console.status("") as status:
        said = ""

        def told(progress: Progress) -> None:
            nonlocal said
            line = progress_line(progress)
            status.update(line)
            if not console.is_terminal and line.partition(";")[0] != said:
                said = line.partition(";")[0]
                console.print(line)

        try:
            progress = run_all(plan, root, pool.submit, told, workers)
        finally:
            pool.close()
    found = rows(plan.points, root)
    write_csv(root / "results.csv", found)
    if progress.failed:
        lines = failures(progress, plan)
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        raise UserError(f"{len(lines)} of {progress.total} jobs failed: {lines[0]}{more}; see log.txt in {root}/KEY")
    return found


def progress_line(progress: Progress) -> str:
    """Jobs done, running and failed, and the time that is left."""
    told = f"{len(progress.done)} of {progress.total} jobs done"
    if progress.skipped:
        told += f" ({progress.skipped} before)"
    told += f", {len(progress.running)} running"
    if progress.failed:
        told += f", {len(progress.failed)} failed"
    if progress.lost:
        told += f", {progress.lost} taken up again"
    if progress.eta is not None and len(progress.done) < progress.total:
        told += f"; {progress.eta / 60:.0f} min left"
    return told
