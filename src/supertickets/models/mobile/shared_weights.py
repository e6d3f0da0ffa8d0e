"""Layers on the first channels of shared weights: what is not chosen is not computed.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Style:
    """Settings that all layers of a mobile network share.

    Attributes:
        stateless: Whether batch norms use the statistics of their batch, always.
        bn_eps: Of all batch norms.
        bn_momentum: Share of a batch in the running statistics.
        padding: See `MobileSpec`.
        gate: See `MobileSpec`.
    """

    stateless: bool
    bn_eps: float
    bn_momentum: float
    padding: Literal["same_tf", "symmetric"]
    gate: Literal["sigmoid", "hard_sigmoid"]

    def batch_norm(self, channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(channels, eps=self.bn_eps, momentum=self.bn_momentum)

    def normalise(self, bn: nn.BatchNorm2d, x_BCHW: Tensor) -> Tensor:
        """Batch norm of the first channels."""
        channels = x_BCHW.shape[1]
        weight, bias = bn.weight[:channels], bn.bias[:channels]
        if self.stateless:
            # Not `F.batch_norm`, which refuses a single value per channel.
            return torch.batch_norm(x_BCHW, weight, bias, None, None, True, 0.0, bn.eps, torch.backends.cudnn.enabled)
        if channels == bn.num_features:
            whole: Tensor = bn(x_BCHW)
            return whole
        assert bn.running_mean is not None
        assert bn.running_var is not None
        assert bn.num_batches_tracked is not None
        momentum = bn.momentum or 0.0
        if bn.training:
            bn.num_batches_tracked.add_(1)
            if bn.momentum is None:  # cumulative mean
                momentum = 1 / float(bn.num_batches_tracked)
        mean, var = bn.running_mean[:channels], bn.running_var[:channels]
        return F.batch_norm(x_BCHW, mean, var, weight, bias, bn.training, momentum, bn.eps)


def conv_first(conv: nn.Conv2d, x_BCHW: Tensor, width: int) -> Tensor:
    """A convolution from the first channels to the first channels."""
    if (width, x_BCHW.shape[1]) == (conv.out_channels, conv.in_channels):
        whole: Tensor = conv(x_BCHW)
        return whole
    depthwise = conv.groups > 1
    weight = conv.weight[:width] if depthwise else conv.weight[:width, : x_BCHW.shape[1]]
    bias = None if conv.bias is None else conv.bias[:width]
    return F.conv2d(x_BCHW, weight, bias, conv.stride, conv.padding, groups=width if depthwise else 1)


def linear_first(linear: nn.Linear, x_BC: Tensor, width: int) -> Tensor:
    """A linear layer from the first channels to the first channels."""
    if (width, x_BC.shape[1]) == (linear.out_features, linear.in_features):
        whole: Tensor = linear(x_BC)
        return whole
    return F.linear(x_BC, linear.weight[:width, : x_BC.shape[1]], linear.bias[:width])
