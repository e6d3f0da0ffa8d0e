"""The SSDLite head of mobile networks (Sandler et al., 2018, Sec. 6.2), made of torchvision's blocks.

It looks at six maps: the one in front of the network's last halving, the last one, and four more, each half the size.

Shapes: B batch, C channels, H height, W width, A anchors.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models.detection.ssdlite import SSDLiteHead, _extra_block

from ..heads.anchors import MAPS, PER_CELL
from .shared_weights import Style, conv_first

_DEVIATION = 0.03  # of weights at the start


class SSDLite(nn.Module):
    """Predictions from two maps; maps of fewer channels use the first channels of every weight.

    Args:
        widths: Channels of the larger map and of the map of half its size, at most.
        extra: Widths of the further maps.
        classes: Number of classes.
        style: Settings of batch norms.
    """

    def __init__(self, widths: tuple[int, int], extra: tuple[int, ...], classes: int, style: Style) -> None:
        super().__init__()
        self.style = style
        maps = (*widths, *extra)
        self.extra = nn.ModuleList(_extra_block(low, high, style.batch_norm) for low, high in pairwise(maps[1:]))
        self.head = SSDLiteHead(list(maps), [PER_CELL] * MAPS, classes + 1, style.batch_norm)
        for module in self.extra.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=_DEVIATION)

    def forward(self, fine_BCHW: Tensor, coarse_BCHW: Tensor) -> Tensor:
        """Predictions (B, A, 1 + classes + 4): scores of nothing and of every class, and the box as SSD codes it."""
        maps = [fine_BCHW, coarse_BCHW]
        for block in self.extra:
            maps.append(self._run(block, maps[-1]))
        parts = []
        for head in (self.head.classification_head, self.head.regression_head):
            made = [self._run(block, x_BCHW) for block, x_BCHW in zip(head.module_list, maps, strict=True)]
            parts.append(torch.cat([_rows(x_BCHW, head.num_columns) for x_BCHW in made], dim=1))
        return torch.cat(parts, dim=-1)

    def outputs(self) -> list[str]:
        """Names of the weights that make the predictions, as the classifier's makes scores."""
        return [
            f"head.{kind}.module_list.{i}.1.weight"
            for kind in ("classification_head", "regression_head")
            for i in range(MAPS)
        ]

    def _run(self, block: nn.Module, x_BCHW: Tensor) -> Tensor:
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d):
                x_BCHW = conv_first(layer, x_BCHW, x_BCHW.shape[1] if layer.groups > 1 else layer.out_channels)
            elif isinstance(layer, nn.BatchNorm2d):
                x_BCHW = self.style.normalise(layer, x_BCHW)
            elif isinstance(layer, nn.ReLU6):
                x_BCHW = layer(x_BCHW)
        return x_BCHW


class SingleDetector(nn.Module):
    """A head by itself, e.g. to measure it.

    Its input is one tensor (B, fine + coarse, H, W), of whose last channels every second row and column is taken.

    Args: see `SSDLite`.
    """

    def __init__(self, widths: tuple[int, int], extra: tuple[int, ...], classes: int, style: Style) -> None:
        super().__init__()
        self.fine, self.detector = widths[0], SSDLite(widths, extra, classes, style)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.detector(x_BCHW[:, : self.fine], x_BCHW[:, self.fine :, ::2, ::2])
        return out


def _rows(x_BCHW: Tensor, columns: int) -> Tensor:
    """(B, anchors of a cell * columns, H, W) -> (B, anchors, columns), cell by cell."""
    batch, _, height, width = x_BCHW.shape
    rows = x_BCHW.view(batch, -1, columns, height, width).permute(0, 3, 4, 1, 2)
    return rows.reshape(batch, -1, columns)
