"""What only one task has, typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings:
    """What only segmentation has.

    Attributes:
        average: What the loss is divided by: "valid" pixels, or "all" of them, ignored ones too (the released code).
        window: Height and width of the windows in which an evaluated image goes through the network, each a third
            over the last; null for the whole image at once.
        balance: How much rare classes count for more in the loss: a pixel's weight is its class's share of the training
            pixels to the power of -balance, 1 on average. 0 treats all pixels alike (the paper), 1 all classes.
    """

    average: Literal["valid", "all"] = "valid"
    window: tuple[int, int] | None = None
    balance: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PoseSettings:
    """What only pose estimation has.

    Attributes:
        sigma: Deviation of the Gaussians that are learned, in cells of the network's maps.
        flip_test: Whether an evaluation takes the mean of the maps of an image and of its mirror image.
    """

    sigma: float = 2.0
    flip_test: bool = True


@dataclass(frozen=True, kw_only=True)
class CountingSettings:
    """What only counting has.

    Attributes:
        scale: The network answers with points per cell of its map, times this, so that its answers are around 1.
    """

    scale: float = 100.0
