"""Objects in boxes, in COCO's layout: pictures stretched to squares, varied in training, their boxes in register."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from ..errors import UserError
from ..recipe import AugmentSettings, DataSettings
from .coco_files import (
    AnnotatedSet,
    annotation_files,
    clipped,
    entries_of,
    inputs_of,
    integer,
    is_known,
    keep_pictures,
    listed_images,
    load,
    numbers_of,
    pictures_folder,
    refuse,
)
from .files import divide, readable
from .folders import data_folder
from .pictures import Preprocessing, measured
from .randomness import mix, some_of
from .regions import Floats, cut_out, region_matrix
from .samples import Batch, Index, Splits, Variation, sha256, square_side

_KIND = ("instances", "boxes")  # of annotations
_MEASURED = 64  # pictures that the normalisation is measured on

Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class BoxedPicture:
    """A picture and the objects in it.

    Attributes:
        image: File of the picture.
        size: Width and height that the annotations give the picture.
        objects: float64 of shape (N, 7): index of the class; x, y of the upper left corner, width and height of the box
            as annotated, in pixels; area of the object, in pixels; and 1 if it is a crowd, else 0.
    """

    image: Path
    size: tuple[int, int]
    objects: Floats

    def boxes(self) -> Boxes:
        """What is learned, of shape (N, 5): class and x1, y1, x2, y2 in shares of the picture, without crowds."""
        single = self.objects[self.objects[:, 6] == 0]
        low = single[:, 1:3].clip(0, self.size)
        high = (single[:, 1:3] + single[:, 3:5]).clip(0, self.size)
        return np.column_stack((single[:, 0], low / self.size, high / self.size)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class ObjectSet(AnnotatedSet[BoxedPicture]):
    """Pictures with objects in boxes."""

    def subset(self, index: Index) -> ObjectSet:
        """The pictures at some positions."""
        return replace(self, samples=tuple(self.samples[i] for i in index))

    def batch(self, index: Index, prepare: Preprocessing, vary: Variation | None) -> Batch:
        """Inputs, and in training boxes (B, M, 5): class and x1, y1, x2, y2 in shares of the input.

        Rows of -1 fill up. An evaluation gets positions in the split instead, int64 (B,).
        """
        images: list[Image.Image] = []
        if vary is None:
            positions: list[int] = []
            for i, (_, picture) in readable(self.picture, index, self.skip):
                images.append(prepare.fitted(picture))
                positions.append(i)
            return inputs_of(images, prepare), torch.tensor(positions, dtype=torch.int64)
        boxes: list[Boxes] = []
        for i in index.tolist():
            torch.manual_seed(mix(vary.seed, vary.epoch, 5, i))
            one, picture = self.picture_or_another(i)
            image, found = random_view(picture, one.boxes(), prepare, vary.settings)
            images.append(image)
            boxes.append(found)
        return inputs_of(images, prepare), filled_up(boxes)

    def digest(self) -> str:
        """A hash of file names and objects; what is in the pictures is not looked at."""
        return sha256(self.files(), *(one.objects.tobytes() for one in self.samples))


def load_objects(settings: DataSettings) -> Splits:
    """Reads boxes in COCO's layout; `divide` tells what becomes of its parts.

    Files are annotations/instances_NAME.json with pictures in NAME (or images/NAME), where NAME is train2017, val2017
    and the like. Pictures without a box are evaluated, but not trained on.

    Raises:
        UserError: The layout, an annotation or the settings do not fit.
    """
    root = data_folder(settings, "COCO's folder, with annotations, train2017 and val2017")
    side = square_side(settings)
    if side is None:
        raise UserError("data.size is null; give the side of the squares that pictures become, e.g. --data.size 320")
    notes: list[str] = []
    files = annotation_files(root, *_KIND)
    read = {name: read_objects(path, pictures_folder(path, root, *_KIND), notes) for name, path in files.items()}
    classes = read["train"][0]
    if other := [name for name in read if read[name][0] != classes]:
        raise UserError(f"{files[other[0]]} has other categories than {files['train']}; give files with the same ones")
    sets = {name: ObjectSet(samples, {}, settings.broken == "skip") for name, (_, samples) in read.items()}
    train, validation, test = divide(_kept(sets, settings, notes), settings, notes, "picture")
    teaching = np.flatnonzero([len(one.boxes()) for one in train.samples])
    if not len(teaching):
        raise UserError(f"no training picture of {files['train']} has a box; give another file")
    if left_out := len(train) - len(teaching):
        notes.append(f"{left_out} of {len(train)} training pictures have no box; they are left out")
    train = train.subset(teaching)
    notes.append(f"{len(classes)} classes: {', '.join(classes[:20])}")
    notes.append(f"{len(train)} pictures for training, {len(validation)} for validation, {len(test)} for testing")
    notes.append(f"pictures are stretched to {side} x {side} pixels")
    return Splits(train, validation, test, classes, _measured(train, side), tuple(notes))


def read_objects(annotations: Path, images: Path, notes: list[str]) -> tuple[tuple[str, ...], tuple[BoxedPicture, ...]]:
    """Reads pictures and the boxes in them; boxes without area inside their picture are left out.

    Args:
        annotations: JSON in COCO's format for instances.
        images: Folder that the file names in it start from.
        notes: What a person should know is added here.

    Returns:
        Names of the classes, by the number of their category; and all pictures that are listed.

    Raises:
        UserError: The file is no such JSON, or contradicts itself or the folder.
    """
    data = load(annotations)
    listed, categories = listed_images(data, annotations), _categories(data, annotations)
    entries = entries_of(data, "annotations", annotations)
    unknown = [f"image {e.get('image_id')}" for e in entries if not is_known(e.get("image_id"), listed)]
    refuse(unknown, annotations, "annotates unknown images", "add them to its images, or remove their annotations")
    index = {number: i for i, number in enumerate(categories)}
    unknown = [f"category {e.get('category_id')}" for e in entries if not is_known(e.get("category_id"), index)]
    refuse(unknown, annotations, "has boxes of unknown categories", "add them to its categories, or remove the boxes")
    objects: dict[int, list[list[float]]] = {number: [] for number in listed}
    crowds = no_area = 0
    for entry, box, area in zip(entries, *_boxes_and_areas(entries, annotations), strict=True):
        picture, crowd = listed[entry["image_id"]], bool(entry.get("iscrowd"))
        if clipped(box, picture["width"], picture["height"]) is None:
            no_area += 1
            continue
        crowds += crowd
        objects[entry["image_id"]].append([index[entry["category_id"]], *box, area, crowd])
    if len(entries) == crowds + no_area:
        raise UserError(f"{annotations} has no box inside a picture; give another file")
    samples = []
    for number, picture in listed.items():
        size = int(picture["width"]), int(picture["height"])
        rows = np.array(objects[number], np.float64).reshape(-1, 7)
        samples.append(BoxedPicture(images / picture["file_name"], size, rows))
    missing = sorted(str(one.image) for one in samples if not one.image.is_file())
    refuse(missing, images, f"lacks {len(missing)} of {len(samples)} pictures", "give their folder, or fetch them")
    if crowds:
        notes.append(f"{crowds} of {len(entries)} boxes of {annotations} are crowds, which neither teach nor count")
    if no_area:
        notes.append(f"{no_area} of {len(entries)} boxes of {annotations} have no area; they are left out")
    return tuple(categories.values()), tuple(samples)


def random_view(
    picture: Image.Image, boxes_N5: Boxes, prepare: Preprocessing, settings: AugmentSettings
) -> tuple[Image.Image, Boxes]:
    """A picture as training sees it; uses PyTorch's own random numbers.

    Perhaps a part of it, or all of it with black around, somewhere; mirrored, and in other colours.

    Args:
        picture: RGB.
        boxes_N5: As of `BoxedPicture.boxes`.
        prepare: Says what size it shall have.
        settings: What varies.

    Returns:
        The picture in the input's size, and the boxes whose centres are in it, cut off at its border.
    """
    if settings.scale:
        size = 1 + settings.scale * _uniform()  # what is shown, in shares of the picture
        center = 0.5 + abs(1 - size) / 2 * np.array([_uniform(), _uniform()])
        whole = np.array(picture.size)
        image = cut_out(picture, region_matrix(center * whole - 0.5, size * whole, 0, prepare.size), prepare.size)
        boxes_N5 = _zoomed(boxes_N5, np.tile((center - size / 2).astype(np.float32), 2), size)
    else:
        image = prepare.fitted(picture)
    if settings.flip and _uniform() < 0:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        boxes_N5 = np.column_stack(
            (boxes_N5[:, 0], 1 - boxes_N5[:, 3], boxes_N5[:, 2], 1 - boxes_N5[:, 1], boxes_N5[:, 4])
        )
    if settings.jitter:
        image = v2.ColorJitter(settings.jitter, settings.jitter, settings.jitter)(image)
    return image, boxes_N5


def filled_up(boxes: Sequence[Boxes]) -> Tensor:
    """Boxes of pictures as one tensor (B, M, 5), with rows of -1 where a picture has fewer than another."""
    made = torch.full((len(boxes), max([1, *map(len, boxes)]), 5), -1.0)
    for row, some in zip(made, boxes, strict=True):
        row[: len(some)] = torch.from_numpy(some)
    return made


def _categories(data: Any, path: Path) -> dict[int, str]:
    """Names by number, in the order of the numbers."""
    entries = entries_of(data, "categories", path)
    found = {integer(entry, "id", path): entry.get("name") for entry in entries}
    names = list(found.values())
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(entries):
        raise UserError(f"categories of {path} must have different numbers and names; mend them")
    return {number: str(found[number]) for number in sorted(found)}


def _boxes_and_areas(entries: Sequence[Mapping[str, Any]], path: Path) -> tuple[list[list[float]], list[float]]:
    """Boxes as annotated, and areas; where none is given, that of the box."""
    boxes = numbers_of(entries, "bbox", 4, path)
    filled = [
        {"id": e.get("id"), "area": e.get("area") or float(box[2] * box[3])}
        for e, box in zip(entries, boxes, strict=True)
    ]
    return boxes.tolist(), numbers_of(filled, "area", 1, path)[:, 0].tolist()


def _kept(sets: Mapping[str, ObjectSet], settings: DataSettings, notes: list[str]) -> dict[str, ObjectSet]:
    """Reads all pictures if they fit into memory, and leaves broken ones out, or refuses them."""
    kept = keep_pictures({one.image: one.size for part in sets.values() for one in part.samples}, settings, notes)
    if kept is None:
        return dict(sets)
    return {
        name: replace(part, samples=tuple(one for one in part.samples if one.image in kept), kept=kept)
        for name, part in sets.items()
    }


def _measured(train: ObjectSet, side: int) -> Preprocessing:
    """The preprocessing, with mean and deviation over some training pictures."""
    plain = Preprocessing(3, (side, side), (0.0,) * 3, (1.0,) * 3)
    return measured(plain, (plain.pixels(train.picture_or_another(i)[1]) for i in some_of(len(train), _MEASURED)))


def _zoomed(boxes_N5: Boxes, corner_4: Boxes, size: float) -> Boxes:
    """Boxes in shares of a region with this corner and size; those whose centre it lacks are left out."""
    places = (boxes_N5[:, 1:] - corner_4) / size
    centers = (places[:, :2] + places[:, 2:]) / 2
    inside = ((centers > 0) & (centers < 1)).all(1)
    return np.column_stack((boxes_N5[inside, 0], places[inside].clip(0, 1))).astype(np.float32)


def _uniform() -> float:
    """From -1 to 1."""
    return float(torch.empty(()).uniform_(-1, 1))
