"""Drawings of predictions: captions, painted pixels with a legend, heat, boxes, skeletons."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ..data.geometry import Box, Values
from ..data.mirror_names import joint_sides
from ..data.segmentation_classes import class_colors
from ..data.segmentation_masks import IGNORED

INK = "#1f2933"
_COVER = 140  # of 255, of a class's colour over the image
_HEAT = (200, 0, 60), (255, 225, 60)  # colours of little and of most heat
_HOT = 210  # of 255, of most heat over the image
_SEEN = 0.002  # share of the pixels from which on a class is in the legend
_LEFT, _RIGHT, _MIDDLE, _EDGE = (255, 140, 20), (40, 150, 255), (60, 200, 90), (20, 20, 20)


@functools.cache
def label_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font of texts on images: that of matplotlib, with most letters, or Pillow's own, with English ones."""
    with contextlib.suppress(ImportError, OSError):
        import matplotlib

        return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
    return ImageFont.load_default(size)


def add_caption(image: Image.Image, text: str) -> Image.Image:
    """Return the image, enlarged if it is small, with a line of text below."""
    font = label_font(16)
    factor = max(1, 240 // max(image.size))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    page = Image.new("RGB", (max(image.width, 160, math.ceil(font.getlength(text)) + 12), image.height + 26), "white")
    page.paste(image, (0, 0))
    ImageDraw.Draw(page).text((6, image.height + 3), text, fill=INK, font=font)
    return page


def draw_density(image: Image.Image, density: npt.NDArray[np.float32]) -> Image.Image:
    """Return the image, RGB, under a heat map: where nothing is counted it stays, where most is it glows.

    Args:
        image: An image of any size.
        density: Shape (h, w), of the image's shape.
    """
    share = np.sqrt(density.clip(0) / max(float(density.max()), 1e-9))  # so that thin crowds are seen too
    heat = np.asarray(Image.fromarray(share.astype(np.float32)).resize(image.size, Image.Resampling.BILINEAR))
    low, high = (np.array(color, np.float32) for color in _HEAT)
    over = Image.fromarray((low + (high - low) * heat[..., None]).astype(np.uint8))
    return Image.composite(over, image, Image.fromarray((_HOT * heat).astype(np.uint8)))


def draw_classes(image: Image.Image, mask: npt.NDArray[np.uint8], classes: Sequence[str]) -> Image.Image:
    """Return the image under the colours of its classes, with a legend of those that occur.

    Args:
        image: An image in RGB.
        mask: Class indices, uint8 of the image's size.
        classes: Names of the classes.
    """
    colors = np.array(class_colors(classes), np.uint8)
    factor = max(1, 320 // max(image.size))
    size = image.width * factor, image.height * factor
    shares = mask_shares(mask, classes)
    row, width = 20, 190
    page = Image.new("RGB", (size[0] + width, max(size[1], row * len(shares) + 12)), "white")
    page.paste(tint_mask(image.resize(size), mask, colors), (0, 0))
    draw, font = ImageDraw.Draw(page), label_font(12)
    for i, (name, share) in enumerate(shares):
        top, color = 8 + i * row, tuple(colors[list(classes).index(name)].tolist())
        draw.rectangle((size[0] + 10, top, size[0] + 24, top + 14), fill=color)
        draw.text((size[0] + 32, top), f"{name[:16]}  {share:.0%}", fill=INK, font=font)
    return page


def tint_mask(image: Image.Image, mask: npt.NDArray[np.uint8], colors: npt.NDArray[np.uint8]) -> Image.Image:
    """Return the image, RGB, under the colours of its classes.

    Args:
        image: An image of the mask's shape and any size.
        mask: Class indices; ignored pixels (255) stay as they are.
        colors: RGB of every class.
    """
    over = Image.fromarray(colors[np.where(mask == IGNORED, 0, mask)]).resize(image.size, Image.Resampling.NEAREST)
    cover = Image.fromarray(np.where(mask == IGNORED, 0, _COVER).astype(np.uint8))
    return Image.composite(over, image, cover.resize(image.size, Image.Resampling.NEAREST))


def mask_shares(mask: npt.NDArray[np.uint8], classes: Sequence[str]) -> list[tuple[str, float]]:
    """Return (class, share of the pixels) from frequent to rare; classes that hardly occur are left out."""
    shares = np.bincount(mask.ravel(), minlength=len(classes)) / mask.size
    order = [int(i) for i in np.argsort(-shares, kind="stable") if shares[i] >= _SEEN]
    return [(classes[i], float(shares[i])) for i in order]


def draw_boxes(
    image: Image.Image, objects: Sequence[tuple[str, float, Box]], colors: Mapping[str, tuple[int, int, int]]
) -> Image.Image:
    """Return a copy of the image in RGB with boxes, their classes and scores.

    Args:
        image: Any image.
        objects: Class, score and box (x, y, width, height in pixels) of every object, drawn the last one first.
        colors: RGB of every class.
    """
    drawn = image.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    width = max(1, round(min(image.size) / 200))
    font = label_font(max(9, round(min(image.size) / 32)))
    for name, score, (x, y, wide, high) in reversed(objects):
        color, text = colors[name], f"{name} {score:.0%}"
        pen.rectangle((x, y, x + wide, y + high), outline=color, width=width)
        left, top, right, low = pen.textbbox((x, y), text, font=font)
        up = min(y, low - top + 4)  # above the box, or inside where there is no room
        pen.rectangle((x, y - up, x + right - left + 4, y - up + low - top + 4), fill=color)
        ink = "black" if sum(color) > 380 else "white"
        pen.text((x + 2 - (left - x), y - up + 2 - (top - y)), text, fill=ink, font=font)
    return drawn


def draw_skeletons(
    image: Image.Image,
    people: Sequence[Values],
    names: Sequence[str],
    limbs: Sequence[tuple[int, int]],
    at_least: float,
) -> Image.Image:
    """Return a copy of the image in RGB with people's limbs: orange on their left, blue on their right, green between.

    Args:
        image: Any image.
        people: Per person, x, y in pixels and the score of each joint, of shape (K, 3).
        names: Names of the joints, which tell the sides.
        limbs: Pairs of joints, by their index.
        at_least: Joints that score lower are left out, with their limbs.
    """
    drawn = image.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    thickest = min(image.size) / 120
    sides = [{"left": _LEFT, "right": _RIGHT}.get(side, _MIDDLE) for side in joint_sides(names)]
    for person in people:
        shown = (person[:, 2] >= at_least) & np.isfinite(person).all(1)
        extent = np.ptp(person[shown, :2], axis=0).max() if shown.any() else 0
        width = max(1, round(min(thickest, float(extent) / 40)))  # thin on distant people
        points = [(round(x), round(y)) for x, y in np.where(shown[:, None], person[:, :2], 0).tolist()]
        limbs = [(a, b) for a, b in limbs if shown[a] and shown[b]]
        for margin in (max(1, width // 2), 0):  # a dark edge below, so that colours show on any ground
            for a, b in limbs:
                ends = {sides[a], sides[b]} - {_MIDDLE}
                colour = ends.pop() if len(ends) == 1 else _MIDDLE
                pen.line([points[a], points[b]], _EDGE if margin else colour, width + 2 * margin)
            for (x, y), colour, show in zip(points, sides, shown.tolist(), strict=True):
                radius = width + margin
                if show:
                    place = (x - radius, y - radius, x + radius, y + radius)
                    pen.ellipse(place, _EDGE if margin else colour)
    return drawn
