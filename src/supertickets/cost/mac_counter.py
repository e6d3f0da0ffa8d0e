"""Parameters and MACs, per layer and in total; 1 MAC is one multiply-accumulate.

Counted: convolutions and matrix products (linear layers, attention), for one image. Normalisation, activations,
resizing, additions and biases count 0, as in the papers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..models import Network
from ..models.base import Spec
from ..models.factory import spec_from_json
from ..models.op_counter import count_operations
from ..models.units import UnitGroup

Mask = Mapping[str, Tensor]


@dataclass(frozen=True)
class LayerCost:
    """Cost of one layer for one image.

    Attributes:
        name: The module's path.
        weight: Name of its weight; None where what is multiplied was computed, as in attention.
        uses: Number of multiplications that each weight enters (output positions).
        macs: Multiply-accumulates with every weight in place.
        masked_macs: Multiply-accumulates with the weights that the mask keeps.
    """

    name: str
    weight: str | None
    uses: int
    macs: int
    masked_macs: int


@dataclass(frozen=True)
class Cost:
    """The costs of a network, counted both truly and as the papers do.

    Attributes:
        params: All parameters.
        nonzero_params: Parameters that the mask keeps.
        maskable_params: Weights that the mask covers; what a target sparsity refers to.
        macs: MACs with every weight in place.
        masked_macs: MACs per layer under the mask, summed.
        layers: The rows that the sums come from.
    """

    params: int
    nonzero_params: int
    maskable_params: int
    macs: int
    masked_macs: int
    layers: tuple[LayerCost, ...]

    @property
    def sparsity(self) -> float:
        """Return zeros / maskable weights."""
        return (self.params - self.nonzero_params) / self.maskable_params if self.maskable_params else 0.0

    @property
    def sparsity_all(self) -> float:
        """Return zeros / all parameters."""
        return (self.params - self.nonzero_params) / self.params

    @property
    def paper_macs(self) -> int:
        """Return dense MACs times the one global density (what the SuperTickets paper calls FLOPs)."""
        return round(self.macs * (1 - self.sparsity))

    def to_json(self) -> dict[str, float | int]:
        """Return the figures that `supertickets show --json` prints."""
        return {
            "params": self.params,
            "nonzero_params": self.nonzero_params,
            "sparsity": self.sparsity,
            "sparsity_all": self.sparsity_all,
            "macs": self.macs,
            "masked_macs": self.masked_macs,
            "paper_macs": self.paper_macs,
        }


def layer_costs(
    spec: Spec, mask: Mask | None = None, input_shape: tuple[int, int, int] | None = None
) -> list[LayerCost]:
    """Count every layer of a spec.

    Args:
        spec: The network.
        mask: Parameter name -> bool tensor; parameters that are absent are dense.
        input_shape: Channels, height and width; default: the spec's own.
    """
    rows = _dense_costs(_key(spec, input_shape)).rows
    left = {name: int(flags.sum()) for name, flags in (mask or {}).items()}
    return [
        replace(row, masked_macs=left[row.weight] * row.uses) if row.weight is not None and row.weight in left else row
        for row in rows
    ]


class _Key(NamedTuple):
    spec: str
    input_shape: tuple[int, int, int]


class _Dense(NamedTuple):
    params: int
    rows: tuple[LayerCost, ...]


def _key(spec: Spec, input_shape: tuple[int, int, int] | None) -> _Key:
    return _Key(json.dumps(spec.to_json()), input_shape or spec.input_shape)


@lru_cache(maxsize=16)
def _dense_costs(key: _Key) -> _Dense:
    """Run one forward without data (meta tensors); the same spec is asked for again and again during a run."""
    with torch.device("meta"):
        module = spec_from_json(json.loads(key.spec)).build().eval()
    sizes = {name: p.numel() for name, p in module.named_parameters()}
    products, _ = count_operations(module, torch.empty(1, *key.input_shape, device="meta"))
    rows = (LayerCost(p.name, p.weight, p.macs // sizes[p.weight] if p.weight else 1, p.macs, p.macs) for p in products)
    return _Dense(sum(sizes.values()), tuple(rows))


def count(network: Spec | Network, input_shape: tuple[int, int, int] | None = None, mask: Mask | None = None) -> Cost:
    """Count a network.

    Args:
        network: A network, or its spec.
        input_shape: Channels, height and width; default: the spec's own.
        mask: Parameter name -> bool tensor.
    """
    spec = network.spec if isinstance(network, Network) else network
    params = _dense_costs(_key(spec, input_shape)).params
    rows = layer_costs(spec, mask, input_shape)
    zeros = sum(int((~flags).sum()) for flags in (mask or {}).values())
    return Cost(
        params=params,
        nonzero_params=params - zeros,
        maskable_params=sum(flags.numel() for flags in (mask or {}).values()),
        macs=sum(row.macs for row in rows),
        masked_macs=sum(row.masked_macs for row in rows),
        layers=tuple(rows),
    )


def unit_macs(spec: Spec) -> dict[str, Tensor]:
    """Return the MACs of each search unit, by group name: float64 vectors (the p of the resource-aware penalty).

    A channel costs its row of the expansion, its depthwise filter and its column of the projection. A token costs
    what the path would cost less without it, so its share grows with the number of tokens (attention is quadratic).
    """
    rows = layer_costs(spec)
    by_weight = {row.weight: row for row in rows if row.weight is not None}
    return {group.name: _group_macs(group, rows, by_weight) for group in spec.unit_groups()}


def _group_macs(group: UnitGroup, rows: list[LayerCost], by_weight: Mapping[str, LayerCost]) -> Tensor:
    macs = torch.zeros(len(group), dtype=torch.float64)
    sliced = set()
    for axis in group.axes:
        if (row := by_weight.get(axis.tensor)) is not None:
            share = torch.full((len(axis.owners),), row.macs / len(axis.owners), dtype=torch.float64)
            macs += axis.sum_by_unit(share, len(group))
            sliced.add(axis.tensor)
    if group.path is not None:
        n = len(group)
        for row in rows:
            if row.name.startswith(f"{group.path}.") and row.weight not in sliced:
                macs += row.macs * (2 * n - 1) / n**2 if row.weight is None else row.macs / n
    return macs
