"""Run inference on images, one after the other, and save them with their predictions drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..data import open_image
from ..data.person_boxes import ImageBoxes
from ..data.preprocessing import BrokenImage, to_channels
from ..errors import UserError
from ..storage import check_writable
from ..ticket import Ticket


def predictions(
    ticket: Ticket,
    images: Sequence[Path],
    boxes: ImageBoxes | None = None,
    save: Path | None = None,
    device: str = "auto",
) -> Iterator[tuple[Path, dict[str, Any] | BrokenImage]]:
    """Run inference on images, one after the other, so that a broken one costs none of the others.

    Args:
        ticket: The network.
        images: Files.
        boxes: Boxes of people in these images, for joints.
        save: Folder for each image with its prediction drawn, under its own name.
        device: See `Ticket.predict`.

    Yields:
        Every file, with its prediction as JSON (`Task.describe`), or with the error if it cannot be read.

    Raises:
        UserError: The folder cannot be made, there are boxes for another task than pose, or there is no such device.
    """
    predict, task = ticket.predictor(device), ticket.task
    if save is not None:
        make_folder(save, images)
    used: set[str] = set()
    for i, path in enumerate(images):
        try:
            image = open_image(path) if boxes is None else boxes.open_image(i)
        except BrokenImage as error:
            yield path, error
            continue
        prediction = predict(image, None if boxes is None else boxes.boxes[i])
        if save is not None:
            task.draw(to_channels(image, 3), prediction).save(save / f"{unique_name(path, used)}.png")
        yield path, task.describe(prediction)


def make_folder(save: Path, images: Sequence[Path]) -> None:
    """Make a folder for images if there is none.

    Args:
        save: The folder.
        images: The originals, which must not be written over.

    Raises:
        UserError: It cannot be made, or holds one of the images.
    """
    place = save.resolve()  # images may be links, or lie behind some
    if inside := [p for p in images if p.suffix == ".png" and place in (p.resolve().parent, p.parent.resolve())]:
        raise UserError(f"--save {save} holds {inside[0].name}, which would be written over; choose another folder")
    try:
        save.mkdir(parents=True, exist_ok=True)
        check_writable(save, option="--save")
    except OSError as error:
        raise UserError(f"{save} cannot be made ({error.strerror}); choose another --save") from None


def unique_name(path: Path, used: set[str]) -> str:
    """Return a file's name without its ending, with a number if it is among those used, and add it to them."""
    number = 1
    while (name := path.stem if number == 1 else f"{path.stem}-{number}") in used:
        number += 1
    used.add(name)
    return name
