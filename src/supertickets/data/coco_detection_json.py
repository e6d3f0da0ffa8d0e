"""COCO instances: images, and the objects in them in boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from .box_forms import check_boxes
from .boxed_image import BoxedImage
from .coco_files import AnnotationFile, locate_images
from .coco_json import (
    clip_box,
    entry_name,
    is_crowd,
    load_annotations,
    read_box_numbers,
    read_entries,
    read_id,
    read_image_entries,
    read_numbers,
    read_references,
)
from .file_lists import shorten_list
from .geometry import Floats


def read_objects(file: AnnotationFile, notes: list[str]) -> tuple[tuple[str, ...], tuple[BoxedImage, ...], set[str]]:
    """Read images and the boxes in them; boxes without area inside their image are left out.

    Args:
        file: Annotations in COCO's format for instances.
        notes: What a person should know is added here.

    Returns:
        Names of the classes, by the number of their category; all images that are listed; and names of categories that
        are parents of others.

    Raises:
        UserError: The file is no such JSON, or contradicts itself or the folder.
    """
    path = file.path
    data = load_annotations(path)
    listed, categories = read_image_entries(data, path), read_entries(data, "categories", path)
    classes = _read_classes(categories, file)
    entries = read_entries(data, "annotations", path)
    image_ids = read_references(entries, "image_id", listed, path)
    index = {number: i for i, number in enumerate(classes)}
    labels = [index[number] for number in read_references(entries, "category_id", index, path)]
    boxes, areas = _read_boxes(entries, file)
    names = [entry_name(entry, place) for place, entry in enumerate(entries, 1)]
    sizes = np.array([listed[number].size for number in image_ids], np.float64).reshape(-1, 2)
    given = np.array([bool(entry.get("area")) for entry in entries], np.bool_)
    box_notes = check_boxes(boxes, sizes, names, path, areas if given.all() else None)
    objects: dict[int, list[list[float]]] = {number: [] for number in listed}
    crowds, no_area = 0, list[str]()
    for entry, name, number, label, box, area in zip(
        entries, names, image_ids, labels, boxes.tolist(), areas.tolist(), strict=True
    ):
        if clip_box(box, *listed[number].size) is None:
            no_area.append(name)
            continue
        crowd = is_crowd(entry)
        crowds += crowd
        objects[number].append([label, *box, area, crowd])
    if len(entries) == crowds + len(no_area):
        only = (
            f": {crowds} of {len(entries)} are crowds (iscrowd); set iscrowd to 0 for single objects" if crowds else ""
        )
        raise UserError(f"{path} has no box of a single object inside an image{only or '; give another file'}")
    paths = locate_images(file, (image.name for image in listed.values()), notes)
    samples = tuple(
        BoxedImage(paths[image.name], image.size, np.array(objects[number], np.float64).reshape(-1, 7))
        for number, image in listed.items()
    )
    if crowds:
        notes.append(f"{crowds} of {len(entries)} boxes of {path} are crowds, which neither teach nor count")
    if no_area:
        notes.append(
            f"{len(no_area)} of {len(entries)} boxes of {path} have no area inside their image; they are left out: "
            f"{shorten_list(no_area)}"
        )
    notes += box_notes
    parents = {str(entry.get("supercategory")) for entry in categories} & set(classes.values())
    return tuple(classes.values()), samples, parents


def _read_classes(categories: Sequence[Mapping[str, Any]], file: AnnotationFile) -> dict[int, str]:
    """Return names by number, in the order of the numbers."""
    name_of = {read_id(entry, "id", file.path): entry.get("name") for entry in categories}
    names = list(name_of.values())
    if (
        not names
        or not all(isinstance(name, str) and name.strip() for name in names)
        or len(set(names)) < len(categories)
    ):
        raise UserError(f"categories of {file.path} must have different numbers and names (texts); mend them")
    return {number: str(name_of[number]) for number in sorted(name_of)}


def _read_boxes(entries: Sequence[Mapping[str, Any]], file: AnnotationFile) -> tuple[Floats, Floats]:
    """Return boxes as annotated, and areas; where none is given, that of the box."""
    boxes = read_box_numbers(entries, file.path)
    filled = [
        {"id": entry.get("id"), "area": entry.get("area") or float(box[2] * box[3])}
        for entry, box in zip(entries, boxes, strict=True)
    ]
    return boxes, read_numbers(filled, "area", 1, file.path)[:, 0]
