"""The one error that is the user's to fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Input that cannot work: one line that names what, where and how to fix it.

    The command line prints it without a traceback and exits with status 2.
    """


def nearest(word: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Returns ``"; did you mean 'x'?"`` for the closest known word, else the list of them, or what is given instead."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(words)}" if otherwise is None else otherwise
