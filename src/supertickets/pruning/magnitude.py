"""Magnitude masks: which weights stay, as pure functions of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import UserError
from ..recipe import PruneSettings


def magnitude_mask(weights: Mapping[str, Tensor], ratio: float, settings: PruneSettings) -> dict[str, Tensor]:
    """Keeps the globally largest weights.

    Args:
        weights: The maskable weights by name.
        ratio: Share of them to prune; exactly ``round(ratio * count)`` weights go. Among equal magnitudes the
            earlier weight goes first.
        settings: Reads ``layer_floor``, ``exempt_below`` and ``normalise``.

    Returns:
        Parameter name -> bool tensor, True where the weight stays.

    Raises:
        UserError: Floors and exemptions leave too few weights to prune.
    """
    scores = torch.cat([_scores(w, settings).flatten() for w in weights.values()])
    count = round(ratio * scores.numel())
    free = int(torch.isfinite(scores).sum())
    if count > free:
        raise UserError(
            f"prune.ratio {ratio:g} is impossible: prune.layer_floor and prune.exempt_below protect so many weights "
            f"that the nearest possible is {math.floor(100 * free / scores.numel()) / 100:g}"
        )
    flat = torch.ones(scores.numel(), dtype=torch.bool, device=scores.device)
    flat[torch.argsort(scores, stable=True)[:count]] = False
    parts = flat.split([w.numel() for w in weights.values()])
    return {name: part.view(w.shape).clone() for (name, w), part in zip(weights.items(), parts, strict=True)}


def empty_layers(mask: Mapping[str, Tensor]) -> list[str]:
    """Names of layers in which no weight is left."""
    return [name for name, flags in mask.items() if flags.numel() and not bool(flags.any())]


def _scores(weight: Tensor, settings: PruneSettings) -> Tensor:
    """|w| per weight, infinite where the weight may not go."""
    scores = weight.detach().abs().contiguous()
    if scores.numel() <= settings.exempt_below:
        return torch.full_like(scores, math.inf)
    if settings.normalise:
        scores = scores / scores.square().mean().sqrt().clamp_min(torch.finfo(scores.dtype).tiny)
    protected = math.ceil(settings.layer_floor * scores.numel())
    if protected:
        top = torch.argsort(scores.flatten(), descending=True, stable=True)[:protected]
        scores.view(-1)[top] = math.inf
    return scores
