"""Dead channels under a mask, removed exactly: what a mask saves on every runtime."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..models import HRNetSpec, UnitGroup
from ..nas import slice_tensors
from ..ticket import Ticket

Tensors = dict[str, Tensor]


def compact(ticket: Ticket) -> Ticket:
    """Remove channels that pruning left without effect; outputs in eval mode stay the same.

    A channel is dead if nothing reads it (its column of the projection is zero), or if it emits a constant (its
    depthwise filter or BN scale is zero, or its expansion is zero and gives nothing). Constants move into the running
    mean of the block's output BN. A known network stays as it is: its library has no narrower layers for it.
    """
    if not isinstance(ticket.spec, HRNetSpec):
        return ticket
    tensors = dict(ticket.weights)
    groups = ticket.spec.unit_groups()
    keep = {}
    for group in groups:
        keep[group.name] = torch.ones(len(group), dtype=torch.bool)
        if group.kind == "channel" and group.fold is not None:
            unread, silent, constant = _dead_channels(tensors, group, ticket.spec.style.bn_eps)
            project, mean = tensors[group.fold.project].flatten(1), tensors[group.fold.mean]
            fold = silent & ~unread
            tensors[group.fold.mean] = mean - project[:, fold] @ constant[fold]
            keep[group.name] = ~(unread | silent)
    spec = ticket.spec.keep(keep)
    with torch.device("meta"):
        names = list(spec.build().state_dict())
    weights = slice_tensors(tensors, groups, keep, names)
    mask = slice_tensors(ticket.mask, groups, keep, names)
    return replace(ticket, spec=spec, weights=weights, mask=mask)


def _dead_channels(tensors: Tensors, group: UnitGroup, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Flag unread channels and constant ones, and return what the latter emit."""
    prefix = group.scale.removesuffix("unit_bn.weight")
    rest = _constant_outputs(tensors, f"{prefix}expand_bn", eps).clamp_min(0)
    no_input = (tensors[f"{prefix}expand.weight"].flatten(1) == 0).all(1) & (rest == 0)
    no_filter = torch.zeros(len(group), dtype=torch.bool)
    for part in group.slices:
        if ".depthwise." in part.tensor:
            no_filter[part.start : part.stop] = (tensors[part.tensor].flatten(1) == 0).all(1)
    no_scale = tensors[group.scale] == 0
    assert group.fold is not None
    unread = (tensors[group.fold.project].flatten(1) == 0).all(0)
    return unread, no_input | no_filter | no_scale, _constant_outputs(tensors, f"{prefix}unit_bn", eps).clamp_min(0)


def _constant_outputs(tensors: Tensors, bn: str, eps: float) -> Tensor:
    """Return the outputs of a BN in eval mode for zeros."""
    scale = tensors[f"{bn}.weight"] * torch.rsqrt(tensors[f"{bn}.running_var"] + eps)
    return tensors[f"{bn}.bias"] - tensors[f"{bn}.running_mean"] * scale
