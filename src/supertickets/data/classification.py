"""Labelled images, in memory or in files, and their splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from ..config.recipe import DataSettings
from ..errors import UserError
from .augment import mix_samples, move_images, photo_transform
from .broken_files import iterate_readable, read_or_substitute
from .preprocessing import Preprocessing, open_image, to_channels, to_tensor
from .randomness import mix_seed, uniform
from .samples import AugmentContext, Batch, Index, Splits, hash_chunks, square_side
from .splits import hold_out


@dataclass(frozen=True)
class InMemoryImages:
    """Images of one size in memory, uint8 (N, C, H, W), and their labels (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Index) -> InMemoryImages:
        """The samples at some positions."""
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

    def batch(self, index: Index, prepare: Preprocessing, vary: AugmentContext | None) -> Batch:
        """Inputs and labels (B,), or shares (B, classes) if samples are mixed."""
        change = None if vary is None else photo_transform(vary.settings, prepare.size)
        if vary is None or change is None:
            return _inputs(self.images[torch.from_numpy(index)], self.labels, index, prepare, vary)
        return _inputs(_augmented(self.image, index, prepare, vary), self.labels, index, prepare, vary)

    def digest(self) -> str:
        """A hash of pixels and labels."""
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

    def subset(self, index: Index) -> ImageFiles:
        """The samples at some positions."""
        paths, kept = tuple(self.paths[i] for i in index), tuple(self.kept[i] for i in index)
        return replace(self, paths=paths, labels=self.labels[torch.from_numpy(index)], kept=kept)

    def image(self, position: int) -> Image.Image:
        """One image, RGB."""
        if (found := self.kept[position]) is not None:
            return found
        return to_channels(open_image(self.paths[position], self.shorter), 3)

    @property
    def io_bound(self) -> bool:
        """Images are read or at least resized."""
        return True

    def batch(self, index: Index, prepare: Preprocessing, vary: AugmentContext | None) -> Batch:
        """Inputs and labels (B,), or shares (B, classes) if samples are mixed."""
        if vary is not None:
            return _inputs(
                _augmented(self.image_or_substitute, index, prepare, vary), self.labels, index, prepare, vary
            )
        parts, found = [torch.empty(0, prepare.channels, *prepare.size, dtype=torch.uint8)], []
        for i, image in iterate_readable(self.image, index, self.skip):
            parts.append(prepare.pixels(image)[None])
            found.append(i)
        return _inputs(torch.cat(parts), self.labels, np.asarray(found, dtype=np.int64), prepare, None)

    def image_or_substitute(self, position: int) -> Image.Image:
        """An image; a broken one gives its place to the next of its class that can be read."""
        same = torch.nonzero(self.labels == self.labels[position]).flatten().tolist()
        order = [position, *(i for i in same if i > position), *(i for i in same if i < position)]
        return read_or_substitute(self.image, order, self.skip, "image")

    def digest(self) -> str:
        """A hash of file names and labels, wherever the folder is; what is in the files is not looked at."""
        names = "\0".join(f"{path.parent.name}/{path.name}" for path in self.paths)
        return hash_chunks(names.encode(), self.labels.numpy().data)


def make_splits(
    train: InMemoryImages, test: InMemoryImages, classes: Sequence[str], settings: DataSettings, *, crop: bool = False
) -> Splits:
    """Splits of images in memory: holds out the validation split and measures the normalisation.

    Args:
        train: Training images, validation included.
        test: Test images.
        classes: Names of the labels; ``settings.class_names`` wins.
        settings: Shares, seeds and size.
        crop: Whether new images are cut to shape (photographs) or stretched (glyphs).
    """
    names = settings.class_names or tuple(classes)
    if len(names) != len(classes):
        raise UserError(f"data.class_names has {len(names)} names, the data has {len(classes)} classes")
    if (side := square_side(settings)) is not None:
        train, test = (replace(part, images=_resize(part.images, side)) for part in (train, test))
    rest, held = hold_out(train.labels, settings)
    values = train.images[torch.from_numpy(rest)].to(torch.float32) / 255
    dims = (0, 2, 3)
    mean, std = values.mean(dims), values.std(dims, correction=0).clamp_min(1e-3)
    channels, height, width = train.images.shape[1:]
    preprocessing = Preprocessing(channels, (height, width), tuple(mean.tolist()), tuple(std.tolist()))
    if crop:
        preprocessing = replace(preprocessing, fit="crop", resample="bicubic")
    return Splits(train.subset(rest), train.subset(held), test, names, preprocessing)


def _resize(images_NCHW: Tensor, size: int) -> Tensor:
    if images_NCHW.shape[-2:] == (size, size):
        return images_NCHW
    return torch.cat([TF.resize(part, [size, size], antialias=True) for part in images_NCHW.split(4096)])


def _augmented(
    read: Callable[[int], Image.Image], index: Index, prepare: Preprocessing, vary: AugmentContext
) -> Tensor:
    """uint8 (B, C, H, W); what an image becomes depends on (seed, epoch, position) alone."""
    change = photo_transform(vary.settings, prepare.size)
    parts = []
    for i in index.tolist():
        torch.manual_seed(mix_seed(vary.seed, vary.epoch, 5, i))
        image = read(i)
        fitted = image if vary.settings.crop < 1 else prepare.fit_image(image)
        parts.append(to_tensor(fitted if change is None else change(fitted)))
    return torch.stack(parts)


def _inputs(
    pixels: Tensor, labels: Tensor, index: Index, prepare: Preprocessing, vary: AugmentContext | None
) -> tuple[Tensor, Tensor]:
    images, labels = prepare(pixels), labels[torch.from_numpy(index)]
    if vary is not None:
        images = move_images(images, uniform(vary.seed, vary.epoch, index, 4), vary.settings)
        if vary.mixed:
            torch.manual_seed(mix_seed(vary.seed, vary.epoch, 4, *index[:2].tolist()))
            images, labels = mix_samples(images, labels, vary.mixed, vary.settings)
    return images, labels
