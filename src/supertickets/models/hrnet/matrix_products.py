"""A searching block on a small map, computed as matrix products.

A depthwise convolution over an 8x8 map is a 64x64 matrix per channel. On a CPU three products beat the convolutions
of a training step several times over (the weight gradient of a small depthwise convolution is slow there), and all
kernel sizes share one product. Same parameters, same function: an implementation of the spec, not another spec.

Shapes: B batch, C channels in, H hidden, S = height * width in, T the same out. Everything stays channel-first.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor, nn

# Beyond this many entries the matrices outgrow what the convolution costs (measured: benchmarks/small_maps.py).
LARGEST_MATRIX = 64 * 64
MOST_ENTRIES = 1_000_000  # of all channels' matrices together, which then stay in the caches
# From this many pixels on, cutting weights beats cutting and joining maps (measured there too).
SMALLEST_APART = 40 * 40


def fits_in_cache(x_BCHW: Tensor, stride: int, hidden: int) -> bool:
    """Return whether a map is small enough for the products to be the faster way."""
    height, width = x_BCHW.shape[-2:]
    entries = height * width * -(-height // stride) * -(-width // stride)
    return x_BCHW.device.type == "cpu" and entries <= min(LARGEST_MATRIX, MOST_ENTRIES / hidden)


def is_large(x_BCHW: Tensor) -> bool:
    """Return whether a map is so large that one kernel size after the other is the faster way."""
    height, width = x_BCHW.shape[-2:]
    return x_BCHW.device.type == "cpu" and height * width >= SMALLEST_APART


def depthwise_matrix(convs: Iterable[nn.Module], height: int, width: int) -> Tensor:
    """Writes depthwise convolutions as one matrix per channel, shape (H, S, T)."""
    return torch.cat(
        [
            (
                conv.weight.flatten(1) @ _taps(conv.kernel_size[0], conv.stride[0], height, width, conv.weight.dtype)
            ).unflatten(1, (height * width, -1))
            for conv in convs
            if isinstance(conv, nn.Conv2d)
        ]
    )


def apply_depthwise(x_HN: Tensor, matrix_HST: Tensor) -> Tensor:
    """(H, B * S) -> (H, B * T)."""
    hidden, size_in, _ = matrix_HST.shape
    return torch.bmm(x_HN.view(hidden, -1, size_in), matrix_HST).flatten(1)


def normalise(bn: nn.BatchNorm2d, x_CN: Tensor) -> Tensor:
    """Batch norm over the second dimension."""
    out: Tensor = bn(x_CN[None, :, :, None])
    return out[0, :, :, 0]


def mark_constants() -> None:
    """Tells PyTorch's compiler what it need not trace. That imports it, which takes a second: only for who compiles."""
    torch.compiler.assume_constant_result(_taps)


def _taps(kernel: int, stride: int, height: int, width: int, dtype: torch.dtype) -> Tensor:
    """Return which weight connects which pixels: a 0/1 matrix of shape (kernel * kernel, S * T)."""
    return _made_taps(kernel, stride, height, width, dtype)


@lru_cache(maxsize=64)
def _made_taps(kernel: int, stride: int, height: int, width: int, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # the cache outlives whatever mode the first caller is in
        impulses = torch.eye(height * width, dtype=dtype).view(-1, 1, height, width)
        patches = nn.functional.unfold(impulses, kernel, padding=(kernel - 1) // 2, stride=stride)  # (S, k * k, T)
        return patches.transpose(0, 1).flatten(1).contiguous()
