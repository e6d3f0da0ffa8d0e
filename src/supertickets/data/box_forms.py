"""Boxes in another form than x, y, width, height in pixels: told by where they would lie, and refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .coco_json import reject_file
from .geometry import Floats

_STRANGE = 0.1  # share of the boxes outside their image, or in its first pixel, from which on all are suspected
_NEARLY_ALL = 0.95  # share of the boxes that another form has to explain
_BESIDE = 0.01  # of the image's side that a box may reach outside, and at least a pixel: annotators are no machines
_FEWEST = 8  # boxes whose form is guessed without a contradiction
_FEW_PIXELS = 4  # side up to which a box may well be in the first pixel
_LARGE = 200  # pixels: shorter side of images in which boxes in percent stand out

Flags = npt.NDArray[np.bool_]

PIXELS = "x, y, width, height"
CENTRES = "x and y of the centre, width, height"
# Forms that boxes come in, and x1, y1, x2, y2 of such ones.
_FORMS: Mapping[str, Callable[[Floats], Floats]] = {
    PIXELS: lambda boxes: np.hstack((boxes[:, :2], boxes[:, :2] + boxes[:, 2:])),
    "x1, y1, x2, y2": lambda boxes: boxes,
    CENTRES: lambda boxes: np.hstack((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2)),
    "y, x, height, width": lambda boxes: np.hstack((boxes[:, 1::-1], boxes[:, 1::-1] + boxes[:, :1:-1])),
}


def check_boxes(
    boxes_N4: Floats, sizes_N2: Floats, names: Sequence[str], path: Path, areas_N: Floats | None = None
) -> list[str]:
    """Check that boxes are x, y, width, height in pixels, and return notes on those that look otherwise.

    Args:
        boxes_N4: Boxes as annotated.
        sizes_N2: Width and height of their images.
        names: Names of the boxes, for messages.
        path: Their file.
        areas_N: Areas that the file gives, if it does.

    Raises:
        UserError: They are in shares of the image, or in a form that explains why they would reach outside.
    """
    is_drawn: Flags = np.all(boxes_N4[:, 2:] > 0, axis=1)
    boxes, sizes = boxes_N4[is_drawn], sizes_N2[is_drawn]
    named = _pick(names, is_drawn)
    if not len(boxes):
        return []
    in_shares = in_first_pixel(boxes, sizes)
    what = f"{in_shares.sum()} of {len(boxes)} boxes in the first pixel of their image, as if in shares of it"
    if in_shares.mean() > _STRANGE:
        remedy = "multiply x and width by the image's width, y and height by its height"
        reject_file(_pick(named, in_shares), path, f"has {what}", remedy)
    notes = [f"{path} has {what}"] if in_shares.any() else []
    notes += check_form(boxes, sizes, named, path)
    if areas_N is not None and _areas_are_of_corners(boxes, areas_N[is_drawn]):
        what = f"gives {len(boxes)} boxes areas that they have as x1, y1, x2, y2"
        reject_file(named, path, what, f"write {PIXELS} in pixels")
    return notes + _suspicions(boxes, sizes, path)


def check_form(boxes_N4: Floats, sizes_N2: Floats, names: Sequence[str], path: Path, form: str = PIXELS) -> list[str]:
    """Check that boxes are inside their images, and return a note on those that are not; see `check_boxes`.

    Args:
        boxes_N4: Boxes in pixels; width and height are positive.
        sizes_N2: Width and height of their images.
        names: Names of the boxes, for messages.
        path: Their file or folder.
        form: The form that they should have.

    Raises:
        UserError: Many are not, and would be in another form.
    """
    outside: Flags = ~_inside(_FORMS[form](boxes_N4), sizes_N2)
    if not outside.any():
        return []
    what = f"{outside.sum()} of {len(names)} boxes that reach outside their image"
    others = (other for other in _FORMS if _inside(_FORMS[other](boxes_N4), sizes_N2).mean() >= _NEARLY_ALL)
    if outside.mean() > _STRANGE and (other := next(others, None)) is not None:
        reject_file(_pick(names, outside), path, f"has {what}, as if they were {other}", f"write {form}")
    return [f"{path} has {what}; they are cut off"]


def in_first_pixel(values_NM: Floats, sizes_N2: Floats) -> Flags:
    """Flag rows of coordinates from 0 to 1 in larger images, which look like shares; whole numbers alone do not."""
    is_share: Flags = np.all((values_NM >= 0) & (values_NM <= 1), axis=1)
    flags: Flags = is_share & (np.min(sizes_N2, axis=1) > _FEW_PIXELS)
    return flags if (values_NM[flags] % 1).any() else np.zeros_like(flags)


def _suspicions(boxes: Floats, sizes: Floats, path: Path) -> list[str]:
    """Return notes on boxes that are all inside, but may be meant otherwise."""
    if len(boxes) < _FEWEST:
        return []
    ends = boxes[:, :2] + boxes[:, 2:]
    if ends.max() <= 100 and ends.max() > 50 and np.median(sizes.min(1)) > _LARGE:
        return [f"all boxes of {path} are in the first 100 pixels of their image; make sure that they are not percent"]
    if (boxes[:, 2:] > boxes[:, :2]).all() and _inside(boxes, sizes).all():
        return [f"all boxes of {path} would also do as x1, y1, x2, y2; make sure that they are x, y, width, height"]
    return []


def _inside(corners: Floats, sizes: Floats) -> Flags:
    """Flag boxes x1, y1, x2, y2 that have an area and do not reach far outside their image."""
    margin = np.maximum(1, _BESIDE * sizes)
    low, high = corners[:, :2], corners[:, 2:]
    flags: Flags = np.all((low >= -margin) & (high <= sizes + margin) & (high > low), axis=1)
    return flags


def _areas_are_of_corners(boxes: Floats, areas: Floats) -> bool:
    """Return whether areas are exactly those of other boxes: of the corners that four numbers may be."""
    if not (boxes[:, 2:] > boxes[:, :2]).all():
        return False
    as_corners, as_sizes = np.prod(boxes[:, 2:] - boxes[:, :2], 1), np.prod(boxes[:, 2:], 1)
    is_corner = np.isclose(areas, as_corners, rtol=0.01) & ~np.isclose(areas, as_sizes, rtol=0.01)
    return bool(is_corner.mean() >= _NEARLY_ALL)


def _pick(names: Sequence[str], flags: Flags) -> list[str]:
    return [name for name, flag in zip(names, flags.tolist(), strict=True) if flag]
