"""Predictions as pictures: a class below, or every pixel painted with a legend beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ..data import open_picture
from ..data.scene_layouts import colors_of
from ..errors import UserError
from ..ticket import Ticket

_INK = "#1f2933"
_SEEN = 0.002  # share of the pixels from which on a class is in the legend


def save_predictions(ticket: Ticket, images: Sequence[Path], found: Sequence[Any], folder: Path) -> None:
    """Writes each picture with what the ticket said of it, under its own name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); choose another --save") from None
    used: set[str] = set()
    for path, said in zip(images, found, strict=True):
        picture = open_picture(path).convert("RGB")
        if ticket.spec.head == "classification":
            page = captioned(picture, said)
        else:
            page = painted(picture, said, ticket.classes)
        number = 1
        while (name := path.stem if number == 1 else f"{path.stem}-{number}") in used:
            number += 1
        used.add(name)
        page.save(folder / f"{name}.png")


def captioned(picture: Image.Image, classes: Sequence[tuple[str, float]]) -> Image.Image:
    """The picture, enlarged if it is small, with its most likely class below."""
    factor = max(1, 240 // max(picture.size))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    page = Image.new("RGB", (max(picture.width, 160), picture.height + 26), "white")
    page.paste(picture, (0, 0))
    name, share = classes[0]
    font = ImageFont.load_default(16)
    ImageDraw.Draw(page).text((6, picture.height + 3), f"{name}  {share:.0%}", fill=_INK, font=font)
    return page


def painted(picture: Image.Image, mask: npt.NDArray[np.uint8], classes: Sequence[str]) -> Image.Image:
    """The picture under the colours of its classes (uint8 indices of its size), with a legend of those that occur."""
    colors = np.array(colors_of(classes), np.uint8)
    factor = max(1, 320 // max(picture.size))
    size = picture.width * factor, picture.height * factor
    over = Image.fromarray(colors[mask]).resize(size, Image.Resampling.NEAREST)
    blended = Image.blend(picture.resize(size), over, 0.55)
    shares = pixel_shares(mask, classes)
    row, width = 20, 190
    page = Image.new("RGB", (size[0] + width, max(size[1], row * len(shares) + 12)), "white")
    page.paste(blended, (0, 0))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for i, (name, share) in enumerate(shares):
        top, color = 8 + i * row, tuple(colors[list(classes).index(name)].tolist())
        draw.rectangle((size[0] + 10, top, size[0] + 24, top + 14), fill=color)
        draw.text((size[0] + 32, top), f"{name[:16]}  {share:.0%}", fill=_INK, font=font)
    return page


def pixel_shares(mask: npt.NDArray[np.uint8], classes: Sequence[str]) -> list[tuple[str, float]]:
    """(class, share of the pixels) from frequent to rare; what hardly occurs is left out."""
    shares = np.bincount(mask.ravel(), minlength=len(classes)) / mask.size
    order = [int(i) for i in np.argsort(-shares, kind="stable") if shares[i] >= _SEEN]
    return [(classes[i], float(shares[i])) for i in order]
