"""Layouts of objects in boxes: which one a folder has, and what is read of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..config.recipe import DataSettings
from ..errors import UserError
from .boxed_image import BoxedImage
from .coco_detection_json import read_objects
from .coco_files import find_annotations, has_annotations, is_published, note_images, note_shared
from .file_lists import shorten_list, unwrap_until
from .yolo import is_yolo, read_yolo

_KIND = ("instances", "boxes")  # of annotations


@dataclass(frozen=True)
class BoxedParts:
    """Images and classes of a data set of boxes.

    Attributes:
        classes: Names of the classes.
        parts: Images of "train", "val" and "test", or of "all".
    """

    classes: tuple[str, ...]
    parts: Mapping[str, tuple[BoxedImage, ...]]

    def files(self) -> dict[str, list[Path]]:
        """Return the files of the images of each part."""
        return {part: [one.image for one in some] for part, some in self.parts.items()}


def read_boxed_parts(root: Path, settings: DataSettings, notes: list[str]) -> BoxedParts:
    """Read boxes in COCO's format (`find_annotations` tells where it may lie) or YOLO's (`read_yolo`).

    Args:
        root: Folder of the data set.
        settings: Say what becomes of broken images.
        notes: What a person should know is added here.

    Raises:
        UserError: It is neither, or a file does not fit.
    """
    root = unwrap_until(root, lambda folder: has_annotations(folder, _KIND[0]) or is_yolo(folder))
    if is_published(root, _KIND[0]) or not is_yolo(root):
        return _read_coco(root, notes)
    notes.append(f"{root} is read as YOLO's layout")
    boxes = BoxedParts(*read_yolo(root, settings, notes))
    note_shared(boxes.files(), notes)
    return boxes


def _read_coco(root: Path, notes: list[str]) -> BoxedParts:
    files = find_annotations(root, *_KIND, notes)
    read = {part: read_objects(file, notes) for part, file in files.items()}
    first = next(part for part in ("train", "all") if part in read)
    classes = read[first][0]
    if other := [part for part in read if read[part][0] != classes]:
        raise UserError(
            f"{files[other[0]].path} has other categories than {files[first].path}; give files with the same ones"
        )
    parts = {part: samples for part, (_, samples, _) in read.items()}
    boxes = BoxedParts(classes, parts)
    note_images(boxes.files(), notes)
    return _without_parents(boxes, set().union(*(parents for _, _, parents in read.values())), notes)


def _without_parents(boxes: BoxedParts, parents: set[str], notes: list[str]) -> BoxedParts:
    """Leave out categories that group others and have no box of their own, as Roboflow writes one."""
    labels = [one.objects[:, 0] for part in boxes.parts.values() for one in part]
    counts = np.bincount(np.concatenate(labels).astype(np.int64), minlength=len(boxes.classes))
    is_class = np.array([count > 0 or name not in parents for name, count in zip(boxes.classes, counts, strict=True)])
    if is_class.all():
        return boxes
    new_index = np.cumsum(is_class) - 1
    unused = [name for name, keep in zip(boxes.classes, is_class, strict=True) if not keep]
    notes.append(f"{shorten_list(unused)} groups other categories and has no box; it is no class")

    def renumber(one: BoxedImage) -> BoxedImage:
        objects = one.objects.copy()
        objects[:, 0] = new_index[objects[:, 0].astype(np.int64)]
        return replace(one, objects=objects)

    classes = tuple(name for name, keep in zip(boxes.classes, is_class, strict=True) if keep)
    return BoxedParts(classes, {part: tuple(map(renumber, some)) for part, some in boxes.parts.items()})
