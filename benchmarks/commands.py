"""The command that made a result, as anyone would type it."""

import shlex
import sys


def command() -> str:
    """Return this process's command, with DIR for folders of data and released code, without that of its runs."""
    words, shown = iter(sys.argv), []
    for word in words:
        if word == "--runs":
            next(words, None)
        elif word in ("--data.dir", "--released"):
            shown += [word, "DIR"] if next(words, None) else []
        else:
            shown.append(word)
    return shlex.join(["python", *shown])
