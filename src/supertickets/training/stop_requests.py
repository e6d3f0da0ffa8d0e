"""Signals that ask a training to stop: it saves first, and goes on later."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from ..errors import STOP_SIGNALS
from .runtime import Runtime


class Interrupted(Exception):
    """A run was stopped by a signal (Ctrl-C, or of a scheduler); a checkpoint was written.

    Attributes:
        number: Number of the signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class StopRequest:
    """A request to stop, which a signal may make at any time.

    Attributes:
        number: Number of the signal; None if nobody has asked yet.
    """

    number: int | None = None

    def raise_if_made(self) -> None:
        """Stop if somebody has asked to.

        Raises:
            Interrupted: Somebody has.
        """
        if self.number is not None:
            raise Interrupted(self.number)


@contextlib.contextmanager
def stop_requests(runtime: Runtime) -> Iterator[StopRequest]:
    """Turn the first signal of a kind into a request that is honoured at the next step; a second one acts at once.

    With several processes signals end them as usual: one cannot leave the others inside an all-reduce, and the
    checkpoint of the last epoch is there.
    """
    request = StopRequest()
    if runtime.world > 1 or threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def ask(number: int, frame: FrameType | None) -> None:
        request.number = number
        signal.signal(number, before[number])

    for number, handler in before.items():
        if handler not in (signal.SIG_IGN, None):  # ignored, as by nohup, or not Python's
            signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(number, handler)
