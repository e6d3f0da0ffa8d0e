"""Search units as data: which entries of which tensors belong to a unit.

A *unit group* is a vector of search units of one kind, e.g. the channels that leave a block. An *axis* says which unit
owns each entry along one dimension of a tensor of the state dict. Weights, moments, averages, stored values and masks
are all cut by the same axes (`nas.shrink.slice_tensors`), whether a family declares its groups or they were traced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

STAYS = -1  # owner of entries that belong to no unit


@dataclass(frozen=True)
class Axis:
    """One dimension of a tensor, and the unit that owns each of its entries.

    Attributes:
        tensor: Name of the tensor in the state dict.
        dim: Dimension.
        owners: Index of the unit that owns each entry; -1 for entries that stay whatever goes.
    """

    tensor: str
    dim: int
    owners: tuple[int, ...]

    @cached_property
    def index(self) -> Tensor:
        """The owners as a vector of int64."""
        return torch.tensor(self.owners, dtype=torch.int64, device="cpu")  # also while networks are made without data

    def flags(self, keep: Tensor) -> Tensor:
        """Return the flags of the entries that stay.

        Args:
            keep: Flags of the units that stay.
        """
        owned = self.index >= 0
        return ~owned | keep.cpu()[self.index.clamp_min(0)]

    def sum_by_unit(self, values: Tensor, size: int) -> Tensor:
        """Return the sums of values (one per entry) over the entries of every unit.

        Args:
            values: Vector with one value per entry.
            size: Number of units.
        """
        owned = self.index >= 0
        total = torch.zeros(size, dtype=values.dtype, device=values.device)
        return total.index_add(0, self.index[owned].to(values.device), values[owned.to(values.device)])


@dataclass(frozen=True)
class Fold:
    """Place where the constant of a removed channel is kept: it moves into a running mean.

    Attributes:
        project: Name of the 1x1 convolution weight that reads the channels.
        beta: Name of the shift of the BN in front of the ReLU.
        mean: Name of the running mean that follows the convolution.
    """

    project: str
    beta: str
    mean: str


@dataclass(frozen=True)
class UnitGroup:
    """A vector of search units.

    Attributes:
        name: Unique name, e.g. ``"s2_b0_0.hidden"``.
        kind: What a unit is.
        size: Number of units.
        axes: The entries of every tensor that belong to the units; at most one axis per tensor and dimension.
        gates: Those of the axes at which a unit can be silenced: with all its entries there at zero, nothing that
            reads the unit sees it. They are the last weights and shifts that a unit passes before it is read: a BN's,
            or those of a convolution or a linear layer without one.
        least: Smallest number of units that may be left.
        fold: How removed units leave their constant behind; None if they have none.
        path: Prefix of modules that run once per unit without holding a slice of it (a Transformer's layers).
        reads: Those of the axes whose entries read the units: with all entries of a unit there at zero, nothing sees
            it. Empty if that is not known, or if something reads the units without weights.
    """

    name: str
    kind: Literal["channel", "token"]
    size: int
    axes: tuple[Axis, ...]
    gates: tuple[Axis, ...] = ()
    least: int = 1
    fold: Fold | None = None
    path: str | None = None
    reads: tuple[Axis, ...] = ()

    def __len__(self) -> int:
        return self.size

    @cached_property
    def scales(self) -> tuple[Axis, ...]:
        """The gates that are scales of batch norms: weights beside a running variance."""
        tensors = {axis.tensor for axis in self.axes}
        return tuple(
            gate
            for gate in self.gates
            if gate.tensor.endswith("weight") and f"{gate.tensor.removesuffix('weight')}running_var" in tensors
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, with owners in runs."""
        return {
            "name": self.name,
            "kind": self.kind,
            "size": self.size,
            "axes": [[axis.tensor, axis.dim, encode_owners(axis.owners)] for axis in self.axes],
            "gates": [self.axes.index(gate) for gate in self.gates],
            "reads": [self.axes.index(read) for read in self.reads],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> UnitGroup:
        """Read what `to_json` wrote: a group without fold and path, as traced groups are."""
        axes = tuple(Axis(tensor, dim, decode_owners(runs)) for tensor, dim, runs in data["axes"])
        gates, reads = (tuple(axes[i] for i in data.get(role, ())) for role in ("gates", "reads"))
        return UnitGroup(data["name"], data["kind"], data["size"], axes, gates, reads=reads)


def encode_owners(owners: Sequence[int]) -> list[list[int]]:
    """Return owners as runs [first, count, step] of equal or of rising numbers."""
    runs: list[list[int]] = []
    for owner in owners:
        first, count, step = runs[-1] if runs else (0, 0, 0)
        if count and owner == first + count * step and (step or owner == first):
            runs[-1][1] += 1
        elif count == 1 and owner >= 0 and first >= 0 and owner == first + 1:
            runs[-1][1:] = [2, 1]
        else:
            runs.append([owner, 1, 0])
    return runs


def decode_owners(runs: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the owners that `encode_owners` wrote."""
    return tuple(first + i * step for first, count, step in runs for i in range(count))


def slice_groups(groups: Sequence[UnitGroup], keep: Mapping[str, Tensor]) -> tuple[UnitGroup, ...]:
    """Return the groups of the network that is left.

    Args:
        groups: The groups of a network.
        keep: Group name -> flags of the units that stay; groups that are absent stay whole.
    """
    flags = axis_flags(groups, keep)

    def left(group: UnitGroup, axis: Axis) -> Axis:
        kept = keep.get(group.name)
        new = list(range(group.size)) if kept is None else (kept.long().cumsum(0) - 1).tolist()
        entries = flags.get((axis.tensor, axis.dim))
        stays = [True] * len(axis.owners) if entries is None else entries.tolist()
        owners = zip(axis.owners, stays, strict=True)
        return Axis(axis.tensor, axis.dim, tuple(new[o] if o >= 0 else STAYS for o, stay in owners if stay))

    out = []
    for group in groups:
        size = int(keep[group.name].sum()) if group.name in keep else group.size
        axes = tuple(left(group, axis) for axis in group.axes)
        gates, reads = (tuple(axes[group.axes.index(axis)] for axis in role) for role in (group.gates, group.reads))
        out.append(replace(group, size=size, axes=axes, gates=gates, reads=reads))
    return tuple(out)


def axis_flags(groups: Sequence[UnitGroup], keep: Mapping[str, Tensor]) -> dict[tuple[str, int], Tensor]:
    """Return the flags of the entries that stay, by tensor and dimension; groups that share one are combined.

    Args:
        groups: The groups of a network.
        keep: Group name -> flags of the units that stay; groups that are absent stay whole.
    """
    flags: dict[tuple[str, int], Tensor] = {}
    for group in groups:
        if group.name in keep:
            for axis in group.axes:
                stays = axis.flags(keep[group.name])
                at = (axis.tensor, axis.dim)
                flags[at] = flags[at] & stays if at in flags else stays
    return flags
