"""Dead channels under a mask, removed exactly: what a mask saves on every runtime."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..nas import slice_tensors
from ..ticket import Ticket


def compact(ticket: Ticket) -> Ticket:
    """Remove channels that pruning left without effect; outputs in eval mode stay the same.

    A channel is dead if nothing reads it, or if it emits a constant (`Spec.dead_channels`). Constants move into the
    running mean of the block's output BN. A network without search units stays as it is: its spec has no
    narrower layers for it.
    """
    groups = ticket.spec.unit_groups()
    if not groups:
        return ticket
    tensors = dict(ticket.weights)
    keep = {}
    for group in groups:
        keep[group.name] = torch.ones(len(group), dtype=torch.bool)
        dead = ticket.spec.dead_channels(tensors, group)
        if dead is not None and group.fold is not None:
            project, mean = tensors[group.fold.project].flatten(1), tensors[group.fold.mean]
            fold = dead.silent & ~dead.unread
            tensors[group.fold.mean] = mean - project[:, fold] @ dead.constant[fold]
            keep[group.name] = ~(dead.unread | dead.silent)
    spec = ticket.spec.keep(keep)
    with torch.device("meta"):
        names = list(spec.build().state_dict())
    weights = slice_tensors(tensors, groups, keep, names)
    mask = slice_tensors(ticket.mask, groups, keep, names)
    return replace(ticket, spec=spec, weights=weights, mask=mask)
