"""Pruning of a finished network in one shot: the second half of the search-then-prune baseline (Sec. 4.1)."""

from __future__ import annotations

from ..training import Session, TrainState
from .ranking import choose_mask
from .two_in_one import disable_weights


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
