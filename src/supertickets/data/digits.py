"""The handwritten digits that come with scikit-learn, and numbers of two digits made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..config.recipe import DataSettings
from ..errors import UserError
from .class_names import name_classes
from .classification import InMemoryImages, make_splits, memory_preprocessing, resize_images
from .randomness import mix_seed
from .samples import Splits, square_side
from .splits import hold_out, stratified_split

_TEST = 0.2  # share of the digits
_NUMBERS = {"train": 8000, "validation": 1500, "test": 2000}  # images of each split
_SIDE, _DIGIT = 16, 8  # of a number, and of a digit in it, in pixels
_COLUMNS = (0, 7)  # where the digits of a number begin; each may move to the right by a pixel


def load_digits(settings: DataSettings) -> Splits:
    """The 1,797 handwritten digits (8x8, 17 grey levels) that come with scikit-learn; a fifth is the test split."""
    rest, test = _read_digits(settings)
    return make_splits(rest, test, tuple(str(i) for i in range(10)), settings)


def load_numbers(settings: DataSettings) -> Splits:
    """Images of the numbers 00 to 99 (16x16), in which two handwritten digits stand side by side, up or down.

    The digits are split before numbers are made of them, so that no split shows a digit of another one. A hundred
    classes from 1,797 digits tell networks apart that learn the digits alone equally well.
    """
    rest, test = _read_digits(settings)
    kept, held = hold_out(rest.labels, settings)
    if len(rest.labels[torch.from_numpy(kept)].unique()) < 10:
        raise UserError(f"data.validation {settings.validation:g} leaves no training samples of a digit; try 0.1")
    digits = {"train": rest.subset(kept), "validation": rest.subset(held), "test": test}
    parts, side = dict[str, InMemoryImages](), square_side(settings) or _SIDE
    for i, (name, part) in enumerate(digits.items()):
        numbers = write_numbers(part, _NUMBERS[name], mix_seed(settings.split_seed, 7, i))
        parts[name] = replace(numbers, images=resize_images(numbers.images, side))
    names = name_classes(tuple(f"{i:02d}" for i in range(100)), settings)
    prepare = memory_preprocessing(parts["train"], crop=False)
    return Splits(parts["train"], parts["validation"], parts["test"], names, prepare)


def write_numbers(digits: InMemoryImages, count: int, seed: int) -> InMemoryImages:
    """Return images of numbers, as many of each of the hundred as of every other (plus or minus one).

    Args:
        digits: Single digits (N, 1, 8, 8) with labels 0 to 9, each of which occurs.
        count: Number of images.
        seed: Of the random numbers: which digits, and where they stand.
    """
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count, dtype=np.int64) % 100)
    images = np.zeros((count, 1, _SIDE, _SIDE), np.uint8)
    for column, values in zip(_COLUMNS, (labels // 10, labels % 10), strict=True):
        drawn = _draw_digits(digits.labels, values, random)
        tops = random.integers(0, _SIDE - _DIGIT + 1, count)
        lefts = column + random.integers(0, 2, count)
        for image, digit, top, left in zip(images, digits.images.numpy()[drawn], tops, lefts, strict=True):
            place = image[:, top : top + _DIGIT, left : left + _DIGIT]
            np.maximum(place, digit, out=place)
    return InMemoryImages(torch.from_numpy(images), torch.from_numpy(labels))


def _draw_digits(labels: Tensor, values: npt.NDArray[np.int64], random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the position of a random digit of each of some values."""
    drawn = np.empty(len(values), np.int64)
    for value in range(10):
        wanted = values == value
        drawn[wanted] = random.choice(np.flatnonzero(labels.numpy() == value), int(wanted.sum()))
    return drawn


def _read_digits(settings: DataSettings) -> tuple[InMemoryImages, InMemoryImages]:
    """Return the digits but for the test split, and those of the test split."""
    from sklearn.datasets import load_digits as load

    bunch = load()
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    data = InMemoryImages(images, torch.from_numpy(bunch.target.astype(np.int64)))
    test, rest = stratified_split(data.labels.numpy(), _TEST, settings.split_seed)
    return data.subset(rest), data.subset(test)
