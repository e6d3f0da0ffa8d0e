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
    with which it is met, and those that still fit come back, the most important ones first. Before, it is a place to be
    near: a large block that overshoots stays until the next removal, since what went cannot come back.

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
    blocks.sort()

    def keep_without(gone: Mapping[str, int]) -> Tensors:
        return {
            name: _keep_best(values, len(means[name]) - gone.get(name, 0), every[name].block)
            for name, values in importance.items()
        }

    def cost_without_first(count: int) -> float:
        return cost(keep_without(Counter(name for _, _, name in blocks[:count])))

    low, high = 0, len(blocks)
    while low < high:
        middle = (low + high) // 2
        if cost_without_first(middle) <= target:
            high = middle
        else:
            low = middle + 1
    if not is_last and low and cost_without_first(low - 1) - target < target - cost_without_first(low):
        low -= 1
    gone = Counter(name for _, _, name in blocks[:low])
    too_large: set[str] = set()  # groups whose next block does not fit, now and later
    for _, _, name in reversed(blocks[:low]):  # the last of a group that went is the first that may come back
        if name not in too_large:
            fuller = gone - Counter({name: 1})
            if cost(keep_without(fuller)) <= target:
                gone = fuller
            else:
                too_large.add(name)
    return keep_without(gone)


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
