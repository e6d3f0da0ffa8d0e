"""Exponential moving average of the parameters.

BN statistics are not averaged: they are measured anew before every evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_CACHED = 50_000  # numbers; times some five tensors of four bytes, a megabyte


class Ema:
    """Averaged parameters by name; pruned entries stay as they were at the prune.

    Args:
        tensors: The averages; parameter names and shapes of the network.
        decay: Upper bound of the decay; early steps use (1 + n) / (10 + n).
    """

    def __init__(self, tensors: dict[str, Tensor], decay: float) -> None:
        self.tensors = tensors
        self.decay = decay

    @torch.no_grad()
    def update(self, named: Mapping[str, Tensor], masks: Mapping[str, Tensor], step: int) -> None:
        """Moves every average towards its parameter.

        Args:
            named: Parameters by name.
            masks: Float masks by name; where 0 the average is frozen.
            step: Updates done before, n.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        names, averages = list(self.tensors), list(self.tensors.values())
        for part in cache_sized(averages):
            change = torch._foreach_sub([named[name] for name in names[part]], averages[part])
            masked = [(delta, masks[name]) for delta, name in zip(change, names[part], strict=True) if name in masks]
            if masked:
                torch._foreach_mul_([delta for delta, _ in masked], [mask for _, mask in masked])
            torch._foreach_add_(averages[part], change, alpha=1 - decay)


def cache_sized(tensors: Sequence[Tensor]) -> list[slice]:
    """Parts of a list of tensors of the same device, one after the other.

    Several operations over all parameters stream them from memory each time. On a CPU a part fits into the caches, so
    that only its first operation does; elsewhere there is one part.
    """
    if not tensors or tensors[0].device.type != "cpu":
        return [slice(0, len(tensors))] if tensors else []
    parts, start, size = [], 0, 0
    for i, tensor in enumerate(tensors):
        if size and size + tensor.numel() > _CACHED:
            parts.append(slice(start, i))
            start, size = i, 0
        size += tensor.numel()
    return [*parts, slice(start, len(tensors))]
