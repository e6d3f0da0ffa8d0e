"""Groups of units as data, from what a trace learnt."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..units import STAYS, Axis, UnitGroup
from .labels import NO_UNIT, AxisKey, UnitRecord


@dataclass(frozen=True)
class LeftOut:
    """Units that cannot be removed exactly.

    Attributes:
        name: Name that the group would have.
        size: Number of its units.
        reason: Why they stay.
    """

    name: str
    size: int
    reason: str


def make_groups(
    record: UnitRecord, aliases: Mapping[str, list[str]], rankable: Collection[str]
) -> tuple[list[UnitGroup], list[LeftOut]]:
    """Return the groups of a trace, in the order in which their units came forth.

    Units that one operation brought forth are of one group, and so are those that were united with any of them.

    Args:
        record: Record of a trace.
        aliases: Further names of tied tensors by the first.
        rankable: Names of the tensors by which units may be ranked.

    Returns:
        The groups, and those that cannot be removed.
    """
    roots = record.all_roots()
    members = _group_members(record, roots)
    group_of = {unit: first for first, units in members.items() for unit in units}
    of_unit = {unit: group_of[root] for unit, root in enumerate(roots) if unit != NO_UNIT}
    reasons: dict[int, str] = {}
    for unit, reason in record.fixed.items():
        reasons.setdefault(of_unit[unit], reason)
    gates, reads = (_by_group(keys, of_unit) for keys in (record.gates, record.reads))
    axes = _group_axes(record, roots, members, group_of)
    groups: list[UnitGroup] = []
    left_out: list[LeftOut] = []
    names: set[str] = set()
    for first, units in members.items():
        if not axes[first]:
            continue
        name = _unique_name(axes[first], names)
        silencing = _choose_axes(axes[first], gates[first], aliases)
        reading = _choose_axes(axes[first], set() if None in reads[first] else reads[first], aliases)
        obstacle = reasons.get(first) or _find_obstacle(len(units), gates[first], axes[first])
        if obstacle is None and any(gate.tensor not in rankable for gate in silencing):
            obstacle = "what silences it is not trained, or a norm of two names"
        if obstacle:
            left_out.append(LeftOut(name, len(units), obstacle))
        else:
            own = _choose_axes(axes[first], set(axes[first]), aliases)
            groups.append(UnitGroup(name, "channel", len(units), own, silencing, reads=reading))
    return groups, left_out


def _find_obstacle(size: int, gates: set[AxisKey | None], axes: Mapping[AxisKey, Axis]) -> str | None:
    """Return why a group cannot be removed exactly; None if it can."""
    if size == 1:
        return "it is a single unit"
    if not gates:
        return "nothing reads it"
    return None if gates <= axes.keys() else "weights of other units keep what is read of it from silence"


def _by_group(keys: Mapping[int, set[AxisKey | None]], of_unit: Mapping[int, int]) -> dict[int, set[AxisKey | None]]:
    """Return what was noted of units, by group."""
    together: dict[int, set[AxisKey | None]] = {group: set() for group in of_unit.values()}
    for unit, noted in keys.items():
        together[of_unit[unit]] |= noted
    return together


def _group_members(record: UnitRecord, roots: Sequence[int]) -> dict[int, dict[int, int]]:
    """Return the units of every group: lowest root of the group -> root -> index of the unit in the group."""
    above = {root: root for root in roots if root != NO_UNIT}

    def top(root: int) -> int:
        while above[root] != root:
            above[root] = above[above[root]]
            root = above[root]
        return root

    for family in record.families:
        for unit in family:
            a, b = top(roots[unit]), top(roots[family[0]])
            above[max(a, b)] = min(a, b)
    members: dict[int, dict[int, int]] = {}
    for root in sorted(above):
        units = members.setdefault(top(root), {})
        units[root] = len(units)
    return members


def _group_axes(
    record: UnitRecord, roots: Sequence[int], members: Mapping[int, Mapping[int, int]], group_of: Mapping[int, int]
) -> dict[int, dict[AxisKey, Axis]]:
    axes: dict[int, dict[AxisKey, Axis]] = {first: {} for first in members}
    for key, owners in record.owners.items():
        owned = [roots[unit] if unit > NO_UNIT else STAYS for unit in owners.tolist()]
        for first in dict.fromkeys(group_of[root] for root in owned if root != STAYS):
            axes[first][key] = Axis(*key, tuple(members[first].get(root, STAYS) for root in owned))
    return axes


def _choose_axes(
    axes: Mapping[AxisKey, Axis], keys: set[AxisKey | None], aliases: Mapping[str, list[str]]
) -> tuple[Axis, ...]:
    """Return some axes, with the same ones of tied tensors under their other names."""
    return tuple(
        Axis(name, axis.dim, axis.owners)
        for key, axis in axes.items()
        if key in keys
        for name in (axis.tensor, *aliases.get(axis.tensor, ()))
    )


def _unique_name(axes: Mapping[AxisKey, Axis], names: set[str]) -> str:
    """Return the module that brings the units forth, with a number if another group has the name."""
    weights = [tensor for tensor, dim in axes if dim == 0 and tensor.endswith("weight")]
    tensor = next(iter(weights), next(iter(axes))[0])
    stem = tensor.rpartition(".")[0] or tensor
    name = stem if stem not in names else next(n for i in range(2, 10**6) if (n := f"{stem}.{i}") not in names)
    names.add(name)
    return name
