"""The command line: find the command, run it, and turn what stopped it into an exit status."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from ..errors import STOP_SIGNALS, Fault, Stopped, UserError, explain_fault, missing_library, printable, stop_status
from . import analysis, sweeps, tickets, training
from .output import DEFECT, DONE, USER, is_main
from .parser import parse_words

# In the order in which somebody needs them.
COMMANDS = (*tickets.RECIPES, *training.COMMANDS, *tickets.COMMANDS, *analysis.COMMANDS, *sweeps.COMMANDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words behind the program's name; None takes this process's.

    Returns:
        The exit status: 0 done, 1 the machine failed, 2 wrong input, 128 and its number for a signal (130: Ctrl-C).
        A defect raises, which Python makes a 1.
    """
    asked: list[int] = []
    try:
        options = parse_words(sys.argv[1:] if arguments is None else arguments, COMMANDS)
        with warnings.catch_warnings(), _signals_stop(asked):
            warnings.showwarning = _show_warning
            options.command.run(options)
    except KeyboardInterrupt as stop:
        print("stopped", file=sys.stderr)
        return stop_status(stop)
    except BrokenPipeError:
        return DONE
    except Exception as error:
        if asked:  # libraries written in C may turn what a signal raises into an error of their own
            print("stopped", file=sys.stderr)
            return stop_status(Stopped(asked[0]))
        problem = _explain(error)
        if problem is None:
            raise
        if os.environ.get("LOCAL_RANK", "0") == "0":  # once per machine: another one's data may be the cause
            print(f"error: {problem}", file=sys.stderr)
        return DEFECT if isinstance(problem, Fault) else USER
    return DONE


def _explain(error: Exception) -> Exception | None:
    """Return what to tell of an error in one line; None for a defect of ours, which needs its traceback."""
    if isinstance(error, UserError | Fault):
        return error
    return missing_library(error) if isinstance(error, ModuleNotFoundError) else explain_fault(error)


@contextlib.contextmanager
def _signals_stop(asked: list[int]) -> Iterator[None]:
    """Let every signal that asks the process to end do what Ctrl-C does; ignored ones (nohup) stay so.

    Processes of torchrun end as usual: inside an all-reduce they could not answer.

    Args:
        asked: Takes the numbers of signals that came.
    """
    usual = (signal.SIG_DFL, signal.default_int_handler)
    handlers = {}
    if threading.current_thread() is threading.main_thread() and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    handlers = {number: handler for number, handler in handlers.items() if handler in usual}

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        raise Stopped(number)

    for number in handlers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    if is_main():
        print(f"warning: {printable(str(message))}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
