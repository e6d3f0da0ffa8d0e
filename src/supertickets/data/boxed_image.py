"""An image and the objects in it, as every reader of boxes returns them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .geometry import Floats

Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class BoxedImage:
    """An image and the objects in it.

    Attributes:
        image: File of the image.
        size: Width and height that the annotations give the image.
        objects: float64 of shape (N, 7): index of the class; x, y of the upper left corner, width and height of the box
            as annotated, in pixels; area of the object, in pixels; and 1 if it is a crowd, else 0.
    """

    image: Path
    size: tuple[int, int]
    objects: Floats

    def boxes(self) -> Boxes:
        """Return what is learned, of shape (N, 5): class and x1, y1, x2, y2 in shares of the image, without crowds."""
        single = self.objects[self.objects[:, 6] == 0]
        low = single[:, 1:3].clip(0, self.size)
        high = (single[:, 1:3] + single[:, 3:5]).clip(0, self.size)
        return np.column_stack((single[:, 0], low / self.size, high / self.size)).astype(np.float32)
