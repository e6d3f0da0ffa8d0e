"""Predictions as images and as JSON: a class, painted pixels with a legend, skeletons, boxes, or heat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ..data import Box, open_image
from ..data.preprocessing import BrokenImage, to_channels
from ..data.segmentation_layouts import class_colors
from ..data.segmentation_masks import IGNORED
from ..errors import UserError
from ..tasks.boxes import draw_boxes
from ..tasks.heatmaps import draw_skeletons
from ..ticket import Ticket

INK = "#1f2933"
JOINT_SEEN = 0.2  # score from which on a joint is shown
OBJECT_SEEN = 0.3  # the same for an object
_COVER = 140  # of 255, of a class's colour over the image
_HEAT = (200, 0, 60), (255, 225, 60)  # colours of little and of most heat
_HOT = 210  # of 255, of most heat over the image
_SEEN = 0.002  # share of the pixels from which on a class is in the legend


def predictions(
    ticket: Ticket,
    images: Sequence[Path],
    boxes: Sequence[Sequence[Box]] | None = None,
    save: Path | None = None,
    device: str = "auto",
) -> Iterator[tuple[Path, dict[str, Any] | BrokenImage]]:
    """Says what is in images, one after the other, so that a broken one costs none of the others.

    Args:
        ticket: What says it.
        images: Files.
        boxes: See `Ticket.predict`.
        save: Folder for each image with what was said of it, under its own name.
        device: See `Ticket.predict`.

    Yields:
        Every file, with what `described` makes of the answer, or with why it cannot be read.

    Raises:
        UserError: The folder cannot be made, there are boxes for another task than pose, or there is no such device.
    """
    say = ticket.predictor(device)
    if save is not None:
        make_folder(save, images)
    used: set[str] = set()
    for i, path in enumerate(images):
        try:
            image = open_image(path)
        except BrokenImage as error:
            yield path, error
            continue
        said = say(image, None if boxes is None else boxes[i])
        if save is not None:
            format_prediction(ticket, image, said).save(save / f"{unique_name(path, used)}.png")
        yield path, describe_prediction(ticket, said)


def format_prediction(ticket: Ticket, image: Image.Image, said: Any) -> Image.Image:
    """Any image, in RGB with what a ticket said of it."""
    image = to_channels(image, 3)
    if ticket.spec.head == "classification":
        name, share = said[0]
        return add_caption(image, f"{name}  {share:.0%}")
    if ticket.spec.head == "segmentation":
        return draw_prediction(image, said, ticket.classes)
    if ticket.spec.head == "detection":
        colors = dict(zip(ticket.classes, class_colors(ticket.classes), strict=True))
        return draw_boxes(image, [found for found in said if found[1] >= OBJECT_SEEN], colors)
    if ticket.spec.head == "density":
        return add_caption(density_overlay(image, said), lines(describe_prediction(ticket, said))[0])
    return draw_skeletons(image, said, ticket.classes, ticket.limbs, JOINT_SEEN)


def describe_prediction(ticket: Ticket, said: Any) -> dict[str, Any]:
    """What a ticket said of an image, as plain JSON: classes, shares of pixels, objects, a count, or joints."""
    if ticket.spec.head == "classification":
        return {"classes": [{"name": name, "probability": share} for name, share in said]}
    if ticket.spec.head == "segmentation":
        return {"classes": [{"name": name, "share": share} for name, share in pixel_shares(said, ticket.classes)]}
    if ticket.spec.head == "detection":
        return {"objects": [{"name": name, "score": score, "box": list(box)} for name, score, box in said]}
    if ticket.spec.head == "density":
        return {"count": float(said.sum())}
    rows = [zip(ticket.classes, person, strict=True) for person in said.tolist()]
    people = [[{"name": name, "x": x, "y": y, "score": score} for name, (x, y, score) in row] for row in rows]
    return {"people": [{"joints": joints} for joints in people]}


def lines(found: Mapping[str, Any]) -> list[str]:
    """The same in a line for a person to read, or in one for each person or object that was found."""
    if "objects" in found:
        seen = [entry for entry in found["objects"] if entry["score"] >= OBJECT_SEEN]
        told = "{name} {score:.0%} at ({0:.0f}, {1:.0f}), {2:.0f} x {3:.0f}"
        return [told.format(*entry["box"], **entry) for entry in seen] or ["no object is clear"]
    if "count" in found:
        return [f"{found['count']:.1f} counted"]
    if "people" in found:
        shown = [[joint for joint in person["joints"] if joint["score"] >= JOINT_SEEN] for person in found["people"]]
        texts = [", ".join(f"{j['name']} ({j['x']:.0f}, {j['y']:.0f})" for j in joints) for joints in shown]
        return [text or "no joint is clear" for text in texts] or ["no people"]
    shares = [(entry["name"], entry.get("probability", entry.get("share", 0.0))) for entry in found["classes"]]
    return [", ".join(f"{name} {share:.1%}" for name, share in shares[:3])]


def add_caption(image: Image.Image, text: str) -> Image.Image:
    """The image, enlarged if it is small, with a line of text below."""
    factor = max(1, 240 // max(image.size))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    page = Image.new("RGB", (max(image.width, 160), image.height + 26), "white")
    page.paste(image, (0, 0))
    ImageDraw.Draw(page).text((6, image.height + 3), text, fill=INK, font=ImageFont.load_default(16))
    return page


def density_overlay(image: Image.Image, density: npt.NDArray[np.float32]) -> Image.Image:
    """The image, RGB, under a heat map: where nothing is counted it stays, where most is it glows.

    Args:
        image: An image of any size.
        density: Shape (h, w), of the image's shape.
    """
    share = np.sqrt(density.clip(0) / max(float(density.max()), 1e-9))  # so that thin crowds are seen too
    heat = np.asarray(Image.fromarray(share.astype(np.float32)).resize(image.size, Image.Resampling.BILINEAR))
    low, high = (np.array(color, np.float32) for color in _HEAT)
    over = Image.fromarray((low + (high - low) * heat[..., None]).astype(np.uint8))
    return Image.composite(over, image, Image.fromarray((_HOT * heat).astype(np.uint8)))


def draw_prediction(image: Image.Image, mask: npt.NDArray[np.uint8], classes: Sequence[str]) -> Image.Image:
    """The image under the colours of its classes (uint8 indices of its size), with a legend of those that occur."""
    colors = np.array(class_colors(classes), np.uint8)
    factor = max(1, 320 // max(image.size))
    size = image.width * factor, image.height * factor
    shares = pixel_shares(mask, classes)
    row, width = 20, 190
    page = Image.new("RGB", (size[0] + width, max(size[1], row * len(shares) + 12)), "white")
    page.paste(tint_mask(image.resize(size), mask, colors), (0, 0))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for i, (name, share) in enumerate(shares):
        top, color = 8 + i * row, tuple(colors[list(classes).index(name)].tolist())
        draw.rectangle((size[0] + 10, top, size[0] + 24, top + 14), fill=color)
        draw.text((size[0] + 32, top), f"{name[:16]}  {share:.0%}", fill=INK, font=font)
    return page


def tint_mask(image: Image.Image, mask: npt.NDArray[np.uint8], colors: npt.NDArray[np.uint8]) -> Image.Image:
    """The image, RGB, under the colours of its classes.

    Args:
        image: An image of the mask's shape and any size.
        mask: Class indices; ignored pixels (255) stay as they are.
        colors: RGB of every class.
    """
    over = Image.fromarray(colors[np.where(mask == IGNORED, 0, mask)]).resize(image.size, Image.Resampling.NEAREST)
    cover = Image.fromarray(np.where(mask == IGNORED, 0, _COVER).astype(np.uint8))
    return Image.composite(over, image, cover.resize(image.size, Image.Resampling.NEAREST))


def pixel_shares(mask: npt.NDArray[np.uint8], classes: Sequence[str]) -> list[tuple[str, float]]:
    """(class, share of the pixels) from frequent to rare; what hardly occurs is left out."""
    shares = np.bincount(mask.ravel(), minlength=len(classes)) / mask.size
    order = [int(i) for i in np.argsort(-shares, kind="stable") if shares[i] >= _SEEN]
    return [(classes[i], float(shares[i])) for i in order]


def make_folder(save: Path, images: Sequence[Path]) -> None:
    """Makes a folder for images if there is none.

    Args:
        save: The folder.
        images: What is painted, which must not be written over.

    Raises:
        UserError: It cannot be made, or holds one of the images.
    """
    if inside := [path for path in images if path.suffix == ".png" and path.resolve().parent == save.resolve()]:
        raise UserError(f"--save {save} holds {inside[0].name}, which would be written over; choose another folder")
    try:
        save.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{save} cannot be made ({error.strerror}); choose another --save") from None


def unique_name(path: Path, used: set[str]) -> str:
    """A file's name without its ending, and a number if it is among those used; it then is."""
    number = 1
    while (name := path.stem if number == 1 else f"{path.stem}-{number}") in used:
        number += 1
    used.add(name)
    return name
