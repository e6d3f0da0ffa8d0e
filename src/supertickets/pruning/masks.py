"""Scores of weights, and masks of the best scores, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config.recipe import PruneSettings

Named = Mapping[str, Tensor]


def magnitudes(
    weights: Named, settings: PruneSettings, uses: Callable[[], Mapping[str, int]] = dict
) -> dict[str, Tensor]:
    """Return scores |w|, divided by what ``settings.normalise`` says.

    Args:
        weights: Weights by name.
        settings: Reads ``normalise``.
        uses: Function that returns the number of positions that each weight of a layer is applied at, by name.
    """
    normaliser = NORMALISERS[settings.normalise]
    known = uses() if normaliser.reads_uses else {}
    return {name: normaliser.divide(weight.detach().abs(), known.get(name, 1)) for name, weight in weights.items()}


def divide_by_rms(score: Tensor, uses: int = 1) -> Tensor:
    """Divide by the root mean square: layers of any spread give up much the same share."""
    return score / score.square().mean().sqrt().clamp_min(torch.finfo(score.dtype).tiny)


def divide_by_cost(score: Tensor, uses: int) -> Tensor:
    """Divide by the root mean square and the root of the MACs of a weight: squares are then per MAC."""
    return divide_by_rms(score) / math.sqrt(uses)


def lamp_scores(score: Tensor, uses: int = 1) -> Tensor:
    """Return LAMP (Lee et al., 2021, Eq. 4), its root: each layer's largest weight has 1; small layers give up less.

    Of equal weights the earlier has the lower score. Sums are taken on the CPU, where their order is always the same.
    """
    squares = score.flatten().cpu().double().square()
    order = torch.argsort(squares, stable=True)
    rest = squares[order].flip(0).cumsum(0).flip(0)
    squares[order] = squares[order] / rest.clamp_min(torch.finfo(rest.dtype).tiny)
    return squares.sqrt().to(score).view_as(score)


@dataclass(frozen=True)
class Normaliser:
    """A divisor of the magnitudes of a layer.

    Attributes:
        divide: Function of the magnitudes and of the number of positions that each weight is applied at.
        reads_uses: Whether that number matters.
    """

    divide: Callable[[Tensor, int], Tensor]
    reads_uses: bool = False


# What ``prune.normalise`` names.
NORMALISERS: dict[str, Normaliser] = {
    "none": Normaliser(lambda score, uses: score),
    "rms": Normaliser(divide_by_rms),
    "cost": Normaliser(divide_by_cost, reads_uses=True),
    "lamp": Normaliser(lamp_scores),
}


def sensitivities(weights: Named, gradients: Named) -> dict[str, Tensor]:
    """Return scores |w * dL/dw|: how fast the loss changes as a weight is taken away (SNIP, Lee et al., 2019, Eq. 4).

    The sum that SNIP divides by changes no order and is left out.
    """
    return {name: (weight.detach() * gradients[name]).abs() for name, weight in weights.items()}


def empty_layers(mask: Named) -> list[str]:
    """Return names of layers in which no weight is left."""
    return [name for name, flags in mask.items() if flags.numel() and not bool(flags.any())]


def all_flags(weight: Tensor) -> Tensor:
    """Return a mask that keeps a whole layer."""
    return torch.ones_like(weight, dtype=torch.bool)


def keep_highest(scores: Named, protected: Named, living: Named, count: int) -> dict[str, Tensor]:
    """Take ``count`` weights out: the dead before the living, the unprotected before the protected, by score.

    Of equal scores the earlier goes first.
    """
    values = torch.cat([s.flatten() for s in scores.values()])
    alive, safe = (torch.cat([flags[name].flatten() for name in scores]) for flags in (living, protected))
    stays = torch.ones_like(alive)
    for part in (~alive, alive & ~safe, alive & safe):
        number = int(part.sum())
        stays &= ~(part if number <= count else _lowest(values.where(part, math.inf), count))
        count = max(count - number, 0)
    parts = stays.split([s.numel() for s in scores.values()])
    return {name: part.view(s.shape).clone() for (name, s), part in zip(scores.items(), parts, strict=True)}


def _lowest(values: Tensor, count: int) -> Tensor:
    """Flag the ``count`` lowest values, fewer than all, of equal ones the first; this costs less than a sort."""
    if not count:
        return torch.zeros_like(values, dtype=torch.bool)
    bound = values.kthvalue(count).values
    flags = values < bound
    ties = (values == bound).nonzero().squeeze(1)
    flags[ties[: count - int(flags.sum())]] = True
    return flags


def protected_weights(scores: Tensor, settings: PruneSettings, alive: Tensor) -> Tensor:
    """Flag the living weights of exempt layers, and the best of every other layer up to its floor."""
    if scores.numel() <= settings.exempt_below:
        return alive
    flags = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    floor = math.ceil(settings.layer_floor * scores.numel())
    if not floor:
        return flags.view(scores.shape)
    best_first = torch.argsort(torch.where(alive, scores, -math.inf).flatten(), descending=True, stable=True)
    flags[best_first[:floor]] = True
    return flags.view(scores.shape) & alive
