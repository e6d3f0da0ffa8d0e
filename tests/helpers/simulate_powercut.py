"""A stand-in for a power cut: a run that ends somewhere, without a word and a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from supertickets import Ticket
from supertickets.training import Reporter


class Crash(BaseException):
    """Ends a run as a power cut does."""


Cut = Callable[[], AbstractContextManager[None]]


@contextmanager
def cut_by(owner: type, method: str, when: Callable[..., bool]) -> Iterator[None]:
    """Cut a run off in front of a call of a method; the run must come there.

    Args:
        owner: Whose method.
        method: Its name; it does nothing before.
        when: Given the call's arguments, whether it is the one.
    """

    def instead(self: object, *args: object) -> None:
        if when(*args):
            raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, instead)
        with pytest.raises(Crash):
            yield


def cut_at_step(epoch: int, step: int) -> AbstractContextManager[None]:
    """Cut a run off behind a step (from 1) of an epoch (from 0), before its checkpoint."""
    return cut_by(Reporter, "step", lambda *there: there >= (epoch, step))


def cut_at_evaluation(epoch: int) -> AbstractContextManager[None]:
    """Cut a run off behind shrink, prune, evaluation and log of an epoch (from 1), before its checkpoint."""
    return cut_by(Reporter, "epoch", lambda number, *figures: number == epoch)


def cut_before_ticket() -> AbstractContextManager[None]:
    """Cut a run off before its ticket is written."""
    return cut_by(Ticket, "save_pretrained", lambda folder: True)
