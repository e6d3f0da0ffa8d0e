"""Objects in boxes, in COCO's layout: images stretched to squares, varied in training, their boxes in register."""

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

from ..config.recipe import AugmentSettings, DataSettings
from ..errors import UserError
from .annotated_images import AnnotatedDataset, keep_images, read_inputs
from .broken_files import iterate_readable
from .coco_json import (
    annotation_files,
    clip_box,
    images_folder,
    is_known,
    load_annotations,
    read_entries,
    read_image_entries,
    read_integer,
    read_numbers,
    reject_file,
)
from .file_lists import data_folder
from .geometry import Floats, region_matrix, warp_image
from .orientation import drawn_as_stored
from .preprocessing import Preprocessing, with_normalisation
from .randomness import mix_seed, sample_indices
from .samples import AugmentContext, Batch, Index, Splits, hash_chunks, square_side
from .splits import split_samples

_KIND = ("instances", "boxes")  # of annotations
_MEASURED = 64  # images that the normalisation is measured on

Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class BoxedImage:
    """An image and the objects in it.

    Attributes:
        image: File of the image.
        size: Width and height that the annotations give the image.
        objects: float64 of shape (N, 7): index of the class; x, y of the upper left corner, width and height of the box
            as annotated, in pixels; area of the object, in pixels; and 1 if it is a crowd, else 0.
    """

    image: Path
    size: tuple[int, int]
    objects: Floats

    def boxes(self) -> Boxes:
        """Return what is learned, of shape (N, 5): class and x1, y1, x2, y2 in shares of the image, without crowds."""
        single = self.objects[self.objects[:, 6] == 0]
        low = single[:, 1:3].clip(0, self.size)
        high = (single[:, 1:3] + single[:, 3:5]).clip(0, self.size)
        return np.column_stack((single[:, 0], low / self.size, high / self.size)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class DetectionDataset(AnnotatedDataset[BoxedImage]):
    """Images with objects in boxes."""

    def subset(self, index: Index) -> DetectionDataset:
        """Return the images at some positions."""
        return replace(self, samples=tuple(self.samples[i] for i in index))

    def batch(self, index: Index, prepare: Preprocessing, context: AugmentContext | None) -> Batch:
        """Return inputs, and in training boxes (B, M, 5): class and x1, y1, x2, y2 in shares of the input.

        Rows of -1 fill up. An evaluation gets positions in the split instead, int64 (B,).
        """
        images: list[Image.Image] = []
        if context is None:
            positions: list[int] = []
            for i, (_, pil_image) in iterate_readable(self.image, index, self.skip):
                images.append(prepare.fit_image(pil_image))
                positions.append(i)
            return read_inputs(images, prepare), torch.tensor(positions, dtype=torch.int64)
        boxes: list[Boxes] = []
        for i in index.tolist():
            torch.manual_seed(mix_seed(context.seed, context.epoch, 5, i))
            one, pil_image = self.image_or_substitute(i)
            image, image_boxes = random_zoom(pil_image, one.boxes(), prepare, context.settings)
            images.append(image)
            boxes.append(image_boxes)
        return read_inputs(images, prepare), pad_boxes(boxes)

    def digest(self) -> str:
        """Return a hash of file names and objects; what is in the images is not looked at."""
        return hash_chunks(self.files(), *(one.objects.tobytes() for one in self.samples))


def load_coco_detection(settings: DataSettings) -> Splits:
    """Read boxes in COCO's layout; `split_samples` tells what becomes of its parts.

    Files are annotations/instances_NAME.json with images in NAME (or images/NAME), where NAME is train2017, val2017
    and the like. Images without a box are evaluated, but not trained on.

    Raises:
        UserError: The layout, an annotation or the settings do not fit.
    """
    root = data_folder(settings, "COCO's folder, with annotations, train2017 and val2017")
    side = square_side(settings)
    if side is None:
        raise UserError("data.size is null; give the side of the squares that images become, e.g. --data.size 320")
    notes: list[str] = []
    files = annotation_files(root, *_KIND)
    read = {name: read_objects(path, images_folder(path, root, *_KIND), notes) for name, path in files.items()}
    classes = read["train"][0]
    if other := [name for name in read if read[name][0] != classes]:
        raise UserError(f"{files[other[0]]} has other categories than {files['train']}; give files with the same ones")
    sets = {name: DetectionDataset(samples, {}, settings.broken == "skip") for name, (_, samples) in read.items()}
    train, validation, test = split_samples(_clip_objects(sets, settings, notes), settings, notes, "image")
    teaching = np.flatnonzero([len(one.boxes()) for one in train.samples])
    if not len(teaching):
        raise UserError(f"no training image of {files['train']} has a box; give another file")
    if left_out := len(train) - len(teaching):
        notes.append(f"{left_out} of {len(train)} training images have no box; they are left out")
    train = train.subset(teaching)
    notes.append(f"{len(classes)} classes: {', '.join(classes[:20])}")
    notes.append(f"{len(train)} images for training, {len(validation)} for validation, {len(test)} for testing")
    notes.append(f"images are stretched to {side} x {side} pixels")
    return Splits(train, validation, test, classes, _with_normalisation(train, side), tuple(notes))


def read_objects(annotations: Path, images: Path, notes: list[str]) -> tuple[tuple[str, ...], tuple[BoxedImage, ...]]:
    """Read images and the boxes in them; boxes without area inside their image are left out.

    Args:
        annotations: JSON in COCO's format for instances.
        images: Folder that the file names in it start from.
        notes: What a person should know is added here.

    Returns:
        Names of the classes, by the number of their category; and all images that are listed.

    Raises:
        UserError: The file is no such JSON, or contradicts itself or the folder.
    """
    data = load_annotations(annotations)
    listed, categories = read_image_entries(data, annotations), _categories(data, annotations)
    entries = read_entries(data, "annotations", annotations)
    unknown = [f"image {e.get('image_id')}" for e in entries if not is_known(e.get("image_id"), listed)]
    reject_file(unknown, annotations, "annotates unknown images", "add them to its images, or remove their annotations")
    index = {number: i for i, number in enumerate(categories)}
    unknown = [f"category {e.get('category_id')}" for e in entries if not is_known(e.get("category_id"), index)]
    reject_file(
        unknown, annotations, "has boxes of unknown categories", "add them to its categories, or remove the boxes"
    )
    objects: dict[int, list[list[float]]] = {number: [] for number in listed}
    crowds = no_area = 0
    for entry, box, area in zip(entries, *_boxes_and_areas(entries, annotations), strict=True):
        pil_image, crowd = listed[entry["image_id"]], bool(entry.get("iscrowd"))
        if clip_box(box, pil_image["width"], pil_image["height"]) is None:
            no_area += 1
            continue
        crowds += crowd
        objects[entry["image_id"]].append([index[entry["category_id"]], *box, area, crowd])
    if len(entries) == crowds + no_area:
        raise UserError(f"{annotations} has no box inside an image; give another file")
    samples = []
    for number, pil_image in listed.items():
        size = int(pil_image["width"]), int(pil_image["height"])
        rows = np.array(objects[number], np.float64).reshape(-1, 7)
        samples.append(BoxedImage(images / pil_image["file_name"], size, rows))
    missing = sorted(str(one.image) for one in samples if not one.image.is_file())
    reject_file(missing, images, f"lacks {len(missing)} of {len(samples)} images", "give their folder, or fetch them")
    if crowds:
        notes.append(f"{crowds} of {len(entries)} boxes of {annotations} are crowds, which neither teach nor count")
    if no_area:
        notes.append(f"{no_area} of {len(entries)} boxes of {annotations} have no area; they are left out")
    return tuple(categories.values()), tuple(samples)


def random_zoom(
    pil_image: Image.Image, boxes_N5: Boxes, prepare: Preprocessing, settings: AugmentSettings
) -> tuple[Image.Image, Boxes]:
    """Return an image as training sees it; uses PyTorch's own random numbers.

    Perhaps a part of it, or all of it with black around, somewhere; mirrored, and in other colours.

    Args:
        image: RGB.
        boxes_N5: As of `BoxedImage.boxes`.
        prepare: Says what size it shall have.
        settings: What varies.

    Returns:
        The image in the input's size, and the boxes whose centres are in it, cut off at its border.
    """
    if settings.scale:
        size = 1 + settings.scale * _uniform()  # what is shown, in shares of the image
        center = 0.5 + abs(1 - size) / 2 * np.array([_uniform(), _uniform()])
        whole = np.array(pil_image.size)
        image = warp_image(pil_image, region_matrix(center * whole - 0.5, size * whole, 0, prepare.size), prepare.size)
        boxes_N5 = _zoom_matrix(boxes_N5, np.tile((center - size / 2).astype(np.float32), 2), size)
    else:
        image = prepare.fit_image(pil_image)
    if settings.flip and _uniform() < 0:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        boxes_N5 = np.column_stack(
            (boxes_N5[:, 0], 1 - boxes_N5[:, 3], boxes_N5[:, 2], 1 - boxes_N5[:, 1], boxes_N5[:, 4])
        )
    if settings.jitter:
        image = v2.ColorJitter(settings.jitter, settings.jitter, settings.jitter)(image)
    return image, boxes_N5


def pad_boxes(boxes: Sequence[Boxes]) -> Tensor:
    """Return boxes of images as one tensor (B, M, 5), with rows of -1 where an image has fewer than another."""
    made = torch.full((len(boxes), max([1, *map(len, boxes)]), 5), -1.0)
    for row, some in zip(made, boxes, strict=True):
        row[: len(some)] = torch.from_numpy(some)
    return made


def _categories(data: Any, path: Path) -> dict[int, str]:
    """Return names by number, in the order of the numbers."""
    entries = read_entries(data, "categories", path)
    name_of = {read_integer(entry, "id", path): entry.get("name") for entry in entries}
    names = list(name_of.values())
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(entries):
        raise UserError(f"categories of {path} must have different numbers and names; mend them")
    return {number: str(name_of[number]) for number in sorted(name_of)}


def _boxes_and_areas(entries: Sequence[Mapping[str, Any]], path: Path) -> tuple[list[list[float]], list[float]]:
    """Return boxes as annotated, and areas; where none is given, that of the box."""
    boxes = read_numbers(entries, "bbox", 4, path)
    filled = [
        {"id": e.get("id"), "area": e.get("area") or float(box[2] * box[3])}
        for e, box in zip(entries, boxes, strict=True)
    ]
    return boxes.tolist(), read_numbers(filled, "area", 1, path)[:, 0].tolist()


def _clip_objects(
    sets: Mapping[str, DetectionDataset], settings: DataSettings, notes: list[str]
) -> dict[str, DetectionDataset]:
    """Read all images if they fit into memory, and leave broken ones out, or refuse them."""
    sizes = {one.image: one.size for part in sets.values() for one in part.samples}
    upright = not drawn_as_stored(sizes, "boxes", notes)
    sets = {name: replace(part, upright=upright) for name, part in sets.items()}
    kept = keep_images(sizes, settings, notes, upright)
    if kept is None:
        return sets
    return {
        name: replace(part, samples=tuple(one for one in part.samples if one.image in kept), kept=kept)
        for name, part in sets.items()
    }


def _with_normalisation(train: DetectionDataset, side: int) -> Preprocessing:
    """Return the preprocessing, with mean and deviation over some training images."""
    plain = Preprocessing(3, (side, side), (0.0,) * 3, (1.0,) * 3)
    return with_normalisation(
        plain, (plain.pixels(train.image_or_substitute(i)[1]) for i in sample_indices(len(train), _MEASURED))
    )


def _zoom_matrix(boxes_N5: Boxes, corner_4: Boxes, size: float) -> Boxes:
    """Return boxes in shares of a region with this corner and size; those whose centre it lacks are left out."""
    places = (boxes_N5[:, 1:] - corner_4) / size
    centers = (places[:, :2] + places[:, 2:]) / 2
    inside = ((centers > 0) & (centers < 1)).all(1)
    return np.column_stack((boxes_N5[inside, 0], places[inside].clip(0, 1))).astype(np.float32)


def _uniform() -> float:
    """From -1 to 1."""
    return float(torch.empty(()).uniform_(-1, 1))
