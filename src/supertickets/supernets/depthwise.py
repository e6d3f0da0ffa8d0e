"""A depthwise convolution whose weight gradient is fast on a CPU.

PyTorch's weight gradient of a depthwise convolution is ten times slower for kernels wider than 3 than for those of
width 3, however high. So it is found in strips of three columns, each from an input that is moved aside: two to four
times faster for kernels of 5 and 7.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

_WIDTH = 3  # columns of a strip: the widest for which PyTorch is fast
_FEWEST_ENTRIES = 50_000  # of the input; with fewer, moving it costs more than it gains (measured)


def depthwise(conv: nn.Module, x_BCHW: Tensor) -> Tensor:
    """Runs a depthwise convolution; the function is the module's own."""
    assert isinstance(conv, nn.Conv2d)
    plain = torch.compiler.is_compiling() or not torch.is_grad_enabled() or x_BCHW.device.type != "cpu"
    if plain or conv.kernel_size[0] <= _WIDTH or conv.stride[0] != 1 or x_BCHW.numel() < _FEWEST_ENTRIES:
        return conv(x_BCHW)
    out: Tensor = _Depthwise.apply(x_BCHW, conv.weight)
    return out


class _Depthwise(torch.autograd.Function):
    """Stride 1, an odd kernel, padding to the same size."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        pad = weight.shape[-1] // 2
        grad_x = _backward(grad, x, weight, (pad, pad), 0) if ctx.needs_input_grad[0] else None
        return grad_x, weight_gradient(x, grad, weight.shape[-1]) if ctx.needs_input_grad[1] else None


def weight_gradient(x_BCHW: Tensor, grad_BCHW: Tensor, kernel: int) -> Tensor:
    """Gradient of the weight, (C, 1, kernel, kernel), of a depthwise convolution of stride 1 that keeps the size."""
    reach = kernel // 2
    strip = x_BCHW.new_empty(x_BCHW.shape[1], 1, kernel, _WIDTH)
    strips = []
    for left in range(-reach, reach + 1, _WIDTH):  # where the strip's first column lies, seen from the kernel's middle
        moved = F.pad(x_BCHW, (-left, left + _WIDTH - 1))
        strips.append(_backward(grad_BCHW, moved, strip, (reach, 0), 1))
    return torch.cat(strips, dim=3)[..., :kernel]


def _backward(grad: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int], wanted: int) -> Tensor:
    """One of PyTorch's gradients of a depthwise convolution: 0 by the input, 1 by the weight."""
    mask = [wanted == 0, wanted == 1, False]
    found = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], len(weight), mask
    )
    gradient: Tensor = found[wanted]
    return gradient
