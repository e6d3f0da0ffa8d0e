"""Threads of the kernels: how many there are by default, and the pool that an engine keeps."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from pathlib import Path

from .library import Library
from .native import Step

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_MOST_PIECES = 32  # as in kernels/threads.h
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Return the physical cores that this process may use: second threads of a core only share its arithmetic."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    processors = os.sched_getaffinity(0)
    cores = {_read(Path(_TOPOLOGY.format(processor))) or str(processor) for processor in processors}
    quota, _, period = _read(_QUOTA).partition(" ")
    if quota.isdigit() and period.isdigit() and int(period):
        return max(1, min(len(cores), -(-int(quota) // int(period))))
    return len(cores)


def most_pieces(threads: int) -> int:
    """Return the pieces that threads take of a step at most: more than threads, for some may be slow."""
    return 1 if threads == 1 else min(2 * threads, _MOST_PIECES)


class ProcessLock:
    """A lock that is free in a forked process, whatever the threads did that stayed behind."""

    def __init__(self) -> None:
        self._locks: dict[int, threading.Lock] = {}

    def __enter__(self) -> None:
        self._locks.setdefault(os.getpid(), threading.Lock()).acquire()

    def __exit__(self, *error: object) -> None:
        self._locks[os.getpid()].release()


class Pool:
    """Threads that run tables of steps together.

    They start with the first table, and again in a forked process, which has no threads but the one that forked.
    """

    def __init__(self, library: Library, threads: int) -> None:
        self.threads = threads
        self._library, self._lock = library, ProcessLock()
        self._process = 0
        self._handle: int | None = None

    def run(self, steps: ctypes.Array[Step], count: int) -> None:
        """Run the first steps of a table."""
        self._library.run(steps, count, self._start())

    def _start(self) -> int | None:
        """Return the pool as kernels take it; None for the caller's thread alone."""
        with self._lock:
            if self.threads > 1 and self._process != os.getpid():
                self._handle = self._library.new_pool(self.threads)
                self._process = os.getpid()
                weakref.finalize(self, _end, self._library, self._handle, self._process)
            return self._handle


def _end(library: Library, handle: int | None, process: int) -> None:
    if handle is not None and process == os.getpid():  # a forked process has not got the threads
        library.end_pool(handle)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
