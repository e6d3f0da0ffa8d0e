"""Exponential moving average of the parameters.

BN statistics are not averaged: they are measured anew before every evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .chunks import foreach_chunks


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
        """Move every average towards its parameter.

        Args:
            named: Parameters by name.
            masks: Float masks by name; where 0 the average is frozen.
            step: Number of updates done before, n.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        names, averages = list(self.tensors), list(self.tensors.values())
        for part in foreach_chunks(averages):
            change = torch._foreach_sub([named[name] for name in names[part]], averages[part])
            masked = [(delta, masks[name]) for delta, name in zip(change, names[part], strict=True) if name in masks]
            if masked:
                torch._foreach_mul_([delta for delta, _ in masked], [mask for _, mask in masked])
            torch._foreach_add_(averages[part], change, alpha=1 - decay)
