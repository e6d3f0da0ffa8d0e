"""The choice of the units that stay: by a threshold (Sec. 3.1), or down to a cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.base import Spec
from ..models.units import UnitGroup

Tensors = dict[str, Tensor]
_NEAR = 0.98  # of a target, at least, where the units allow it


@dataclass(frozen=True)
class WidthRule:
    """Widths that a group may have.

    Attributes:
        least: Smallest number of units.
        block: Number of units that go together; the width is a multiple of it, or whole.
    """

    least: int = 0
    block: int = 1

    @property
    def blocks_kept(self) -> int:
        """Return the number of blocks that stay in any case."""
        return math.ceil(self.least / self.block)


def select_units(
    importance: Mapping[str, Tensor], threshold: float, at_least: int, rules: Mapping[str, WidthRule] | None = None
) -> Tensors:
    """Flag the units to keep: those above the threshold, and in any case the most important ones.

    Args:
        importance: Group name -> importance of its units.
        threshold: Units at or below it go.
        at_least: Number of units that stay whatever their importance; the network never comes out empty.
        rules: Group name -> widths that it may have; any width for groups that are absent.

    Returns:
        Group name -> bool vector.
    """
    if not importance:
        return {}
    values = {name: v.detach().abs() for name, v in importance.items()}
    keep = keep_above(values, threshold, rules or {})
    if sum(int(flags.sum()) for flags in keep.values()) < at_least:
        lengths = [len(v) for v in values.values()]
        ranked = torch.argsort(torch.cat(list(values.values())), descending=True, stable=True)
        best = torch.zeros(sum(lengths), dtype=torch.bool, device=ranked.device)
        best[ranked[:at_least]] = True
        keep = {name: flags | kept for (name, flags), kept in zip(keep.items(), best.split(lengths), strict=True)}
    return keep


def keep_above(importance: Mapping[str, Tensor], threshold: float, rules: Mapping[str, WidthRule]) -> Tensors:
    """Flag the units whose block is more important than a threshold, and the best ones that a rule asks for.

    The units of a group are ranked and parted into blocks from the best one on; a block has the mean importance of its
    units.

    Args:
        importance: Group name -> importance of its units, at least 0.
        threshold: Blocks at or below it go.
        rules: Group name -> widths that it may have; any width for groups that are absent.
    """
    keep = {}
    for name, values in importance.items():
        rule = rules.get(name, WidthRule())
        blocks = int((_block_means(values, rule.block) > threshold).sum())
        keep[name] = _keep_best(values, max(blocks, rule.blocks_kept), rule.block)
    return keep


def select_to_cost(
    importance: Mapping[str, Tensor],
    rules: Mapping[str, WidthRule],
    cost: Callable[[Mapping[str, Tensor]], float],
    target: float,
    *,
    is_last: bool = True,
) -> Tensors:
    """Flag the units to keep so that the network costs what a target says.

    All blocks are ranked together, the least important ones first; of equally important ones first those that are last
    in their group. How many go is found by bisection. At the last removal the target is an upper limit: the fewest go
    with which it is met, and those that still fit come back, the most important ones first. If the last one to go is so
    large that the cost ends far below the target, it stays, and the next smaller ones go. Before the last removal the
    target is a place to be near: a large block that overshoots stays until the next, since what went cannot come back.

    Args:
        importance: Group name -> importance of its units, at least 0.
        rules: Group name -> widths that it may have; any width for groups that are absent.
        cost: Function that returns the cost of the network with the flagged units; it falls as units go.
        target: The cost to reach. Where even the smallest network costs more, that network is chosen.
        is_last: Whether no removal follows.
    """
    every = {name: rules.get(name, WidthRule()) for name in importance}
    means = {name: _block_means(values, every[name].block).tolist() for name, values in importance.items()}
    blocks = []  # importance, place from the end of the group, group
    for name, rule in every.items():
        free = means[name][rule.blocks_kept :]
        blocks += [(mean, -i / len(free), name) for i, mean in enumerate(free)]
    order = [name for _, _, name in sorted(blocks)]

    def keep_without(gone: Mapping[str, int]) -> Tensors:
        return {
            name: _keep_best(values, len(means[name]) - gone.get(name, 0), every[name].block)
            for name, values in importance.items()
        }

    def cost_without(gone: Mapping[str, int]) -> float:
        return cost(keep_without(gone))

    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        if cost_without(Counter(order[:middle])) <= target:
            high = middle
        else:
            low = middle + 1
    reached, before = (cost_without(Counter(order[:count])) for count in (low, max(low - 1, 0)))
    if not is_last and before - target < target - reached:
        return keep_without(Counter(order[: max(low - 1, 0)]))
    removed = order[:low]
    if is_last and reached < _NEAR * target:
        removed = _pass_over_large(order, low, cost_without, target) or removed
    return keep_without(_refill(removed, cost_without, target))


def _pass_over_large(
    order: Sequence[str], low: int, cost_without: Callable[[Mapping[str, int]], float], target: float
) -> list[str]:
    """Return the groups whose blocks go where the block that meets the target would fall far below it.

    Args:
        order: The groups of all blocks, in the order in which those go.
        low: Number of blocks of that order that meet the target.
        cost_without: Function that returns the cost without so many blocks of every group.
        target: The cost to reach.

    Returns:
        Nothing if no smaller blocks end near the target.
    """
    removed, too_large = list(order[: max(low - 1, 0)]), set[str]()
    for name in order[low:]:
        if name in too_large:
            continue
        reached = cost_without(Counter([*removed, name]))
        if reached < _NEAR * target:
            too_large.add(name)
            continue
        removed.append(name)
        if reached <= target:
            return removed
    return []


def _refill(removed: Sequence[str], cost_without: Callable[[Mapping[str, int]], float], target: float) -> Counter[str]:
    """Return how many blocks of each group go when those that fit have come back, the last that went first."""
    gone, too_large = Counter(removed), set[str]()  # groups whose next block does not fit, now and later
    for name in reversed(removed):
        if name not in too_large:
            fuller = gone - Counter({name: 1})
            if cost_without(fuller) <= target:
                gone = fuller
            else:
                too_large.add(name)
    return gone


def width_rules(groups: Sequence[UnitGroup], supernet: Spec, multiple: int, floor: float) -> dict[str, WidthRule]:
    """Return the widths that groups may have.

    Args:
        groups: The groups of the network as it is now.
        supernet: The network that the run began with.
        multiple: Number of channels that widths are multiples of.
        floor: Share of the units of each group of the supernet that is never removed.
    """
    full = {group.name: len(group) for group in supernet.unit_groups()}
    rules = {}
    for group in groups:
        block = multiple // math.gcd(multiple, _channels_per_unit(group))
        least = max(group.least, math.ceil(floor * full[group.name]))
        rules[group.name] = WidthRule(least, block)
    return rules


def min_units(supernet: Spec, floor: float) -> int:
    """Return the number of units that a floor (share of the supernet's units) stands for."""
    return math.ceil(floor * sum(len(group) for group in supernet.unit_groups()))


def _keep_best(importance: Tensor, blocks: int, block: int) -> Tensor:
    """Flag the units of the most important blocks.

    Args:
        importance: Importance of the units.
        blocks: Number of blocks to keep.
        block: Number of units of a block.
    """
    keep = torch.zeros(len(importance), dtype=torch.bool, device=importance.device)
    keep[torch.argsort(importance, descending=True, stable=True)[: blocks * block]] = True
    return keep


def _block_means(importance: Tensor, block: int) -> Tensor:
    """Return the mean importance of every block, from the best one on; the last one may be smaller."""
    ranked = importance.sort(descending=True).values
    return torch.stack([part.mean() for part in ranked.split(block)]) if block > 1 else ranked


def _channels_per_unit(group: UnitGroup) -> int:
    """Return the number of channels that a unit has in the tensors that it is silenced at."""
    return max((len(gate.owners) // len(group) for gate in group.gates), default=1) or 1
