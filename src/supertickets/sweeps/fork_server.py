"""A server that forks jobs which start at once: it has imported everything and done nothing else.

Importing PyTorch takes seconds and slows what runs beside it, while a job of a sweep may take little longer.

`multiprocessing` has a fork server too, which cannot replace this one: it runs the caller's main module again in every
job (a script without a guard fails, and a job begins with that module's state); a process has only one, whose preloaded
modules and variables are those of whoever started it first; starting a job waits until everything is imported, and no
job can be stopped meanwhile; and jobs go on when their server or their caller is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
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
from .worker import run_with_status

_WATCH = 0.05  # seconds between looks at whether a job has ended, or whoever wanted it has gone
_INTERRUPT = {signal.SIGINT}
_FORKS = sys.platform == "linux"  # elsewhere libraries take it badly
_WHEN_PARENT_ENDS = 1  # Linux: PR_SET_PDEATHSIG
_JOB = "job"


class ForkServer:
    """A process that starts jobs, one at a time; it ends with the process that made it, and stops its job then.

    Args:
        environment: Variables of its jobs, besides those of this process.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        # An interrupt waits until the new process, which inherits this, knows what to do with it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @property
    def is_alive(self) -> bool:
        """True while it can start jobs."""
        return self._process.poll() is None

    def start(self, job: Job, root: Path, threads: int, environment: Mapping[str, str]) -> None:
        """Start a job in a process of its own, which writes to the end of the job's log.

        Args:
            job: Job to do.
            root: Directory of the sweep.
            threads: CPU threads.
            environment: Variables of this job alone.
        """
        request = {"job": job.to_json(), "root": str(root), "directory": os.getcwd(), "threads": threads}
        line = json.dumps({**request, "environment": dict(environment)})
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, as `wait` returns
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    def wait(self) -> int:
        """Wait for the job's end.

        Returns:
            Exit status of the job, as of `worker.run_with_status`; negative for a signal. If the server itself has
            ended, its own.
        """
        assert self._process.stdout is not None
        while not select.select([self._process.stdout], [], [], 0.2)[0]:
            pass  # an interrupt is noticed in between
        answer = self._process.stdout.readline()
        return int(answer) if answer else self._process.wait() or -signal.SIGKILL

    def stop(self) -> None:
        """Stop the job, which saves a checkpoint first, as on Ctrl-C; no other is begun."""
        self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End the server; no job may be under way."""
        self._process.communicate()


class _Server:
    """The loop in the server's process.

    Args:
        wanted_by: Process that made the `ForkServer`.
    """

    def __init__(self, wanted_by: int) -> None:
        self.wanted_by = wanted_by
        self.child = 0
        self.is_stopped = False

    def stop(self, *_: object) -> None:
        """Stop the job, once, and start no other."""
        if self.child and not self.is_stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGINT)
        self.is_stopped = True

    def serve(self) -> int:
        """Start the jobs that standard input asks for, a line each, and answer with exit statuses."""
        own, answers = os.getpid(), os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # nothing else goes there
        signal.signal(signal.SIGINT, self.stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)
        while (request := sys.stdin.readline()) and os.getppid() == self.wanted_by:
            signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)  # until it is known which process to stop
            if not self.is_stopped and not (child := _start_job(request)):
                answers.close()  # else nobody would notice when the server ends
                return _work(json.loads(request), own)
            self.child = 0 if self.is_stopped else child
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)
            status = self._end() if self.child else 130
            self.child = 0
            with contextlib.suppress(BrokenPipeError):
                answers.write(f"{status}\n")
        return 0

    def _end(self) -> int:
        """Return the exit status of the job; stop it when the process that wanted it has gone."""
        while True:
            ended, status = os.waitpid(self.child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if os.getppid() != self.wanted_by:
                self.stop()
            time.sleep(_WATCH)


def main(words: list[str]) -> int:
    """Serve a `ForkServer`, or do one job in this process."""
    if words[0] == _JOB:
        return _work(json.loads(words[1]), os.getppid())
    import torch._dynamo  # noqa: F401  # optimizers import it at their first step

    return _Server(int(words[0])).serve()


def _start_job(request: str) -> int:
    """Start a job; return its process, and 0 in that process if it was forked."""
    if _FORKS:
        return os.fork()
    return subprocess.Popen([sys.executable, "-m", __name__, _JOB, request]).pid


def _work(request: Mapping[str, Any], server: int) -> int:
    """Do a job in this process."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if _FORKS:  # a server may be killed alone
            ctypes.CDLL(None).prctl(_WHEN_PARENT_ENDS, signal.SIGINT)
        if os.getppid() != server:
            return 130
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)
        job, root = Job.from_json(request["job"]), Path(request["root"])
        os.environ.update(request["environment"])
        if Path(request["directory"]).is_dir():
            os.chdir(request["directory"])
        torch.set_num_threads(request["threads"])
        log = os.open(root / job.key / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        for place in (1, 2):
            os.dup2(log, place)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        return run_with_status(job, root)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
