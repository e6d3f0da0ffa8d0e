"""The searching block: MixConv channels beside Transformer tokens, around a shortcut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..base import Units
from ..units import Axis, Fold, UnitGroup
from . import matrix_products as products
from .convolutions import depthwise, pixelwise, pointwise
from .recompute import Norm
from .transformer import TokenPath


@dataclass(frozen=True)
class BlockShape:
    """Ends that a block connects: ``channels_in`` -> ``channels_out`` at a stride."""

    channels_in: int
    channels_out: int
    stride: int = 1

    @property
    def is_identity(self) -> bool:
        """Return whether input and output have one shape, so that the shortcut is the input itself."""
        return self.stride == 1 and self.channels_in == self.channels_out


@dataclass(frozen=True, kw_only=True)
class BlockStyle:
    """Settings that all blocks of a network share."""

    kernels: tuple[int, ...] = (3, 5, 7)
    grid: int = 8
    token_dropout: float = 0.1
    bn_eps: float = 1e-5
    bn_momentum: float = 0.1

    def batch_norm(self, channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(channels, eps=self.bn_eps, momentum=self.bn_momentum)


class MixBlock(nn.Module):
    """y = shortcut(x) [+ tokens] + BN(project(ReLU(BN(depthwise(ReLU(BN(expand(x)))))))).

    The hidden channels of all kernel sizes are one vector: one expansion, a depthwise convolution per kernel size,
    one projection (Sec. 3.1, SuperTickets; MixConv). ``unit_bn.weight`` is their importance.

    A block without hidden channels keeps the output BN, which then sees zeros: it emits a constant, so that removing
    the last channel changes nothing either.
    """

    def __init__(self, shape: BlockShape, units: Units, style: BlockStyle) -> None:
        super().__init__()
        self.stride = shape.stride
        self.hidden = tuple(h for h in units.hidden if h)
        total = sum(self.hidden)
        if total:
            self.expand = nn.Conv2d(shape.channels_in, total, 1, bias=False)
            self.expand_bn = style.batch_norm(total)
            self.depthwise = nn.ModuleDict(
                {
                    f"k{k}": nn.Conv2d(h, h, k, shape.stride, (k - 1) // 2, groups=h, bias=False)
                    for k, h in zip(style.kernels, units.hidden, strict=True)
                    if h
                }
            )
            self.unit_bn = style.batch_norm(total)
            self.project = nn.Conv2d(total, shape.channels_out, 1, bias=False)
        self.bn = style.batch_norm(shape.channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if not shape.is_identity:
            groups = math.gcd(shape.channels_in, shape.channels_out)
            self.shortcut = nn.Conv2d(shape.channels_in, shape.channels_out, 1, shape.stride, groups=groups, bias=False)
        elif units.tokens:
            # TokenPath holds the skip connection itself, so it takes the shortcut's place.
            self.tokens = TokenPath(shape.channels_in, units.tokens, style.grid, style.token_dropout)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        skip = self.tokens(x_BCHW) if hasattr(self, "tokens") else self.shortcut(x_BCHW)
        if not self.hidden:
            return skip + self._constant()[:, None, None]
        if self.training and products.fits_in_cache(x_BCHW, self.stride, sum(self.hidden)):
            return skip + self._mix_by_products(x_BCHW)
        if self.training and products.is_large(x_BCHW):
            return skip + self.bn(self._mix_by_kernel(x_BCHW))
        mixed = F.relu_(self.expand_bn(pointwise(self.expand, x_BCHW)))
        parts = mixed.split(self.hidden, dim=1)
        mixed = torch.cat(
            [depthwise(conv, part) for conv, part in zip(self.depthwise.values(), parts, strict=True)], dim=1
        )
        return skip + self.bn(pointwise(self.project, F.relu_(self.unit_bn(mixed))))

    def _mix_by_kernel(self, x_BCHW: Tensor) -> Tensor:
        """The same function up to the output BN, one kernel size after the other.

        On a CPU, cutting small weights costs less than cutting and joining large maps, which moreover fit into its
        caches one by one.
        """
        expands, projects = self.expand.weight.split(self.hidden), self.project.weight.split(self.hidden, dim=1)
        expand_norms, unit_norms = norm_tensors(self.expand_bn, self.hidden), norm_tensors(self.unit_bn, self.hidden)
        total: Tensor | None = None
        for i, conv in enumerate(self.depthwise.values()):
            mixed = expand_norms[i].relu_then(partial(depthwise, conv), pixelwise(x_BCHW, expands[i]))
            part = unit_norms[i].relu_then(partial(pixelwise, weight=projects[i]), mixed)
            total = part if total is None else total + part
        assert total is not None
        return total

    def _mix_by_products(self, x_BCHW: Tensor) -> Tensor:
        """The same function for small maps, see `products`."""
        batch, _, height, width = x_BCHW.shape
        x_CN = x_BCHW.transpose(0, 1).flatten(1)
        mixed = F.relu_(products.normalise(self.expand_bn, self.expand.weight.flatten(1) @ x_CN))
        matrix = products.depthwise_matrix(self.depthwise.values(), height, width)
        mixed = F.relu_(products.normalise(self.unit_bn, products.apply_depthwise(mixed, matrix)))
        out_CN = products.normalise(self.bn, self.project.weight.flatten(1) @ mixed)
        size_out = (-(-height // self.stride), -(-width // self.stride))
        return out_CN.unflatten(1, (batch, *size_out)).transpose(0, 1)

    def _constant(self) -> Tensor:
        """Return the outputs of the output BN for zeros, shape (C,)."""
        bn = self.bn
        if self.training or bn.running_mean is None or bn.running_var is None:
            return bn.bias
        return bn.bias - bn.running_mean * bn.weight * torch.rsqrt(bn.running_var + bn.eps)


def norm_tensors(bn: nn.BatchNorm2d, sizes: Sequence[int]) -> list[Norm]:
    """A batch norm in training that is applied to its channels in parts; counts as one forward of the module."""
    momentum = bn.momentum
    if bn.num_batches_tracked is not None:
        bn.num_batches_tracked.add_(1)
        if momentum is None:  # cumulative mean
            momentum = 1 / float(bn.num_batches_tracked)
    assert bn.running_mean is not None
    assert bn.running_var is not None
    cuts = zip(*(t.split(sizes) for t in (bn.weight, bn.bias, bn.running_mean, bn.running_var)), strict=True)
    return [Norm(weight, bias, mean, var, momentum or 0.0, bn.eps) for weight, bias, mean, var in cuts]


def block_groups(name: str, prefix: str, units: Units, kernels: tuple[int, ...]) -> list[UnitGroup]:
    """Lists the unit groups of a block.

    Args:
        name: Name of the block in its spec.
        prefix: The block's path in the module, e.g. ``"blocks.s1_b0_0"``.
        units: The units that are left in it.
        kernels: Kernel sizes that ``units.hidden`` refers to.
    """
    groups = []
    if units.hidden and sum(units.hidden):
        groups.append(_channel_group(name, prefix, units.hidden, kernels))
    if units.tokens:
        groups.append(_token_group(name, f"{prefix}.tokens", units.tokens))
    return groups


def _channel_group(name: str, prefix: str, hidden: tuple[int, ...], kernels: tuple[int, ...]) -> UnitGroup:
    total = sum(hidden)
    every = tuple(range(total))
    gates = [Axis(f"{prefix}.unit_bn.{tensor}", 0, every) for tensor in ("weight", "bias")]
    axes = [Axis(f"{prefix}.expand.weight", 0, every), *gates]
    axes += [Axis(f"{prefix}.expand_bn.{tensor}", 0, every) for tensor in ("weight", "bias")]
    axes += [Axis(f"{prefix}.{bn}.running_{m}", 0, every) for bn in ("expand_bn", "unit_bn") for m in ("mean", "var")]
    start = 0
    for kernel, count in zip(kernels, hidden, strict=True):
        if count:
            axes.append(Axis(f"{prefix}.depthwise.k{kernel}.weight", 0, every[start : start + count]))
        start += count
    read = Axis(f"{prefix}.project.weight", 1, every)
    axes.append(read)
    fold = Fold(f"{prefix}.project.weight", f"{prefix}.unit_bn.bias", f"{prefix}.bn.running_mean")
    return UnitGroup(f"{name}.hidden", "channel", total, tuple(axes), tuple(gates), 0, fold, reads=(read,))


def _token_group(name: str, path: str, tokens: int) -> UnitGroup:
    every = tuple(range(tokens))
    gates = [Axis(f"{path}.token_bn.{tensor}", 0, every) for tensor in ("weight", "bias")]
    axes = [Axis(f"{path}.to_tokens.weight", 0, every), *gates]
    axes += [Axis(f"{path}.token_bn.running_{moment}", 0, every) for moment in ("mean", "var")]
    axes += [Axis(f"{path}.queries", 0, every), Axis(f"{path}.from_tokens.weight", 1, every)]
    return UnitGroup(f"{name}.tokens", "token", tokens, tuple(axes), tuple(gates), 0, path=path)
