"""The command that made a result, as anyone would type it."""

import shlex
import sys


def command() -> str:
    """This process's command, without where its runs lie, and with DIR for where data and the released code do."""
    words, told = iter(sys.argv), []
    for word in words:
        if word == "--runs":
            next(words, None)
        elif word in ("--data.dir", "--released"):
            told += [word, "DIR"] if next(words, None) else []
        else:
            told.append(word)
    return shlex.join(["python", *told])
