"""A worker of a sweep: one job in the process that an engine has made for it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..training import Interrupted, show_progress
from .sweep import Job
from .work import read_log_since, run_job, start_log


def run_with_status(job: Job, root: Path) -> int:
    """Do one job, and print on standard error what is wrong.

    Returns:
        Exit status, as of the command line: 0 done, 2 it cannot work, 1 a defect, 130 stopped.
    """
    try:
        with show_progress():  # into the job's log
            run_job(job, root)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (Interrupted, KeyboardInterrupt):
        return 130
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def attempt_job(
    job: Mapping[str, Any],
    root: str,
    mark: str,
    directory: str,
    threads: int,
    run_job: Callable[[Job, Path, int], int] | None = None,
) -> tuple[int, str]:
    """Do one job on whatever machine an engine calls this.

    Args:
        job: Job as `Job.to_json` returns it.
        root: Directory of the sweep, on storage that all machines share.
        mark: Mark of the directory (`work.mark_directory`) as seen where the sweep was started.
        directory: Working directory of the sweep's start; paths in its recipes may be relative to it.
        threads: CPU threads.
        run_job: Function that does the job, in a directory and with threads; None for this process.

    Returns:
        Exit status and end of the log, for `work.check_end`.
    """
    if unseen := _why_missing(root, mark):
        return 2, unseen
    if Path(directory).is_dir():
        os.chdir(directory)
    parsed = Job.from_json(job)
    log, begins = start_log(Path(root), parsed)
    status = (run_job or _run_here)(parsed, Path(root), threads)
    return status, read_log_since(log, begins)


def _why_missing(root: str, mark: str) -> str | None:
    """Return why this machine does not see the directory of a sweep; None if it does."""
    seen = Path(root, ".sweep")
    if seen.exists() and seen.read_text() == mark:
        return None
    return f"machine {socket.gethostname()} does not see {root}; put --out on storage that all machines share"


def _run_here(job: Job, root: Path, threads: int) -> int:
    torch.set_num_threads(threads)
    path = root / job.key / "log.txt"
    with path.open("a", buffering=1) as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        return run_with_status(job, root)
