"""The one error that is the user's to fix."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable


class UserError(ValueError):
    """Input that cannot work: one line that names what, where and how to fix it.

    The command line prints it without a traceback and exits with status 2.
    """


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
