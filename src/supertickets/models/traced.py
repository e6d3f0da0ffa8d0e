"""Networks of any family with traced search units, as a spec: a network, its units, and which of them are left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .base import Decision, Head, Network, Spec, TransferTarget, UnitRow, UnitTable
from .tracing import LeftOut, TracedUnits, narrow_module, trace_units
from .units import UnitGroup, axis_flags, decode_owners, encode_owners, slice_groups

_TRACED_SIDE = 64  # of the images on which networks are traced, if they take such, in pixels


@dataclass(frozen=True, kw_only=True)
class TracedSpec(Spec):
    """Exact description of a network that lost units which a tracer found.

    It is built without tracing: the network is made as it was, and narrowed to the entries of the units that are left.

    Attributes:
        network: The network before any unit was removed.
        units: Its unit groups.
        kept: Indices of the units that are left, by group; a group that is absent is whole.
    """

    network: Spec
    units: tuple[UnitGroup, ...]
    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self.network)

    def __getattr__(self, name: str) -> Any:
        """Return what only the network's own spec has, since its modules ask for it."""
        if name.startswith("_") or name == "network":  # asked for before there is a network, by copies
            raise AttributeError(name)
        return getattr(self.network, name)

    @property
    def family(self) -> str:
        return self.network.family

    @property
    def head(self) -> Head:
        return self.network.head

    @property
    def num_classes(self) -> int:
        return self.network.num_classes

    @property
    def in_channels(self) -> int:
        return self.network.in_channels

    @property
    def image_size(self) -> tuple[int, int]:
        return self.network.image_size

    @property
    def coarsest_stride(self) -> int | None:
        return self.network.coarsest_stride

    @property
    def packages(self) -> tuple[str, ...]:
        return self.network.packages

    def build(self) -> Network:
        """Make the network with fresh weights."""
        network = self.network.build()
        if self.kept:
            narrow_module(network, self.shapes)
        network.spec = self
        return network

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor that is narrower than that of the whole network."""
        with torch.device("meta"):
            whole = self.network.build().state_dict()
        shapes: dict[str, list[int]] = {}
        for (name, dim), flags in axis_flags(self.units, self._flags).items():
            shapes.setdefault(name, list(whole[name].shape))[dim] = int(flags.sum())
        return {name: tuple(shape) for name, shape in shapes.items()}

    def to_json(self) -> dict[str, Any]:
        """Return the network's JSON, with its units and those that are left."""
        kept = {name: encode_owners(index) for name, index in self.kept.items()}
        return {**self.network.to_json(), "traced": {"units": [group.to_json() for group in self.units], "kept": kept}}

    @staticmethod
    def from_json(network: Spec, data: Mapping[str, Any]) -> TracedSpec:
        """Read what `to_json` wrote.

        Args:
            network: Spec of the network before any unit was removed.
            data: The entry "traced".
        """
        units = tuple(UnitGroup.from_json(group) for group in data["units"])
        kept = {name: decode_owners(runs) for name, runs in data["kept"].items()}
        return TracedSpec(network=network, units=units, kept=kept)

    # Search units.

    @cached_property
    def _flags(self) -> dict[str, Tensor]:
        flags = {}
        for group in self.units:
            if group.name in self.kept:
                flags[group.name] = torch.zeros(len(group), dtype=torch.bool, device="cpu")
                flags[group.name][list(self.kept[group.name])] = True
        return flags

    @cached_property
    def _left(self) -> tuple[UnitGroup, ...]:
        return slice_groups(self.units, self._flags)

    def unit_groups(self) -> tuple[UnitGroup, ...]:
        """List the units that are left."""
        return self._left

    def full(self) -> TracedSpec:
        """Return the spec with all units."""
        return replace(self, kept={})

    def keep(self, kept: Mapping[str, Tensor]) -> TracedSpec:
        """Return the spec with only the units flagged in ``kept`` (bool vectors by group name)."""
        left = dict(self.kept)
        for group in self.unit_groups():
            if group.name in kept and not bool(kept[group.name].all()):
                index = torch.tensor(left.get(group.name, range(len(group))), device="cpu")
                left[group.name] = tuple(index[kept[group.name].cpu()].tolist())
        return replace(self, kept=left)

    # Decisions.

    def decisions(self) -> tuple[Decision, ...]:
        """List what is open in the network."""
        return self.network.decisions()

    # Other data and other heads.

    @property
    def head_settings(self) -> tuple[str, ...] | None:  # type: ignore[override]  # the network's, not the class's
        return self.network.head_settings

    @property
    def transfers_network(self) -> bool:  # type: ignore[override]
        return self.network.transfers_network

    def refit(self, settings: Mapping[str, Any], fitted: Mapping[str, Any]) -> TracedSpec:
        """Return the same architecture for other data; see `Spec.refit`."""
        return replace(self, network=self.network.refit(settings, fitted))

    def check_transfer(self, head: Spec | None, network: str) -> None:
        """Refuse what the network refuses; see `Spec.check_transfer`."""
        self.network.check_transfer(_untraced(head), network)

    def join_head(self, head: Spec | None, target: TransferTarget) -> Callable[..., Spec]:
        """Return what makes the full network with another head, traced anew; see `Spec.join_head`."""
        make = self.network.join_head(_untraced(head), target)
        return lambda **fitted: trace_spec(make(**fitted))[0]

    def join_units(self, features: Spec, behind: Spec) -> TracedSpec:
        """Return the spec with the units that are left in the features of one network and in the head of another."""
        with torch.device("meta"):
            is_feature = self.network.build().is_feature
        kept = {}
        for group in self.units:
            giver = features if all(is_feature(gate.tensor) for gate in group.gates) else behind
            if isinstance(giver, TracedSpec) and group.name in giver.kept:
                kept[group.name] = giver.kept[group.name]
        return replace(self, kept=kept)

    # Tables and figures.

    def unit_table(self) -> UnitTable:
        """Return the units that are left of every group, in the order of the network."""
        rows = []
        for left, whole in zip(self.unit_groups(), self.units, strict=True):
            place = next((part for part in left.name.split(".") if part != "network"), left.name)
            rows.append(UnitRow(left.name, "", place, 1, f"{left.name}.", (len(left),), (len(whole),)))
        return UnitTable(("channels",), tuple(rows))


def trace_spec(spec: Spec) -> tuple[Spec, tuple[LeftOut, ...]]:
    """Return a network with the search units that a tracer finds in it, and what it leaves out.

    Args:
        spec: A network; one that has units already, or in which none is found, is returned as it is.
    """
    if spec.unit_groups():
        return spec, ()
    traced = _trace(spec)
    return (TracedSpec(network=spec, units=traced.groups) if traced.groups else spec), traced.left_out


def _trace(spec: Spec) -> TracedUnits:
    """Trace on small images, which suffice for most networks, or else on those that the network is for."""
    channels, *size = spec.input_shape
    height, width = (min(side, _TRACED_SIDE) for side in size)
    try:
        return trace_units(spec.build, (channels, height, width))
    except (RuntimeError, ValueError, AssertionError):  # what layers raise at images of another size
        return trace_units(spec.build, spec.input_shape)


def _untraced(spec: Spec | None) -> Spec | None:
    return spec.network if isinstance(spec, TracedSpec) else spec
