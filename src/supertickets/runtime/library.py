"""Load the kernels: those that were compiled at installation, or by the compiler of this machine at first use."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from .kernels import build
from .native import Step


class Library:
    """The kernels for vectors of one width.

    Attributes:
        width: Floats of a vector.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self.width: int = self._library.supertickets_vector_width()
        self._library.supertickets_time.restype = ctypes.c_double
        self._library.supertickets_new_pool.restype = ctypes.c_void_p
        self._library.supertickets_end_pool.argtypes = [ctypes.c_void_p]
        self._library.supertickets_run.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]

    def run(self, steps: ctypes.Array[Step], count: int, pool: int | None = None) -> None:
        """Run the first steps of a table, on the threads of a pool or on the caller's."""
        self._library.supertickets_run(steps, count, pool)

    def new_pool(self, threads: int) -> int | None:
        """Return so many threads, the caller's among them; fewer if the system has not got them."""
        pool: int | None = self._library.supertickets_new_pool(threads)
        return pool

    def end_pool(self, pool: int) -> None:
        """End the threads of a pool."""
        self._library.supertickets_end_pool(pool)

    def time(self, steps: ctypes.Array[Step], repeats: int) -> float:
        """Return the milliseconds that steps take on this processor: the least of some repeats."""
        return float(self._library.supertickets_time(steps, len(steps), repeats))


def cache_folder() -> Path:
    """Return the user's folder for what can be made again; nobody else may write there."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "supertickets"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@functools.cache
def load_library(width: int = 0) -> Library | None:
    """Return the kernels; None, with one warning that says why, if there are none and they cannot be compiled.

    Args:
        width: Floats of a vector; 0 for the widest that the processor has.
    """
    if os.environ.get("SUPERTICKETS_KERNELS") == "off":
        return None
    try:
        width = width or ctypes.CDLL(str(_library_path(0))).supertickets_widest()
        return Library(_library_path(width))
    except build.NoCompiler as error:
        why = str(error)
    except (OSError, RuntimeError) as error:  # the last: there is no home for a cache
        why = f"{error}; set XDG_CACHE_HOME to a folder that can be written and holds programs"
    warnings.warn(f"the sparse runtime computes with numpy, which is slow: {why}", stacklevel=3)
    return None


def _library_path(width: int) -> Path:
    """Return the file of a library, compiled if need be."""
    name = build.library_name(width)
    installed = build.SOURCES / name
    if installed.exists():
        return installed
    folder = cache_folder() / f"kernels-{build.source_hash()}"
    if not (folder / name).exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(folder / "lock"):
            if not (folder / name).exists():
                if width:
                    print("compiling the kernels of the sparse runtime for this processor, once", file=sys.stderr)
                build.compile_library(folder, width)
    return folder / name


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes out; where files cannot be locked, both compile, and the last one wins."""
    with path.open("w") as file:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
