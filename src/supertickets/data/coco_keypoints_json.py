"""COCO keypoints: people with marked joints, and the boxes that a detector found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import UserError
from .coco_json import (
    clip_box,
    is_known,
    load_annotations,
    read_entries,
    read_image_entries,
    read_integer,
    read_numbers,
    reject_file,
)
from .file_lists import shorten_list
from .geometry import Box

# Names and, per joint, how far annotators differ, as a share of the square root of the person's area (published).
_PARTS = {
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
}
COCO_NAMES = ("nose", *(f"{side}_{part}" for part in _PARTS for side in ("left", "right")))
COCO_SIGMAS = (0.026, *(sigma for sigma in _PARTS.values() for _ in ("left", "right")))
_OTHER_SIGMA = 0.05
AREA_OF_BOX = 0.53  # share of a box that its person fills on average, for files without areas


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
        annotation_id: Number of the annotation; of a detection its place in the file, from 1.
    """

    image: Path
    size: tuple[int, int]
    image_id: int
    box: Box
    joints: npt.NDArray[np.float32]
    area: float
    score: float
    annotation_id: int


@dataclass(frozen=True)
class Joints:
    """The joints of a data set.

    Attributes:
        names: One per joint, K in all.
        flip: Per joint, the index of its mirror image: the same name with left_ and right_ swapped, else itself.
        limbs: Pairs of indices from 0, for drawing.
        sigmas: Per joint, the deviation that the object keypoint similarity allows, as a share of the square root of
            the person's area: COCO's 17 published values for COCO's 17 names in any order, else 0.05 for each.
        category_id: The category that has these joints; results in COCO's format name it.
    """

    names: tuple[str, ...]
    flip: tuple[int, ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    category_id: int = 1


def read_people(
    annotations: Path, images: Path, notes: list[str], broken: Literal["skip", "refuse"] = "skip"
) -> tuple[Joints, tuple[Person, ...]]:
    """Read the people to train on, or to evaluate with their true boxes.

    Crowds, people without a marked joint and boxes without area inside the image are left out. Boxes are cut off
    at the image's border.

    Args:
        annotations: JSON in COCO's format for keypoints.
        images: Folder that the file names in it start from.
        notes: What a person should know is added here.
        broken: Whether joints that are marked more than a pixel outside the image are noted and taken for unmarked
            ("skip") or end the run ("refuse").

    Raises:
        UserError: The file is no such JSON, or contradicts itself or the folder.
    """
    data = load_annotations(annotations)
    image_list = read_image_entries(data, annotations)
    joints = _joints(data, annotations)
    wanted = [a for a in read_entries(data, "annotations", annotations) if a.get("category_id") == joints.category_id]
    unknown = [f"image {a.get('image_id')}" for a in wanted if not is_known(a.get("image_id"), image_list)]
    reject_file(unknown, annotations, "annotates unknown images", "add them to its images, or remove their annotations")
    single = [a for a in wanted if not a.get("iscrowd")]
    listed = [a for a in single if a.get("num_keypoints") != 0]
    count = len(joints.names)
    marks = read_numbers(listed, "keypoints", 3 * count, annotations).reshape(len(listed), count, 3)
    is_marked = np.any(marks[:, :, 2] > 0, axis=1)
    marked = [{"area": None} | a for a, keep in zip(listed, is_marked.tolist(), strict=True) if keep]
    boxes = read_numbers(marked, "bbox", 4, annotations)
    for annotation, box in zip(marked, boxes, strict=True):
        annotation["area"] = annotation["area"] or AREA_OF_BOX * float(box[2] * box[3])
    areas = read_numbers(marked, "area", 1, annotations)[:, 0].tolist()
    people, outside, no_area = _make_people(
        list(zip(marked, boxes.tolist(), areas, marks[is_marked], strict=True)), image_list, annotations, images
    )
    what = "has joints outside the image by more than a pixel"
    if broken == "refuse":
        reject_file(outside, annotations, what, "mend them, or take these joints for unmarked: set data.broken to skip")
    if not people:
        raise UserError(f"{annotations} has nobody with a marked joint inside an image; give another file")
    files = {person.image for person in people}
    missing = sorted(str(path) for path in files if not path.is_file())
    reject_file(missing, images, f"lacks {len(missing)} of {len(files)} images", "give their folder, or fetch them")
    for count, reason in (
        (len(wanted) - len(single), "are crowds"),
        (len(single) - len(marked), "have no marked joint"),
        (no_area, "have a box of no area"),
    ):
        if count:
            notes.append(f"{count} of {len(wanted)} annotations of {annotations} {reason}; they are left out")
    if outside:
        notes.append(f"{annotations} {what}: {shorten_list(outside, total=True)}; these joints are taken for unmarked")
    return joints, tuple(people)


def _make_people(
    rows: Sequence[tuple[dict[str, Any], list[float], float, npt.NDArray[np.float64]]],
    image_list: Mapping[int, dict[str, Any]],
    annotations: Path,
    images: Path,
) -> tuple[list[Person], list[str], int]:
    """Return the people with a marked joint in an image.

    Args:
        rows: Annotation, box, area and marks (K, 3) of everyone with a marked joint.
        image_list: Images by their number.
        annotations: File that the rows are from, for errors.
        images: Folder that file names start from.

    Returns:
        The people; names of annotations with joints outside their image; and the number of boxes without area.
    """
    people: list[Person] = []
    outside: list[str] = []
    no_area = 0
    for annotation, box, area, marks_K3 in rows:
        number, pil_image = read_integer(annotation, "id", annotations), image_list[annotation["image_id"]]
        inside = clip_box(box, pil_image["width"], pil_image["height"])
        if inside is None:
            no_area += 1
            continue
        is_wrong_K = _are_outside(marks_K3, pil_image["width"], pil_image["height"])
        if is_wrong_K.any():
            outside.append(f"annotation {number}")
        is_used_K1 = (marks_K3[:, 2:] > 0) & ~is_wrong_K[:, None]
        if is_used_K1.any():
            image, size = images / pil_image["file_name"], (int(pil_image["width"]), int(pil_image["height"]))
            joints_K3 = np.where(is_used_K1, marks_K3, 0).astype(np.float32)
            people.append(Person(image, size, annotation["image_id"], inside, joints_K3, area, 1.0, number))
    return people, outside, no_area


def read_images(annotations: Path, images: Path) -> dict[int, tuple[Path, tuple[int, int]]]:
    """Files, width and height of the images that a COCO JSON lists, by their number; the files are not looked at.

    Raises:
        UserError: The file is no such JSON.
    """
    image_list = read_image_entries(load_annotations(annotations), annotations)
    return {
        number: (images / image["file_name"], (int(image["width"]), int(image["height"])))
        for number, image in image_list.items()
    }


def read_truth(annotations: Path, people: Sequence[Person], category_id: int) -> dict[str, Any]:
    """Return what predicted poses are compared with: all images, the given people, and people who do not count.

    Those neither count nor harm: crowds and people without a marked joint, who are in no sample.

    Args:
        annotations: As for `read_people`.
        people: People that `read_people` returned.
        category_id: Of the joints.

    Returns:
        COCO's ground truth with the fields that an evaluation needs.
    """
    data = load_annotations(annotations)
    known = {person.annotation_id for person in people}
    fields = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "num_keypoints", "keypoints")
    kept = []
    for entry in read_entries(data, "annotations", annotations):
        ignored = entry.get("iscrowd") or not any(v > 0 for v in entry.get("keypoints", [])[2::3])
        if entry.get("category_id") == category_id and (ignored or entry["id"] in known) and "bbox" in entry:
            kept.append({field: entry[field] for field in fields if entry.get(field) is not None})
    categories = [c for c in read_entries(data, "categories", annotations) if c["id"] == category_id]
    return {
        "images": [{"id": number} for number in read_image_entries(data, annotations)],
        "categories": categories,
    } | {"annotations": kept}


def read_boxes(path: Path, images: Sequence[Path], score_at_least: float = 0.5) -> list[list[Box]]:
    """Return the boxes of people in some images, of a detector or of annotations.

    Args:
        path: JSON in COCO's format: annotations, whose images are told by their file name wherever they are; or a list
            of detections, whose ``image_id`` is the number that the image's file is named by (000000000785.jpg).
        images: Files.
        score_at_least: Detections that score lower are left out.

    Returns:
        Per image its boxes, perhaps none.

    Raises:
        UserError: The file is no such JSON, or has a box of none of the images.
    """
    data = load_annotations(path)
    if isinstance(data, dict):
        names = {number: Path(image["file_name"]).name for number, image in read_image_entries(data, path).items()}
        entries = [e for e in read_entries(data, "annotations", path) if not e.get("iscrowd")]
        people = [c["id"] for c in data.get("categories", []) if c.get("keypoints") or c.get("name") == "person"]
        known = [(names[e["image_id"]], e) for e in entries if is_known(e.get("image_id"), names)]
    elif isinstance(data, list) and all(isinstance(entry, dict) for entry in data):
        numbers = {int(pil_image.stem): pil_image.name for pil_image in images if pil_image.stem.isdecimal()}
        people = [1]
        known = [
            (numbers[e["image_id"]], {**e, "id": i})
            for i, e in enumerate(data, 1)
            if is_known(e.get("image_id"), numbers) and e.get("score", 1) >= score_at_least
        ]
    else:
        raise UserError(f"{path} has no boxes; give COCO's annotations or a list of detections")
    wanted = [(name, e) for name, e in known if e.get("category_id", 1) in people or not people]
    boxes: dict[str, list[Box]] = {pil_image.name: [] for pil_image in images}
    for (name, _), box in zip(wanted, read_numbers([e for _, e in wanted], "bbox", 4, path).tolist(), strict=True):
        if name in boxes and min(box[2:]) > 0:
            boxes[name].append((box[0], box[1], box[2], box[3]))
    if not any(boxes.values()):
        raise UserError(
            f"{path} has a box of none of these {len(images)} images; name the files as it does, or give another"
        )
    return [boxes[pil_image.name] for pil_image in images]


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
        images: The images by their number, as from `read_images`. Boxes of others are left out.
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
    listed = [{**entry, "id": number} for number, entry in enumerate(data, 1)]
    known = [entry for entry in listed if is_known(entry.get("image_id"), images)]
    if data and not known:
        raise UserError(f"{path} has no box of these {len(images)} images; give the detections that belong to them")
    wanted = [entry for entry in known if entry.get("category_id") == category_id]
    boxes = read_numbers(wanted, "bbox", 4, path)
    scores = read_numbers(wanted, "score", 1, path)[:, 0]
    has_area = np.all(boxes[:, 2:] > 0, axis=1)
    if notes is not None and len(known) < len(data):
        notes.append(f"{len(data) - len(known)} of {len(data)} boxes of {path} are of other images; they are left out")
    if notes is not None and not np.all(has_area):
        notes.append(f"{np.sum(~has_area)} of {len(wanted)} boxes of {path} have no area; they are left out")
    people = []
    for entry, (x, y, width, height), score, keep in zip(
        wanted, boxes.tolist(), scores.tolist(), has_area.tolist(), strict=True
    ):
        if keep and score >= score_at_least:
            image, size = images[entry["image_id"]]
            box, zeros = (x, y, width, height), np.zeros((joints, 3), np.float32)
            people.append(Person(image, size, entry["image_id"], box, zeros, width * height, score, entry["id"]))
    return tuple(people)


def mirror_name(names: Sequence[str], where: str = "this data set") -> tuple[int, ...]:
    """Return, per joint, the index of its mirror image.

    Raises:
        UserError: A joint of one side has none on the other.
    """
    swapped = [
        name.replace("left_", "right_") if "left_" in name else name.replace("right_", "left_") for name in names
    ]
    for name, other in zip(names, swapped, strict=True):
        if other not in names:
            raise UserError(f"joint '{name}' of {where} has no mirror image '{other}'; add or rename it")
    return tuple(names.index(other) for other in swapped)


def _joints(data: Mapping[str, Any], path: Path) -> Joints:
    named = [c for c in read_entries(data, "categories", path) if c.get("keypoints")]
    if not named:
        raise UserError(f"{path} has no category with keypoints; give a file like COCO's person_keypoints_train2017")
    if len(named) > 1:
        several = ", ".join(str(category.get("name")) for category in named)
        raise UserError(f"{path} has several categories with keypoints ({several}); keep one")
    category = named[0]
    names = category["keypoints"]
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names) or len(set(names)) < len(names):
        raise UserError(f"keypoints of the category in {path} must be a list of different names")
    pairs = category.get("skeleton") or []
    for pair in pairs if isinstance(pairs, list) else [pairs]:
        if not isinstance(pair, list) or len(pair) != 2 or any(i not in range(1, len(names) + 1) for i in pair):
            raise UserError(f"skeleton of the category in {path} has {pair}; it needs pairs from 1 to {len(names)}")
    sigma_of = dict(zip(COCO_NAMES, COCO_SIGMAS, strict=True))
    is_coco = set(names) == set(COCO_NAMES)
    return Joints(
        tuple(names),
        mirror_name(names, str(path)),
        tuple((int(a) - 1, int(b) - 1) for a, b in pairs),
        tuple(sigma_of[name] if is_coco else _OTHER_SIGMA for name in names),
        read_integer(category, "id", path),
    )


def _are_outside(joints_K3: npt.NDArray[np.float64], width: float, height: float) -> npt.NDArray[np.bool_]:
    """Flag marked joints that are more than a pixel away from all pixels; these have their centres at 0, 1, 2 ..."""
    x, y, v = joints_K3.T
    outside: npt.NDArray[np.bool_] = (v > 0) & ((x < -1) | (x > width) | (y < -1) | (y > height))
    return outside
