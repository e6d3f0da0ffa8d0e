"""Threads of the kernels: how many there are by default, and the pool that an engine keeps."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from .library import Library
from .native import Step

Value = TypeVar("Value")
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


class PerProcess(Generic[Value]):
    """A value of which a forked process has one of its own: locks are free there, whatever other threads held.

    Attributes:
        value: The value of this process.
    """

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make, self.value = make, make()
        self._before: list[Value] = []  # what cannot be ended here, since its threads stayed behind
        _ALL.add(self)

    def renew(self) -> None:
        """Make a new value."""
        self._before.append(self.value)
        self.value = self._make()


_ALL: weakref.WeakSet[PerProcess[Any]] = weakref.WeakSet()


def _renew_all() -> None:
    for entry in list(_ALL):
        entry.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)


class Pool:
    """Threads that run tables of steps together.

    They start with the first table, and again in a forked process, which has no threads but the one that forked.
    """

    def __init__(self, library: Library, threads: int) -> None:
        self.threads = threads
        self._library, self._lock = library, PerProcess(threading.Lock)
        self._handles: PerProcess[list[int | None]] = PerProcess(list)  # none before the first table

    def run(self, steps: ctypes.Array[Step], count: int) -> None:
        """Run the first steps of a table."""
        handles = self._handles.value or self._start()
        self._library.run(steps, count, handles[0])

    def _start(self) -> list[int | None]:
        """Return the pool as kernels take it; None for the caller's thread alone."""
        with self._lock.value:
            handles = self._handles.value
            if not handles:
                handles.append(self._library.new_pool(self.threads) if self.threads > 1 else None)
                weakref.finalize(self, _end, self._library, handles[0], os.getpid())
            return handles


def _end(library: Library, handle: int | None, process: int) -> None:
    if handle is not None and process == os.getpid():  # a forked process has not got the threads
        library.end_pool(handle)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
