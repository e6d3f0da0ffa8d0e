"""Passes over all parameters: several operations on each, in parts that stay in the caches."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

_CACHED = 50_000  # numbers; times some five tensors of four bytes, a megabyte


def foreach_chunks(tensors: Sequence[Tensor]) -> list[slice]:
    """Return parts of a list of tensors of the same device, one after the other.

    Several operations over all parameters stream them from memory each time. On a CPU a part fits into the caches, so
    that only its first operation does; elsewhere there is one part.
    """
    if not tensors or tensors[0].device.type != "cpu":
        return [slice(0, len(tensors))] if tensors else []
    parts, start, size = [], 0, 0
    for i, tensor in enumerate(tensors):
        if i > start and size + tensor.numel() > _CACHED:
            parts.append(slice(start, i))
            start, size = i, 0
        size += tensor.numel()
    return [*parts, slice(start, len(tensors))]
