"""JSON in COCO's format: where its files are, its entries, and their faults in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UserError
from .file_lists import shorten_list
from .geometry import Box


def annotation_files(root: Path, kind: str, what: str) -> dict[str, Path]:
    """Return the annotations of the parts "train", "val" and "test".

    Args:
        root: Folder of the data set.
        kind: How their names begin, e.g. "person_keypoints".
        what: What they annotate, for the error.

    Raises:
        UserError: There are none for training, or several for one part.
    """
    folder = root / "annotations"
    files: dict[str, Path] = {}
    for name in ("train", "val", "test"):
        paths = sorted(folder.glob(f"{kind}_{name}*.json"))
        if len(paths) > 1:
            raise UserError(f"{folder} has {paths[0].name} and {paths[1].name}; keep one of them")
        if paths:
            files[name] = paths[0]
    if "train" not in files:
        raise UserError(f"{root} is not laid out like COCO's {what}: file annotations/{kind}_train2017.json is missing")
    return files


def images_folder(annotations: Path, root: Path, kind: str, what: str) -> Path:
    """Return the folder of the images that annotations speak of; see `annotation_files`."""
    name = annotations.stem.removeprefix(f"{kind}_")
    folder = next((f for f in (root / name, root / "images" / name) if f.is_dir()), None)
    if folder is None:
        raise UserError(f"{root} is not laid out like COCO's {what}: folder {name}, or images/{name}, is missing")
    return folder


def read_image_entries(data: Any, path: Path) -> dict[int, dict[str, Any]]:
    """Return the images that a file lists, by their number.

    Raises:
        UserError: The list is missing or damaged.
    """
    images = {}
    for image in read_entries(data, "images", path):
        number = read_integer(image, "id", path)
        sides = [image.get("width") or 0, image.get("height") or 0]
        if not isinstance(image.get("file_name"), str) or not all(type(n) in (int, float) and n > 0 for n in sides):
            raise UserError(f"image {number} of {path} lacks a file_name, width or height; add them")
        images[number] = image
    return images


def clip_box(box: Sequence[float], width: float, height: float) -> Box | None:
    """Return the part of a box that is inside the image."""
    x, y = max(0.0, box[0]), max(0.0, box[1])
    right, lower = min(float(width), box[0] + box[2]), min(float(height), box[1] + box[3])
    return (x, y, right - x, lower - y) if right > x and lower > y else None


def is_known(image_id: Any, images: Mapping[int, Any]) -> bool:
    """Return whether there is an image of this number."""
    return type(image_id) is int and image_id in images


def load_annotations(path: Path) -> Any:
    """Load a JSON file.

    Raises:
        UserError: It cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give a JSON file of COCO's format") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not JSON; give a file of COCO's format, or fetch it again") from None


def read_entries(data: Any, key: str, path: Path) -> list[dict[str, Any]]:
    """Return a list of the file.

    Raises:
        UserError: It is missing.
    """
    entries = data.get(key) if isinstance(data, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path} has no list of {key}; give a file of COCO's format")
    return entries


def read_integer(entry: Mapping[str, Any], key: str, path: Path) -> int:
    """Return a whole number of an entry.

    Raises:
        UserError: It is none.
    """
    value = entry.get(key)
    if type(value) is not int:
        raise UserError(f"{key} {value!r} in {path} is not a whole number; number the entries")
    return value


def read_numbers(entries: Sequence[Mapping[str, Any]], key: str, count: int, path: Path) -> npt.NDArray[np.float64]:
    """Return what all entries hold under a key: float64 of shape (entries, count)."""
    rows = np.zeros((len(entries), count))
    lengths: list[str] = []
    values: list[str] = []
    for row, entry in zip(rows, entries, strict=True):
        numbers = entry.get(key)
        numbers = numbers if isinstance(numbers, list) else [] if numbers is None else [numbers]
        if len(numbers) != count:
            lengths.append(f"entry {entry.get('id')} has {len(numbers)}")
        elif not all(type(value) in (int, float) and math.isfinite(value) for value in numbers):
            values.append(f"entry {entry.get('id')}")
        else:
            row[:] = numbers
    reject_file(lengths, path, f"needs {key} of {count} number{'s' * (count > 1)}", "mend these entries")
    reject_file(values, path, f"has {key} that are not finite numbers", "mend these entries")
    return rows


def reject_file(offenders: Sequence[str], where: Path, what: str, remedy: str) -> None:
    """Raise `UserError` if there are offenders, and name the first of them."""
    if offenders:
        raise UserError(f"{where} {what}: {shorten_list(offenders, total=True)}; {remedy}")
