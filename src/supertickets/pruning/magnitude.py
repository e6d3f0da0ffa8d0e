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
            earlier weight goes first. Protected weights go last, so that the ratio is always met.
        settings: Reads ``layer_floor``, ``exempt_below`` and ``normalise``.

    Returns:
        Parameter name -> bool tensor, True where the weight stays.
    """
    scores = torch.cat([_scores(w, settings).flatten() for w in weights.values()])
    protected = torch.cat([_protected(w, settings).flatten() for w in weights.values()])
    order = torch.argsort(scores, stable=True)
    order = order[torch.argsort(protected[order], stable=True)]
    flat = torch.ones_like(protected)
    flat[order[: round(ratio * scores.numel())]] = False
    parts = flat.split([w.numel() for w in weights.values()])
    return {name: part.view(w.shape).clone() for (name, w), part in zip(weights.items(), parts, strict=True)}


def check_ratio(weights: Mapping[str, Tensor], settings: PruneSettings) -> None:
    """Refuses a ratio that floors and exemptions leave no room for.

    Raises:
        UserError: Names the nearest ratio that is possible.
    """
    total = sum(w.numel() for w in weights.values())
    protected = sum(int(_protected(w, settings).sum()) for w in weights.values())
    if round(settings.ratio * total) > total - protected:
        raise UserError(
            f"prune.ratio {settings.ratio:g} is impossible: prune.layer_floor and prune.exempt_below protect "
            f"{protected} of {total} weights, so the nearest possible is "
            f"{math.floor(100 - 100 * protected / total) / 100:g}"
        )


def empty_layers(mask: Mapping[str, Tensor]) -> list[str]:
    """Names of layers in which no weight is left."""
    return [name for name, flags in mask.items() if flags.numel() and not bool(flags.any())]


def _scores(weight: Tensor, settings: PruneSettings) -> Tensor:
    scores = weight.detach().abs()
    if settings.normalise:
        scores = scores / scores.square().mean().sqrt().clamp_min(torch.finfo(scores.dtype).tiny)
    return scores


def _protected(weight: Tensor, settings: PruneSettings) -> Tensor:
    """Flags weights of exempt layers, and the largest of every other layer up to its floor."""
    if weight.numel() <= settings.exempt_below:
        return torch.ones_like(weight, dtype=torch.bool)
    flags = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    floor = math.ceil(settings.layer_floor * weight.numel())
    flags[torch.argsort(weight.detach().abs().flatten(), descending=True, stable=True)[:floor]] = True
    return flags.view(weight.shape)
