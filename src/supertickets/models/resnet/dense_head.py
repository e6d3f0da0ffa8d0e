"""The fully convolutional head of a network that answers with maps (Long et al., 2015), as dilated ResNets have it."""

from __future__ import annotations

from torch import nn

SQUEEZE = 4  # channels of the features per channel in front of the classifier


def dense_head(channels: int, dropout: float) -> nn.Sequential:
    """Make what stands between features and a classifier of size 1: a 3x3 convolution to a quarter of the channels.

    Shapes: input (B, channels, H, W); output (B, channels / 4, H, W).

    Args:
        channels: Of the features.
        dropout: Share of entries that a training step leaves out.
    """
    inside = channels // SQUEEZE
    head = nn.Sequential(nn.Conv2d(channels, inside, 3, 1, 1, bias=False), nn.BatchNorm2d(inside), nn.ReLU())
    return head.append(nn.Dropout(dropout)) if dropout else head
