"""JSON in COCO's format: its entries, how their ids and numbers are read, and their faults in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UserError
from .file_lists import shorten_list
from .geometry import Box

_LARGEST_ID = 2**53  # ids are numbers of programs that compute in floats too
_LONGEST_SIDE = 1_000_000  # pixels
_FAR = 1e9  # pixels: no image is so large, and sums and products of such numbers are finite
_SHOWN_VALUE = 40  # characters of a value that an error names
_NO_CROWD = (None, 0, "0", "")


@dataclass(frozen=True)
class ListedImage:
    """An image as a file lists it.

    Attributes:
        name: File name as listed.
        size: Width and height, in pixels.
    """

    name: str
    size: tuple[int, int]


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


def read_image_entries(data: Any, path: Path) -> dict[int, ListedImage]:
    """Return the images that a file lists, by their id.

    Raises:
        UserError: The list is missing or damaged, or an id or a file is there twice.
    """
    images: dict[int, ListedImage] = {}
    id_of: dict[str, int] = {}
    equal_ids: list[str] = []
    equal_files: list[str] = []
    for entry in read_entries(data, "images", path):
        number, name = read_id(entry, "id", path), entry.get("file_name")
        sides = entry.get("width"), entry.get("height")
        if not isinstance(name, str) or not name or not all(map(_is_side, sides)):
            raise UserError(
                f"image {number} of {path} lacks a file_name, width or height (whole numbers of pixels); add them"
            )
        if number in images:
            equal_ids.append(f"{number} ({images[number].name} and {name})")
        elif name in id_of:
            equal_files.append(f"{name} (images {id_of[name]} and {number})")
        images[number] = ListedImage(name, (int(entry["width"]), int(entry["height"])))
        id_of[name] = number
    reject_file(equal_ids, path, "gives several images the same id", "number the images of merged files anew")
    reject_file(equal_files, path, "lists files twice", "keep one entry of each, with all its annotations")
    return images


def parse_id(value: Any) -> int | None:
    """Return an id: a whole number, also written as text or as a float; None if it is none."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= len(str(_LARGEST_ID)):
        value = int(value)
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and abs(value) <= _LARGEST_ID else None


def read_id(entry: Mapping[str, Any], key: str, path: Path) -> int:
    """Return the id of an entry; see `parse_id`.

    Raises:
        UserError: It is none.
    """
    number = parse_id(entry.get(key))
    if number is None:
        raise UserError(f"{key} {show_value(entry.get(key))} in {path} is not a whole number; number the entries")
    return number


def read_references(entries: Sequence[Mapping[str, Any]], key: str, known: Container[int], path: Path) -> list[int]:
    """Return the ids of the images or categories that entries refer to.

    Args:
        entries: Annotations.
        key: "image_id" or "category_id".
        known: Ids that there are.
        path: Their file, for errors.

    Raises:
        UserError: An entry refers to nothing.
    """
    noun, many = {"image_id": ("image", "images"), "category_id": ("category", "categories")}[key]
    numbers: list[int] = []
    unknown: list[str] = []
    for entry in entries:
        number = parse_id(entry.get(key))
        if number is None or number not in known:
            unknown.append(f"{noun} {show_value(entry.get(key))}")
        else:
            numbers.append(number)
    reject_file(unknown, path, f"annotates unknown {many}", f"add them to its {many}, or remove their annotations")
    return numbers


def read_numbers(entries: Sequence[Mapping[str, Any]], key: str, count: int, path: Path) -> npt.NDArray[np.float64]:
    """Return what all entries hold under a key: float64 of shape (entries, count)."""
    rows = np.zeros((len(entries), count))
    lengths: list[str] = []
    values: list[str] = []
    for row, entry in zip(rows, entries, strict=True):
        numbers = entry.get(key)
        numbers = numbers if isinstance(numbers, list) else [] if numbers is None else [numbers]
        if len(numbers) != count:
            lengths.append(f"entry {show_value(entry.get('id'))} has {len(numbers)}")
        elif not all(map(is_number, numbers)):
            values.append(f"entry {show_value(entry.get('id'))}")
        else:
            row[:] = numbers
    reject_file(lengths, path, f"needs {key} of {count} number{'s' * (count > 1)}", "mend these entries")
    reject_file(values, path, f"has {key} that are not finite numbers", "mend these entries")
    return rows


def read_box_numbers(entries: Sequence[Mapping[str, Any]], path: Path) -> npt.NDArray[np.float64]:
    """Return the boxes (``bbox``) of all entries, of shape (entries, 4); what is far outside any image is cut off."""
    return read_numbers(entries, "bbox", 4, path).clip(-_FAR, _FAR)


def is_number(value: Any) -> bool:
    """Return whether a value of a JSON is a number that a float can hold."""
    if type(value) is int:
        return -1e300 < value < 1e300
    return type(value) is float and math.isfinite(value)


def is_crowd(entry: Mapping[str, Any]) -> bool:
    """Return whether an annotation is one of a crowd (``iscrowd``)."""
    return entry.get("iscrowd") not in _NO_CROWD


def entry_name(entry: Mapping[str, Any], place: int) -> str:
    """Return how messages call an annotation: by its id, or by its place in the file, from 1."""
    number = parse_id(entry.get("id"))
    return f"annotation {number}" if number is not None else f"annotation number {place}"


def clip_box(box: Sequence[float], width: float, height: float) -> Box | None:
    """Return the part of a box that is inside the image."""
    x, y = max(0.0, box[0]), max(0.0, box[1])
    right, lower = min(float(width), box[0] + box[2]), min(float(height), box[1] + box[3])
    return (x, y, right - x, lower - y) if right > x and lower > y else None


def show_value(value: Any) -> str:
    """Return a value of a JSON for an error in one line."""
    text = repr(value)
    return text if len(text) <= _SHOWN_VALUE else f"{text[:_SHOWN_VALUE]}..."


def reject_file(offenders: Sequence[str], where: Path, what: str, remedy: str) -> None:
    """Raise `UserError` if there are offenders, and name the first of them."""
    if offenders:
        raise UserError(f"{where} {what}: {shorten_list(offenders, total=True)}; {remedy}")


def _is_side(value: Any) -> bool:
    return is_number(value) and 1 <= value <= _LONGEST_SIDE
