"""Channels of searching blocks that pruning left without effect."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..base import DeadChannels
from ..units import UnitGroup


def find_dead_channels(tensors: Mapping[str, Tensor], group: UnitGroup, eps: float) -> DeadChannels:
    """Return the channels of a block that can go.

    A channel is dead if nothing reads it (its column of the projection is zero), or if it emits a constant (its
    depthwise filter or BN scale is zero, or its expansion is zero and gives nothing).

    Args:
        tensors: Weights and statistics by name.
        group: Hidden channels of the block.
        eps: Constant that batch norms add to variances.
    """
    scale = group.scales[0].tensor
    prefix = scale.removesuffix("unit_bn.weight")
    rest = _constant_outputs(tensors, f"{prefix}expand_bn", eps).clamp_min(0)
    no_input = (tensors[f"{prefix}expand.weight"].flatten(1) == 0).all(1) & (rest == 0)
    no_filter = torch.zeros(len(group), dtype=torch.bool)
    for axis in group.axes:
        if ".depthwise." in axis.tensor:
            no_filter[axis.index] = (tensors[axis.tensor].flatten(1) == 0).all(1)
    no_scale = tensors[scale] == 0
    assert group.fold is not None
    unread = (tensors[group.fold.project].flatten(1) == 0).all(0)
    constant = _constant_outputs(tensors, f"{prefix}unit_bn", eps).clamp_min(0)
    return DeadChannels(unread, no_input | no_filter | no_scale, constant)


def _constant_outputs(tensors: Mapping[str, Tensor], bn: str, eps: float) -> Tensor:
    """Return the outputs of a BN in eval mode for zeros."""
    scale = tensors[f"{bn}.weight"] * torch.rsqrt(tensors[f"{bn}.running_var"] + eps)
    return tensors[f"{bn}.bias"] - tensors[f"{bn}.running_mean"] * scale
