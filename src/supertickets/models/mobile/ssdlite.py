"""The SSDLite head of mobile networks (Sandler et al., 2018, Sec. 6.2), made of torchvision's blocks, and its anchors.

It looks at six maps: the one in front of the network's last halving, the last one, and four more, each half the size.

Shapes: B batch, C channels, H height, W width, A anchors.
"""

from __future__ import annotations

import functools
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssdlite import SSDLiteHead, _extra_block

from .shared_weights import Style, conv_first

_MAPS = 6
_RATIOS = (2, 3)  # of the sides of anchors, and their inverses; two squares come first
_PER_CELL = 2 + 2 * len(_RATIOS)
_SCALES = {"min_ratio": 0.2, "max_ratio": 0.95}  # of anchors, as torchvision's SSDLite has them
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
        self.head = SSDLiteHead(list(maps), [_PER_CELL] * _MAPS, classes + 1, style.batch_norm)
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
            for i in range(_MAPS)
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


def map_sides(first: int) -> list[int]:
    """Sides of the six maps, given that of the largest; halves are rounded up."""
    return [-(-first // 2**i) for i in range(_MAPS)]


@functools.lru_cache(maxsize=8)
def anchors(count: int, device: torch.device) -> Tensor:
    """The anchors of a square input: x1, y1, x2, y2 in shares of it, of shape (A, 4), in the order of predictions.

    Args:
        count: Their number A, which tells the sizes of the maps.
        device: Where they shall be.

    Raises:
        ValueError: No square input has so many.
    """
    first = 1
    while (number := _PER_CELL * sum(side**2 for side in map_sides(first))) < count:
        first += 1
    if number != count:
        raise ValueError(f"predictions for {count} anchors are not those of a square input")
    make = DefaultBoxGenerator([list(_RATIOS)] * _MAPS, **_SCALES)
    maps = [torch.empty(1, 1, side, side) for side in map_sides(first)]
    boxes: Tensor = make(ImageList(torch.empty(1, 3, 1, 1), [(1, 1)]), maps)[0]
    return boxes.to(device)


def _rows(x_BCHW: Tensor, columns: int) -> Tensor:
    """(B, anchors of a cell * columns, H, W) -> (B, anchors, columns), cell by cell."""
    batch, _, height, width = x_BCHW.shape
    rows = x_BCHW.view(batch, -1, columns, height, width).permute(0, 3, 4, 1, 2)
    return rows.reshape(batch, -1, columns)
