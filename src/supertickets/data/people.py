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

from ..errors import UserError
from ..recipe import AugmentSettings, DataSettings
from .coco import Joints, Person, read_detections, read_images, read_people, read_truth
from .coco_files import AnnotatedSet, annotation_files, inputs_of, keep_pictures, pictures_folder
from .files import divide, readable
from .folders import data_folder
from .pictures import Preprocessing, measured, to_tensor
from .randomness import mix, some_of
from .regions import Floats, Values, as_shares, box_region, cut_out, mirror_joints, region_matrix, transform
from .samples import Batch, Index, Splits, Variation, height_and_width, sha256

_KIND = ("person_keypoints", "keypoints")  # of annotations
_SHARE = 0.8  # of its region that a box fills: COCO's usual margin of 1.25
_HALF_SHARE = 1 / 1.5  # the same for half a body
_HALF_NEEDS = 8  # more joints than these must be marked
_LOWER = ("hip", "knee", "ankle", "heel", "foot", "toe")
_MEASURED = 64  # regions that the normalisation is measured on


class Regions(NamedTuple):
    """What an evaluation knows of a batch.

    Attributes:
        positions: int64, shape (B,): places in the split.
        matrices: float64, shape (B, 2, 3): affine maps from the pictures to the inputs.
        joints: float32, shape (B, K, 3): as the targets of a training.
    """

    positions: Index
    matrices: Floats
    joints: Tensor


@dataclass(frozen=True, eq=False)
class PeopleSet(AnnotatedSet[Person]):
    """People in pictures, whose joints are known; or boxes of a detector, with joints of zero.

    Attributes:
        joints: What the joints are.
        truth: COCO's ground truth for their pictures; an evaluation compares with it.
    """

    joints: Joints
    truth: Mapping[str, Any]

    def subset(self, index: Index) -> PeopleSet:
        """The people at some positions, and what is true of their pictures."""
        people = tuple(self.samples[i] for i in index)
        return replace(self, samples=people, truth=truth_of(self.truth, {person.image_id for person in people}))

    def batch(self, index: Index, prepare: Preprocessing, vary: Variation | None) -> Batch:
        """Inputs, and in training joints (B, K, 3): x, y in shares of the input, and v; else `Regions`."""
        images, joints = [], []
        if vary is not None:
            for i in index.tolist():
                torch.manual_seed(mix(vary.seed, vary.epoch, 5, i))
                image, found = random_region(*self.picture_or_another(i), self.joints, prepare, vary.settings)
                images.append(image)
                joints.append(as_shares(found, prepare.size))
            return inputs_of(images, prepare), self._targets(joints)
        positions, matrices = [], []
        for i, (person, picture) in readable(self.picture, index, self.skip):
            matrix = box_matrix(person.box, prepare)
            images.append(cut_out(picture, matrix, prepare.size))
            joints.append(as_shares(mapped(person.joints, matrix), prepare.size))
            positions.append(i)
            matrices.append(matrix)
        places = np.array(positions, np.int64), np.array(matrices).reshape(-1, 2, 3)
        return inputs_of(images, prepare), Regions(*places, self._targets(joints))

    def digest(self) -> str:
        """A hash of file names, boxes and joints; what is in the pictures is not looked at."""
        boxes = np.array([person.box for person in self.samples], np.float64)
        return sha256(self.files(), boxes.tobytes(), *(person.joints.tobytes() for person in self.samples))

    def _targets(self, joints: Sequence[Values]) -> Tensor:
        return torch.from_numpy(np.array(joints, np.float32).reshape(-1, len(self.joints.names), 3))


def load_people(settings: DataSettings) -> Splits:
    """Reads people in COCO's layout; `divide` tells what becomes of its parts.

    Files are annotations/person_keypoints_NAME.json with pictures in NAME (or images/NAME), where NAME is train2017,
    val2017 and the like.

    Raises:
        UserError: The layout, an annotation or the settings do not fit.
    """
    root = data_folder(settings, "COCO's folder, with annotations, train2017 and val2017")
    height, width = height_and_width(settings, "the regions around people", [256, 192])
    if height % 4 or width % 4:
        nearest = max(16, round(height / 4) * 4), max(16, round(width / 4) * 4)
        raise UserError(f"data.size is {height} x {width}; the nearest possible is {nearest[0]} x {nearest[1]}")
    notes: list[str] = []
    files = annotation_files(root, *_KIND)
    sets = {name: _people(path, root, settings, notes) for name, path in files.items()}
    names = {name: part.joints.names for name, part in sets.items()}
    if other := [name for name in names if names[name] != names["train"]]:
        raise UserError(f"{files[other[0]]} has other joints than {files['train']}; give files with the same ones")
    sets = _kept(sets, settings, notes)
    train, validation, test = divide(sets, settings, notes, "person")
    if settings.boxes != "truth":
        test = _detected(test, root, files, settings, notes)
    joints = train.joints
    notes.append(f"{len(joints.names)} joints: {', '.join(joints.names[:20])}")
    notes.append(f"{len(train)} people for training, {len(validation)} for validation, {len(test)} boxes for testing")
    notes.append(f"regions around people are made to {width} x {height} pixels")
    return Splits(train, validation, test, joints.names, _measured(train, (height, width)), tuple(notes), joints.limbs)


def box_matrix(box: tuple[float, float, float, float], prepare: Preprocessing) -> Floats:
    """The affine map from a picture to the input for the region around a box."""
    return region_matrix(*box_region(box, prepare.size, 1 / prepare.share), 0, prepare.size)


def mapped(joints_K3: Values, matrix: Floats) -> Floats:
    """Joints of a picture where an affine map takes them."""
    return np.column_stack((transform(joints_K3[:, :2], matrix), joints_K3[:, 2]))


def random_region(
    person: Person, picture: Image.Image, joints: Joints, prepare: Preprocessing, settings: AugmentSettings
) -> tuple[Image.Image, Floats]:
    """The region of a person as training sees it; uses PyTorch's own random numbers.

    Perhaps only half of the body, of another size, turned, mirrored and in other colours.

    Returns:
        The picture in the input's size, and the joints in its pixels.
    """
    box, share = person.box, prepare.share
    if settings.half_body and _uniform(0, 1) < settings.half_body:
        half = half_body(person.joints, joints.names, upper=_uniform(0, 1) < 0.5)
        box, share = (half, _HALF_SHARE) if half is not None else (box, share)
    center, size = box_region(box, prepare.size, 1 / share)
    size = size * (1 + settings.scale * _uniform(-1, 1))
    is_turned = settings.rotate_share >= 1 or _uniform(0, 1) < settings.rotate_share
    matrix = region_matrix(center, size, settings.rotate * _uniform(-1, 1) if is_turned else 0, prepare.size)
    image, found = cut_out(picture, matrix, prepare.size), mapped(person.joints, matrix)
    if settings.flip and _uniform(0, 1) < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        found = mirror_joints(found, prepare.size[1], joints.flip).astype(np.float64)
    if settings.jitter:
        image = v2.ColorJitter(settings.jitter, settings.jitter, settings.jitter)(image)
    return image, found


def half_body(joints_K3: Values, names: tuple[str, ...], *, upper: bool) -> tuple[float, float, float, float] | None:
    """The box of the joints from the hips down, or of the others; None if they are too few.

    More than eight joints must be marked, and more than two in the half. If those of the lower half are too few, the
    upper one is taken.
    """
    marked = joints_K3[:, 2] > 0
    lower = np.array([any(part in name for part in _LOWER) for name in names])
    half = marked & (~lower if upper or (marked & lower).sum() <= 2 else lower)
    if marked.sum() <= _HALF_NEEDS or half.sum() <= 2:
        return None
    low, high = joints_K3[half, :2].min(0), joints_K3[half, :2].max(0)
    return (float(low[0]), float(low[1]), float(high[0] - low[0]) + 1, float(high[1] - low[1]) + 1)


def truth_of(truth: Mapping[str, Any], images: set[int]) -> dict[str, Any]:
    """The part of COCO's ground truth that belongs to some images."""
    return {
        "images": [image for image in truth["images"] if image["id"] in images],
        "categories": truth["categories"],
        "annotations": [entry for entry in truth["annotations"] if entry["image_id"] in images],
    }


def _people(path: Path, root: Path, settings: DataSettings, notes: list[str]) -> PeopleSet:
    joints, people = read_people(path, pictures_folder(path, root, *_KIND), notes, settings.broken)
    truth = read_truth(path, people, joints.category_id)
    return PeopleSet(people, {}, settings.broken == "skip", joints, truth)


def _kept(sets: Mapping[str, PeopleSet], settings: DataSettings, notes: list[str]) -> dict[str, PeopleSet]:
    """Reads all pictures if they fit into memory, and leaves broken ones out, or refuses them."""
    sizes = {person.image: person.size for part in sets.values() for person in part.samples}
    kept = keep_pictures(sizes, settings, notes)
    if kept is None:
        return dict(sets)
    made = {}
    for name, part in sets.items():
        lost = {person.image_id for person in part.samples if person.image not in kept}
        truth = truth_of(part.truth, {image["id"] for image in part.truth["images"]} - lost)
        people = tuple(person for person in part.samples if person.image in kept)
        made[name] = replace(part, samples=people, truth=truth, kept=kept)
    return made


def _detected(
    test: PeopleSet, root: Path, files: Mapping[str, Path], settings: DataSettings, notes: list[str]
) -> PeopleSet:
    """The test split with the boxes of a detector in place of the true ones."""
    source = files.get("test", files.get("val", files["train"]))
    listed = {image["id"] for image in test.truth["images"]}
    images = {
        number: image
        for number, image in read_images(source, pictures_folder(source, root, *_KIND)).items()
        if number in listed
    }
    boxes = Path(settings.boxes)
    if settings.boxes == "detected":
        found = sorted((root / "person_detection_results").glob("*.json"))
        fitting = [path for path in found if source.stem.removeprefix(f"{_KIND[0]}_") in path.name] or found
        if len(fitting) != 1:
            raise UserError(
                f"{root / 'person_detection_results'} has {len(fitting)} JSON files with boxes for {source.name}; "
                "name one as data.boxes"
            )
        boxes = fitting[0]
    kinds = {"joints": len(test.joints.names), "category_id": test.joints.category_id}
    people = read_detections(boxes, images, notes=notes, **kinds)
    if not people:
        raise UserError(f"{boxes} has no box of a person in the test pictures; give another file")
    return replace(test, samples=people)


def _measured(train: PeopleSet, size: tuple[int, int]) -> Preprocessing:
    """The preprocessing, with mean and deviation over the regions of some training people."""
    plain = Preprocessing(3, size, (0.0,) * 3, (1.0,) * 3, "pad", _SHARE)
    found = (train.picture_or_another(i) for i in some_of(len(train), _MEASURED))
    return measured(
        plain, (to_tensor(cut_out(picture, box_matrix(person.box, plain), size)) for person, picture in found)
    )


def _uniform(low: float, high: float) -> float:
    return float(torch.empty(()).uniform_(low, high))
