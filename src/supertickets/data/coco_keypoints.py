"""People as samples of pose estimation: regions around them, varied in training, with their joints in register."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from ..config.recipe import AugmentSettings, DataSettings
from ..errors import UserError
from .annotated_images import AnnotatedDataset, keep_splits, read_inputs
from .broken_files import iterate_readable
from .coco_files import find_annotations, has_annotations, note_images
from .coco_keypoints_json import AnnotatedPeople, Person, read_people
from .file_lists import data_folder, find_child, list_files, shorten_list, unwrap_until
from .geometry import Floats, Values, box_region, mirror_joints, region_matrix, to_unit_square, transform, warp_image
from .joints import Joints
from .mirror_names import describe_mirror
from .person_boxes import read_detections
from .preprocessing import Preprocessing, to_tensor, with_normalisation
from .randomness import sample_indices
from .samples import AugmentContext, Batch, Index, Splits, hash_chunks, height_and_width
from .splits import split_samples

_KIND = ("person_keypoints", "keypoints")  # of annotations
_SHARE = 0.8  # of its region that a box fills: COCO's usual margin of 1.25
_HALF_SHARE = 1 / 1.5  # the same for half a body
_HALF_NEEDS = 8  # more joints than these must be marked
_LOWER = ("hip", "knee", "ankle", "heel", "foot", "toe")
_MEASURED = 64  # regions that the normalisation is measured on


class Regions(NamedTuple):
    """The people of an evaluated batch.

    Attributes:
        positions: int64, shape (B,): places in the split.
        matrices: float64, shape (B, 2, 3): affine maps from the images to the inputs.
        joints: float32, shape (B, K, 3): as the targets of a training.
    """

    positions: Index
    matrices: Floats
    joints: Tensor


@dataclass(frozen=True, eq=False)
class PersonDataset(AnnotatedDataset[Person]):
    """People in images, whose joints are known; or boxes of a detector, with joints of zero.

    Attributes:
        joints: What the joints are.
        truth: COCO's ground truth for their images; an evaluation compares with it.
    """

    joints: Joints
    truth: Mapping[str, Any]

    def subset(self, index: Index) -> PersonDataset:
        """Return the people at some positions, and what is true of their images."""
        people = tuple(self.samples[i] for i in index)
        return replace(self, samples=people, truth=true_people(self.truth, {person.image_id for person in people}))

    def keep(self, kept: Mapping[Path, Image.Image]) -> PersonDataset:
        """Return the people whose images were read, and what is true of these images."""
        lost = {person.image_id for person in self.samples if person.image not in kept}
        truth = true_people(self.truth, {image["id"] for image in self.truth["images"]} - lost)
        return replace(super().keep(kept), truth=truth)

    def batch(self, index: Index, prepare: Preprocessing, context: AugmentContext | None) -> Batch:
        """Return inputs, and in training joints (B, K, 3): x, y in shares of the input, and v; else `Regions`."""
        images, joints = [], []
        if context is not None:
            for i in index.tolist():
                context.seed_random(5, i)
                image, marks = random_region(*self.image_or_substitute(i), self.joints, prepare, context.settings)
                images.append(image)
                joints.append(to_unit_square(marks, prepare.size))
            return read_inputs(images, prepare), self._targets(joints)
        positions, matrices = [], []
        for i, (person, pil_image) in iterate_readable(self.image, index, self.skip):
            matrix = box_matrix(person.box, prepare)
            images.append(warp_image(pil_image, matrix, prepare.size))
            joints.append(to_unit_square(map_joints(person.joints, matrix), prepare.size))
            positions.append(i)
            matrices.append(matrix)
        places = np.array(positions, np.int64), np.array(matrices).reshape(-1, 2, 3)
        return read_inputs(images, prepare), Regions(*places, self._targets(joints))

    def digest(self) -> str:
        """Return a hash of file names, boxes and joints; what is in the images is not looked at."""
        boxes = np.array([person.box for person in self.samples], np.float64)
        return hash_chunks(self.files(), boxes.tobytes(), *(person.joints.tobytes() for person in self.samples))

    def _targets(self, joints: Sequence[Values]) -> Tensor:
        return torch.from_numpy(np.array(joints, np.float32).reshape(-1, len(self.joints.names), 3))


def load_coco_keypoints(settings: DataSettings) -> Splits:
    """Read people in COCO's layout; `split_samples` tells what becomes of its parts.

    `find_annotations` tells where the files are.

    Raises:
        UserError: The layout, an annotation or the settings do not fit.
    """
    root = data_folder(settings, "COCO's folder, with annotations, train2017 and val2017")
    root = unwrap_until(root, lambda folder: has_annotations(folder, _KIND[0]))
    height, width = height_and_width(settings, "the regions around people", [256, 192])
    if height % 4 or width % 4:
        nearest = max(16, round(height / 4) * 4), max(16, round(width / 4) * 4)
        raise UserError(f"data.size is {height} x {width}; the nearest possible is {nearest[0]} x {nearest[1]}")
    notes: list[str] = []
    files = find_annotations(root, *_KIND, notes)
    read = {name: read_people(file, notes, settings.broken) for name, file in files.items()}
    first = "train" if "train" in read else "all"
    if other := [name for name in read if read[name].joints.names != read[first].joints.names]:
        raise UserError(
            f"{files[other[0]].path} has other joints than {files[first].path}; give files with the same ones"
        )
    note_images({name: [image for image, _ in part.images.values()] for name, part in read.items()}, notes)
    sets = {
        name: PersonDataset(part.people, {}, settings.broken == "skip", part.joints, part.truth)
        for name, part in read.items()
    }
    train, validation, test = split_samples(keep_splits(sets, "joints", settings, notes), settings, notes, "person")
    if settings.boxes != "truth":
        source = next(name for name in ("test", "val", "train", "all") if name in read)
        test = _detected_people(test, root, (files[source].path, read[source]), settings, notes)
    joints = train.joints
    notes.append(f"{len(joints.names)} joints: {', '.join(joints.names[:20])}")
    notes.append(describe_mirror(joints.names, joints.flip))
    is_marked = np.any([person.joints[:, 2] > 0 for person in train.samples], axis=0)
    if unmarked := [name for name, marked in zip(joints.names, is_marked.tolist(), strict=True) if not marked]:
        notes.append(
            f"nobody has {shorten_list(unmarked, total=True)} marked in training: nothing can be learned of it"
        )
    notes.append(f"{len(train)} people for training, {len(validation)} for validation, {len(test)} boxes for testing")
    notes.append(f"regions around people are made to {width} x {height} pixels")
    return Splits(
        train, validation, test, joints.names, _with_normalisation(train, (height, width)), tuple(notes), joints.limbs
    )


def box_matrix(box: tuple[float, float, float, float], prepare: Preprocessing) -> Floats:
    """Return the affine map from an image to the input for the region around a box."""
    return region_matrix(*box_region(box, prepare.size, 1 / prepare.share), 0, prepare.size)


def map_joints(joints_K3: Values, matrix: Floats) -> Floats:
    """Return joints of an image where an affine map takes them."""
    return np.column_stack((transform(joints_K3[:, :2], matrix), joints_K3[:, 2]))


def random_region(
    person: Person, pil_image: Image.Image, joints: Joints, prepare: Preprocessing, settings: AugmentSettings
) -> tuple[Image.Image, Floats]:
    """Return the region of a person as training sees it; uses PyTorch's own random numbers.

    Perhaps only half of the body, of another size, turned, mirrored and in other colours.

    Returns:
        The image in the input's size, and the joints in its pixels.
    """
    box, share = person.box, prepare.share
    if settings.half_body and _uniform(0, 1) < settings.half_body:
        half = half_body(person.joints, joints.names, upper=_uniform(0, 1) < 0.5)
        box, share = (half, _HALF_SHARE) if half is not None else (box, share)
    center, size = box_region(box, prepare.size, 1 / share)
    size = size * (1 + settings.scale * _uniform(-1, 1))
    is_turned = settings.rotate_share >= 1 or _uniform(0, 1) < settings.rotate_share
    matrix = region_matrix(center, size, settings.rotate * _uniform(-1, 1) if is_turned else 0, prepare.size)
    image, marks = warp_image(pil_image, matrix, prepare.size), map_joints(person.joints, matrix)
    if settings.flip and _uniform(0, 1) < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        marks = mirror_joints(marks, prepare.size[1], joints.flip).astype(np.float64)
    if settings.jitter:
        image = v2.ColorJitter(settings.jitter, settings.jitter, settings.jitter)(image)
    return image, marks


def half_body(joints_K3: Values, names: tuple[str, ...], *, upper: bool) -> tuple[float, float, float, float] | None:
    """Return the box of the joints from the hips down, or of the others; None if they are too few.

    More than eight joints must be marked, and more than two in the half. If those of the lower half are too few, the
    upper one is taken.
    """
    marked = joints_K3[:, 2] > 0
    lower = np.array([any(part in name.lower() for part in _LOWER) for name in names])
    half = marked & (~lower if upper or (marked & lower).sum() <= 2 else lower)
    if marked.sum() <= _HALF_NEEDS or half.sum() <= 2:
        return None
    low, high = joints_K3[half, :2].min(0), joints_K3[half, :2].max(0)
    return (float(low[0]), float(low[1]), float(high[0] - low[0]) + 1, float(high[1] - low[1]) + 1)


def true_people(truth: Mapping[str, Any], images: set[int]) -> dict[str, Any]:
    """Return the part of COCO's ground truth that belongs to some images."""
    return {
        "images": [image for image in truth["images"] if image["id"] in images],
        "categories": truth["categories"],
        "annotations": [entry for entry in truth["annotations"] if entry["image_id"] in images],
    }


def _detected_people(
    test: PersonDataset,
    root: Path,
    source: tuple[Path, AnnotatedPeople],
    settings: DataSettings,
    notes: list[str],
) -> PersonDataset:
    """Return the test split with the boxes of a detector in place of the true ones.

    Args:
        test: The test split.
        root: Folder of the data set.
        source: File that the test split is from, and what it tells.
        settings: Read ``boxes``.
        notes: What a person should know is added here.
    """
    annotations, people_of = source
    listed = {image["id"] for image in test.truth["images"]}
    images = {number: image for number, image in people_of.images.items() if number in listed}
    boxes = Path(settings.boxes)
    if settings.boxes == "detected":
        folder = find_child(root, ("person_detection_results",)) or root / "person_detection_results"
        candidates = list_files(folder, ".json")
        fitting = [
            path for path in candidates if annotations.stem.removeprefix(f"{_KIND[0]}_") in path.name
        ] or candidates
        if len(fitting) != 1:
            raise UserError(
                f"{folder} has {len(fitting)} JSON files with boxes for {annotations.name}; name one as data.boxes"
            )
        boxes = fitting[0]
    kinds = {"joints": len(test.joints.names), "category_id": test.joints.category_id}
    people = read_detections(boxes, images, notes=notes, **kinds)
    if not people:
        raise UserError(f"{boxes} has no box of a person in the test images; give another file")
    return replace(test, samples=people)


def _with_normalisation(train: PersonDataset, size: tuple[int, int]) -> Preprocessing:
    """Return the preprocessing, with mean and deviation over the regions of some training people."""
    plain = Preprocessing(3, size, (0.0,) * 3, (1.0,) * 3, "pad", _SHARE)
    regions = (train.image_or_substitute(i) for i in sample_indices(len(train), _MEASURED))
    return with_normalisation(
        plain, (to_tensor(warp_image(image, box_matrix(person.box, plain), size)) for person, image in regions)
    )


def _uniform(low: float, high: float) -> float:
    return float(torch.empty(()).uniform_(low, high))
