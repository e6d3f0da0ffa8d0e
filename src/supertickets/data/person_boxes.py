"""Boxes of people without joints: of a detector, or of annotations, for predictions and evaluations."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from .box_forms import check_boxes
from .coco_files import unify_place
from .coco_json import (
    entry_name,
    is_crowd,
    load_annotations,
    parse_id,
    read_box_numbers,
    read_entries,
    read_image_entries,
    read_numbers,
    read_references,
)
from .coco_keypoints_json import Person
from .geometry import Box
from .joints import COCO_NAMES
from .orientation import Size, drawn_as_stored
from .preprocessing import open_fitting, open_image


@dataclass(frozen=True)
class ImageBoxes:
    """Boxes of people in some images.

    Attributes:
        images: Files.
        boxes: Per image its boxes, perhaps none.
        sizes: Width and height that annotations give of images; detections give none.
        upright: Whether boxes are those of the images turned upright by their EXIF data, where sizes do not tell.
    """

    images: Sequence[Path]
    boxes: Sequence[Sequence[Box]]
    sizes: Mapping[Path, Size]
    upright: bool = True

    def open_image(self, position: int) -> Image.Image:
        """Return an image as its boxes are drawn on it.

        Raises:
            BrokenImage: It cannot be read.
        """
        path = self.images[position]
        if path not in self.sizes:
            return open_image(path)
        return open_fitting(path, self.sizes[path], upright=self.upright)


def read_boxes(path: Path, images: Sequence[Path], score_at_least: float = 0.5) -> ImageBoxes:
    """Return the boxes of people in some images, of a detector or of annotations.

    Args:
        path: JSON in COCO's format: annotations, whose images are told by their file name wherever they are; or a list
            of detections, whose ``image_id`` is the number that the image's file is named by (000000000785.jpg).
        images: Files.
        score_at_least: Detections that score lower are left out.

    Raises:
        UserError: The file is no such JSON, or has a box of none of the images.
    """
    data = load_annotations(path)
    sizes: dict[Path, Size] = {}
    if isinstance(data, dict):
        rows, sizes = _annotated_boxes(data, path, images)
    elif isinstance(data, list) and all(isinstance(entry, dict) for entry in data):
        numbers = {int(image.stem): i for i, image in enumerate(images) if image.stem.isdecimal()}
        listed = [(parse_id(entry.get("image_id")), {**entry, "id": i}) for i, entry in enumerate(data, 1)]
        rows = [
            (numbers[number], entry)
            for number, entry in listed
            if number in numbers and parse_id(entry.get("category_id", 1)) == 1
        ]
    else:
        raise UserError(f"{path} has no boxes; give COCO's annotations or a list of detections")
    boxes: list[list[Box]] = [[] for _ in images]
    values = read_box_numbers([entry for _, entry in rows], path)
    scores = read_numbers([{"score": 1, **entry} for _, entry in rows], "score", 1, path)[:, 0]
    for (i, _), (x, y, width, height), score in zip(rows, values.tolist(), scores.tolist(), strict=True):
        if score >= score_at_least and min(width, height) > 0:
            boxes[i].append((x, y, width, height))
    if no_area := int((values[:, 2:].min(1, initial=np.inf) <= 0).sum()):
        warnings.warn(f"{no_area} of {len(rows)} boxes of {path} have no area; they are left out", stacklevel=2)
    if not any(boxes):
        raise UserError(
            f"{path} has a box of none of these {len(images)} images; "
            "an image_id is the number that its file is named by"
        )
    notes: list[str] = []
    upright = not drawn_as_stored(sizes, "boxes", notes)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return ImageBoxes(images, boxes, sizes, upright)


def _annotated_boxes(
    data: dict[str, Any], path: Path, images: Sequence[Path]
) -> tuple[list[tuple[int, dict[str, Any]]], dict[Path, Size]]:
    """Return single people of some images, as positions of images and annotations; and the sizes that images have."""
    listed = read_image_entries(data, path)
    categories = read_entries(data, "categories", path) if "categories" in data else []
    people = {parse_id(c.get("id")) for c in categories if c.get("keypoints") or c.get("name") == "person"}
    every = read_entries(data, "annotations", path)
    entries = [entry for entry in every if not is_crowd(entry)]
    if every and not entries:
        raise UserError(f"all {len(every)} boxes of {path} are crowds (iscrowd); set iscrowd to 0 for single people")
    position = _positions({number: image.name for number, image in listed.items()}, images, path)
    numbers = read_references(entries, "image_id", listed, path)
    boxes = [
        (number, entry)
        for number, entry in zip(numbers, entries, strict=True)
        if number in position and (not people or parse_id(entry.get("category_id", 1)) in people)
    ]
    values = read_box_numbers([entry for _, entry in boxes], path)
    sizes = np.array([listed[number].size for number, _ in boxes], np.float64).reshape(-1, 2)
    for note in check_boxes(values, sizes, [entry_name(entry, i) for i, (_, entry) in enumerate(boxes, 1)], path):
        warnings.warn(note, stacklevel=3)
    given = {images[place]: listed[number].size for number, place in position.items()}
    return [(position[number], entry) for number, entry in boxes], given


def _positions(names: Mapping[int, str], images: Sequence[Path], path: Path) -> dict[int, int]:
    """Return which image a listed one is: the one of its file name; of several such, the one in its folder.

    Raises:
        UserError: Several may be meant.
    """
    by_name: dict[str, list[int]] = {}
    places = [unify_place(image.as_posix()) for image in images]
    for i, place in enumerate(places):
        by_name.setdefault(PurePosixPath(place).name, []).append(i)
    listed = {number: unify_place(name) for number, name in names.items()}
    counts = Counter(PurePosixPath(name).name for name in listed.values())
    positions: dict[int, int] = {}
    for number, name in listed.items():
        same = by_name.get(PurePosixPath(name).name, [])
        if len(same) > 1 or (same and counts[PurePosixPath(name).name] > 1):
            same = [i for i in same if places[i].endswith(f"/{name}")]
        if len(same) > 1:
            raise UserError(
                f"{path} lists {names[number]}, which may be {images[same[0]]} or {images[same[1]]}; give one of them"
            )
        if same:
            positions[number] = same[0]
    return positions


def read_detections(
    path: Path,
    images: Mapping[int, tuple[Path, tuple[int, int]]],
    score_at_least: float = 0.0,
    *,
    joints: int = len(COCO_NAMES),
    category_id: int = 1,
    notes: list[str] | None = None,
) -> tuple[Person, ...]:
    """Read the boxes of a detector as people whose joints are all zero.

    Args:
        path: JSON list of entries with ``image_id``, ``category_id``, ``bbox`` and ``score``.
        images: The images by their number, as of `AnnotatedPeople`. Boxes of others are left out.
        score_at_least: Boxes that score lower are left out.
        joints: Their number K.
        category_id: Boxes of other categories are left out.
        notes: What a person should know is added here.

    Raises:
        UserError: The file is no such JSON, or all its boxes are of other images.
    """
    data = load_annotations(path)
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise UserError(f"{path} is no list of detections; give a file like COCO's person_detection_results")
    numbered = [(parse_id(entry.get("image_id")), {**entry, "id": place}) for place, entry in enumerate(data, 1)]
    known = [(number, entry) for number, entry in numbered if number in images]
    if data and not known:
        raise UserError(f"{path} has no box of these {len(images)} images; give the detections that belong to them")
    wanted = [(n, e) for n, e in known if n is not None and parse_id(e.get("category_id")) == category_id]
    boxes = read_box_numbers([entry for _, entry in wanted], path)
    scores = read_numbers([entry for _, entry in wanted], "score", 1, path)[:, 0]
    sizes = np.array([images[number][1] for number, _ in wanted], np.float64).reshape(-1, 2)
    box_notes = check_boxes(boxes, sizes, [f"box {entry['id']}" for _, entry in wanted], path)
    has_area = np.all(boxes[:, 2:] > 0, axis=1)
    if notes is not None:
        for count, total, reason in (
            (len(data) - len(known), len(data), "are of other images"),
            (len(known) - len(wanted), len(known), f"are of other categories than {category_id}"),
            (int(np.sum(~has_area)), len(wanted), "have no area"),
        ):
            if count:
                notes.append(f"{count} of {total} boxes of {path} {reason}; they are left out")
        notes += box_notes
    people = []
    for (number, entry), (x, y, width, height), score, keep in zip(
        wanted, boxes.tolist(), scores.tolist(), has_area.tolist(), strict=True
    ):
        if keep and score >= score_at_least:
            image, size = images[number]
            box, zeros = (x, y, width, height), np.zeros((joints, 3), np.float32)
            people.append(Person(image, size, number, box, zeros, width * height, score, entry["id"]))
    return tuple(people)
