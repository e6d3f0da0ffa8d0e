"""Labelled pictures, in memory or in files, and their splits."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from ..errors import UserError
from ..recipe import DataSettings
from .pictures import BrokenPicture, Preprocessing, open_picture, to_channels
from .randomness import mix

Index = npt.NDArray[np.int64]


class Samples(Protocol):
    """What a split is made of: labels, and a picture each."""

    @property
    def labels(self) -> Tensor:
        """int64, shape (N,)."""

    def __len__(self) -> int: ...

    def subset(self, index: Index) -> Samples:
        """The samples at some positions."""

    def picture(self, position: int) -> Image.Image:
        """One picture, grey or RGB; raises `BrokenPicture`."""

    def digest(self) -> str:
        """A hash that tells whether these are the same samples in the same order."""


@dataclass(frozen=True)
class ImageSet:
    """Pictures of one size in memory, uint8 (N, C, H, W), and their labels (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Index) -> ImageSet:
        """The samples at some positions."""
        picked = torch.from_numpy(index)
        return ImageSet(self.images[picked], self.labels[picked])

    def picture(self, position: int) -> Image.Image:
        """One picture, grey or RGB."""
        pixels = self.images[position].permute(1, 2, 0).numpy()
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)

    def digest(self) -> str:
        """A hash of pixels and labels."""
        return _sha256(self.images.contiguous().numpy().data, self.labels.numpy().data)


@dataclass(frozen=True)
class PictureSet:
    """Pictures of any size in files, RGB.

    Attributes:
        paths: The files.
        labels: int64, shape (N,).
        kept: Pictures that were read before, made smaller; a file of which nothing is kept is read every time.
        shorter: Shorter side that is enough, in pixels.
    """

    paths: tuple[Path, ...]
    labels: Tensor
    kept: tuple[Image.Image | None, ...]
    shorter: int

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, index: Index) -> PictureSet:
        """The samples at some positions."""
        paths, kept = tuple(self.paths[i] for i in index), tuple(self.kept[i] for i in index)
        return replace(self, paths=paths, labels=self.labels[torch.from_numpy(index)], kept=kept)

    def picture(self, position: int) -> Image.Image:
        """One picture, RGB."""
        if (found := self.kept[position]) is not None:
            return found
        return to_channels(open_picture(self.paths[position], self.shorter), 3)

    def digest(self) -> str:
        """A hash of file names and labels, wherever the folder is; what is in the files is not looked at."""
        names = "\0".join(f"{path.parent.name}/{path.name}" for path in self.paths)
        return _sha256(names.encode(), self.labels.numpy().data)


def picture_or_another(data: Samples, position: int) -> Image.Image:
    """A training picture; a broken one gives its place to the next of its class that can be read."""
    try:
        return data.picture(position)
    except BrokenPicture as error:
        warnings.warn(f"another picture takes its place: {error}", stacklevel=2)
        same = torch.nonzero(data.labels == data.labels[position]).flatten().tolist()
        for i in [i for i in same if i > position] + [i for i in same if i < position]:
            try:
                return data.picture(i)
            except BrokenPicture:
                continue
        raise


@dataclass(frozen=True)
class Splits:
    """A data set in three parts; ``test`` is for the last figure alone and never chooses anything.

    Attributes:
        train: What is learned from.
        validation: What is chosen by.
        test: What is reported.
        classes: Names of the labels.
        preprocessing: How a picture becomes an input.
        notes: What a person should know about how the data was read, a line each.
    """

    train: Samples
    validation: Samples
    test: Samples
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    notes: tuple[str, ...] = ()

    def digest(self) -> str:
        """A hash that tells whether the same samples are in the same splits."""
        return _sha256(*(part.digest().encode() for part in (self.train, self.validation, self.test)))


def make_splits(
    train: ImageSet, test: ImageSet, classes: Sequence[str], settings: DataSettings, *, crop: bool = False
) -> Splits:
    """Splits of pictures in memory: holds out the validation split and measures the normalisation.

    Args:
        train: Training pictures, validation included.
        test: Test pictures.
        classes: Names of the labels; ``settings.class_names`` wins.
        settings: Shares, seeds and size.
        crop: Whether new pictures are cut to shape (photographs) or stretched (glyphs).
    """
    names = settings.class_names or tuple(classes)
    if len(names) != len(classes):
        raise UserError(f"data.class_names has {len(names)} names, the data has {len(classes)} classes")
    if settings.size is not None:
        train, test = (replace(part, images=_resize(part.images, settings.size)) for part in (train, test))
    rest, held = hold_out(train.labels, settings)
    values = train.images[torch.from_numpy(rest)].to(torch.float32) / 255
    dims = (0, 2, 3)
    mean, std = values.mean(dims), values.std(dims, correction=0).clamp_min(1e-3)
    channels, height, width = train.images.shape[1:]
    preprocessing = Preprocessing(channels, (height, width), tuple(mean.tolist()), tuple(std.tolist()))
    if crop:
        preprocessing = replace(preprocessing, fit="crop", resample="bicubic")
    return Splits(train.subset(rest), train.subset(held), test, names, preprocessing)


def hold_out(labels: Tensor, settings: DataSettings) -> tuple[Index, Index]:
    """Positions of the training and of the validation split.

    Raises:
        UserError: The share is impossible.
    """
    if not 0 < settings.validation < 1:
        raise UserError(f"data.validation is {settings.validation:g}; it is a share between 0 and 1, e.g. 0.1")
    held, rest = stratified(labels.numpy(), settings.validation, settings.split_seed)
    if len(rest) == 0:
        raise UserError(f"data.validation {settings.validation:g} leaves no training samples; try 0.1")
    return rest, held


def stratified(labels: Index, share: float, seed: int) -> tuple[Index, Index]:
    """Splits positions into (share, rest), each class in proportion; a function of the seed."""
    generator = np.random.default_rng(mix(seed, 1))
    taken = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        taken.append(generator.permutation(members)[: max(1, round(share * len(members)))])
    chosen = np.sort(np.concatenate(taken))
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def _sha256(*parts: bytes | memoryview) -> str:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()


def _resize(images_NCHW: Tensor, size: int) -> Tensor:
    if images_NCHW.shape[-2:] == (size, size):
        return images_NCHW
    return torch.cat([TF.resize(part, [size, size], antialias=True) for part in images_NCHW.split(4096)])
