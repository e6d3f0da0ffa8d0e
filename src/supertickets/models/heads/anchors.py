"""The anchors of SSDLite over six maps, each half the size of the one before."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

MAPS = 6
_RATIOS = (2, 3)  # of the sides of anchors, and their inverses; two squares come first
PER_CELL = 2 + 2 * len(_RATIOS)
_SCALES = {"min_ratio": 0.2, "max_ratio": 0.95}  # of anchors, as torchvision's SSDLite has them


def map_sides(first: int) -> list[int]:
    """Return the sides of the six maps, given that of the largest; halves are rounded up."""
    return [-(-first // 2**i) for i in range(MAPS)]


@functools.lru_cache(maxsize=8)
def anchors(count: int, device: torch.device) -> Tensor:
    """Return the anchors of a square input, (A, 4) in the order of predictions: x1, y1, x2, y2 in shares of it.

    Args:
        count: Number A of anchors, which tells the sizes of the maps.
        device: Device that they shall be on.

    Raises:
        ValueError: No square input has so many.
    """
    first = first_side(count)
    make = DefaultBoxGenerator([list(_RATIOS)] * MAPS, **_SCALES)
    maps = [torch.empty(1, 1, side, side) for side in map_sides(first)]
    boxes: Tensor = make(ImageList(torch.empty(1, 3, 1, 1), [(1, 1)]), maps)[0]
    return boxes.to(device)


def first_side(count: int) -> int:
    """Return the side of the largest map of a square input, given the number of its anchors.

    Raises:
        ValueError: No square input has so many.
    """
    first = 1
    while (number := PER_CELL * sum(side**2 for side in map_sides(first))) < count:
        first += 1
    if number != count:
        raise ValueError(f"predictions for {count} anchors are not those of a square input")
    return first
