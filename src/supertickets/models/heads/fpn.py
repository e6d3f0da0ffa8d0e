"""A light feature pyramid (Lin et al., 2017) that ends in its finest map, as panoptic ones do (Kirillov et al., 2019).

Sums instead of concatenations, and one 3x3 convolution in all: a runtime pays by the operation.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..resize import resize
from .maps import FeatureMap, conv_norm, first_at


class FPN(nn.Module):
    """Adds up maps from the coarsest to the finest, and smooths the sum.

    Shapes: input maps (B, C_i, H_i, W_i), finest first; output (B, width, h, w), of the size of the finest map that is
    used.

    Args:
        maps: Maps of the backbone.
        width: Channels of the sums.
        stride: Pixels of the input per cell of the output; finer maps are left out.
        dropout: Share of the output that a training step leaves out.
    """

    def __init__(self, maps: Sequence[FeatureMap], width: int, stride: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = first_at(maps, stride)
        self.laterals = nn.ModuleList(conv_norm(one.channels, width) for one in maps[self.first :])
        self.smooth = nn.Sequential(nn.ReLU(), *conv_norm(width, width, 3), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        parts = [lateral(x_BCHW) for lateral, x_BCHW in zip(self.laterals, maps[self.first :], strict=True)]
        total = parts.pop()
        for part in reversed(parts):
            total = part + resize(total, *part.shape[-2:])
        smoothed: Tensor = self.smooth(total)
        return smoothed
