"""Importance of search units: scales of batch norms (Sec. 3.1), or the gradient of a virtual gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.units import UnitGroup

Tensors = dict[str, Tensor]


def scales_per_unit(group: UnitGroup) -> Tensor:
    """Return the number of scales that each unit has, as float64."""
    total = torch.zeros(len(group), dtype=torch.float64)
    for scale in group.scales:
        total += scale.sum_by_unit(torch.ones(len(scale.owners), dtype=torch.float64), len(group))
    return total


def scale_magnitudes(group: UnitGroup, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the mean magnitude of each unit's batch norm scales; the importance factor of the paper if it has one.

    Args:
        group: A group with scales.
        tensors: Weights by name.
    """
    sums = [scale.sum_by_unit(tensors[scale.tensor].detach().abs(), len(group)) for scale in group.scales]
    return torch.stack(sums).sum(0) / scales_per_unit(group).to(sums[0]).clamp_min(1)


def rank_within_groups(magnitudes: Mapping[str, Tensor]) -> Tensors:
    """Return the share of its group that a unit is at least as important as, so that all groups give up the same share.

    Scales say which unit of a group matters least. What those of one group amount to beside another's says little,
    since the weights behind them make up for it: ranked together as they are, early layers are emptied.

    Args:
        magnitudes: Group name -> magnitudes of the units' scales; infinite ones, of groups without scales, stay so.
    """
    ranks = {}
    for name, values in magnitudes.items():
        order = torch.arange(1, len(values) + 1, dtype=values.dtype, device=values.device) / len(values)
        ranks[name] = values.clone()
        if not values.isinf().any():
            ranks[name][values.argsort(stable=True)] = order
    return ranks


def gate_gradients(groups: Sequence[UnitGroup], named: Mapping[str, Tensor]) -> Tensors:
    """Return the squared gradient of a virtual gate on each unit, at 1 (a first-order estimate of the loss without it).

    A gate multiplies what the unit emits, and so all weights and shifts w at which the unit can be silenced: its
    gradient is the sum of w dL/dw over them. It needs no batch norm.

    Args:
        groups: The unit groups of the network.
        named: Parameters by name, with their gradients.

    Returns:
        Group name -> float vector.
    """
    sums: dict[tuple[str, int], Tensor] = {}
    out: Tensors = {}
    for group in groups:
        gradient = None
        for gate in group.gates:
            at = (gate.tensor, gate.dim)
            if gate.tensor not in named:  # another name of a tied weight
                continue
            if at not in sums:
                sums[at] = _sum_of_products(named[gate.tensor], gate.dim)
            part = gate.sum_by_unit(sums[at], len(group))
            gradient = part if gradient is None else gradient + part
        if gradient is not None:
            out[group.name] = gradient.square()
    return out


@torch.no_grad()
def _sum_of_products(parameter: Tensor, dim: int) -> Tensor:
    """Return the sums of w dL/dw over all dimensions but one."""
    if parameter.grad is None:
        return parameter.new_zeros(parameter.shape[dim])
    product = parameter * parameter.grad
    return product.sum([d for d in range(product.ndim) if d != dim]) if product.ndim > 1 else product


@dataclass(frozen=True)
class Importance:
    """A way to tell which units of a whole network matter least.

    Attributes:
        compare: Function of what was measured of the units and of their prices, both by group, that returns values
            which can be compared between groups.
        uses_gates: Whether the gradients of gates are measured, otherwise the scales of batch norms.
        uses_penalty: Whether a penalty pulls at the scales on the way to a budget too.
    """

    compare: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensors]
    uses_gates: bool = False
    uses_penalty: bool = False


def _per_price(values: Mapping[str, Tensor], prices: Mapping[str, Tensor]) -> Tensors:
    return {name: value / prices[name].to(value) for name, value in values.items()}


# What ``search.importance`` names.
IMPORTANCES: Mapping[str, Importance] = {
    "scale": Importance(lambda values, prices: rank_within_groups(values)),
    "penalised": Importance(lambda values, prices: dict(values), uses_penalty=True),
    "gate": Importance(_per_price, uses_gates=True),
}
