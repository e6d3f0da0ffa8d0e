"""Files that may be broken: read all that fit into memory, leave broken ones out, or put others in their place."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ..config.recipe import DataSettings
from ..errors import UserError
from .preprocessing import BrokenImage, without_warnings
from .samples import Index

_BROKEN_SHOWN = 20  # broken files that are noted one by one
_LEFT_OUT = "left out: "  # how notes of broken files begin

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")


class DoesNotFit(Exception):
    """Raised where what is kept would take more memory than there is for it."""


class Memory:
    """Counts the memory of what is kept."""

    def __init__(self, size: float) -> None:
        """Begin with a size in bytes."""
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: float) -> None:
        """Take some bytes.

        Raises:
            DoesNotFit: There are not as many left.
        """
        with self._lock:
            self._left -= size
            if self._left < 0:
                raise DoesNotFit


def read_all(
    keys: Sequence[Key],
    read: Callable[[Key], Found],
    settings: DataSettings,
    notes: list[str],
    threads: int | None = None,
) -> dict[Key, Found]:
    """Read files; broken ones are noted and left out.

    Args:
        keys: What is read: paths, scenes or positions.
        read: Reads one of them.
        settings: Reads ``broken``.
        notes: What a person should know is added here.
        threads: Number of threads; None for one per core.

    Raises:
        UserError: A file is broken and ``data.broken`` refuses that; or all are broken.
    """

    def attempt(key: Key) -> Found | BrokenImage:
        try:
            return read(key)
        except BrokenImage as error:
            return error

    quiet = without_warnings() if threads is None else contextlib.nullcontext()  # what a user's class says is heard
    with quiet, ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        results = dict(zip(keys, pool.map(attempt, keys), strict=True))
    broken = [result for result in results.values() if isinstance(result, BrokenImage)]
    if broken and settings.broken == "refuse":
        raise UserError(f"{broken[0]}; {len(broken)} such in all: mend or delete them, or set data.broken to skip")
    if broken and len(broken) == len(results):
        raise UserError(f"nothing can be read: {broken[0]}; {len(broken)} such in all: mend them or fetch them again")
    notes += [f"{_LEFT_OUT}{error}" for error in broken[:_BROKEN_SHOWN]]
    if len(broken) > _BROKEN_SHOWN:
        notes.append(f"{_LEFT_OUT}{len(broken) - _BROKEN_SHOWN} more that cannot be read")
    return {key: result for key, result in results.items() if not isinstance(result, BrokenImage)}


def first_reason(notes: Sequence[str], word: str = "") -> str:
    """Return why the first file was left out, for an error: " (REASON)"; an empty text if none was.

    Args:
        notes: Notes of `read_all`.
        word: What the note has in it.
    """
    return next((f" ({note[len(_LEFT_OUT) :]})" for note in notes if note.startswith(_LEFT_OUT) and word in note), "")


def iterate_readable(read: Callable[[int], Found], index: Index, skip: bool) -> Iterator[tuple[int, Found]]:
    """Yield positions with what is read there.

    Args:
        read: Reads the sample at a position.
        index: Positions.
        skip: Whether a broken sample is left out, with a warning.

    Raises:
        BrokenImage: A sample is broken and must not be left out.
    """
    for position in index.tolist():
        try:
            sample = read(position)
        except BrokenImage as error:
            if not skip:
                raise
            warnings.warn(f"left out: {error}", stacklevel=2)
            continue
        yield position, sample


def read_or_substitute(read: Callable[[int], Found], positions: Iterable[int], skip: bool, what: str) -> Found:
    """Return a sample; if it is broken, the next one that can be read.

    Args:
        read: Reads the sample at a position.
        positions: Where to look, in this order.
        skip: Whether a broken sample may give its place to another.
        what: Noun, for warnings.

    Raises:
        BrokenImage: The sample is broken and must not be passed over, or all are broken.
    """
    first: BrokenImage | None = None
    for position in positions:
        try:
            return read(position)
        except BrokenImage as error:
            if not skip:
                raise
            if first is None:
                warnings.warn(f"another {what} takes its place: {error}", stacklevel=3)
            first = first or error
    assert first is not None
    raise first
