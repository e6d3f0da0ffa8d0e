"""Objects in boxes: images stretched to squares, varied in training, their boxes in register."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from ..config.recipe import AugmentSettings, DataSettings
from ..errors import UserError
from .annotated_images import AnnotatedDataset, keep_splits, read_inputs
from .boxed_image import BoxedImage, Boxes
from .broken_files import iterate_readable
from .class_names import note_missing
from .detection_layouts import read_boxed_parts
from .file_lists import data_folder
from .geometry import region_matrix, warp_image
from .mirror_names import describe_sides, pair_names
from .preprocessing import Preprocessing, with_normalisation
from .randomness import sample_indices
from .samples import AugmentContext, Batch, Index, Splits, hash_chunks, pad_rows, square_side
from .splits import split_samples

_MEASURED = 64  # images that the normalisation is measured on


@dataclass(frozen=True, eq=False)
class DetectionDataset(AnnotatedDataset[BoxedImage]):
    """Images with objects in boxes.

    Attributes:
        mirrored: Per class, the one that it is in a mirrored image: itself, or that of the other side.
    """

    mirrored: tuple[int, ...]

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
            context.seed_random(5, i)
            one, pil_image = self.image_or_substitute(i)
            image, image_boxes = random_zoom(pil_image, one.boxes(), prepare, context.settings, self.mirrored)
            images.append(image)
            boxes.append(image_boxes)
        return read_inputs(images, prepare), pad_boxes(boxes)

    def digest(self) -> str:
        """Return a hash of file names and objects; what is in the images is not looked at."""
        return hash_chunks(self.files(), *(one.objects.tobytes() for one in self.samples))


def load_detection(settings: DataSettings) -> Splits:
    """Read objects in boxes; `split_samples` tells what becomes of the parts.

    `read_boxed_parts` tells the layouts. Images without a box are evaluated, but not trained on.

    Raises:
        UserError: The layout, an annotation or the settings do not fit.
    """
    root = data_folder(settings, "a folder of COCO's format, with annotations, train2017 and val2017, or of YOLO's")
    side = square_side(settings)
    if side is None:
        raise UserError("data.size is null; give the side of the squares that images become, e.g. --data.size 320")
    notes: list[str] = []
    boxes = read_boxed_parts(root, settings, notes)
    classes = boxes.classes
    mirrored, alone = pair_names(classes)
    sets = {name: DetectionDataset(part, {}, settings.broken == "skip", mirrored) for name, part in boxes.parts.items()}
    train, validation, test = split_samples(keep_splits(sets, "boxes", settings, notes), settings, notes, "image")
    teaching = np.flatnonzero([len(one.boxes()) for one in train.samples])
    if not len(teaching):
        raise UserError(f"no training image of {root} has a box; give other annotations")
    if left_out := len(train) - len(teaching):
        notes.append(f"{left_out} of {len(train)} training images have no box; they are left out")
    train = train.subset(teaching)
    notes.append(f"{len(classes)} classes: {', '.join(classes[:20])}")
    labels = np.concatenate([one.boxes()[:, 0] for one in train.samples]).astype(np.int64)
    note_missing(classes, np.bincount(labels, minlength=len(classes)).tolist(), "image", notes)
    notes += describe_sides(classes, mirrored, alone)
    notes.append(f"{len(train)} images for training, {len(validation)} for validation, {len(test)} for testing")
    notes.append(f"images are stretched to {side} x {side} pixels")
    return Splits(train, validation, test, classes, _with_normalisation(train, side), tuple(notes))


def random_zoom(
    pil_image: Image.Image,
    boxes_N5: Boxes,
    prepare: Preprocessing,
    settings: AugmentSettings,
    mirrored: Sequence[int],
) -> tuple[Image.Image, Boxes]:
    """Return an image as training sees it; uses PyTorch's own random numbers.

    Perhaps a part of it, or all of it with black around, somewhere; mirrored, and in other colours.

    Args:
        image: RGB.
        boxes_N5: As of `BoxedImage.boxes`.
        prepare: Says what size it shall have.
        settings: What varies.
        mirrored: As of `DetectionDataset`.

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
        classes = np.array(mirrored, np.float32)[boxes_N5[:, 0].astype(np.int64)]
        boxes_N5 = np.column_stack((classes, 1 - boxes_N5[:, 3], boxes_N5[:, 2], 1 - boxes_N5[:, 1], boxes_N5[:, 4]))
    if settings.jitter:
        image = v2.ColorJitter(settings.jitter, settings.jitter, settings.jitter)(image)
    return image, boxes_N5


def pad_boxes(boxes: Sequence[Boxes]) -> Tensor:
    """Return boxes of images as one tensor (B, M, 5), with rows of -1 where an image has fewer than another."""
    return pad_rows([torch.from_numpy(some) for some in boxes], 5)


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
