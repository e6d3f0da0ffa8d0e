"""Crowds: images in which points are counted, in ShanghaiTech's layout; cropped at random, evaluated whole."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from ..config.recipe import AugmentSettings, DataSettings
from ..errors import UserError
from .annotated_images import AnnotatedDataset, keep_images
from .augment import quarter_turns
from .broken_files import iterate_readable, read_all
from .file_lists import ENDINGS, count_noun, data_folder, find_child, index_files, relative_to_root, shorten_list
from .geometry import Floats
from .preprocessing import BrokenImage, Preprocessing, stored_size, to_tensor, with_normalisation
from .randomness import mix_seed, sample_indices
from .samples import AugmentContext, Batch, Index, Splits, hash_chunks, height_and_width
from .segmentation import crop_sides, photometric_distortion, random_corner
from .splits import split_samples

CLASSES = ("density",)  # the one output
_PARTS = ("train", "val", "test")
_MEASURED = 64  # images that the normalisation is measured on
_LIKE = "train_data/ground-truth/GT_IMG_1.mat for train_data/images/IMG_1.jpg"
_STRANGE = 0.1  # share of the points outside their image from which on they are those of another one
# Geometry-adaptive Gaussians (MCNN, Zhang et al. 2016): nearest points, factor on their mean distance, and that of one
# point alone, in pixels.
_NEAREST, _FACTOR, _ALONE = 3, 0.3, 15.0


@dataclass(frozen=True, eq=False)
class Crowd:
    """An image and the points in it that are counted.

    Attributes:
        image: File of the image.
        size: Its width and height.
        points: float64 of shape (N, 4): x, y from the upper left corner, and the deviations along x and y of the
            Gaussian that a point becomes; in pixels of the image.
    """

    image: Path
    size: tuple[int, int]
    points: Floats


@dataclass(frozen=True, eq=False)
class CrowdDataset(AnnotatedDataset[Crowd]):
    """Images with points, which are those of the images as they are stored."""

    upright: bool = field(default=False, kw_only=True)

    def subset(self, index: Index) -> CrowdDataset:
        """Return the images at some positions."""
        return replace(self, samples=tuple(self.samples[i] for i in index))

    def batch(self, index: Index, prepare: Preprocessing, context: AugmentContext | None) -> Batch:
        """Inputs, and in training points (B, M, 4): x, y and deviations in shares of the input; rows of -1 fill up.

        An evaluation gets whole images, and a list of points (N, 4) instead.
        """
        images, points = [], []
        if context is None:
            for _, (one, image) in iterate_readable(self.image, index, self.skip):
                images.append(prepare(prepare.resize_image(to_tensor(image))[None])[0])
                points.append(points_to_shares(one.points, one.size))
            return torch.stack(images) if images else torch.empty(0, 3, *prepare.size), points
        for i in index.tolist():
            torch.manual_seed(mix_seed(context.seed, context.epoch, 5, i))
            one, image = self.image_or_substitute(i)
            crop, crop_points = random_crop(to_tensor(image), one.points, prepare, context.settings)
            # What is missing at the border is the mean colour, without points.
            gap = (0, prepare.size[1] - crop.shape[2], 0, prepare.size[0] - crop.shape[1])
            images.append(F.pad(prepare(crop[None])[0], gap))
            points.append(points_to_shares(crop_points, (prepare.size[1], prepare.size[0])))
        return torch.stack(images), pad_points(points)

    def digest(self) -> str:
        """Return a hash of file names and points; what is in the images is not looked at."""
        return hash_chunks(self.files(), *(one.points.tobytes() for one in self.samples))


def load_shanghaitech(settings: DataSettings) -> Splits:
    """Read a part of ShanghaiTech, or data laid out like one; `split_samples` tells what becomes of its splits.

    Files are train_data/images/IMG_1.jpg and train_data/ground-truth/GT_IMG_1.mat (or ground_truth), and the same in
    test_data.

    Raises:
        UserError: The layout, a file or the settings do not fit.
    """
    root = find_part(data_folder(settings, "a part of ShanghaiTech, with train_data and test_data"))
    size = height_and_width(settings, "the crops", [256, 256])
    notes: list[str] = []
    read = {name: _read_split(folder, settings, notes) for name in _PARTS if (folder := root / f"{name}_data").is_dir()}
    if outside := sum(number for _, number in read.values()):
        notes.append(f"{count_noun(outside, 'point')} outside the image moved to its border")
    kept = keep_images(
        {one.image: one.size for crowds, _ in read.values() for one in crowds}, settings, notes, upright=False
    )
    sets = {
        name: CrowdDataset(
            tuple(one for one in crowds if kept is None or one.image in kept), kept or {}, settings.broken == "skip"
        )
        for name, (crowds, _) in read.items()
    }
    train, validation, test = split_samples(sets, settings, notes, "image")
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        numbers = [len(one.points) for one in part.samples]
        notes.append(f"{len(part)} {name} images, {min(numbers)} to {max(numbers)} points, {np.mean(numbers):.1f}")
    shown = f"resized to a shorter side of {settings.shorter} pixels" if settings.shorter else "taken as they are"
    notes.append(f"images are {shown}; crops are {size[1]} x {size[0]}")
    plain = Preprocessing(3, size, (0.0,) * 3, (1.0,) * 3, "shorter", shorter=settings.shorter or 0)
    images = (
        plain.resize_image(to_tensor(train.image_or_substitute(i)[1])) for i in sample_indices(len(train), _MEASURED)
    )
    return Splits(train, validation, test, CLASSES, with_normalisation(plain, images), tuple(notes))


def find_part(root: Path) -> Path:
    """Return the folder with train_data: the one that is given, or the only one in it.

    Raises:
        UserError: There is none, or there are several.
    """
    for depth in ("", "*/", "*/*/"):
        parts = sorted(path.parent for path in root.glob(f"{depth}train_data") if path.is_dir())
        if len(parts) > 1:
            raise UserError(f"{root} has several parts, {', '.join(relative_to_root(root, parts))}; give one of them")
        if parts:
            return parts[0]
    raise UserError(f"{root} is not laid out like ShanghaiTech: folder train_data is missing; give files like {_LIKE}")


def read_crowd(image: Path, truth: Path, sigma: float | None) -> tuple[Crowd, int]:
    """Read the points of an image; those outside are moved to its border.

    Args:
        image: The image.
        truth: Its MATLAB file.
        sigma: See ``data.sigma``.

    Returns:
        The image's points; and how many of them were outside.

    Raises:
        BrokenImage: A file cannot be read, or many points are outside.
    """
    points, size = read_points(truth), stored_size(image)
    inside = points.clip(0, size)
    outside = int((points != inside).any(1).sum())
    if outside > _STRANGE * len(points):
        raise BrokenImage(
            f"{truth} has {outside} of {len(points)} points outside of {image.name}, which is {size[0]} x {size[1]} "
            "pixels; give the points of this image"
        )
    deviations = np.full(len(points), sigma) if sigma else adaptive_sigmas(inside)
    return Crowd(image, size, np.column_stack((inside, deviations, deviations))), outside


def read_points(path: Path) -> Floats:
    """Return the points of a MATLAB file of ShanghaiTech: x, y, float64 of shape (N, 2), as ``image_info`` holds them.

    Raises:
        BrokenImage: It cannot be read, or holds something else.
    """
    try:
        content = loadmat(path)["image_info"][0, 0][0, 0][0]
        points = np.asarray(content, np.float64).reshape(-1, 2)
    except NotImplementedError:
        raise BrokenImage(f"{path} is a MATLAB file of version 7.3; save it as version 7 or older") from None
    except (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, MatReadError, zlib.error) as error:
        why = " ".join(str(error).split())
        raise BrokenImage(
            f"{path} holds no points as image_info of ShanghaiTech's MATLAB files ({why}); fetch it again"
        ) from None
    if not np.isfinite(points).all():
        raise BrokenImage(f"{path} holds points that are not finite numbers; mend it")
    return points


def adaptive_sigmas(points_N2: Floats) -> Floats:
    """Geometry-adaptive deviations (N,): 0.3 times the mean distance to the three nearest points, at least 1 pixel."""
    near = min(_NEAREST, len(points_N2) - 1)
    if near < 1:
        return np.full(len(points_N2), _ALONE)
    distances = KDTree(points_N2).query(points_N2, near + 1)[0]
    return np.maximum(1.0, _FACTOR * distances[:, 1:].mean(1))


def random_crop(
    image: Tensor, points_N4: Floats, prepare: Preprocessing, settings: AugmentSettings
) -> tuple[Tensor, Floats]:
    """Turn, resize by a random factor, crop at random, flip and colour; uses PyTorch's own random numbers.

    Returns:
        uint8 (3, h, w), no larger than ``prepare.size``; and the points that are in it, in its pixels.
    """
    if settings.turn:
        quarters = quarter_turns()
        points_N4 = turn_points(points_N4, (image.shape[2], image.shape[1]), quarters)
        image = image.rot90(quarters, (1, 2))
    sides = image.shape[1], image.shape[2]
    box, size = crop_sides(sides, prepare, settings)
    top, left = random_corner(sides, box)
    image = TF.resize(image[:, top : top + box[0], left : left + box[1]], size, antialias=True)
    factor = np.array([size[1] / box[1], size[0] / box[0]])
    points = np.hstack(((points_N4[:, :2] - [left, top]) * factor, points_N4[:, 2:] * factor))
    points = points[((points[:, :2] >= 0) & (points[:, :2] <= [size[1], size[0]])).all(1)]
    if settings.flip and torch.rand(()) < 0.5:
        image = TF.horizontal_flip(image)
        points[:, 0] = size[1] - points[:, 0]
    if settings.photometric:
        image = photometric_distortion(image)
    return image, points


def turn_points(points_N4: Floats, size: tuple[int, int], quarters: int) -> Floats:
    """Return points and deviations of an image that is turned counterclockwise.

    Args:
        points_N4: x, y, and the deviations along them, in pixels.
        size: Width and height before.
        quarters: Quarter turns.
    """
    for k in range(quarters):
        width = size[k % 2]
        points_N4 = np.column_stack((points_N4[:, 1], width - points_N4[:, 0], points_N4[:, 3], points_N4[:, 2]))
    return points_N4


def points_to_shares(points_N4: Floats, size: tuple[int, int]) -> Tensor:
    """Return points and deviations in shares of a width and a height, float32."""
    return torch.from_numpy((points_N4 / np.tile(size, 2)).astype(np.float32))


def pad_points(points: Sequence[Tensor]) -> Tensor:
    """Return points of images as one tensor (B, M, 4), with rows of -1 where an image has fewer than another."""
    made = torch.full((len(points), max([1, *map(len, points)]), 4), -1.0)
    for row, some_points in zip(made, points, strict=True):
        row[: len(some_points)] = some_points
    return made


def _read_split(folder: Path, settings: DataSettings, notes: list[str]) -> tuple[tuple[Crowd, ...], int]:
    """Return the images of train_data or test_data; and how many points were outside of theirs."""
    image_list = find_child(folder, ("images",))
    truth = find_child(folder, ("ground-truth", "ground_truth"))
    if image_list is None or truth is None:
        missing = "images" if image_list is None else "ground-truth"
        raise UserError(f"{folder} has no folder {missing}; give files like {_LIKE}")
    images, marks = index_files(image_list, ENDINGS), index_files(truth, (".mat",))
    pairs = {image: marks.pop(f"GT_{key}", None) for key, image in images.items()}
    if alone := [image for image, mark in pairs.items() if mark is None]:
        raise UserError(
            f"{folder} has {count_noun(len(alone), 'image')} without points: "
            f"{shorten_list(relative_to_root(folder, alone))}; "
            f"add files like {_LIKE}, or remove the images"
        )
    if marks:
        orphans = shorten_list(relative_to_root(folder, marks.values()))
        notes.append(f"{folder} has {count_noun(len(marks), 'file')} of points without an image, left out: {orphans}")
    crowds = read_all(list(pairs.items()), partial(_read_pair, sigma=settings.sigma), settings, notes)
    return tuple(crowd for crowd, _ in crowds.values()), sum(outside for _, outside in crowds.values())


def _read_pair(files: tuple[Path, Path | None], sigma: float | None) -> tuple[Crowd, int]:
    image, truth = files
    assert truth is not None
    return read_crowd(image, truth, sigma)
