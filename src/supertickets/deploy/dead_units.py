"""Search units that pruning left without effect, and the constants that they leave behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..models.units import Axis, UnitGroup
from .constants import Reading

Readings = Mapping[tuple[str, int], Reading]
Tensors = dict[str, Tensor]


def find_dead_units(group: UnitGroup, tensors: Mapping[str, Tensor], readings: Readings) -> Tensor:
    """Return flags of the units that can go without a change of the outputs in eval mode.

    A unit is dead if its gates are closed; or if, wherever it is read, the weights are zero, it is zero, or it is a
    constant that the reader can take over. Some stay where a group must keep a number of units.

    Args:
        group: A group of the network.
        tensors: Weights and statistics by name.
        readings: What layers read; see `find_constants`.
    """
    size = len(group)
    if not group.reads:
        return torch.zeros(size, dtype=torch.bool)
    open_gates = [axis.sum_by_unit(~_zero_entries(tensors[axis.tensor], axis.dim), size) for axis in group.gates]
    effects = [axis.sum_by_unit(~_harmless(axis, tensors, readings), size) for axis in group.reads]
    dead = (torch.stack(open_gates).sum(0) == 0) | (torch.stack(effects).sum(0) == 0)
    short = group.least - int((~dead).sum())
    if short > 0:
        dead[dead.nonzero().flatten()[:short]] = False
    return dead


def absorb_constants(
    groups: Sequence[UnitGroup], dead: Mapping[str, Tensor], tensors: Mapping[str, Tensor], readings: Readings
) -> Tensors:
    """Move what dead units emit into biases and running means of the layers that read them.

    Args:
        groups: Groups of the network.
        dead: Flags of the units that go, by group.
        tensors: Weights and statistics by name.
        readings: What layers read; see `find_constants`.

    Returns:
        The tensors that change, by name.
    """
    changed: Tensors = {}
    for group in groups:
        for axis in group.reads:
            reading = readings.get((axis.tensor, axis.dim))
            gone = ~axis.flags(~dead[group.name])
            if reading is None or not bool((gone & reading.constant & (reading.value != 0)).any()):
                continue
            weight = tensors[axis.tensor].double().movedim(axis.dim, 0)
            weight = weight.reshape(*weight.shape[:2], -1).sum(2)
            emitted = torch.where(gone & reading.constant, reading.value, 0).double() @ weight
            for name, sign in ((reading.bias, 1), (reading.mean, -1)):
                if name is not None:
                    old = changed.get(name, tensors[name])
                    changed[name] = (old.double() + sign * emitted).to(old.dtype)
                    break
    return changed


def _harmless(axis: Axis, tensors: Mapping[str, Tensor], readings: Readings) -> Tensor:
    """Return flags of the entries of a reading axis that have no effect, or one that can be folded."""
    unread = _zero_entries(tensors[axis.tensor], axis.dim)
    reading = readings.get((axis.tensor, axis.dim))
    if reading is None:
        return unread
    folds = reading.absorbs and (reading.bias is not None or reading.mean is not None)
    return unread | (reading.constant & (folds | (reading.value == 0)))


def _zero_entries(tensor: Tensor, dim: int) -> Tensor:
    """Return flags of the entries along a dimension at which a tensor is zero."""
    return (tensor.movedim(dim, 0).reshape(tensor.shape[dim], -1) == 0).all(1)
