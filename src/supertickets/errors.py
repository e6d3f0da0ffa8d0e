"""The one error that is the user's to fix."""

from __future__ import annotations

import difflib
import errno
import importlib
import signal
from collections.abc import Iterable
from unicodedata import category


class UserError(ValueError):
    """Input that cannot work: one line that names what, where and how to fix it.

    The command line prints it without a traceback and exits with status 2.
    """

    def __str__(self) -> str:
        return printable(super().__str__()).replace("\n", "\\n")  # a name may hold anything


class Fault(RuntimeError):
    """Failure of a process though the input was right: one line; the command line exits with status 1."""


# Signals that ask a process to end, or say that its time is nearly over; those that this system has.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
)


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end, as Ctrl-C does.

    Attributes:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


def stop_status(error: BaseException) -> int:
    """Return the exit status of a process that a signal has ended, as shells have it."""
    return 128 + int(getattr(error, "number", signal.SIGINT))


def printable(text: str) -> str:
    """Return a text with its control characters spelt out: a name must not steer a terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() or category(c) == "Zs" else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


_DISK = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the quota of the disk is used up; free some space",
    errno.EFBIG: "the file is larger than this process may write; raise the limit (ulimit -f)",
    errno.EROFS: "the place is read-only; make it writable",
    errno.EACCES: "the place may not be written; change its permissions",
    errno.EIO: "the disk does not work; see the system's log",
}


# What torch says when memory is refused: its allocator, and oneDNN, which writes its code into memory of its own.
_NO_MEMORY = ("can't allocate memory", "could not create a primitive", "could not create a memory", "std::bad_alloc")


def explain_fault(error: Exception) -> Exception | None:
    """Return what to tell of an error of the machine: of its disk, its memory or a process; None for any other.

    Returns:
        `UserError` for what a user can mend, `Fault` for what may go well the next time.
    """
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in _DISK:
        return UserError(f"{error.filename or 'a file'} cannot be written: {_DISK[error.errno]}")
    is_torch_memory = type(error).__name__ == "OutOfMemoryError" or any(words in text for words in _NO_MEMORY)
    if isinstance(error, MemoryError) or is_torch_memory or getattr(error, "errno", None) == errno.ENOMEM:
        return UserError("the memory is used up; lower data.batch, data.workers or data.keep_gb, or --batch of bench")
    if isinstance(error, RuntimeError) and text.startswith("DataLoader worker"):
        return Fault(f"a loader process has ended ({text.split('. ')[0]}), often for want of memory")
    return None


def suggest(word: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known word, else the list of them, or what is given instead."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(words)}" if otherwise is None else otherwise


# Libraries that only some uses need -> the extra of this package that installs them.
EXTRAS = {
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "export"),
    "openvino": "openvino",
    "matplotlib": "report",
    "faster_coco_eval": "coco",
    "timm": "timm",
    "ray": "cluster",
    "submitit": "slurm",
}


def missing_library(error: ModuleNotFoundError) -> UserError | None:
    """Return what to tell of a library that is not installed; None if no extra of this package installs it."""
    name = (error.name or "").partition(".")[0]
    if name not in EXTRAS:
        return None
    return UserError(f"library {name} is not installed. Install it with: pip install 'supertickets[{EXTRAS[name]}]'")


def require_libraries(*names: str) -> None:
    """Check that optional libraries are installed.

    Raises:
        UserError: One is not; the message has the command that installs it.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise missing_library(error) or error from None
