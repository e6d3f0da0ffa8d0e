"""The SSDLite head (Sandler et al., 2018, Sec. 6.2) behind any two maps of which one is half the size of the other.

It is torchvision's, with its weights at the start; the head of mobile spaces, whose networks share weights, is
`models.mobile.ssdlite.SSDLite`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models.detection.ssdlite import SSDLiteHead, _extra_block

from ...errors import UserError
from .anchors import MAPS, PER_CELL
from .maps import FeatureMap

_DEVIATION = 0.03  # of weights at the start


class FurtherMaps(nn.Module):
    """Makes four more maps of the coarsest one, each half the size of the one before.

    Shapes: input maps (B, C_i, H_i, W_i), finest first; output the last two of them and the further ones.

    Args:
        maps: Maps of the backbone.
        width: Channels of the second further map; the first has twice as many, the last half of them.

    Raises:
        UserError: The last two maps are not a map and its half.
    """

    def __init__(self, maps: Sequence[FeatureMap], width: int) -> None:
        super().__init__()
        if len(maps) < 2 or maps[-1].stride != 2 * maps[-2].stride:
            strides = ", ".join(str(one.stride) for one in maps)
            raise UserError(
                f"a detector needs a map and its half as the last two, this network's have strides {strides}; "
                "take another one"
            )
        self.channels = (maps[-2].channels, maps[-1].channels, 2 * width, width, width, max(width // 2, 1))
        self.further = nn.ModuleList(_extra_block(*pair, nn.BatchNorm2d) for pair in pairwise(self.channels[1:]))
        for conv in self.further.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.normal_(conv.weight, std=_DEVIATION)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        made = [maps[-2], maps[-1]]
        for block in self.further:
            made.append(block(made[-1]))
        return made


class BoxPredictor(nn.Module):
    """Predictions for the anchors of six maps.

    Shapes: input six maps; output (B, A, 1 + num_classes + 4): scores of nothing and of every class, and the box as SSD
    codes it.
    """

    def __init__(self, channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.head = SSDLiteHead(list(channels), [PER_CELL] * MAPS, num_classes + 1, nn.BatchNorm2d)

    def forward(self, maps: list[Tensor]) -> Tensor:
        parts = self.head(maps)
        return torch.cat((parts["cls_logits"], parts["bbox_regression"]), dim=-1)
