"""Pruning of a finished network in one shot: the second half of the search-then-prune baseline (Sec. 4.1)."""

from __future__ import annotations

from typing import Any

from ..config.recipe import Recipe
from ..pruning import check_criterion
from ..training import Algorithm, Outcome, Session, TrainState
from .ranking import check_prune_ratio, choose_mask
from .two_in_one import disable_weights


class OneShotPruning(Algorithm):
    """The pruning of a finished network, in one round or in several, without training."""

    name = "one_shot"

    def check(self, recipe: Recipe) -> None:
        """Check that the criterion can work with the settings."""
        check_criterion(recipe.prune)

    def metadata(self, recipe: Recipe) -> dict[str, Any]:
        """Return the criterion, with the batches and rounds that it uses."""
        criterion, settings = check_criterion(recipe.prune), recipe.prune
        rounds = settings.rounds or criterion.default_rounds
        batches = {"batches": settings.batches} if criterion.needs_data else {}
        return {"criterion": criterion.name, **batches, **({"rounds": rounds} if rounds > 1 else {})}

    def init(self, session: Session, state: TrainState) -> TrainState:
        """Check that the ratio can be met exactly."""
        if session.recipe.prune.ratio:
            check_prune_ratio(state, session.recipe)
        return state

    def last_epoch(self, recipe: Recipe) -> int:
        """Return 0: nothing is trained."""
        return 0

    def finalize(self, session: Session, state: TrainState) -> Outcome:
        """Prune."""
        prune_once(session, state)
        return Outcome(state, {})


def prune_once(session: Session, state: TrainState) -> None:
    """Prune a finished network to ``prune.ratio``; what is pruned already stays so, and nothing is trained.

    Args:
        session: What stays the same; its recipe says by which criterion, in how many rounds.
        state: The network.

    Raises:
        UserError: The criterion gives no usable score.
    """
    ratio = session.recipe.prune.ratio
    disable_weights(session, state, 0, choose_mask(session, state, 0, ratio, state.sparse.mask), ratio)
