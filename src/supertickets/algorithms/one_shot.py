"""Pruning of a finished network in one shot: the second half of the search-then-prune baseline (Sec. 4.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..pruning import Criterion, CriterionContext, Enforcer, check_scores, keep_best
from ..training import Session, TrainState
from .two_in_one import disable_weights, maskable


def prune_once(
    session: Session, state: TrainState, name: str, criterion: Criterion, batches: int, rounds: int = 1
) -> None:
    """Prunes a finished network in one shot to ``prune.ratio``; what is pruned already stays so.

    Args:
        session: What stays the same.
        state: The network.
        name: What the criterion is called, for messages.
        criterion: How weights are ranked.
        batches: Training batches that it looks at.
        rounds: Steps in which the living weights become fewer, by the same factor each; the rest is ranked anew in
            each. Nothing is trained in between.

    Raises:
        UserError: The criterion gives no usable score.
    """
    recipe = session.recipe
    weights = maskable(state, recipe)
    probe = CriterionContext(
        module=state.module,
        weights=weights,
        losses=lambda: calibration_losses(session, state, batches),
        average_=session.runtime.average_,
        input_shape=state.spec.input_shape,
        settings=recipe.prune,
        seed=recipe.seed,
    )
    trained = {key: weight.detach().clone() for key, weight in weights.items()}
    was_training = state.module.training
    state.module.eval()
    mask = state.sparse.mask
    for ratio in pruning_ratios(state.sparse.sparsity, recipe.prune.ratio, rounds):
        scores = check_scores(criterion(probe), weights, name)
        session.runtime.average_(list(scores.values()))  # one mask for all processes, whatever the criterion does
        mask = keep_best(scores, ratio, recipe.prune, mask)
        Enforcer(weights, mask).mask_weights()
    state.module.train(was_training)
    with torch.no_grad():
        for key, weight in weights.items():
            weight.copy_(trained[key])
    disable_weights(session, state, 0, mask, recipe.prune.ratio)


def pruning_ratios(now: float, target: float, rounds: int) -> list[float]:
    """Shares of zeros after each round: the living weights become fewer by the same factor every time.

    Args:
        now: Share of zeros before the first.
        target: Share of zeros after the last, exactly.
        rounds: How many.
    """
    factor = (1 - target) / (1 - now) if now < 1 else 1.0
    return [1 - (1 - now) * math.pow(factor, k / rounds) for k in range(1, rounds)] + [target]


def calibration_losses(session: Session, state: TrainState, batches: int) -> Iterator[Tensor]:
    """Losses of the first training batches, with their graphs; every call the same ones."""
    device = session.runtime.device
    for images, target in session.batches.calibration(0, batches):
        yield session.task.loss(state.module(images.to(device)).float(), target.to(device))
