"""Crowds: images in which points are counted, in ShanghaiTech's layout; cropped at random, evaluated whole."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from ..config.recipe import AugmentSettings, DataSettings
from .annotated_images import AnnotatedDataset, keep_images
from .augment import quarter_turns
from .broken_files import iterate_readable, read_all
from .file_lists import count_noun, data_folder, find_splits
from .geometry import Floats
from .preprocessing import Preprocessing, to_tensor, with_normalisation
from .randomness import sample_indices
from .samples import AugmentContext, Batch, Index, Splits, hash_chunks, height_and_width, pad_rows
from .segmentation import crop_sides, photometric_distortion, random_corner
from .shanghaitech_files import Crowd, check_points, drawn_upright, find_pairs, find_part, read_crowd
from .splits import split_samples

CLASSES = ("density",)  # the one output
_MEASURED = 64  # images that the normalisation is measured on


@dataclass(frozen=True, eq=False)
class CrowdDataset(AnnotatedDataset[Crowd]):
    """Images with points, which are those of the images as they are stored, unless they show otherwise."""

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
            context.seed_random(5, i)
            one, image = self.image_or_substitute(i)
            crop, crop_points = random_crop(to_tensor(image), one.points, prepare, context.settings)
            # What is missing at the border is the mean colour, without points.
            gap = (0, prepare.size[1] - crop.shape[2], 0, prepare.size[0] - crop.shape[1])
            images.append(F.pad(prepare(crop[None])[0], gap))
            points.append(points_to_shares(crop_points, (prepare.size[1], prepare.size[0])))
        return torch.stack(images), pad_rows(points, 4)

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
    pairs = {name: find_pairs(folder, notes) for name, folder in find_splits(root, notes).items()}
    upright = drawn_upright([pair for some in pairs.values() for pair in some], notes)
    read_pair = partial(read_crowd, sigma=settings.sigma, upright=upright)
    read = {name: tuple(read_all(some, read_pair, settings, notes).values()) for name, some in pairs.items()}
    if outside := sum(number for part in read.values() for _, number in part):
        notes.append(f"{count_noun(outside, 'point')} outside the image moved to its border")
    sizes = {one.image: one.size for part in read.values() for one, _ in part}
    kept = keep_images(sizes, settings, notes, upright)
    sets = {
        name: CrowdDataset(
            tuple(one for one, _ in part if kept is None or one.image in kept),
            kept or {},
            settings.broken == "skip",
            upright=upright,
        )
        for name, part in read.items()
    }
    check_points(sets["train"].samples if "train" in sets else (), root)
    train, validation, test = split_samples(sets, settings, notes, "image")
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        numbers = [len(one.points) for one in part.samples]
        notes.append(
            f"{len(part)} {name} images, {min(numbers)} to {max(numbers)} points, {np.mean(numbers):.1f} on average"
        )
    shown = f"resized to a shorter side of {settings.shorter} pixels" if settings.shorter else "taken as they are"
    notes.append(f"images are {shown}; crops are {size[1]} x {size[0]}")
    plain = Preprocessing(3, size, (0.0,) * 3, (1.0,) * 3, "shorter", shorter=settings.shorter or 0)
    images = (
        plain.resize_image(to_tensor(train.image_or_substitute(i)[1])) for i in sample_indices(len(train), _MEASURED)
    )
    return Splits(train, validation, test, CLASSES, with_normalisation(plain, images), tuple(notes))


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
