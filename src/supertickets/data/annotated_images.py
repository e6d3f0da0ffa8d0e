"""Samples whose annotations lie in files beside the images; how these are opened and kept in memory."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from PIL import Image
from torch import Tensor

from ..config.recipe import DataSettings
from .broken_files import read_all, read_or_substitute
from .depth import check_depth
from .file_lists import encode_names
from .orientation import drawn_as_stored
from .preprocessing import BrokenImage, Preprocessing, open_fitting, to_channels, to_tensor


class AnnotatedImage(Protocol):
    """An image, or something in it, that annotations describe."""

    @property
    def image(self) -> Path: ...

    @property
    def size(self) -> tuple[int, int]: ...


Known = TypeVar("Known", bound=AnnotatedImage)


@dataclass(frozen=True, eq=False)
class AnnotatedDataset(Generic[Known]):
    """Samples that annotations describe.

    Attributes:
        samples: What is known of them.
        kept: What was read before; an image that is not in it is read every time.
        skip: Whether a broken image gives its place to another (training) or does not count (evaluation), instead of
            being refused.
        upright: Whether annotations are those of images that are turned by their EXIF data.
    """

    samples: tuple[Known, ...]
    kept: Mapping[Path, Image.Image]
    skip: bool
    upright: bool = field(default=True, kw_only=True)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def io_bound(self) -> bool:
        """Images are read, or at least resized or cut out."""
        return True

    @property
    def images(self) -> tuple[Path, ...]:
        """The image of every sample."""
        return tuple(one.image for one in self.samples)

    def image(self, position: int) -> tuple[Known, Image.Image]:
        """Return a sample, and the image it is in, RGB."""
        one = self.samples[position]
        kept_image = self.kept.get(one.image)
        return one, open_annotated(one.image, one.size, self.upright) if kept_image is None else kept_image

    def image_or_substitute(self, position: int) -> tuple[Known, Image.Image]:
        """Return a sample; one in a broken image gives its place to the next that can be read."""
        order = itertools.chain(range(position, len(self)), range(position))
        return read_or_substitute(self.image, order, self.skip, "image")

    def files(self) -> bytes:
        """Return the names of the images, for a digest."""
        return encode_names(f"{path.parent.name}/{path.name}" for path in self.images)

    def keep(self, kept: Mapping[Path, Image.Image]) -> Self:
        """Return the samples whose images were read; those of broken ones are left out."""
        return replace(self, samples=tuple(one for one in self.samples if one.image in kept), kept=kept)


Annotated = TypeVar("Annotated", bound=AnnotatedDataset[Any])


def read_inputs(images: Sequence[Image.Image], prepare: Preprocessing) -> Tensor:
    """Return the network's inputs, of images that have their size."""
    if not images:
        return torch.empty(0, 3, *prepare.size)
    return prepare(torch.stack([to_tensor(image) for image in images]))


def open_annotated(path: Path, size: tuple[int, int], upright: bool = True) -> Image.Image:
    """Return an image, RGB, as its annotations mean it.

    Args:
        path: The image.
        size: Width and height that its annotations give.
        upright: Whether it is turned by its EXIF data, if it has that size then; else it is taken as it is stored,
            if it has the size only so.

    Raises:
        BrokenImage: It cannot be read, or has another size.
    """
    image = open_fitting(path, size, upright=upright)
    if image.size != size:
        raise BrokenImage(
            f"{path} has {image.width} x {image.height} pixels, but its annotations are for {size[0]} x {size[1]}"
        )
    return to_channels(image, 3)


def keep_images(
    sizes: Mapping[Path, tuple[int, int]], settings: DataSettings, notes: list[str], upright: bool = True
) -> dict[Path, Image.Image] | None:
    """Read all images if they fit into memory; broken ones are left out, or refused.

    Args:
        sizes: The images, and the width and height that their annotations give.
        settings: Say how much memory there is, and what becomes of broken images.
        notes: What a person should know is added here.
        upright: See `open_annotated`.

    Returns:
        None if they do not fit.

    Raises:
        UserError: Files are broken and refused, or hold fewer bits than they are stored in.
    """
    check_depth(list(sizes))
    if sum(4 * width * height for width, height in sizes.values()) > settings.keep_gb * 1e9:
        return None
    return read_all(list(sizes), lambda path: open_annotated(path, sizes[path], upright), settings, notes)


def keep_splits(
    sets: Mapping[str, Annotated], what: str, settings: DataSettings, notes: list[str]
) -> dict[str, Annotated]:
    """Read the images of all splits if they fit into memory, turned as their annotations mean them.

    Args:
        sets: The splits by name.
        what: What annotations are, for notes, e.g. "boxes".
        settings: Say how much memory there is, and what becomes of broken images.
        notes: What a person should know is added here.

    Returns:
        The splits, without samples in broken images if these were read.
    """
    sizes = {one.image: one.size for part in sets.values() for one in part.samples}
    upright = not drawn_as_stored(sizes, what, notes)
    sets = {name: replace(part, upright=upright) for name, part in sets.items()}
    kept = keep_images(sizes, settings, notes, upright)
    return dict(sets) if kept is None else {name: part.keep(kept) for name, part in sets.items()}
