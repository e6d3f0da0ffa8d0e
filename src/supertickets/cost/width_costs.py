"""Costs of a network with some of its units, without building it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..models.base import Spec
from ..models.units import UnitGroup, axis_flags
from .mac_counter import layer_costs

Keep = Mapping[str, Tensor]
KB_PER_PARAMETER = 4 / 1000  # in float32
KB_PER_FLAG = 1 / 8000  # a file keeps one bit for each weight of a pruned layer


class WidthCosts:
    """The costs of what is left of a network when units go; each layer costs its MACs per weight.

    What runs once per token of a Transformer path without a slice of its own costs in proportion to them.

    Args:
        spec: The network as it is now.
        zeros: Share of the weights that is zero and costs nothing, by the name of a parameter; others are dense.
    """

    def __init__(self, spec: Spec, zeros: Mapping[str, float] | None = None) -> None:
        self.zeros = dict(zeros or {})
        self.groups: tuple[UnitGroup, ...] = spec.unit_groups()
        with torch.device("meta"):
            network = spec.build()
        self.shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
        self.rows = layer_costs(spec)

    def measure(self, name: str, keep: Keep) -> float:
        """Return a cost by its name.

        Args:
            name: "macs", "params" or "size_kb".
            keep: Group name -> flags of the units that stay; groups that are absent stay whole.
        """
        measures: Mapping[str, Callable[[Keep], float]] = {
            "macs": self.macs,
            "params": self.params,
            "size_kb": self.size_kb,
        }
        return measures[name](keep)

    def params(self, keep: Keep) -> float:
        """Return the number of parameters.

        Args:
            keep: Group name -> flags of the units that stay; groups that are absent stay whole.
        """
        return float(sum(self._living(keep).values()))

    def size_kb(self, keep: Keep) -> float:
        """Return the size of the values in float32, and of the flags of layers that have zeros, in kB.

        Args:
            keep: Group name -> flags of the units that stay; groups that are absent stay whole.
        """
        flags = sum(size for name, size in self._sizes(keep).items() if name in self.zeros)
        return self.params(keep) * KB_PER_PARAMETER + flags * KB_PER_FLAG

    def macs(self, keep: Keep) -> float:
        """Return the MACs of one image.

        Args:
            keep: Group name -> flags of the units that stay; groups that are absent stay whole.
        """
        sizes = self._living(keep)
        total = 0.0
        for row in self.rows:
            share = sizes[row.weight] / math.prod(self.shapes[row.weight]) if row.weight is not None else 1.0
            total += row.macs * share * self._tokens_left(row.name, row.weight, keep)
        return total

    def _living(self, keep: Keep) -> dict[str, float]:
        return {name: size * (1 - self.zeros.get(name, 0.0)) for name, size in self._sizes(keep).items()}

    def _sizes(self, keep: Keep) -> dict[str, int]:
        shapes = {name: list(shape) for name, shape in self.shapes.items()}
        for (name, dim), flags in axis_flags(self.groups, keep).items():
            if name in shapes:
                shapes[name][dim] = int(flags.sum())
        return {name: math.prod(shape) for name, shape in shapes.items()}

    def _tokens_left(self, layer: str, weight: str | None, keep: Keep) -> float:
        """Return the share of a layer's MACs that is left because tokens went that it has no slice of."""
        for group in self.groups:
            if group.path is not None and group.name in keep and layer.startswith(f"{group.path}."):
                if any(axis.tensor == weight for axis in group.axes):
                    return 1.0
                share = float(keep[group.name].float().mean())
                return share**2 if weight is None else share
        return 1.0


def unit_params(spec: Spec) -> dict[str, Tensor]:
    """Return the parameters of each search unit, by group name: float64 vectors."""
    with torch.device("meta"):
        sizes = {name: p.numel() for name, p in spec.build().named_parameters()}
    costs = {}
    for group in spec.unit_groups():
        costs[group.name] = torch.zeros(len(group), dtype=torch.float64)
        for axis in group.axes:
            if axis.tensor in sizes:
                share = torch.full((len(axis.owners),), sizes[axis.tensor] / len(axis.owners), dtype=torch.float64)
                costs[group.name] += axis.sum_by_unit(share, len(group))
    return costs
