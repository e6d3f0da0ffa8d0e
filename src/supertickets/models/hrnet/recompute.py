"""Normalised maps that the backward makes anew instead of keeping them: half of the memory of a block's large maps.

Batch norm keeps its input, and relu(batch norm) is one cheap pass over it; so the activation and the convolution behind
it need not keep the result as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# Smaller maps are kept: making them again would cost 3% of a step (measured), and they take little memory.
_FEWEST_PIXELS = 64 * 128


@dataclass(frozen=True, eq=False)
class Norm:
    """Some channels of a batch norm that is trained; the running statistics are updated in place."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    momentum: float
    eps: float

    def relu_then(self, use: Callable[[Tensor], Tensor], x_BCHW: Tensor) -> Tensor:
        """``use(relu(norm(x)))``; if the map is large, a backward makes relu(norm(x)) again from x."""
        y, mean, inverse_std = torch.native_batch_norm(
            x_BCHW, self.weight, self.bias, self.running_mean, self.running_var, True, self.momentum, self.eps
        )
        small = x_BCHW.shape[-2:].numel() < _FEWEST_PIXELS
        if small or torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return use(F.relu_(y))
        scale = self.weight.detach() * inverse_std.detach()
        shift = self.bias.detach() - mean.detach() * scale
        remade = _RecomputedActivation(x_BCHW.detach(), scale, shift, y.data_ptr())
        with torch.autograd.graph.saved_tensors_hooks(remade.pack, remade.unpack):
            return use(F.relu_(y))


_View = tuple[torch.Size, tuple[int, ...]]


class _RecomputedActivation:
    """y = relu(x * scale + shift), kept as the way to it; what else is kept stays as it is."""

    def __init__(self, x_BCHW: Tensor, scale_C: Tensor, shift_C: Tensor, place: int) -> None:
        self.x, self.scale, self.shift, self.place = x_BCHW, scale_C, shift_C, place
        self.uses = self.left = 0
        self.y: Tensor | None = None

    def pack(self, kept: Tensor) -> Tensor | _View:
        if kept.data_ptr() != self.place:
            return kept
        self.uses += 1
        return kept.shape, kept.stride()

    def unpack(self, kept: Tensor | _View) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        if self.y is None:
            zeros, ones = torch.zeros_like(self.shift), torch.ones_like(self.scale)
            self.y = F.relu_(F.batch_norm(self.x, zeros, ones, self.scale, self.shift, eps=0.0))
            self.left = self.uses
        y = self.y.as_strided(*kept)
        self.left -= 1
        if not self.left:
            self.y = None
        return y
