"""The command line: find the command, run it, and turn what stopped it into an exit status."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from ..errors import UserError, missing_library
from . import analysis, sweeps, tickets, training
from .output import DONE, STOPPED, USER, is_main
from .parser import parse_words

# In the order in which somebody needs them.
COMMANDS = (*tickets.RECIPES, *training.COMMANDS, *tickets.COMMANDS, *analysis.COMMANDS, *sweeps.COMMANDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words behind the program's name; None takes this process's.

    Returns:
        The exit status: 0 done, 2 wrong input, 130 stopped. A defect raises, which Python makes a 1.
    """
    try:
        options = parse_words(sys.argv[1:] if arguments is None else arguments, COMMANDS)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            options.command.run(options)
    except (UserError, ModuleNotFoundError) as error:
        problem = missing_library(error) if isinstance(error, ModuleNotFoundError) else error
        if problem is None:
            raise
        if os.environ.get("LOCAL_RANK", "0") == "0":  # once per machine: another one's data may be the cause
            print(f"error: {problem}", file=sys.stderr)
        return USER
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        return DONE
    return DONE


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    if is_main():
        print(f"warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
