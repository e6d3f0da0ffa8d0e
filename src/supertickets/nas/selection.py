"""The choice of the units that stay: by a threshold (Sec. 3.1), or down to a cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..models.base import Spec
from ..models.units import UnitGroup

Tensors = dict[str, Tensor]
_CLOSE = 0.02  # share of a target by which it may be missed before other blocks are tried


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
) -> Tensors:
    """Flag the units to keep so that the network costs no more than a target, and little less.

    All blocks are ranked together, and the least important ones go until the target is met (`_cut_to_cost`). Where the
    last one costs so much that the target is missed by far, others go in its place.

    Args:
        importance: Group name -> importance of its units, at least 0.
        rules: Group name -> widths that it may have; any width for groups that are absent.
        cost: Function that returns the cost of the network with the flagged units; it falls as units go.
        target: The cost to reach. Where even the smallest network costs more, that network is chosen.
    """
    ranked = {
        name: RankedBlocks(values, rules.get(name, WidthRule()).block, rules.get(name, WidthRule()).blocks_kept)
        for name, values in importance.items()
    }
    best, last = _cut_to_cost(ranked, cost, target)
    for _ in range(len(ranked)):
        if last is None or not (1 - _CLOSE) * target > cost(best):
            break
        ranked[last] = replace(ranked[last], kept=ranked[last].count(best[last]) + 1)
        other, last = _cut_to_cost(ranked, cost, target)
        if cost(best) < cost(other) <= target:
            best = other
    return best


@dataclass(frozen=True, eq=False)
class RankedBlocks:
    """The units of a group in blocks, from the most important one on.

    Attributes:
        importance: Importance of the units.
        block: Number of units of a block; the last one may be smaller.
        kept: Number of blocks that stay in any case.
    """

    importance: Tensor
    block: int
    kept: int

    @cached_property
    def means(self) -> list[float]:
        """Mean importance of every block."""
        means: list[float] = _block_means(self.importance, self.block).tolist()
        return means

    def keep(self, count: int) -> Tensor:
        """Return flags of the units of the best blocks."""
        return _keep_best(self.importance, count, self.block)

    def count(self, keep: Tensor) -> int:
        """Return the number of blocks that flags keep."""
        return math.ceil(int(keep.sum()) / self.block)


def _cut_to_cost(
    ranked: Mapping[str, RankedBlocks], cost: Callable[[Mapping[str, Tensor]], float], target: float
) -> tuple[Tensors, str | None]:
    """Remove the least important blocks until the target is met, by bisection; then those that still fit come back.

    Of equally important blocks those go first that are last in their group.

    Returns:
        The flags of the units that stay, and the group of the last block that went; None if all stay.
    """
    blocks = sorted(  # importance, place from the end of the group, group
        (mean, -i / len(group.means), name)
        for name, group in ranked.items()
        for i, mean in enumerate(group.means)
        if i >= group.kept
    )

    def keep_without(gone: Mapping[str, int]) -> Tensors:
        return {name: group.keep(len(group.means) - gone.get(name, 0)) for name, group in ranked.items()}

    def without_first(count: int) -> Counter[str]:
        return Counter(name for _, _, name in blocks[:count])

    low, high = 0, len(blocks)
    while low < high:
        middle = (low + high) // 2
        if cost(keep_without(without_first(middle))) <= target:
            high = middle
        else:
            low = middle + 1
    gone = without_first(low)
    too_large: set[str] = set()  # groups whose next block does not fit, now and later
    for _, _, name in reversed(blocks[:low]):  # the last of a group that went is the first that may come back
        if name not in too_large:
            fuller = gone - Counter({name: 1})
            if cost(keep_without(fuller)) <= target:
                gone = fuller
            else:
                too_large.add(name)
    return keep_without(gone), blocks[low - 1][2] if low else None


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
