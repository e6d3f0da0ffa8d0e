"""Explanations of classifiers: an image, and beside it the heat map of every ticket over what it saw of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from PIL import Image, ImageDraw

from ..data import open_image
from ..data.preprocessing import BrokenImage, to_channels
from ..device import find_device
from ..errors import UserError, suggest
from ..models import Network
from ..tasks.drawing import label_font
from ..ticket import Ticket
from .grad_cam import grad_cam
from .overlays import make_folder, unique_name
from .style import INK

_SIDE = 280  # longer side of an image on the page, in pixels
_COVER = 0.5  # of the heat map's colours over the image
_RAMP = colormaps["turbo"](np.linspace(0.08, 0.9, 256), bytes=True)[:, :3]  # without its darkest ends
_FONT = label_font(12)
_GAP, _LINE = 14, 19


@dataclass(frozen=True)
class Explanation:
    """The prediction of a ticket for an image, with its heat map.

    Attributes:
        ticket: Name of the ticket.
        network: Architecture.
        name: Class that is explained.
        probability: Probability of that class.
        predicted: Most likely class.
        image: Part of the image that the network saw, RGB.
        heat: Grad-CAM of the class (H, W), at the resolution of the network's last map.
    """

    ticket: str
    network: str
    name: str
    probability: float
    predicted: str
    image: Image.Image
    heat: npt.NDArray[np.float32]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, without the image and the map."""
        data = {"ticket": self.ticket, "network": self.network}
        return data | {"class": self.name, "probability": self.probability, "predicted": self.predicted}


def explain_images(
    tickets: Sequence[tuple[str, Ticket]],
    images: Sequence[Path],
    save: Path,
    name: str | None = None,
    device: str = "auto",
) -> Iterator[tuple[Path, dict[str, Any] | BrokenImage]]:
    """Explain predictions of tickets for images, one after the other, so that a broken one costs none of the others.

    Args:
        tickets: Name of each, and the ticket.
        images: Image files.
        save: Folder for a page of each, under its own name.
        name: Class to be explained; None for the class that each ticket predicts.
        device: See `Ticket.predict`.

    Yields:
        Every file, with its page and the predictions as JSON, or with why it cannot be read.

    Raises:
        UserError: A ticket is for another task, does not know the class or has no maps, the folder cannot be made, or
            there is no such device.
    """
    place = find_device(device)
    for called, ticket in tickets:
        if not (task := ticket.task).explainable:
            name_of_task = ticket.about.get("recipe", {}).get("task") or task.name
            raise UserError(f"ticket {called} is for {name_of_task}; explain takes tickets that name a class")
        if name is not None and name not in ticket.classes:
            hint = suggest(name, ticket.classes, f"; it knows {', '.join(ticket.classes[:5])} ...")
            raise UserError(f"ticket {called} has no class '{name}'{hint}")
    loaded = [(called, ticket, ticket.module_on(place)) for called, ticket in tickets]
    make_folder(save, images)
    used: set[str] = set()
    for path in images:
        try:
            image = open_image(path)
        except BrokenImage as error:
            yield path, error
            continue
        results = [explain(called, ticket, module, image, name) for called, ticket, module in loaded]
        file = save / f"{unique_name(path, used)}.png"
        compose_page(image, results).save(file)
        yield path, {"file": str(file), "explained": [one.to_json() for one in results]}


def explain(called: str, ticket: Ticket, module: Network, image: Image.Image, name: str | None = None) -> Explanation:
    """Explain the prediction of one ticket for an image.

    Args:
        called: Name of the ticket.
        ticket: A ticket for an explainable task.
        module: Network of the ticket, on any device.
        image: Any image.
        name: Class to be explained; None for the predicted class.

    Raises:
        UserError: The network has no map to look at.
    """
    at = next(module.parameters()).device
    k = None if name is None else ticket.classes.index(name)
    x_1CHW = ticket.prepare(image).to(at)
    try:
        scores_K, heat_HW = grad_cam(module, x_1CHW, k)
    except UserError as error:
        raise UserError(f"ticket {called} cannot be explained: {error}") from None
    probabilities_K = ticket.task.class_probabilities(scores_K)
    best = int(probabilities_K.argmax())
    shown = best if k is None else k
    if k is None and best != int(scores_K.argmax()):  # a user's task may rank classes otherwise than their scores do
        _, heat_HW = grad_cam(module, x_1CHW, best)
    probability = float(probabilities_K[shown])
    rgb = to_channels(image, 3)
    box = ticket.preprocessing.shown_region(rgb)
    width, height = _tile_size(box[2] - box[0], box[3] - box[1])
    seen = rgb.resize((width, height), _filter(rgb), box=box)
    network, classes = str(ticket.spec), ticket.classes
    return Explanation(called, network, classes[shown], probability, classes[best], seen, heat_HW.cpu().numpy())


def format_explanation(result: Mapping[str, Any]) -> str:
    """Return the predictions for an image as a line of text."""
    said = ", ".join("{class} {probability:.1%} ({ticket})".format_map(one) for one in result["explained"])
    return f"{said} -> {result['file']}"


def compose_page(image: Image.Image, results: Sequence[Explanation]) -> Image.Image:
    """Compose a page: the image, and a column for every ticket, as in Fig. 6 of LTH4SA."""
    rgb = to_channels(image, 3)
    columns = [(["image"], rgb.resize(_tile_size(*rgb.size), _filter(rgb)))]
    for one in results:
        said = f"{one.name}  {one.probability:.1%}"
        if one.predicted != one.name:
            said += f", predicted: {one.predicted}"
        columns.append(([one.ticket, one.network, said], heatmap_overlay(one.image, one.heat)))
    key = _key()
    widths = [max(tile.width, *(_width(text) for text in texts)) for texts, tile in columns]
    widths[0] = max(widths[0], key.width)
    top = _GAP + 3 * _LINE + 6
    size = sum(widths) + _GAP * (len(columns) + 1), top + max(tile.height for _, tile in columns) + _GAP
    sheet = Image.new("RGB", size, "white")
    sheet.paste(key, (_GAP, _GAP))
    draw, left = ImageDraw.Draw(sheet), _GAP
    for (texts, tile), width in zip(columns, widths, strict=True):
        for i, text in enumerate(texts, start=3 - len(texts)):
            draw.text((left, _GAP + i * _LINE), text, fill=INK, font=_FONT)
        sheet.paste(tile, (left, top))
        left += width + _GAP
    return sheet


def heatmap_overlay(image: Image.Image, heat_HW: npt.NDArray[np.float32]) -> Image.Image:
    """Return the image, RGB, under its heat map, whose largest value is red; one without any is blue all over."""
    highest = float(heat_HW.max())
    share_HW = heat_HW / highest if highest else heat_HW
    fine = Image.fromarray(share_HW).resize(image.size, Image.Resampling.BILINEAR)
    colors = Image.fromarray(_RAMP[np.rint(255 * np.asarray(fine)).astype(np.uint8)])
    return Image.blend(image, colors, _COVER)


def _key() -> Image.Image:
    """Draw the legend of the colours: how much speaks for the class."""
    left, bar = _width("nothing") + 6, 90
    sheet = Image.new("RGB", (left + bar + 6 + _width("most"), _LINE), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((0, 0), "nothing", fill=INK, font=_FONT)
    sheet.paste(Image.fromarray(_RAMP[None]).resize((bar, 9)), (left, 4))
    draw.text((left + bar + 6, 0), "most", fill=INK, font=_FONT)
    return sheet


def _width(text: str) -> int:
    return int(_FONT.getlength(text)) + 1


def _tile_size(width: float, height: float) -> tuple[int, int]:
    """Return width and height on the page, in pixels."""
    scale = _SIDE / max(width, height)
    return max(1, round(scale * width)), max(1, round(scale * height))


def _filter(image: Image.Image) -> Image.Resampling:
    """Return the resampling that leaves the pixels of small images visible."""
    return Image.Resampling.NEAREST if 4 * max(image.size) <= _SIDE else Image.Resampling.BICUBIC
