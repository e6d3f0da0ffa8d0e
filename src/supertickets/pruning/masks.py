"""Which weights stay: scores of weights, and masks of the best scores, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import UserError
from ..recipe import PruneSettings

Named = Mapping[str, Tensor]


def magnitudes(weights: Named, settings: PruneSettings) -> dict[str, Tensor]:
    """Scores |w|, divided by the root mean square of their layer if ``settings.normalise``."""
    scores = {name: weight.detach().abs() for name, weight in weights.items()}
    if settings.normalise:
        scores = {
            name: score / score.square().mean().sqrt().clamp_min(torch.finfo(score.dtype).tiny)
            for name, score in scores.items()
        }
    return scores


def sensitivities(weights: Named, gradients: Named) -> dict[str, Tensor]:
    """Scores |w * dL/dw|: how fast the loss changes as a weight is taken away (SNIP, Lee et al., 2019, Eq. 4).

    The sum that SNIP divides by changes no order and is left out.
    """
    return {name: (weight.detach() * gradients[name]).abs() for name, weight in weights.items()}


def magnitude_mask(weights: Named, ratio: float, settings: PruneSettings) -> dict[str, Tensor]:
    """Keeps the globally largest weights; see `keep_best`."""
    return keep_best(magnitudes(weights, settings), ratio, settings)


def keep_best(scores: Named, ratio: float, settings: PruneSettings, alive: Named | None = None) -> dict[str, Tensor]:
    """Keeps the weights of the globally highest scores.

    Args:
        scores: Of the maskable weights by name.
        ratio: Share of them to prune; exactly ``round(ratio * count)`` weights go. Among equal scores the earlier
            weight goes first. Protected weights go last, so that the ratio is always met.
        settings: Reads ``layer_floor`` and ``exempt_below``.
        alive: Flags of the weights that an earlier mask has left, all others go first; absent layers are whole.

    Returns:
        Parameter name -> bool tensor, True where the weight stays.
    """
    alive = alive or {}
    living = torch.cat([_alive(name, s, alive).flatten() for name, s in scores.items()])
    protected = torch.cat([_protected(s, settings, _alive(name, s, alive)).flatten() for name, s in scores.items()])
    order = torch.argsort(torch.cat([s.flatten() for s in scores.values()]), stable=True)
    for last in (protected, living):
        order = order[torch.argsort(last[order], stable=True)]
    flat = torch.ones_like(protected)
    flat[order[: round(ratio * flat.numel())]] = False
    parts = flat.split([s.numel() for s in scores.values()])
    return {name: part.view(s.shape).clone() for (name, s), part in zip(scores.items(), parts, strict=True)}


def check_ratio(weights: Named, settings: PruneSettings, alive: Named | None = None) -> None:
    """Refuses a ratio that floors and exemptions, or weights that are pruned already, leave no room for.

    Args:
        weights: The maskable weights by name.
        settings: Reads ``ratio``, ``layer_floor`` and ``exempt_below``.
        alive: As in `keep_best`.

    Raises:
        UserError: Names the nearest ratio that is possible.
    """
    alive = alive or {}
    total = sum(w.numel() for w in weights.values())
    gone = sum(int((~_alive(name, w, alive)).sum()) for name, w in weights.items())
    protected = sum(
        int(_protected(w.detach().abs(), settings, _alive(name, w, alive)).sum()) for name, w in weights.items()
    )
    wanted = round(settings.ratio * total)
    if wanted < gone:
        raise UserError(
            f"prune.ratio {settings.ratio:g} is impossible: {gone} of {total} weights are pruned already, so the "
            f"nearest possible is {math.ceil(100 * gone / total) / 100:g}"
        )
    if wanted > total - protected:
        raise UserError(
            f"prune.ratio {settings.ratio:g} is impossible: prune.layer_floor and prune.exempt_below protect "
            f"{protected} of {total} weights, so the nearest possible is "
            f"{math.floor(100 - 100 * protected / total) / 100:g}"
        )


def empty_layers(mask: Named) -> list[str]:
    """Names of layers in which no weight is left."""
    return [name for name, flags in mask.items() if flags.numel() and not bool(flags.any())]


def _alive(name: str, weight: Tensor, alive: Named) -> Tensor:
    return alive[name] if name in alive else torch.ones_like(weight, dtype=torch.bool)


def _protected(scores: Tensor, settings: PruneSettings, alive: Tensor) -> Tensor:
    """Flags the living weights of exempt layers, and the best of every other layer up to its floor."""
    if scores.numel() <= settings.exempt_below:
        return alive
    flags = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    floor = math.ceil(settings.layer_floor * scores.numel())
    best_first = torch.argsort(torch.where(alive, scores, -math.inf).flatten(), descending=True, stable=True)
    flags[best_first[:floor]] = True
    return flags.view(scores.shape) & alive
