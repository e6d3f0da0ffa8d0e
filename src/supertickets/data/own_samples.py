"""Samples of a user's own dataset: one split, whose samples are checked as they are read."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ..errors import UserError
from .classification import ImageFiles
from .preprocessing import BrokenImage, check_values, to_channels
from .samples import hash_chunks
from .segmentation_masks import IGNORED, BadMask, Bytes, Layout, Scene, look_up_labels


class UserDataset(Protocol):
    """One split of a user's dataset.

    Attributes:
        classes: Names of the classes, in the order of their indices.
    """

    @property
    def classes(self) -> Any: ...

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Any: ...


@dataclass(frozen=True, eq=False)
class Part:
    """A split of a user's dataset, whose samples are checked as they are read.

    Attributes:
        name: ``package.module:Class``.
        split: "train", "val" or "test".
        data: The user's object.
        classes: Names of its classes.
    """

    name: str
    split: str
    data: UserDataset
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.data)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Names in place of the files of all samples: ``split/position``."""
        return tuple(Path(self.split, str(i)) for i in range(len(self)))

    def place(self, position: int) -> str:
        """Return the name of a sample, for messages."""
        return f"sample {position} of {self.name}'s {self.split} split"

    def read(self, position: int) -> tuple[Image.Image, Any]:
        """Return an image and its target.

        Raises:
            BrokenImage: The user's class raised an error.
            UserError: It returned something else.
        """
        try:
            sample = self.data[position]
        except Exception as error:  # a user's code may raise anything
            why = " ".join(str(error).split())
            raise BrokenImage(f"{self.place(position)} cannot be read ({type(error).__name__}: {why})") from error
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            raise UserError(f"{self.place(position)} is {_kind(sample)}; return a pair (image, target)")
        return self._as_image(sample[0], position), sample[1]

    def label(self, target: Any, position: int) -> int:
        """Return a target as the index of a class.

        Raises:
            UserError: It is none.
        """
        try:
            index = operator.index(target)
        except (TypeError, ValueError):
            raise UserError(
                f"target of {self.place(position)} is {_kind(target)}; return the index of a class, a whole number"
            ) from None
        if not 0 <= index < len(self.classes):
            raise UserError(
                f"target of {self.place(position)} is {index}, but there are {len(self.classes)} classes; "
                f"return an index from 0 to {len(self.classes) - 1}"
            )
        return index

    def mask(self, target: Any, image: Image.Image, position: int) -> Bytes:
        """Return a target as class indices, uint8 (H, W), of the image's size.

        Raises:
            BadMask: It is none.
        """
        values = np.asarray(target) if isinstance(target, Image.Image | np.ndarray) else None
        if values is None or values.dtype != np.uint8 or values.ndim != 2:
            raise BadMask(
                f"target of {self.place(position)} is {_kind(target)}; return a mask of class indices, uint8 (H, W), "
                f"{IGNORED} where no class counts"
            )
        if values.shape != (image.height, image.width):
            raise BadMask(
                f"mask of {self.place(position)} is {values.shape[1]} x {values.shape[0]} pixels, its image "
                f"{image.width} x {image.height}; return both in one size"
            )
        return values

    def labels(self) -> list[int] | None:
        """Return the label of every sample from the optional attribute ``targets``; None if there is none.

        Raises:
            UserError: It has another length, or holds other things than class indices.
        """
        targets = getattr(self.data, "targets", None)
        if targets is None:
            return None
        if len(targets) != len(self):
            raise UserError(
                f"{self.name}'s {self.split} split has {len(targets)} targets for {len(self)} samples; "
                "give one per sample, or leave the attribute targets out"
            )
        return [self.label(target, i) for i, target in enumerate(targets)]

    @functools.cached_property
    def digest(self) -> str:
        """A hash of length and classes, and of what the user's optional ``digest()`` says."""
        own = getattr(self.data, "digest", None)
        return hash_chunks("\0".join((str(len(self)), *self.classes, str(own()) if callable(own) else "")).encode())

    def _as_image(self, value: Any, position: int) -> Image.Image:
        if isinstance(value, Image.Image):
            try:
                check_values(value)
            except ValueError as error:
                raise BrokenImage(f"image of {self.place(position)} cannot be read ({error})") from None
            return value
        if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.size:
            if value.ndim == 2:
                return Image.fromarray(value)
            if value.ndim == 3 and value.shape[2] in (1, 3):
                return Image.fromarray(value[..., 0] if value.shape[2] == 1 else value)
        raise UserError(
            f"image of {self.place(position)} is {_kind(value)}; return a PIL image, or uint8 (H, W) or (H, W, 3)"
        )


@dataclass(frozen=True, kw_only=True)
class OwnImages(ImageFiles):
    """Images of a user's dataset that are read when wanted; ``paths`` name samples as ``split/position``."""

    part: Part

    def open_file(self, path: Path) -> Image.Image:
        """Read one image, RGB."""
        return to_channels(self.part.read(int(path.name))[0], 3)

    def digest(self) -> str:
        """Return a hash of samples, labels and classes."""
        return hash_chunks(super().digest().encode(), self.part.digest.encode())


@dataclass(frozen=True, kw_only=True)
class OwnScene(Scene):
    """A sample of a user's dataset for segmentation; its files are names alone."""

    part: Part

    @property
    def thread_safe(self) -> bool:
        """Return False: a user's class may not expect threads."""
        return False

    def read(self, layout: Layout) -> tuple[Image.Image, Bytes]:
        """Return the image, RGB, and its class indices, uint8 (H, W)."""
        position = int(self.image.name)
        image, target = self.part.read(position)
        mask = self.part.mask(target, image, position)
        return to_channels(image, 3), look_up_labels(mask, layout.lookup, layout.known, self.part.place(position))

    def mask_size(self) -> tuple[int, int]:
        """Return zeros: the size is not known before the sample is read."""
        return 0, 0

    def key(self) -> str:
        """Return what tells the sample from others, for a digest."""
        return f"{self.part.digest}/{super().key()}"


def _kind(value: Any) -> str:
    """Return what something is, for a message."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} and shape {value.shape}"
    shown = repr(value)
    return f"{shown if len(shown) < 30 else ''} ({type(value).__name__})".strip()
