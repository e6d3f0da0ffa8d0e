"""Crowds: pictures in which points are counted, in ShanghaiTech's layout; cropped at random, evaluated whole."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from ..errors import UserError
from ..recipe import AugmentSettings, DataSettings
from .coco_files import AnnotatedSet, keep_pictures
from .files import divide, read_all, readable
from .folders import ENDINGS, child, data_folder
from .pictures import BrokenPicture, Preprocessing, measured, stored_size, to_tensor
from .randomness import mix, some_of
from .regions import Floats
from .samples import Batch, Index, Splits, Variation, height_and_width, sha256
from .scenes import below, counted, index_files, some
from .segments import crop_sides, distorted, random_corner

CLASSES = ("density",)  # the one output
_PARTS = ("train", "val", "test")
_MEASURED = 64  # pictures that the normalisation is measured on
_LIKE = "train_data/ground-truth/GT_IMG_1.mat for train_data/images/IMG_1.jpg"
_STRANGE = 0.1  # share of the points outside their picture from which on they are those of another one
# Geometry-adaptive Gaussians (MCNN, Zhang et al. 2016): nearest points, factor on their mean distance, and that of one
# point alone, in pixels.
_NEAREST, _FACTOR, _ALONE = 3, 0.3, 15.0


@dataclass(frozen=True, eq=False)
class Crowd:
    """A picture and the points in it that are counted.

    Attributes:
        image: File of the picture.
        size: Its width and height.
        points: float64 of shape (N, 4): x, y from the upper left corner, and the deviations along x and y of the
            Gaussian that a point becomes; in pixels of the picture.
    """

    image: Path
    size: tuple[int, int]
    points: Floats


@dataclass(frozen=True, eq=False)
class CrowdSet(AnnotatedSet[Crowd]):
    """Pictures with points, which are those of the pictures as they are stored."""

    upright: ClassVar[bool] = False

    def subset(self, index: Index) -> CrowdSet:
        """The pictures at some positions."""
        return replace(self, samples=tuple(self.samples[i] for i in index))

    def batch(self, index: Index, prepare: Preprocessing, vary: Variation | None) -> Batch:
        """Inputs, and in training points (B, M, 4): x, y and deviations in shares of the input; rows of -1 fill up.

        An evaluation gets whole pictures, and a list of points (N, 4) instead.
        """
        images, points = [], []
        if vary is None:
            for _, (one, picture) in readable(self.picture, index, self.skip):
                images.append(prepare(prepare.resized(to_tensor(picture))[None])[0])
                points.append(in_shares(one.points, one.size))
            return torch.stack(images) if images else torch.empty(0, 3, *prepare.size), points
        for i in index.tolist():
            torch.manual_seed(mix(vary.seed, vary.epoch, 5, i))
            one, picture = self.picture_or_another(i)
            crop, found = random_crop(to_tensor(picture), one.points, prepare, vary.settings)
            # What is missing at the border is the mean colour, without points.
            gap = (0, prepare.size[1] - crop.shape[2], 0, prepare.size[0] - crop.shape[1])
            images.append(F.pad(prepare(crop[None])[0], gap))
            points.append(in_shares(found, (prepare.size[1], prepare.size[0])))
        return torch.stack(images), filled_up(points)

    def digest(self) -> str:
        """A hash of file names and points; what is in the pictures is not looked at."""
        return sha256(self.files(), *(one.points.tobytes() for one in self.samples))


def load_crowds(settings: DataSettings) -> Splits:
    """Reads a part of ShanghaiTech, or data laid out like one; `divide` tells what becomes of its splits.

    Files are train_data/images/IMG_1.jpg and train_data/ground-truth/GT_IMG_1.mat (or ground_truth), and the same in
    test_data.

    Raises:
        UserError: The layout, a file or the settings do not fit.
    """
    root = part_of(data_folder(settings, "a part of ShanghaiTech, with train_data and test_data"))
    size = height_and_width(settings, "the crops", [256, 256])
    notes: list[str] = []
    read = {name: _read_split(folder, settings, notes) for name in _PARTS if (folder := root / f"{name}_data").is_dir()}
    if outside := sum(number for _, number in read.values()):
        notes.append(f"{counted(outside, 'point')} outside the picture moved to its border")
    kept = keep_pictures(
        {one.image: one.size for crowds, _ in read.values() for one in crowds}, settings, notes, upright=False
    )
    sets = {
        name: CrowdSet(
            tuple(one for one in crowds if kept is None or one.image in kept), kept or {}, settings.broken == "skip"
        )
        for name, (crowds, _) in read.items()
    }
    train, validation, test = divide(sets, settings, notes, "picture")
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        numbers = [len(one.points) for one in part.samples]
        notes.append(f"{len(part)} {name} pictures, {min(numbers)} to {max(numbers)} points, {np.mean(numbers):.1f}")
    shown = f"resized to a shorter side of {settings.shorter} pixels" if settings.shorter else "taken as they are"
    notes.append(f"pictures are {shown}; crops are {size[1]} x {size[0]}")
    plain = Preprocessing(3, size, (0.0,) * 3, (1.0,) * 3, "shorter", shorter=settings.shorter or 0)
    pictures = (plain.resized(to_tensor(train.picture_or_another(i)[1])) for i in some_of(len(train), _MEASURED))
    return Splits(train, validation, test, CLASSES, measured(plain, pictures), tuple(notes))


def part_of(root: Path) -> Path:
    """The folder with train_data: the one that is given, or the only one in it.

    Raises:
        UserError: There is none, or there are several.
    """
    for depth in ("", "*/", "*/*/"):
        found = sorted(path.parent for path in root.glob(f"{depth}train_data") if path.is_dir())
        if len(found) > 1:
            raise UserError(f"{root} has several parts, {', '.join(below(root, found))}; give one of them")
        if found:
            return found[0]
    raise UserError(f"{root} is not laid out like ShanghaiTech: folder train_data is missing; give files like {_LIKE}")


def read_crowd(image: Path, truth: Path, sigma: float | None) -> tuple[Crowd, int]:
    """Reads the points of a picture; those outside are moved to its border.

    Args:
        image: The picture.
        truth: Its MATLAB file.
        sigma: See ``data.sigma``.

    Returns:
        The picture's points; and how many of them were outside.

    Raises:
        BrokenPicture: A file cannot be read, or many points are outside.
    """
    points, size = read_points(truth), stored_size(image)
    inside = points.clip(0, size)
    outside = int((points != inside).any(1).sum())
    if outside > _STRANGE * len(points):
        raise BrokenPicture(
            f"{truth} has {outside} of {len(points)} points outside of {image.name}, which is {size[0]} x {size[1]} "
            "pixels; give the points of this picture"
        )
    deviations = np.full(len(points), sigma) if sigma else adaptive(inside)
    return Crowd(image, size, np.column_stack((inside, deviations, deviations))), outside


def read_points(path: Path) -> Floats:
    """The points of a MATLAB file of ShanghaiTech: x, y, float64 of shape (N, 2), as ``image_info`` holds them.

    Raises:
        BrokenPicture: It cannot be read, or holds something else.
    """
    try:
        found = loadmat(path)["image_info"][0, 0][0, 0][0]
        points = np.asarray(found, np.float64).reshape(-1, 2)
    except NotImplementedError:
        raise BrokenPicture(f"{path} is a MATLAB file of version 7.3; save it as version 7 or older") from None
    except (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, MatReadError, zlib.error) as error:
        why = " ".join(str(error).split())
        raise BrokenPicture(
            f"{path} holds no points as image_info of ShanghaiTech's MATLAB files ({why}); fetch it again"
        ) from None
    if not np.isfinite(points).all():
        raise BrokenPicture(f"{path} holds points that are not finite numbers; mend it")
    return points


def adaptive(points_N2: Floats) -> Floats:
    """Geometry-adaptive deviations (N,): 0.3 times the mean distance to the three nearest points, at least 1 pixel."""
    near = min(_NEAREST, len(points_N2) - 1)
    if near < 1:
        return np.full(len(points_N2), _ALONE)
    distances = KDTree(points_N2).query(points_N2, near + 1)[0]
    return np.maximum(1.0, _FACTOR * distances[:, 1:].mean(1))


def random_crop(
    picture: Tensor, points_N4: Floats, prepare: Preprocessing, settings: AugmentSettings
) -> tuple[Tensor, Floats]:
    """Resizes by a random factor, crops at random, flips and colours; uses PyTorch's own random numbers.

    Returns:
        uint8 (3, h, w), no larger than ``prepare.size``; and the points that are in it, in its pixels.
    """
    sides = picture.shape[1], picture.shape[2]
    box, size = crop_sides(sides, prepare, settings)
    top, left = random_corner(sides, box)
    picture = TF.resize(picture[:, top : top + box[0], left : left + box[1]], size, antialias=True)
    factor = np.array([size[1] / box[1], size[0] / box[0]])
    points = np.hstack(((points_N4[:, :2] - [left, top]) * factor, points_N4[:, 2:] * factor))
    points = points[((points[:, :2] >= 0) & (points[:, :2] <= [size[1], size[0]])).all(1)]
    if settings.flip and torch.rand(()) < 0.5:
        picture = TF.horizontal_flip(picture)
        points[:, 0] = size[1] - points[:, 0]
    if settings.photometric:
        picture = distorted(picture)
    return picture, points


def in_shares(points_N4: Floats, size: tuple[int, int]) -> Tensor:
    """Points and deviations in shares of a width and a height, float32."""
    return torch.from_numpy((points_N4 / np.tile(size, 2)).astype(np.float32))


def filled_up(points: Sequence[Tensor]) -> Tensor:
    """Points of pictures as one tensor (B, M, 4), with rows of -1 where a picture has fewer than another."""
    made = torch.full((len(points), max([1, *map(len, points)]), 4), -1.0)
    for row, some_points in zip(made, points, strict=True):
        row[: len(some_points)] = some_points
    return made


def _read_split(folder: Path, settings: DataSettings, notes: list[str]) -> tuple[tuple[Crowd, ...], int]:
    """The pictures of train_data or test_data; and how many points were outside of theirs."""
    pictures = child(folder, ("images",))
    truth = child(folder, ("ground-truth", "ground_truth"))
    if pictures is None or truth is None:
        missing = "images" if pictures is None else "ground-truth"
        raise UserError(f"{folder} has no folder {missing}; give files like {_LIKE}")
    images, marks = index_files(pictures, ENDINGS), index_files(truth, (".mat",))
    pairs = {image: marks.pop(f"GT_{key}", None) for key, image in images.items()}
    if alone := [image for image, mark in pairs.items() if mark is None]:
        raise UserError(
            f"{folder} has {counted(len(alone), 'image')} without points: {some(below(folder, alone))}; "
            f"add files like {_LIKE}, or remove the images"
        )
    if marks:
        orphans = some(below(folder, marks.values()))
        notes.append(f"{folder} has {counted(len(marks), 'file')} of points without an image, left out: {orphans}")
    found = read_all(list(pairs.items()), partial(_read_pair, sigma=settings.sigma), settings, notes)
    return tuple(crowd for crowd, _ in found.values()), sum(outside for _, outside in found.values())


def _read_pair(files: tuple[Path, Path | None], sigma: float | None) -> tuple[Crowd, int]:
    image, truth = files
    assert truth is not None
    return read_crowd(image, truth, sigma)
