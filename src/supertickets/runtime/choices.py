"""Choices that were measured on this device, kept in the user's cache; a file that cannot be used is ignored."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from .kernels import build
from .library import cache_folder

_MOST = 20_000  # entries of a file; the oldest go


class Choices:
    """Names of choices by key.

    Args:
        path: Their file; None to keep them in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known = _read(path)
        self._new: dict[str, str] = {}

    def get(self, key: str, allowed: Collection[str]) -> str | None:
        """Return a choice; None if there is none among those that are possible."""
        choice = self._new.get(key, self._known.get(key))
        return choice if choice in allowed else None

    def put(self, key: str, choice: str) -> None:
        """Remember a choice."""
        self._new[key] = choice

    def save(self) -> None:
        """Add new choices to the file; nothing happens where it cannot be written."""
        if not self._new:
            return
        self._known = {**_read(self._path), **self._new}  # others may have written meanwhile
        self._new = {}
        if self._path is None:
            return
        entries = dict(list(self._known.items())[-_MOST:])
        partial = self._path.with_name(f"{self._path.name}.partial-{os.getpid()}-{threading.get_ident()}")
        with contextlib.suppress(OSError):
            try:
                partial.write_text(json.dumps(entries))
                os.replace(partial, self._path)
            finally:
                partial.unlink(missing_ok=True)


def load_choices(width: int) -> Choices:
    """Return the choices for this processor, these kernels and a vector width."""
    name = digest([processor_name().encode(), build.source_hash().encode(), str(width).encode()])
    try:
        return Choices(cache_folder() / f"choices-{name}.json")
    except (OSError, RuntimeError):  # no folder, or no home
        return Choices(None)


def digest(parts: Sequence[bytes]) -> str:
    """Return a short name of some data."""
    hashed = hashlib.blake2b(digest_size=12)
    for part in parts:
        hashed.update(len(part).to_bytes(8, "little") + part)
    return hashed.hexdigest()


def processor_name() -> str:
    """Return the name of the processor."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return platform.processor() or platform.machine()


def _read(path: Path | None) -> dict[str, str]:
    """Return the entries of a file that are what they should be."""
    data: Any = None
    if path is not None:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            data = json.loads(path.read_text())
    if not isinstance(data, dict):
        return {}
    return {key: choice for key, choice in data.items() if isinstance(choice, str)}
