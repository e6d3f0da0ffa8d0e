"""COCO keypoints: people with marked joints, and what is true of their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import UserError
from .box_forms import check_boxes, in_first_pixel
from .coco_files import AnnotationFile, locate_images
from .coco_json import (
    ListedImage,
    clip_box,
    entry_name,
    is_crowd,
    is_number,
    load_annotations,
    parse_id,
    read_box_numbers,
    read_entries,
    read_image_entries,
    read_numbers,
    read_references,
    reject_file,
    show_value,
)
from .file_lists import shorten_list
from .geometry import Box, Floats
from .joints import Joints, read_joints

AREA_OF_BOX = 0.53  # share of a box that its person fills on average, for files without areas
_MOST = np.array([np.inf, np.inf, 2])  # visible is the most that a joint can be
_IN_SHARES = 0.5  # share of the marked joints in the first pixel from which on all are taken for shares


@dataclass(frozen=True, eq=False)
class Person:
    """One person in one image.

    Attributes:
        image: File of the image.
        size: Width and height that the annotations give the image.
        image_id: The image's number in the annotations.
        box: x, y of the upper left corner, width and height, in pixels of the image.
        joints: float32 of shape (K, 3): x, y in pixels of the image, and v: 0 unmarked, 1 hidden, 2 visible.
        area: Of the person, in pixels; of the box for a detection.
        score: 1 for ground truth, else the detector's.
        annotation_id: Id of the annotation, or its place in the file, from 1; of a detection its place.
    """

    image: Path
    size: tuple[int, int]
    image_id: int
    box: Box
    joints: npt.NDArray[np.float32]
    area: float
    score: float
    annotation_id: int


@dataclass(frozen=True, eq=False)
class AnnotatedPeople:
    """People of a file of annotations.

    Attributes:
        joints: What the joints are.
        people: People to train on, or to evaluate with their true boxes.
        images: File, and width and height, of every image that is listed, by its number.
        truth: COCO's ground truth with the fields that an evaluation needs: all images, the people, and people who
            neither count nor harm: crowds and those without a marked joint. Annotations are numbered by their place.
    """

    joints: Joints
    people: tuple[Person, ...]
    images: Mapping[int, tuple[Path, tuple[int, int]]]
    truth: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Row:
    """An annotation of a person.

    Attributes:
        entry: What the file has.
        place: Its place in the file, from 1.
        image_id: Number of its image.
        image: Its image.
        marks: Joints as annotated, (K, 3); all zero for nobody's.
    """

    entry: Mapping[str, Any]
    place: int
    image_id: int
    image: ListedImage
    marks: Floats

    @property
    def name(self) -> str:
        return entry_name(self.entry, self.place)

    @property
    def is_marked(self) -> bool:
        return bool((self.marks[:, 2] > 0).any())


def read_people(file: AnnotationFile, notes: list[str], broken: Literal["skip", "refuse"] = "skip") -> AnnotatedPeople:
    """Read people.

    Crowds, people without a marked joint and boxes without area inside the image are left out. Boxes are cut off
    at the image's border.

    Args:
        file: JSON in COCO's format for keypoints, and where its images are.
        notes: What a person should know is added here.
        broken: Whether joints that are marked more than a pixel outside the image are noted and taken for unmarked
            ("skip") or end the run ("refuse").

    Raises:
        UserError: The file is no such JSON, or contradicts itself or the folder.
    """
    path = file.path
    data = load_annotations(path)
    listed, joints = read_image_entries(data, path), read_joints(data, path)
    every = _read_rows(data, listed, joints, path, notes)
    single = [row for row in every if not is_crowd(row.entry)]
    if every and not single:
        raise UserError(f"all {len(every)} people of {path} are crowds (iscrowd); set iscrowd to 0 for single people")
    marked = [row for row in single if row.is_marked]
    boxes, areas = _read_boxes(marked, path, notes)
    _check_shares(marked, path)
    outside = {row.place: _are_outside(row.marks, *row.image.size) for row in marked}
    drawn: dict[int, Floats] = {
        row.place: np.where((row.marks[:, 2:] > 0) & ~outside[row.place][:, None], row.marks, 0).clip(max=_MOST)
        for row in marked
    }
    clipped = {row.place: clip_box(box, *row.image.size) for row, box in zip(marked, boxes.tolist(), strict=True)}
    used = [row for row in marked if clipped[row.place] is not None and drawn[row.place].any()]
    _report(every, single, [row for row in marked if clipped[row.place] is None], used, path, notes)
    _report_outside([row.name for row in marked if outside[row.place].any()], path, notes, broken)
    if not used:
        raise UserError(f"{path} has nobody with a marked joint inside an image; give another file")
    names = (image.name for image in listed.values())
    paths = locate_images(file, names, notes, {row.image.name for row in used})
    area_of = {row.place: area for row, area in zip(marked, areas, strict=True)}
    people = tuple(
        Person(
            paths[row.image.name],
            row.image.size,
            row.image_id,
            box,
            drawn[row.place].astype(np.float32),
            area_of[row.place],
            1.0,
            _number(row),
        )
        for row in used
        if (box := clipped[row.place]) is not None
    )
    truth = {
        "images": [{"id": number} for number in listed],
        "categories": [{"id": joints.category_id, "name": joints.category, "keypoints": list(joints.names)}],
        "annotations": _true_entries(every, {row.place for row in used}, drawn, joints.category_id),
    }
    return AnnotatedPeople(joints, people, {n: (paths[i.name], i.size) for n, i in listed.items()}, truth)


def _read_rows(
    data: Any, listed: Mapping[int, ListedImage], joints: Joints, path: Path, notes: list[str]
) -> list[_Row]:
    """Return the annotations of the category that has joints."""
    entries = read_entries(data, "annotations", path)
    categories = read_entries(data, "categories", path)
    # A category without a number is nobody's, and one of another kind says nothing of people.
    name_of = {number: c.get("name") for c in categories if (number := parse_id(c.get("id"))) is not None}
    kinds = read_references(entries, "category_id", name_of, path)
    places = [place for place, kind in enumerate(kinds) if kind == joints.category_id]
    if len(places) < len(entries):
        others = sorted({show_value(name_of[kind]) for kind in kinds if kind != joints.category_id})
        notes.append(
            f"{len(entries) - len(places)} of {len(entries)} annotations of {path} are of other categories "
            f"({shorten_list(others)}); they are left out"
        )
    wanted = [entries[place] for place in places]
    image_ids = read_references(wanted, "image_id", listed, path)
    count = len(joints.names)
    speaking = [i for i, entry in enumerate(wanted) if not is_crowd(entry) and _says_joints(entry)]
    marks = np.zeros((len(wanted), count, 3))
    marks[speaking] = read_numbers([wanted[i] for i in speaking], "keypoints", 3 * count, path).reshape(-1, count, 3)
    return [
        _Row(entry, place + 1, image_id, listed[image_id], some)
        for entry, place, image_id, some in zip(wanted, places, image_ids, marks, strict=True)
    ]


def _says_joints(entry: Mapping[str, Any]) -> bool:
    """Return whether an annotation says that it has joints: null and nothing do not, nor does a number of 0."""
    number = entry.get("num_keypoints")
    return bool(entry.get("keypoints")) if number is None else parse_id(number) != 0


def _read_boxes(rows: Sequence[_Row], path: Path, notes: list[str]) -> tuple[Floats, list[float]]:
    """Return boxes as annotated, and areas; where none is given, what a person fills of the box on average."""
    boxes = read_box_numbers([row.entry for row in rows], path)
    filled = [
        {"id": row.entry.get("id"), "area": row.entry.get("area") or AREA_OF_BOX * float(box[2] * box[3])}
        for row, box in zip(rows, boxes, strict=True)
    ]
    areas = read_numbers(filled, "area", 1, path)[:, 0]
    sizes = np.array([row.image.size for row in rows], np.float64).reshape(-1, 2)
    given = all(row.entry.get("area") for row in rows)
    notes += check_boxes(boxes, sizes, [row.name for row in rows], path, areas if given else None)
    return boxes, areas.tolist()


def _check_shares(rows: Sequence[_Row], path: Path) -> None:
    """Check that joints are in pixels.

    Raises:
        UserError: They look like shares of the image.
    """
    places = np.concatenate([row.marks[row.marks[:, 2] > 0, :2] for row in rows] or [np.empty((0, 2))])
    sizes = np.repeat([row.image.size for row in rows], [int((row.marks[:, 2] > 0).sum()) for row in rows], 0)
    is_share = in_first_pixel(places, sizes.reshape(-1, 2))
    if len(is_share) and is_share.mean() > _IN_SHARES:
        reject_file(
            [row.name for row in rows],
            path,
            f"has {is_share.sum()} of {len(is_share)} joints in the first pixel of their image, as if in shares of it",
            "multiply x by the image's width and y by its height",
        )


def _are_outside(joints_K3: Floats, width: float, height: float) -> npt.NDArray[np.bool_]:
    """Flag marked joints that are more than a pixel away from all pixels; these have their centres at 0, 1, 2 ..."""
    x, y, v = joints_K3.T
    outside: npt.NDArray[np.bool_] = (v > 0) & ((x < -1) | (x > width) | (y < -1) | (y > height))
    return outside


def _report(
    every: Sequence[_Row],
    single: Sequence[_Row],
    no_area: Sequence[_Row],
    used: Sequence[_Row],
    path: Path,
    notes: list[str],
) -> None:
    """Add notes on everyone who is left out."""
    kept = {row.place for row in (*used, *no_area)}
    for rows, reason in (
        ([row for row in every if is_crowd(row.entry)], "are crowds"),
        ([row for row in single if row.place not in kept], "have no marked joint inside their image"),
        (no_area, "have a box of no area inside their image"),
    ):
        if rows:
            names = shorten_list([row.name for row in rows])
            notes.append(f"{len(rows)} of {len(every)} annotations of {path} {reason}; they are left out: {names}")


def _report_outside(names: Sequence[str], path: Path, notes: list[str], broken: Literal["skip", "refuse"]) -> None:
    """Add a note on joints outside their image, or refuse them."""
    what = "has joints outside the image by more than a pixel"
    if broken == "refuse":
        reject_file(names, path, what, "mend them, or take these joints for unmarked: set data.broken to skip")
    if names:
        notes.append(f"{path} {what}: {shorten_list(names, total=True)}; these joints are taken for unmarked")


def _true_entries(
    rows: Sequence[_Row], used: set[int], drawn: Mapping[int, Floats], category_id: int
) -> list[dict[str, Any]]:
    """Return people as an evaluation compares with them: with the joints that are trained on."""
    entries = []
    for row in rows:
        box, area = row.entry.get("bbox"), row.entry.get("area")
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)) or min(box[2:]) <= 0:
            continue  # nobody can be found or missed there
        marks = drawn[row.place] if row.place in used else np.zeros_like(row.marks)
        entries.append(
            {
                "id": row.place,
                "image_id": row.image_id,
                "category_id": category_id,
                "bbox": box,
                "area": area if is_number(area) and area else AREA_OF_BOX * box[2] * box[3],
                "iscrowd": int(is_crowd(row.entry)),
                "keypoints": marks.reshape(-1).tolist(),
                "num_keypoints": int((marks[:, 2] > 0).sum()),
            }
        )
    return entries


def _number(row: _Row) -> int:
    number = parse_id(row.entry.get("id"))
    return row.place if number is None else number
