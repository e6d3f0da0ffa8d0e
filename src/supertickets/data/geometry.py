"""Regions: the part of an image around a person as a network's input, and points there and back.

Points are (x, y) in pixels whose centres have whole numbers: the first column of an image has its centre at x = 0 and
covers -0.5 to 0.5. Scaling keeps these borders in place, so that the column x of an image is
(x + 0.5) / stride - 0.5 of a map with a cell every ``stride`` pixels, and mirroring an image mirrors its maps exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Box = tuple[float, float, float, float]
Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.floating[Any]]


def box_region(box: Box, out_hw: tuple[int, int], enlarge: float = 1.25) -> tuple[Floats, Floats]:
    """Return the region around a box that has the shape of the network's input.

    Args:
        box: x, y of the upper left corner, width and height, in pixels, as COCO has them: the borders of the first
            pixel are 0 and 1, so that the box of a whole image gives the region of its pixels.
        out_hw: Height and width of the input.
        enlarge: Margin, as a factor of the smallest such region.

    Returns:
        Its centre (x, y) and its size (width, height), in pixels of the image.
    """
    x, y, width, height = box
    aspect = out_hw[1] / out_hw[0]
    size = np.array([max(width, height * aspect), max(height, width / aspect)])
    return np.array([x + (width - 1) / 2, y + (height - 1) / 2]), size * enlarge


def region_matrix(
    center: Sequence[float] | Floats,
    size: Sequence[float] | Floats,
    rotation_degrees: float,
    out_hw: tuple[int, int],
) -> Floats:
    """Return the affine map from the image to the network's input: its centre goes to the centre, its size to the size.

    Args:
        center: x, y of the region, in pixels of the image.
        size: Width and height of the region, in pixels of the image.
        rotation_degrees: How far the input shows the image turned clockwise about the region's centre.
        out_hw: Height and width of the input.

    Returns:
        Shape (2, 3), for `transform`.
    """
    angle = math.radians(rotation_degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    out = np.array([out_hw[1], out_hw[0]], np.float64)
    linear = (out / np.asarray(size, np.float64))[:, None] * turn
    return np.column_stack((linear, (out - 1) / 2 - linear @ np.asarray(center, np.float64)))


def image_matrix(size: tuple[int, int], out_hw: tuple[int, int]) -> Floats:
    """Return the affine map that shows a whole image of this width and height, in the middle of the input."""
    return region_matrix(*box_region((0, 0, *size), out_hw, 1), 0, out_hw)


def inverse(matrix_23: Floats) -> Floats:
    """Return the affine map back, of shape (..., 2, 3)."""
    linear = np.linalg.inv(matrix_23[..., :2])
    return np.concatenate((linear, -linear @ matrix_23[..., 2:]), -1)


def transform(points_N2: Values, matrix_23: Floats) -> Floats:
    """Return points through an affine map; leading dimensions are those of a batch, in both or in none."""
    return points_N2 @ np.swapaxes(matrix_23[..., :2], -1, -2) + matrix_23[..., None, :, 2]


def warp_image(image: Image.Image, matrix_23: Floats, out_hw: tuple[int, int]) -> Image.Image:
    """Return the network's input that `region_matrix` describes, interpolated bilinearly; black outside the image.

    An image that is made less than half as large is averaged over blocks of pixels first, so that nothing is skipped.
    """
    back = inverse(matrix_23)
    if (block := int(math.sqrt(abs(np.linalg.det(back[:, :2]))) + 1e-6)) > 1:
        image = image.reduce(block)
        back[:, 2] = (back[:, 2] + 0.5) / block - 0.5
        back[:, :2] /= block
    # Pillow's coordinates are half a pixel larger on both sides.
    back[:, 2] += 0.5 - back[:, :2].sum(1) / 2
    data = tuple(back.reshape(-1).tolist())
    return image.transform((out_hw[1], out_hw[0]), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)


def mirror_joints(joints_K3: Values, width: int, flip: Sequence[int]) -> Values:
    """Return joints of a mirrored image of this width: x from the other side, left and right swapped."""
    mirrored = joints_K3[list(flip)]
    mirrored[:, 0] = width - 1 - mirrored[:, 0]
    return mirrored


def to_image_points(xy_N2: Values, matrix_23: Floats, stride: float) -> Floats:
    """Cells of a heatmap -> pixels of the image; leading dimensions as in `transform`.

    Args:
        xy_N2: x, y in cells.
        matrix_23: From the image to the network's input, as from `region_matrix`.
        stride: Input pixels per cell.
    """
    return transform((xy_N2 + 0.5) * stride - 0.5, inverse(matrix_23))


def to_unit_square(joints_K3: Values, out_hw: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Joints in pixels of the network's input -> in shares of its width and height, 0 and 1 at the outer borders.

    Networks answer with maps of any resolution; in shares, joints are the same on all of them.
    """
    shares = joints_K3.astype(np.float64)
    shares[:, :2] = (shares[:, :2] + 0.5) / (out_hw[1], out_hw[0])
    return shares.astype(np.float32)
