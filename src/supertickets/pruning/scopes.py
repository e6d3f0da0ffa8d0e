"""Scopes of a prune: which weights are ranked together, and which ratios a scope can meet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..config.recipe import PruneSettings
from ..config.zero_patterns import pattern_block
from ..errors import UserError
from .masks import Named, all_flags, keep_highest, magnitudes, protected_weights
from .patterns import Pattern


class Scope(Protocol):
    """A way to rank weights: all together, layer by layer, or in small groups."""

    def keep(self, scores: Named, living: Named, ratio: float, settings: PruneSettings) -> dict[str, Tensor]:
        """Return flags of the weights that stay.

        Args:
            scores: Scores of the maskable weights by name.
            living: Flags of the weights that an earlier mask has left, all others go first.
            ratio: Share of the weights to prune.
            settings: Reads ``group``, ``layer_floor`` and ``exempt_below``.
        """
        ...

    def check(self, weights: Named, living: Named, settings: PruneSettings) -> None:
        """Refuse a ratio that cannot be met; see `check_ratio`."""
        ...


class GlobalScope:
    """All weights are ranked together (the paper)."""

    def keep(self, scores: Named, living: Named, ratio: float, settings: PruneSettings) -> dict[str, Tensor]:
        """Return flags of the best weights of the whole network."""
        protected = {name: protected_weights(s, settings, living[name]) for name, s in scores.items()}
        return keep_highest(scores, protected, living, _count(scores, ratio))

    def check(self, weights: Named, living: Named, settings: PruneSettings) -> None:
        """Refuse a ratio that floors and exemptions, or weights that are pruned already, leave no room for."""
        total = sum(w.numel() for w in weights.values())
        dead = sum(int((~flags).sum()) for flags in living.values())
        protected = count_protected(weights, settings, living)
        wanted = round(settings.ratio * total)
        if wanted < dead:
            raise UserError(
                f"prune.ratio {settings.ratio:g} is impossible: {dead} of {total} weights are pruned already, so the "
                f"nearest possible is {math.ceil(100 * dead / total) / 100:g}"
            )
        if wanted > total - protected:
            raise UserError(
                f"prune.ratio {settings.ratio:g} is impossible: prune.layer_floor and prune.exempt_below protect "
                f"{protected} of {total} weights, so the nearest possible is "
                f"{math.floor(100 - 100 * protected / total) / 100:g}"
            )


class LayerScope(GlobalScope):
    """Every layer gives up the same share of its own weights."""

    def keep(self, scores: Named, living: Named, ratio: float, settings: PruneSettings) -> dict[str, Tensor]:
        """Return flags of the best weights of each layer."""
        protected = {name: protected_weights(s, settings, living[name]) for name, s in scores.items()}
        sizes = [s.numel() for s in scores.values()]
        least = [int((~flags).sum()) for flags in living.values()]
        most = [int((~flags).sum()) for flags in protected.values()]
        counts = split_budget(_count(scores, ratio), sizes, least, most)
        return {
            name: keep_highest({name: s}, {name: protected[name]}, {name: living[name]}, n)[name]
            for (name, s), n in zip(scores.items(), counts, strict=True)
        }


class GroupScope:
    """Every ``group`` neighbours along the input channels keep the same number (N:M sparsity).

    Ratio 0.5 and 4 neighbours are 2:4, as if the channels were filled up with zeros to a multiple of ``group``.
    """

    def keep(self, scores: Named, living: Named, ratio: float, settings: PruneSettings) -> dict[str, Tensor]:
        """Return flags of the best weights of each group."""
        return {name: _keep_in_groups(s, ratio, settings, living[name]) for name, s in scores.items()}

    def check(self, weights: Named, living: Named, settings: PruneSettings) -> None:
        """Refuse a ratio that is no whole number of a group's weights, or all or none of them."""
        gone = settings.ratio * settings.group
        if abs(gone - round(gone)) > 1e-9 or not 0 < round(gone) < settings.group:
            nearest = min(max(round(gone), 1), settings.group - 1)
            raise UserError(
                f"prune.ratio {settings.ratio:g} is impossible in groups of {settings.group}; the nearest possible is "
                f"{nearest / settings.group:g} ({settings.group - nearest}:{settings.group})"
            )
        for name, weight in weights.items():
            scores = torch.zeros_like(weight)
            whole = self.keep({name: scores}, {name: all_flags(weight)}, settings.ratio, settings)[name]
            left = self.keep({name: scores}, {name: living[name]}, settings.ratio, settings)[name]
            if int(left.sum()) < int(whole.sum()):
                raise UserError(
                    f"prune.ratio {settings.ratio:g} is impossible in groups of {settings.group}: more than "
                    f"{round(gone)} weights of a group of {name} are pruned already; take a higher ratio or another "
                    "scope"
                )


SCOPES: dict[str, Scope] = {"global": GlobalScope(), "layer": LayerScope(), "group": GroupScope()}


def keep_best(scores: Named, ratio: float, settings: PruneSettings, alive: Named | None = None) -> dict[str, Tensor]:
    """Return the mask that keeps the weights of the highest scores, within ``settings.scope``.

    Args:
        scores: Scores of the maskable weights by name.
        ratio: Share of them to prune; exactly ``round(ratio * count)`` weights go (but for "group", where layers with
            few inputs give up less). Among equal scores the earlier weight goes first. Protected weights go last, so
            that the ratio is always met.
        settings: Reads ``scope``, ``group``, ``pattern``, ``layer_floor`` and ``exempt_below``. In blocks no more
            weights go than that, and fewer by less than a block for every place where the ranking is cut.
        alive: Flags of the weights that an earlier mask has left, all others go first; absent layers are whole.

    Returns:
        Parameter name -> bool tensor, True where the weight stays.
    """
    pattern, living = Pattern(pattern_block(settings.pattern)), _living(scores, alive)
    pooled = {name: pattern.pool_scores(score) for name, score in scores.items()}
    keep = SCOPES[settings.scope].keep(pooled, living, ratio, settings)
    return {name: flags | pattern.complete(flags) & living[name] for name, flags in keep.items()}


def magnitude_mask(weights: Named, ratio: float, settings: PruneSettings) -> dict[str, Tensor]:
    """Return the mask that keeps the largest weights; see `keep_best`."""
    return keep_best(magnitudes(weights, settings), ratio, settings)


def check_ratio(weights: Named, settings: PruneSettings, alive: Named | None = None) -> None:
    """Refuse a ratio that the scope, its floors and exemptions, or weights that are pruned already, cannot meet.

    Args:
        weights: The maskable weights by name.
        settings: Reads ``ratio``, ``scope``, ``group``, ``layer_floor`` and ``exempt_below``.
        alive: Flags as in `keep_best`.

    Raises:
        UserError: Names the nearest ratio that is possible.
    """
    SCOPES[settings.scope].check(weights, _living(weights, alive), settings)


def count_protected(weights: Named, settings: PruneSettings, alive: Named | None = None) -> int:
    """Return the number of weights that floors and exemptions keep.

    Args:
        weights: The maskable weights by name.
        settings: Reads ``layer_floor`` and ``exempt_below``.
        alive: Flags as in `keep_best`.
    """
    living = _living(weights, alive)
    return sum(int(protected_weights(w.detach().abs(), settings, living[name]).sum()) for name, w in weights.items())


def split_budget(count: int, sizes: Sequence[int], least: Sequence[int], most: Sequence[int]) -> list[int]:
    """Share a number of weights out over layers: the same share of each, as far as its bounds allow.

    Args:
        count: Number of weights that go.
        sizes: Weights per layer.
        least: Number that goes from each layer at least.
        most: Number that goes at most; more only if there is no other way.

    Returns:
        The number that goes from each layer; their sum is ``count``, or the sum of ``least`` if that is more.
    """
    if count > sum(most):
        least, most = most, sizes

    def at(share: float) -> list[int]:
        return [min(max(math.floor(share * n), a), b) for n, a, b in zip(sizes, least, most, strict=True)]

    low, high = 0.0, 1.0 + 1.0 / max(1, min(sizes, default=1))
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(at(middle)) <= count else (low, middle)
    counts = at(low)
    # What rounding left over, one weight each, to the layers that are furthest below their share.
    short = sorted(range(len(sizes)), key=lambda i: (counts[i] - low * sizes[i], i))
    for i in (i for i in short if counts[i] < most[i]):
        if sum(counts) >= count:
            break
        counts[i] += 1
    return counts


def _count(scores: Named, ratio: float) -> int:
    return round(ratio * sum(s.numel() for s in scores.values()))


def _living(weights: Named, alive: Named | None) -> dict[str, Tensor]:
    return {name: alive[name] if alive and name in alive else all_flags(w) for name, w in weights.items()}


def _keep_in_groups(scores: Tensor, ratio: float, settings: PruneSettings, alive: Tensor) -> Tensor:
    """Keep the best of every ``group`` neighbours along dimension 1 (input channels)."""
    if scores.numel() <= settings.exempt_below or scores.dim() < 2:
        return alive.clone()
    kept = settings.group - math.floor(ratio * settings.group + 1e-9)
    worth = torch.where(alive, scores, -math.inf).movedim(1, -1)
    inputs = worth.shape[-1]
    filled = torch.nn.functional.pad(worth, (0, -inputs % settings.group), value=-math.inf)
    groups = filled.unflatten(-1, (-1, settings.group))
    # Of equal scores the earlier goes: the order is read from the end.
    best = groups.flip(-1).argsort(dim=-1, descending=True, stable=True)[..., :kept]
    flags = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, settings.group - 1 - best, True)
    return flags.flatten(-2)[..., :inputs].movedim(-1, 1) & alive
