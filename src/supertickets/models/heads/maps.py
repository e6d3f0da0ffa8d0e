"""Maps that a backbone gives and a head takes, finest first, and the first weights of what takes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn


class FeatureMap(NamedTuple):
    """One map of a backbone.

    Attributes:
        channels: Number of its channels.
        stride: Pixels of the input per cell, in each direction.
    """

    channels: int
    stride: int


def first_at(maps: Sequence[FeatureMap], stride: int) -> int:
    """Return the index of the finest map that is at least as coarse as a stride; of the last one if none is."""
    return next((i for i, one in enumerate(maps) if one.stride >= stride), len(maps) - 1)


def conv_norm(channels_in: int, channels_out: int, kernel: int = 1) -> nn.Sequential:
    """Make a convolution that keeps the size of a map, and its batch norm."""
    conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out))


def initialise_head(head: nn.Module, classifier: nn.Module) -> None:
    """Draw fresh weights: convolutions He-normal by their outputs, a classifier of maps near zero.

    Linear layers stay as PyTorch makes them.
    """
    for conv in head.modules():
        if isinstance(conv, nn.Conv2d):
            fan_out = conv.out_channels * math.prod(conv.kernel_size) / conv.groups
            nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
    for conv in classifier.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.normal_(conv.weight, std=0.01)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
