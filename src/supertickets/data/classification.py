"""Labelled images, in memory or in files, and their splits."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from ..config.recipe import DataSettings
from .augment import mix_samples, move_images, photo_transform
from .broken_files import iterate_readable, read_or_substitute
from .class_names import name_classes, note_missing
from .file_lists import encode_names
from .preprocessing import CROP_SHARE, Preprocessing, open_small, to_tensor, with_normalisation
from .randomness import sample_indices, uniform
from .samples import AugmentContext, Batch, Index, Splits, hash_chunks, square_side
from .splits import hold_out

CHOSEN_SIZES = (16, 224)  # a size that nobody gave lies between these
_MEASURED = 512  # images that the normalisation is measured on
_LOOKED_AT = 64  # images that a size is chosen by

Sample = TypeVar("Sample")


@dataclass(frozen=True)
class InMemoryImages:
    """Images of one size in memory, uint8 (N, C, H, W), and their labels (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Index) -> InMemoryImages:
        """Return the samples at some positions."""
        picked = torch.from_numpy(index)
        return InMemoryImages(self.images[picked], self.labels[picked])

    def image(self, position: int) -> Image.Image:
        """One image, grey or RGB."""
        pixels = self.images[position].permute(1, 2, 0).numpy()
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)

    @property
    def io_bound(self) -> bool:
        """Nothing is read any more."""
        return False

    def batch(self, index: Index, prepare: Preprocessing, context: AugmentContext | None) -> Batch:
        """Return inputs and labels (B,), or shares (B, classes) if samples are mixed."""
        change = None if context is None else photo_transform(context.settings, prepare.size)
        if context is None and prepare.share < 1:
            middles = [prepare.pixels(self.image(int(i)))[None] for i in index]
            return _inputs(torch.cat([self.images[:0], *middles]), self.labels, index, prepare, None)
        if context is None or change is None:
            return _inputs(self.images[torch.from_numpy(index)], self.labels, index, prepare, context)
        return _inputs(_augmented(self.image, index, prepare, context), self.labels, index, prepare, context)

    def digest(self) -> str:
        """Return a hash of pixels and labels."""
        return hash_chunks(self.images.contiguous().numpy().data, self.labels.numpy().data)


@dataclass(frozen=True)
class ImageFiles:
    """Images of any size in files, RGB.

    Attributes:
        paths: The files.
        labels: int64, shape (N,).
        kept: Images that were read before, made smaller; a file of which nothing is kept is read every time.
        shorter: Shorter side that is enough, in pixels.
        skip: Whether a broken image gives its place to another (training) or does not count (evaluation), instead of
            being refused.
    """

    paths: tuple[Path, ...]
    labels: Tensor
    kept: tuple[Image.Image | None, ...]
    shorter: int
    skip: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, index: Index) -> Self:
        """Return the samples at some positions."""
        paths, kept = tuple(self.paths[i] for i in index), tuple(self.kept[i] for i in index)
        return replace(self, paths=paths, labels=self.labels[torch.from_numpy(index)], kept=kept)

    def image(self, position: int) -> Image.Image:
        """One image, RGB."""
        if (image := self.kept[position]) is not None:
            return image
        return self.open_file(self.paths[position])

    def open_file(self, path: Path) -> Image.Image:
        """Read one of the files, RGB."""
        return open_small(path, self.shorter)

    @property
    def io_bound(self) -> bool:
        """Images are read or at least resized."""
        return True

    def batch(self, index: Index, prepare: Preprocessing, context: AugmentContext | None) -> Batch:
        """Return inputs and labels (B,), or shares (B, classes) if samples are mixed."""
        if context is not None:
            return _inputs(
                _augmented(self.image_or_substitute, index, prepare, context), self.labels, index, prepare, context
            )
        parts, positions = [torch.empty(0, prepare.channels, *prepare.size, dtype=torch.uint8)], []
        for i, image in iterate_readable(self.image, index, self.skip):
            parts.append(prepare.pixels(image)[None])
            positions.append(i)
        return _inputs(torch.cat(parts), self.labels, np.asarray(positions, dtype=np.int64), prepare, None)

    def image_or_substitute(self, position: int) -> Image.Image:
        """Return an image; a broken one gives its place to the next of its class that can be read."""
        return read_or_substitute(self.image, self._order(position), self.skip, "image")

    def _order(self, position: int) -> Iterator[int]:
        """Yield a position, and then the others of its class; few ever ask for those."""
        yield position
        same = torch.nonzero(self.labels == self.labels[position]).flatten().tolist()
        yield from (i for i in same if i > position)
        yield from (i for i in same if i < position)

    def digest(self) -> str:
        """Return a hash of file names and labels, wherever the folder is; what is in the files is not looked at."""
        names = encode_names(f"{path.parent.name}/{path.name}" for path in self.paths)
        return hash_chunks(names, self.labels.numpy().data)


def make_splits(
    train: InMemoryImages, test: InMemoryImages, classes: Sequence[str], settings: DataSettings, *, crop: bool = False
) -> Splits:
    """Split images in memory: hold out the validation split and measure the normalisation.

    Args:
        train: Training images, validation included.
        test: Test images.
        classes: Names of the labels; ``settings.class_names`` wins.
        settings: Shares, seeds and size.
        crop: Whether new images are cut to shape (photographs) or stretched (glyphs).
    """
    names, notes = name_classes(classes, settings), list[str]()
    if (side := square_side(settings)) is not None:
        train, test = (replace(part, images=resize_images(part.images, side)) for part in (train, test))
    rest, held = hold_out(train.labels, settings)
    taught = train.subset(rest)
    note_missing(names, taught.labels.bincount(minlength=len(names)).tolist(), "image", notes)
    return Splits(taught, train.subset(held), test, names, memory_preprocessing(taught, crop), tuple(notes))


def memory_preprocessing(train: InMemoryImages, crop: bool) -> Preprocessing:
    """Return the preprocessing of images in memory, with mean and deviation over all training images.

    Args:
        train: Training images alone.
        crop: Whether new images are cut to shape (photographs) or stretched (glyphs).
    """
    channels, height, width = train.images.shape[1:]
    plain = Preprocessing(channels, (height, width), (0.0,) * channels, (1.0,) * channels)
    preprocessing = with_normalisation(plain, train.images.split(_MEASURED))
    return replace(preprocessing, fit="crop", resample="bicubic") if crop else preprocessing


def file_preprocessing(train: ImageFiles, size: int) -> Preprocessing:
    """Return the preprocessing of images in files, with mean and deviation over some training images."""
    plain = Preprocessing(3, (size, size), (0.0,) * 3, (1.0,) * 3, "crop", CROP_SHARE, "bicubic")
    positions = sample_indices(len(train), _MEASURED)
    return with_normalisation(plain, (plain.pixels(train.image_or_substitute(i)) for i in positions))


def choose_size(sides: Iterable[int]) -> int:
    """Return the usual one of the shorter sides of some images, a multiple of 8 from 16 to 224 pixels."""
    known = list(sides)
    usual = statistics.median(known) if known else CHOSEN_SIZES[1]
    return int(min(max(usual // 8 * 8, CHOSEN_SIZES[0]), CHOSEN_SIZES[1]))


def spread_sample(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return at most 64 samples, spread over all: what a size is chosen by."""
    return samples[:: max(1, len(samples) // _LOOKED_AT)][:_LOOKED_AT]


def resize_images(images_NCHW: Tensor, size: int) -> Tensor:
    """Return images as squares of this side, uint8 (N, C, size, size)."""
    if images_NCHW.shape[-2:] == (size, size):
        return images_NCHW
    return torch.cat([TF.resize(part, [size, size], antialias=True) for part in images_NCHW.split(4096)])


def _augmented(
    read: Callable[[int], Image.Image], index: Index, prepare: Preprocessing, context: AugmentContext
) -> Tensor:
    """uint8 (B, C, H, W); what an image becomes depends on (seed, epoch, position) alone."""
    change = photo_transform(context.settings, prepare.size)
    parts = []
    for i in index.tolist():
        context.seed_random(5, i)
        image = read(i)
        fitted = image if context.settings.crop < 1 else prepare.fit_image(image)
        parts.append(to_tensor(fitted if change is None else change(fitted)))
    return torch.stack(parts)


def _inputs(
    pixels: Tensor, labels: Tensor, index: Index, prepare: Preprocessing, context: AugmentContext | None
) -> tuple[Tensor, Tensor]:
    images, labels = prepare(pixels), labels[torch.from_numpy(index)]
    if context is not None:
        images = move_images(images, uniform(context.seed, context.epoch, index, 4), context.settings)
        if context.mixed:
            context.seed_random(4, *index[:2].tolist())
            images, labels = mix_samples(images, labels, context.mixed, context.settings)
    return images, labels
