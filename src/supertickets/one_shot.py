"""Pruning of a finished network in one shot: the second half of the search-then-prune baseline (Sec. 4.1)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .draw import disable_weights, maskable
from .errors import UserError
from .pruning import keep_best, magnitudes, sensitivities
from .training import Session, TrainState

Criterion = Literal["magnitude", "snip"]


def prune_once(session: Session, state: TrainState, criterion: Criterion, batches: int) -> None:
    """Prunes a finished network in one shot to ``prune.ratio``, globally; what is pruned already stays so.

    Args:
        session: What stays the same.
        state: The network.
        criterion: "magnitude" (Mag. in the paper), or "snip" (Grad.): |w * dL/dw| of the trained weights.
        batches: Training batches over which "snip" averages the gradient.

    Raises:
        UserError: The loss is not a number.
    """
    recipe = session.recipe
    weights = maskable(state, recipe)
    if criterion == "magnitude":
        scores = magnitudes(weights, recipe.prune)
    else:
        scores = sensitivities(weights, mean_gradients(session, state, weights, batches))
    mask = keep_best(scores, recipe.prune.ratio, recipe.prune, state.sparse.mask)
    disable_weights(session, state, 0, mask, recipe.prune.ratio)


def mean_gradients(session: Session, state: TrainState, weights: dict[str, Tensor], batches: int) -> dict[str, Tensor]:
    """Gradients of the loss, averaged over training batches and processes.

    They are those of the network as it is evaluated: with its BN statistics and without dropout. Averaging comes
    before any magnitude, as if the batches were one.

    Args:
        session: What stays the same.
        state: The network.
        weights: Those of its parameters that are asked for.
        batches: How many, at most as many as there are.
    """
    total, used = [torch.zeros_like(weight) for weight in weights.values()], 0
    was_training = state.module.training
    state.module.eval()
    for images, target in session.batches.calibration(0, batches):
        scores = state.module(images.to(session.runtime.device))
        loss = session.task.loss(scores.float(), target.to(session.runtime.device))
        found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for sum_, gradient in zip(total, found, strict=True):
            sum_ += 0 if gradient is None else gradient
        used += 1
    state.module.train(was_training)
    session.runtime.average_(total)
    if not all(bool(part.isfinite().all()) for part in total):
        raise UserError("the loss of the ticket is not a number on its training data, so no gradient can rank weights")
    return {name: part / max(used, 1) for name, part in zip(weights, total, strict=True)}
