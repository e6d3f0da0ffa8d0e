"""Maps that a backbone gives and a head takes, finest first, and the first weights of what takes them."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from torch import nn

T = TypeVar("T")


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


def keep_last_of_stride(stages: Sequence[T], steps: Sequence[int]) -> list[T]:
    """Return what stages end with, without those that a stage of the same stride follows.

    Args:
        stages: One entry per stage.
        steps: Stride of every stage over the one before.
    """
    return [one for one, following in zip(stages, [*steps[1:], None], strict=True) if following != 1]


def list_stage_maps(widths: Sequence[int], steps: Sequence[int], stem_stride: int) -> list[FeatureMap]:
    """Return the maps that stages of these widths end with, as `keep_last_of_stride` keeps them.

    Args:
        widths: Channels of every stage.
        steps: Stride of every stage over the one before.
        stem_stride: Pixels of the input per cell in front of the first stage.
    """
    strides = list(itertools.accumulate(steps, operator.mul, initial=stem_stride))[1:]
    return keep_last_of_stride([FeatureMap(*pair) for pair in zip(widths, strides, strict=True)], steps)


def conv_norm(channels_in: int, channels_out: int, kernel: int = 1) -> nn.Sequential:
    """Make a convolution that keeps the size of a map, and its batch norm."""
    conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out))


def initialise_head(head: nn.Module, classifier: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Draw fresh weights: those of the head He-normal by their outputs, those of a classifier of maps near zero."""
    for conv in head.modules():
        if isinstance(conv, nn.Conv2d):
            fan_out = conv.out_channels * math.prod(conv.kernel_size) / conv.groups
            nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
    for conv in classifier.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.normal_(conv.weight, std=0.01)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
    return head, classifier
