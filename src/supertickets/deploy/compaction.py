"""Search units without effect under a mask, removed exactly: what a mask saves on every runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..models import Spec
from ..models.traced import trace_spec
from ..nas import slice_tensors
from ..ticket import Ticket
from .constants import Reading, find_constants
from .dead_units import absorb_constants, find_dead_units

_ROUNDS = 8  # what goes leaves further units unread
_CELLS = 4  # of the coarsest map, in each direction, on which constants are found: of one cell, all are constant
_STRIDE = 32  # of networks that do not say theirs


def compact(ticket: Ticket) -> Ticket:
    """Remove search units that pruning left without effect; outputs in eval mode stay the same.

    Networks without search units are traced first. A unit goes if nothing reads it, if it is zero, or if it is a
    constant that the layers which read it can take over: into a bias, or a running mean.
    """
    if not _has_empty_filters(ticket.weights):
        return ticket
    small, before = replace(ticket, spec=trace_spec(ticket.spec)[0]), ticket
    for _ in range(_ROUNDS):
        smaller = _compact_once(small)
        if smaller is None:
            break
        small = before = smaller
    return before


def count_removed(ticket: Ticket, small: Ticket) -> int:
    """Return the number of search units that compaction removed.

    Args:
        ticket: The ticket as it was.
        small: The ticket that `compact` made of it.
    """
    groups = ticket.spec.unit_groups() or small.spec.full().unit_groups()
    return sum(map(len, groups)) - sum(map(len, small.spec.unit_groups()))


def _compact_once(ticket: Ticket) -> Ticket | None:
    groups, tensors = ticket.spec.unit_groups(), dict(ticket.weights)
    readings = _read_constants(ticket)
    dead = {group.name: find_dead_units(group, tensors, readings) for group in groups}
    if not any(bool(flags.any()) for flags in dead.values()):
        return None
    tensors |= absorb_constants(groups, dead, tensors, readings)
    keep = {name: ~flags for name, flags in dead.items()}
    spec = ticket.spec.keep(keep)
    names = _tensor_names(spec)
    weights = slice_tensors(tensors, groups, keep, names)
    return replace(ticket, spec=spec, weights=weights, mask=slice_tensors(ticket.mask, groups, keep, names))


def _read_constants(ticket: Ticket) -> dict[tuple[str, int], Reading]:
    """Find the constants on a small image, which suffices for most networks, or else on one that the network is for."""
    channels, *size = ticket.spec.input_shape
    enough = _CELLS * (ticket.spec.coarsest_stride or _STRIDE)
    height, width = (min(side, enough) for side in size)
    generator = torch.Generator().manual_seed(0)
    try:
        return find_constants(ticket.module, torch.randn(1, channels, height, width, generator=generator))
    except (RuntimeError, ValueError, AssertionError):  # what layers raise at images of another size
        return find_constants(ticket.module, torch.randn(1, channels, *size, generator=generator))


def _tensor_names(spec: Spec) -> list[str]:
    with torch.device("meta"):
        return list(spec.build().state_dict())


def _has_empty_filters(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether a filter, or all that reads a channel, is without weights, as units without effect need."""
    for tensor in tensors.values():
        if tensor.ndim > 1 and tensor.numel():
            empty = tensor.flatten(2).abs().sum(2) if tensor.ndim > 2 else tensor.abs()
            if bool((empty.sum(0) == 0).any()) or bool((empty.sum(1) == 0).any()):
                return True
    return any(bool((tensor == 0).any()) for name, tensor in tensors.items() if tensor.ndim == 1 and "weight" in name)
