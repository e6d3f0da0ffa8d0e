"""The shared prefix of several draws: two-in-one training up to the last epoch that they have in common."""

from __future__ import annotations

from typing import Any

from ..config.recipe import Recipe
from ..storage import write_json
from ..training import Session, TrainState
from .two_in_one import TwoInOne


class SharedPrefix(TwoInOne):
    """Two-in-one training that ends early, without a ticket.

    Args:
        until: Number of the last epoch.
    """

    name = "shared_prefix"

    def __init__(self, until: int) -> None:
        super().__init__()
        self.until = until

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments that make it again."""
        return {"until": self.until}

    def init(self, session: Session, state: TrainState) -> TrainState:
        """Return the state as it is; the draws that go on from here are checked when they do."""
        return state

    def last_epoch(self, recipe: Recipe) -> int:
        """Return the last epoch that the draws have in common."""
        return self.until

    def finalize(self, session: Session, state: TrainState) -> None:
        """Mark the run as finished."""
        if session.runtime.is_main:
            write_json(session.run.result, {"until": self.until})
