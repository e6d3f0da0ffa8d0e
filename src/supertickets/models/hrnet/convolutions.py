"""The convolutions of a searching block, computed so that a training step on a CPU is fast; the functions are the same.

PyTorch's weight gradient of a depthwise convolution is ten times slower for kernels wider than 3 than for those of
width 3, however high. So it is found in strips of three columns, each from an input that is moved aside: two to four
times faster for kernels of 5 and 7. A convolution of size 1 is a matrix product, which is faster when told so.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

_WIDTH = 3  # columns of a strip: the widest for which PyTorch is fast
_FEWEST_ENTRIES = 50_000  # of the input; with fewer, moving it costs more than it gains (measured)


def pointwise(conv: nn.Module, x_BCHW: Tensor) -> Tensor:
    """Runs a convolution of size 1 without groups and bias; the function is the module's own."""
    assert isinstance(conv, nn.Conv2d)
    out: Tensor = conv(x_BCHW) if _is_plain(conv, x_BCHW) else pixelwise(x_BCHW, conv.weight)
    return out


def pixelwise(x_BCHW: Tensor, weight: Tensor) -> Tensor:
    """Multiplies every pixel by a matrix: ``weight`` is (D, C, 1, 1)."""
    if x_BCHW.stride(1) != 1:
        return F.conv2d(x_BCHW, weight)
    return F.linear(x_BCHW.permute(0, 2, 3, 1), weight.flatten(1)).permute(0, 3, 1, 2)


def _is_plain(conv: nn.Conv2d, x: Tensor) -> bool:
    """Return whether PyTorch's own way is as good: no training step, or not on a CPU."""
    training = conv.training and torch.is_grad_enabled()
    return not training or torch.compiler.is_compiling() or x.device.type != "cpu"


def depthwise(conv: nn.Module, x_BCHW: Tensor) -> Tensor:
    """Runs a depthwise convolution; the function is the module's own."""
    assert isinstance(conv, nn.Conv2d)
    wide = conv.kernel_size[0] > _WIDTH and conv.stride[0] == 1
    if _is_plain(conv, x_BCHW) or not wide or x_BCHW.numel() < _FEWEST_ENTRIES:
        return conv(x_BCHW)
    out: Tensor = _Depthwise.apply(_dense(x_BCHW), conv.weight)
    return out


def _dense(x_BCHW: Tensor) -> Tensor:
    """The map without gaps in memory, its order kept: every use of a cut would copy it again."""
    layout = torch.channels_last if x_BCHW.stride(1) == 1 else torch.contiguous_format
    return x_BCHW.contiguous(memory_format=layout)


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
        grad = _dense(grad)
        pad = weight.shape[-1] // 2
        grad_x = _backward(grad, x, weight, (pad, pad), 0) if ctx.needs_input_grad[0] else None
        return grad_x, weight_gradient(x, grad, weight.shape[-1]) if ctx.needs_input_grad[1] else None


def weight_gradient(x_BCHW: Tensor, grad_BCHW: Tensor, kernel: int) -> Tensor:
    """Gradient of the weight, (C, 1, kernel, kernel), of a depthwise convolution of stride 1 that keeps the size."""
    reach = kernel // 2
    strip = x_BCHW.new_empty(x_BCHW.shape[1], 1, kernel, _WIDTH)
    strips = []
    for left in range(-reach, reach + 1, _WIDTH):  # where the strip's first column lies, seen from the kernel's middle
        strips.append(_backward(grad_BCHW, _shift_columns(x_BCHW, left), strip, (reach, 0), 1))
    return torch.cat(strips, dim=3)[..., :kernel]


def _shift_columns(x_BCHW: Tensor, left: int) -> Tensor:
    """The map's columns from ``left`` on, as many as a strip needs, zero outside of it (`F.pad` writes all twice)."""
    *sizes, width = x_BCHW.shape
    layout = torch.channels_last if x_BCHW.stride(1) == 1 else torch.contiguous_format
    moved = torch.empty((*sizes, width + _WIDTH - 1), dtype=x_BCHW.dtype, memory_format=layout)
    inside = x_BCHW[..., max(0, left) : max(0, width + min(0, left + _WIDTH - 1))]
    begin = max(0, -left)
    end = begin + inside.shape[-1]
    moved[..., :begin] = 0
    moved[..., begin:end] = inside
    moved[..., end:] = 0
    return moved


def _backward(grad: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int], wanted: int) -> Tensor:
    """One of PyTorch's gradients of a depthwise convolution: 0 by the input, 1 by the weight."""
    mask = [wanted == 0, wanted == 1, False]
    gradients = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], len(weight), mask
    )
    gradient: Tensor = gradients[wanted]
    return gradient
