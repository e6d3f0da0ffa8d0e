"""The lite reduced spatial pyramid of MobileNetV3 (Howard et al., 2019, Sec. 6.4)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..resize import resize
from .maps import FeatureMap, conv_norm, first_at


class LRASPP(nn.Module):
    """Scales the coarsest map by a gate that sees the means of all its channels; hands on a finer map as it is.

    Shapes: input maps (B, C_i, H_i, W_i), finest first; output the finer map (B, C, h, w), and (B, width, h, w).

    Args:
        maps: Maps of the backbone.
        width: Channels of the coarse part.
        stride: Pixels of the input per cell of the finer map.
        dropout: Share of the coarse part that a training step leaves out.
    """

    def __init__(self, maps: Sequence[FeatureMap], width: int, stride: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = first_at(maps, stride)
        channels = maps[-1].channels
        self.coarse = nn.Sequential(*conv_norm(channels, width), nn.ReLU())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, width, 1, bias=False), nn.Sigmoid())
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        fine_BCHW = maps[self.first]
        gated_BCHW = self.coarse(maps[-1]) * self.gate(maps[-1])
        return fine_BCHW, self.dropout(resize(gated_BCHW, *fine_BCHW.shape[-2:]))


class SummedClassifier(nn.Module):
    """Adds up what 1x1 convolutions make of two maps.

    Shapes: input (B, fine, h, w) and (B, width, h, w); output (B, num_classes, h, w).
    """

    def __init__(self, fine: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(fine, num_classes, 1)
        self.coarse = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps: tuple[Tensor, Tensor]) -> Tensor:
        total: Tensor = self.fine(maps[0]) + self.coarse(maps[1])
        return total
