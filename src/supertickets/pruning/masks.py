"""Which weights stay: scores of weights, and masks of the best scores, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..config.recipe import PruneSettings
from ..errors import UserError

Named = Mapping[str, Tensor]


def magnitudes(weights: Named, settings: PruneSettings) -> dict[str, Tensor]:
    """Scores |w|, divided by what ``settings.normalise`` says."""
    divide = {"none": lambda score: score, "rms": _normalise_by_layer, "lamp": _lamp_scores}[settings.normalise]
    return {name: divide(weight.detach().abs()) for name, weight in weights.items()}


def _normalise_by_layer(score: Tensor) -> Tensor:
    """Divides by the root mean square: layers of any spread give up much the same share."""
    return score / score.square().mean().sqrt().clamp_min(torch.finfo(score.dtype).tiny)


def _lamp_scores(score: Tensor) -> Tensor:
    """LAMP (Lee et al., 2021, Eq. 4), its root: every layer's largest weight has 1, and small layers give up less.

    Of equal weights the earlier has the lower score. Sums are taken on the CPU, where their order is always the same.
    """
    squares = score.flatten().cpu().double().square()
    order = torch.argsort(squares, stable=True)
    rest = squares[order].flip(0).cumsum(0).flip(0)
    squares[order] = squares[order] / rest.clamp_min(torch.finfo(rest.dtype).tiny)
    return squares.sqrt().to(score).view_as(score)


def sensitivities(weights: Named, gradients: Named) -> dict[str, Tensor]:
    """Scores |w * dL/dw|: how fast the loss changes as a weight is taken away (SNIP, Lee et al., 2019, Eq. 4).

    The sum that SNIP divides by changes no order and is left out.
    """
    return {name: (weight.detach() * gradients[name]).abs() for name, weight in weights.items()}


def magnitude_mask(weights: Named, ratio: float, settings: PruneSettings) -> dict[str, Tensor]:
    """Keeps the globally largest weights; see `keep_best`."""
    return keep_best(magnitudes(weights, settings), ratio, settings)


def keep_best(scores: Named, ratio: float, settings: PruneSettings, alive: Named | None = None) -> dict[str, Tensor]:
    """Keeps the weights of the highest scores.

    With ``scope`` "global" all weights are ranked together; with "layer" every layer gives up the same share of its
    own; with "group" every ``group`` neighbours along the input channels keep the same number (N:M sparsity: ratio 0.5
    and 4 neighbours are 2:4), as if the channels were filled up with zeros to a multiple of ``group``.

    Args:
        scores: Of the maskable weights by name.
        ratio: Share of them to prune; exactly ``round(ratio * count)`` weights go (but for "group", where layers with
            few inputs give up less). Among equal scores the earlier weight goes first. Protected weights go last, so
            that the ratio is always met.
        settings: Reads ``scope``, ``group``, ``layer_floor`` and ``exempt_below``.
        alive: Flags of the weights that an earlier mask has left, all others go first; absent layers are whole.

    Returns:
        Parameter name -> bool tensor, True where the weight stays.
    """
    living = {name: alive[name] if alive and name in alive else _exempt_layers(s) for name, s in scores.items()}
    if settings.scope == "group":
        return {name: _keep_in_groups(s, ratio, settings, living[name]) for name, s in scores.items()}
    protected = {name: _protected_weights(s, settings, living[name]) for name, s in scores.items()}
    count = round(ratio * sum(s.numel() for s in scores.values()))
    if settings.scope == "layer":
        sizes = [s.numel() for s in scores.values()]
        least = [int((~flags).sum()) for flags in living.values()]
        most = [int((~flags).sum()) for flags in protected.values()]
        counts = split_budget(count, sizes, least, most)
        return {
            name: _keep_highest({name: s}, {name: protected[name]}, {name: living[name]}, n)[name]
            for (name, s), n in zip(scores.items(), counts, strict=True)
        }
    return _keep_highest(scores, protected, living, count)


def split_budget(count: int, sizes: Sequence[int], least: Sequence[int], most: Sequence[int]) -> list[int]:
    """Shares a number of weights out over layers: the same share of each, as far as its bounds allow.

    Args:
        count: How many weights go.
        sizes: Weights per layer.
        least: How many go from a layer at least.
        most: How many at most; more only if there is no other way.

    Returns:
        How many go from each layer; their sum is ``count``, or the sum of ``least`` if that is more.
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


def check_ratio(weights: Named, settings: PruneSettings, alive: Named | None = None) -> None:
    """Refuses a ratio that floors and exemptions, or weights that are pruned already, leave no room for.

    Args:
        weights: The maskable weights by name.
        settings: Reads ``ratio``, ``scope``, ``group``, ``layer_floor`` and ``exempt_below``.
        alive: As in `keep_best`.

    Raises:
        UserError: Names the nearest ratio that is possible.
    """
    if settings.scope == "group":
        gone = settings.ratio * settings.group
        if abs(gone - round(gone)) > 1e-9 or not 0 < round(gone) < settings.group:
            nearest = min(max(round(gone), 1), settings.group - 1)
            raise UserError(
                f"prune.ratio {settings.ratio:g} is impossible in groups of {settings.group}; the nearest possible is "
                f"{nearest / settings.group:g} ({settings.group - nearest}:{settings.group})"
            )
        return
    living = {name: alive[name] if alive and name in alive else _exempt_layers(w) for name, w in weights.items()}
    total = sum(w.numel() for w in weights.values())
    dead = sum(int((~flags).sum()) for flags in living.values())
    protected = sum(
        int(_protected_weights(w.detach().abs(), settings, living[name]).sum()) for name, w in weights.items()
    )
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


def empty_layers(mask: Named) -> list[str]:
    """Names of layers in which no weight is left."""
    return [name for name, flags in mask.items() if flags.numel() and not bool(flags.any())]


def _exempt_layers(weight: Tensor) -> Tensor:
    return torch.ones_like(weight, dtype=torch.bool)


def _keep_highest(scores: Named, protected: Named, living: Named, count: int) -> dict[str, Tensor]:
    """Takes ``count`` weights out: the dead before the living, the unprotected before the protected, by score."""
    order = torch.argsort(torch.cat([s.flatten() for s in scores.values()]), stable=True)
    for last in (protected, living):
        flags = torch.cat([last[name].flatten() for name in scores])
        order = order[torch.argsort(flags[order], stable=True)]
    flat = torch.ones(len(order), dtype=torch.bool, device=order.device)
    flat[order[:count]] = False
    parts = flat.split([s.numel() for s in scores.values()])
    return {name: part.view(s.shape).clone() for (name, s), part in zip(scores.items(), parts, strict=True)}


def _keep_in_groups(scores: Tensor, ratio: float, settings: PruneSettings, alive: Tensor) -> Tensor:
    """Keeps the best of every ``group`` neighbours along dimension 1 (input channels)."""
    if scores.numel() <= settings.exempt_below or scores.dim() < 2:
        return alive.clone()
    kept = settings.group - math.floor(ratio * settings.group + 1e-9)
    worth = torch.where(alive, scores, -math.inf).movedim(1, -1)
    inputs = worth.shape[-1]
    filled = torch.nn.functional.pad(worth, (0, -inputs % settings.group), value=-math.inf)
    groups = filled.unflatten(-1, (-1, settings.group))
    # Of equal scores the earlier goes: the order is found from the end.
    best = groups.flip(-1).argsort(dim=-1, descending=True, stable=True)[..., :kept]
    flags = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, settings.group - 1 - best, True)
    return flags.flatten(-2)[..., :inputs].movedim(-1, 1) & alive


def _protected_weights(scores: Tensor, settings: PruneSettings, alive: Tensor) -> Tensor:
    """Flags the living weights of exempt layers, and the best of every other layer up to its floor."""
    if scores.numel() <= settings.exempt_below:
        return alive
    flags = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    floor = math.ceil(settings.layer_floor * scores.numel())
    best_first = torch.argsort(torch.where(alive, scores, -math.inf).flatten(), descending=True, stable=True)
    flags[best_first[:floor]] = True
    return flags.view(scores.shape) & alive
