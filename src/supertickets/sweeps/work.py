"""The work of a sweep: its jobs, one after the other or many at once, on this machine or on many."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock
from rich.console import Console
from rich.live import Live

from ..deploy import measure_network
from ..errors import UserError
from ..plugins import plugin_names, recipe_trust
from ..runs.api import draw, fork_run, prune, resume, retrain, train, train_shared_prefix
from ..runs.derive import prune_recipe, retrain_recipe
from ..runs.finalize import is_finished
from ..storage import make_folder, read_json, refuse_links, write_json, write_text
from ..ticket import load
from ..training import RunDir
from .progress import Progress, format_progress, progress_table
from .results import result_rows, write_csv
from .sweep import Job, Plan, Point

ATTEMPTS = 5  # that a job gets whose worker is lost
PATIENCE = 90  # seconds until every machine sees what another one has written, at the latest
Submit = Callable[[Job], "Future[None]"]


class WorkerLost(Exception):
    """A worker was ended, or its machine went away; the job can be resumed."""


class Engine(Protocol):
    """A place where jobs are done: processes of this machine, or of a cluster."""

    def submit(self, job: Job) -> Future[None]:
        """Give a job to a worker, now or when there is room; its parent is done."""

    def close(self) -> None:
        """Stop all workers; each saves a checkpoint first, as on Ctrl-C."""


def run_job(job: Job, root: Path) -> None:
    """Do a job in its directory, unless it is done; go on with what an earlier worker left.

    Args:
        job: Job to do; its parent must be done.
        root: Directory of the sweep.

    Raises:
        UserError: It cannot work.
    """
    out, options = root / job.key, dict(job.options)
    make_folder(out)
    refuse_links(out)
    with _run_locked(out):
        if is_done(job, root):
            return
        write_json(out / "worker.json", {"host": socket.gethostname(), "pid": os.getpid()})
        if job.command in ("prune", "retrain"):  # a trunk's epochs are counted in the draws that begin there
            write_json(out / "parent.json", job.parent)
        begun = (out / "run.json").exists()
        recipe = job.recipe
        parent = None if job.parent is None else root / job.parent
        if recipe is not None and parent is not None and not begun:
            fork_run(parent, recipe, out, options.get("until"))
            begun = True
        if job.command == "trunk" and recipe is not None:
            train_shared_prefix(recipe, out, options["until"], trusted_modules(job, root))
        elif begun:
            resume(out, trusted_modules(job, root), measure_network)
        elif recipe is not None and job.command == "train":
            train(recipe, out)
        elif recipe is not None:
            draw(recipe, out, measure_network)
        elif job.command == "prune" and parent is not None:
            ticket, given = (
                load(parent, trusted_modules(job, root)),
                [name for name in ("batches", "rounds") if name in options],
            )
            words = [word for name in given for word in (f"--prune.{name}", str(options[name]))]
            prune(ticket, prune_recipe(ticket, options["ratio"], options["criterion"], words), out)
        elif parent is not None:
            ticket = load(parent, trusted_modules(job, root))
            retrain(ticket, retrain_recipe(ticket, options["epochs"]), out)


def trusted_modules(job: Job, root: Path) -> tuple[str, ...]:
    """Return the modules of user code that a sweep's own recipes name: of the job, and of the run it begins from."""
    recipes = [] if job.recipe is None else [job.recipe.to_json()]
    if job.parent is not None:
        recipes.append(json.loads((root / job.parent / "run.json").read_text())["recipe"])
    names = [name for recipe in recipes for name in recipe_trust(recipe)]
    return (*names, *(name.partition(":")[0] for name in plugin_names(job.options)))


@contextlib.contextmanager
def _run_locked(out: Path) -> Iterator[None]:
    """Wait until no other worker is in a job's directory: one that was given up as lost may still be at work."""
    # A lock of the system ends with its process, however that is killed; loader processes, which are forked from it and
    # outlive it by seconds, do not hold it. A mere marker file would stay.
    lock = FileLock(out / ".worker", fallback_to_soft=False)
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise UserError(f"{out} cannot be locked ({error}); put --out on storage that has locks") from None
    try:
        yield
    finally:
        lock.release()


def is_done(job: Job, root: Path) -> bool:
    """Return whether the job's run is finished, and its ticket undamaged."""
    return is_finished(RunDir(root / job.key))


def mark_directory(root: Path) -> str:
    """Return the mark of a sweep's directory, made if there is none: by it workers elsewhere know that they see it.

    Raises:
        UserError: The directory cannot be written.
    """
    try:
        make_folder(root)
        refuse_links(root)
        if not (root / ".sweep").exists():
            write_text(root / ".sweep", uuid.uuid4().hex)
        return (root / ".sweep").read_text()
    except OSError as error:
        raise UserError(f"{root} cannot be written ({error.strerror}); choose another --out") from None


def run_jobs(plan: Plan, root: Path, submit: Submit, report: Callable[[Progress], None], most: int) -> Progress:
    """Do all jobs of a sweep, parents before children; skip what is done already.

    Args:
        plan: The sweep.
        root: Its directory.
        submit: Function that gives a job to a worker.
        report: Function that is called after every change.
        most: Largest number of jobs that are submitted at once.
    """
    jobs = {job.key: job for job in plan.jobs}
    progress = Progress(jobs, {key for key, job in jobs.items() if is_done(job, root)})
    progress.before = frozenset(progress.done)
    attempts = dict.fromkeys(jobs, 0)
    given: dict[Future[None], Job] = {}
    while True:
        taken = progress.done | {job.key for job in given.values()}
        for job in jobs.values():
            is_open = job.key not in taken and job.key not in progress.failed
            if is_open and job.parent in progress.failed:
                progress.failed[job.key] = f"its {jobs[job.parent].command} failed"
            elif is_open and len(given) < most and (job.parent is None or job.parent in progress.done):
                (root / job.key / "worker.json").unlink(missing_ok=True)
                given[submit(job)] = job
        progress.running = {job.key for job in given.values() if (root / job.key / "worker.json").exists()}
        report(progress)
        if not given:
            return progress
        finished, _ = wait(given, timeout=1, return_when=FIRST_COMPLETED)
        for future in finished:
            job = given.pop(future)
            progress.running.discard(job.key)
            error = future.exception()
            attempts[job.key] += 1
            if error is None and not _wait_for_file(root / job.key / "result.json"):
                progress.failed[job.key] = "its worker ended but left no result.json that is seen here"
            elif error is None:
                progress.done.add(job.key)
            elif isinstance(error, WorkerLost) and attempts[job.key] < ATTEMPTS:
                progress.lost += 1  # it is open again
            else:
                progress.failed[job.key] = " ".join(str(error).split()) or type(error).__name__


def _wait_for_file(path: Path) -> bool:
    """Wait for a file, which shared storage may show late; return whether it came into sight."""
    end = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def start_log(root: Path, job: Job) -> tuple[Path, int]:
    """Make a job's log if there is none; return its path, and the bytes that it has before an attempt."""
    path = root / job.key / "log.txt"
    make_folder(path.parent)
    refuse_links(path.parent)
    path.touch()
    return path, path.stat().st_size


def read_log_since(path: Path, begins: int) -> str:
    """Return what was logged behind a byte offset; of long logs the end, which says what was wrong."""
    with path.open("rb") as log:
        log.seek(max(begins, log.seek(0, os.SEEK_END) - 4096))
        return log.read().decode(errors="replace")


def check_end(status: int, said: str) -> None:
    """Raise an error if a worker did not end well.

    Args:
        status: Exit status of the process; negative for a signal, 130 if it was asked to stop.
        said: End of its log.

    Raises:
        WorkerLost: It was ended.
        UserError: It said why it cannot work.
    """
    if status < 0:
        raise WorkerLost(f"its worker was ended by signal {-status}")
    if status == 130:
        raise WorkerLost("its worker was told to stop")
    if status:
        lines = [line for line in said.splitlines() if line.strip()]
        raise UserError(lines[-1].removeprefix("error: ") if lines else f"its worker ended with status {status}")


def run_sweep(plan: Plan, root: Path, engine: Engine, most: int | None, console: Console) -> list[dict[str, Any]]:
    """Run a sweep: skip what is done, go on with what was begun.

    Args:
        plan: Results and jobs of the sweep.
        root: Its directory; every job has one of its own in it, the results are ``results.csv``, what the engine says
            is in ``log.txt``.
        engine: Place where jobs are done; it is closed at the end.
        most: Largest number of jobs at once; None for all that can be done, which the engine does as it has room.
        console: Terminal or file for the progress.

    Returns:
        A row per point: see `results.rows`.

    Raises:
        UserError: A job failed, and all others are done first; or the directory cannot be written.
    """
    mark_directory(root)
    points = [*plan.points, *_earlier_points(plan.points, root)]
    write_json(root / "points.json", [vars(point) for point in points])
    try:
        with (
            (root / "log.txt").open("a", buffering=1) as log,
            contextlib.redirect_stdout(log),  # what engines print
            Live(console=console, redirect_stdout=False, transient=not console.is_terminal) as live,
        ):
            progress = run_jobs(plan, root, engine.submit, _progress_printer(console, live), most or sys.maxsize)
    finally:
        engine.close()
    results = result_rows(plan.points, root)
    write_csv(root / "results.csv", result_rows(points, root))
    if lines := progress.failures():
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        raise UserError(f"{len(lines)} of {len(plan.jobs)} jobs failed: {lines[0]}{more}; see log.txt in {root}/KEY")
    return results


def _earlier_points(points: Sequence[Point], root: Path) -> list[Point]:
    """Return the results of other sweeps of this directory, which stay in its files."""
    path = root / "points.json"
    known = {(point.recipe, point.method, point.ratio, point.seed) for point in points}
    try:
        earlier = [Point(**entry) for entry in read_json(path)] if path.exists() else []
    except (TypeError, ValueError, OSError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read ({why}); delete it, or choose another --out") from None
    return [point for point in earlier if (point.recipe, point.method, point.ratio, point.seed) not in known]


def _progress_printer(console: Console, live: Live) -> Callable[[Progress], None]:
    """Return a function that shows progress: a table in a terminal; elsewhere a line whenever a job has ended."""
    said = None

    def show(progress: Progress) -> None:
        nonlocal said
        if console.is_terminal:
            live.update(progress_table(progress))
        elif said != (ends := (len(progress.done), len(progress.failed), progress.lost)):
            said = ends
            console.print(format_progress(progress))

    return show
