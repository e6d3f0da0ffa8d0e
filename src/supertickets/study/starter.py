"""Processes for jobs that begin at once: forked from one that has imported everything and done nothing else.

Importing PyTorch takes seconds and slows what runs beside it, while a job of a sweep may take little longer.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .sweep import Job
from .worker import run

_WATCH = 0.05  # seconds between looks at whether a job has ended, or whoever wanted it has gone
_INTERRUPT = {signal.SIGINT}
_FORKS = sys.platform == "linux"  # elsewhere libraries take it badly


class Starter:
    """Begins jobs, one at a time; it ends with the process that made it, and stops its job then.

    Args:
        environment: Variables of its jobs, besides those of this process.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
        )

    @property
    def is_alive(self) -> bool:
        """Whether it can start more."""
        return self._process.poll() is None

    def begin(self, job: Job, root: Path, threads: int, environment: Mapping[str, str]) -> None:
        """Begins a job in a process of its own, which writes to the end of the job's log.

        Args:
            job: What to do.
            root: Directory of the sweep.
            threads: CPU threads.
            environment: Variables that hold for this job.
        """
        told = {"job": job.to_json(), "root": str(root), "directory": os.getcwd()}
        request = json.dumps({**told, "threads": threads, "environment": dict(environment)})
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, which `wait` tells
            self._process.stdin.write(f"{request}\n".encode())
            self._process.stdin.flush()

    def wait(self) -> int:
        """Waits for the job's end.

        Returns:
            Its exit status, as of `worker.run`; negative for a signal, which may have ended the starter too.
        """
        assert self._process.stdout is not None
        while not select.select([self._process.stdout], [], [], 0.2)[0]:
            pass  # an interrupt is noticed in between
        answer = self._process.stdout.readline()
        return int(answer) if answer else -signal.SIGKILL

    def stop(self) -> None:
        """Stops the job, which saves a checkpoint first, as on Ctrl-C; no other is begun."""
        self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Ends the starter; no job is under way."""
        self._process.communicate()


def main(words: list[str]) -> int:
    """Begins what standard input asks for, a line each, and answers with exit statuses; or does one job itself."""
    if words:
        return _work(json.loads(words[0]))
    import torch._dynamo  # noqa: F401  # optimizers import it at their first step

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # nothing else goes there
    parent, child, stopped = os.getppid(), 0, False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGINT)

    signal.signal(signal.SIGINT, stop)
    while request := sys.stdin.readline():
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)  # until it is known whom to tell
        if not stopped and not (child := _begin(request)):
            return _work(json.loads(request))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)
        answers.write(f"{_end_of(child, parent) if child else 130}\n")
        child = 0
    return 0


def _begin(request: str) -> int:
    """Begins a job; returns its process, and 0 in that process if it was forked."""
    if _FORKS:
        return os.fork()
    return subprocess.Popen([sys.executable, "-m", __name__, request]).pid


def _end_of(child: int, parent: int) -> int:
    """Exit status of a job; it is stopped when whoever wanted it has gone."""
    wanted = True
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if wanted and os.getppid() != parent:
            os.kill(child, signal.SIGINT)
            wanted = False
        time.sleep(_WATCH)


def _work(request: Mapping[str, Any]) -> int:
    """Does a job in this process."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)
        job, root = Job.from_json(request["job"]), Path(request["root"])
        os.environ.update(request["environment"])
        if Path(request["directory"]).is_dir():
            os.chdir(request["directory"])
        torch.set_num_threads(request["threads"])
        log = os.open(root / job.key / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdin = open(os.devnull)  # noqa: SIM115
        return run(job, root)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
