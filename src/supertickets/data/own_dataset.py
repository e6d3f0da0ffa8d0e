"""A user's own dataset, named as ``data.source: package.module:Class``; see docs/adding-a-dataset.md.

The class is made as ``Class(folder, split)``. What it returns is checked here, then goes through the same dataset
classes as everything else, so that normalisation, resizing, augmentation and batches are those of any source.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image

from ..config.recipe import DataSettings
from ..errors import UserError
from ..plugins import load_plugin
from .broken_files import DoesNotFit, Memory, read_all
from .class_names import name_classes
from .classification import (
    ImageFiles,
    InMemoryImages,
    choose_size,
    file_preprocessing,
    memory_preprocessing,
    resize_images,
    spread_sample,
)
from .file_lists import data_folder
from .preprocessing import BrokenImage, check_values, shrink, to_channels, to_tensor
from .samples import Splits, hash_chunks, square_side
from .segmentation import split_scenes
from .segmentation_classes import make_layout
from .segmentation_masks import IGNORED, BadMask, Bytes, Layout, Scene, look_up_labels
from .splits import split_classes

_LACKING = (LookupError, ValueError, NotImplementedError, FileNotFoundError)  # a class may say so of "val" and "test"
_GREY = ("1", "L")


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


Read = TypeVar("Read", InMemoryImages, OwnImages)
Made = TypeVar("Made")


def load_own_dataset(settings: DataSettings) -> Splits:
    """Read a user's dataset; splits that it lacks are held out as those of "folders" or of scenes.

    Raises:
        UserError: The class, what it returns or the settings do not fit.
    """
    make = load_plugin(settings.source, "data.source")
    task = getattr(make, "task", "classification")
    loaders: dict[str, Callable[[Mapping[str, Part], DataSettings, list[str]], Splits]] = {
        "classification": _load_images,
        "segmentation": _load_scenes,
    }
    if task not in loaders:
        raise UserError(
            f"task of {settings.source} is {task!r}; a dataset of your own is for {' or '.join(loaders)}: "
            "set the attribute task of the class"
        )
    notes: list[str] = []
    folder = None if settings.dir is None else data_folder(settings, f"the folder that {settings.source} reads")
    opened = {split: _open_part(make, settings.source, folder, split, notes) for split in ("train", "val", "test")}
    parts = {split: part for split, part in opened.items() if part is not None}
    for part in parts.values():
        if part.classes != parts["train"].classes:
            raise UserError(
                f"classes of {settings.source} differ between its train and {part.split} splits; give the same list"
            )
    return loaders[task](parts if len(parts) > 1 else {"all": parts["train"]}, settings, notes)


def _open_part(make: Any, name: str, folder: Path | None, split: str, notes: list[str]) -> Part | None:
    """Return a split of a user's dataset; None if it lacks it.

    Raises:
        UserError: There is no training split, or the object is no dataset.
    """
    try:
        data = make(folder, split)
    except Exception as error:  # a user's code may raise anything
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if split == "train" or not isinstance(error, _LACKING):
            raise UserError(f"{name}({folder}, '{split}') fails ({why}); mend the class") from error
        notes.append(f"{name} has no {split} split ({why})")
        return None
    if data is None or (hasattr(data, "__len__") and len(data) == 0):
        if split == "train":
            raise UserError(f"{name} has no training samples; its class must return some for split 'train'")
        return None
    if missing := [method for method in ("__len__", "__getitem__") if not hasattr(data, method)]:
        raise UserError(f"{name} has no {missing[0]}; a dataset class needs __len__, __getitem__ and classes")
    classes = getattr(data, "classes", None)
    if (
        not isinstance(classes, list | tuple)
        or len(set(classes)) < max(2, len(classes))
        or not all(isinstance(one, str) for one in classes)
    ):
        raise UserError(f"classes of {name} is {classes!r}; give a list of two or more different names")
    return Part(name, split, data, tuple(classes))


def _load_images(parts: Mapping[str, Part], settings: DataSettings, notes: list[str]) -> Splits:
    """Read images with a class each.

    Images of one size that fit into memory are kept as they are, grey ones grey; others as images in files are.
    """
    main = next(iter(parts.values()))
    looked_at = _read_some(main)
    channels = 1 if all(image.mode in _GREY for image in looked_at) else 3
    side, total = square_side(settings), sum(map(len, parts.values()))
    names = name_classes(main.classes, settings)
    if len({image.size for image in looked_at}) == 1 and _fits(
        total, channels * math.prod(looked_at[0].size), settings
    ):
        prepare = functools.partial(to_channels, channels=channels)
        in_memory = _read_or_not(
            parts, lambda part, memory: _read_images(part, prepare, memory, settings, notes), settings
        )
        if in_memory and len({image.size for images in in_memory.values() for image, _ in images.values()}) == 1:
            sets = {split: _in_memory(images, side) for split, images in in_memory.items()}
            train, validation, test = split_classes(_with_test(sets), main.classes, settings, notes)
            return Splits(train, validation, test, names, memory_preprocessing(train, crop=True), tuple(notes))
    size = side or choose_size(min(image.size) for image in looked_at)
    # Random crops take a part of the image, so more is kept than the size that the network sees.
    shorter = round(size * 1.5)
    in_files: Mapping[str, OwnImages] | None = None
    if _fits(total, 4 * shorter * round(shorter * 1.4), settings):
        in_files = _read_or_not(parts, lambda part, memory: _as_files(part, shorter, memory, settings, notes), settings)
    if in_files is None:
        in_files = {split: _as_files(part, shorter, None, settings, notes) for split, part in parts.items()}
    taught, held, tested = split_classes(_with_test(in_files), main.classes, settings, notes)
    notes.append(f"images are made to {size} x {size} pixels")
    return Splits(taught, held, tested, names, file_preprocessing(taught, size), tuple(notes))


def _read_or_not(
    parts: Mapping[str, Part], read: Callable[[Part, Memory], Made], settings: DataSettings
) -> dict[str, Made] | None:
    """Return what is read of all parts; None if it does not fit into ``data.keep_gb``."""
    memory = Memory(settings.keep_gb * 1e9)
    try:
        return {split: read(part, memory) for split, part in parts.items()}
    except DoesNotFit:
        return None


def _fits(count: int, bytes_each: int, settings: DataSettings) -> bool:
    return count * bytes_each <= settings.keep_gb * 1e9


def _with_test(sets: Mapping[str, Read]) -> dict[str, Read]:
    """Return the parts with a test split: of "train" and "val" alone, the second is that."""
    return {"train": sets["train"], "test": sets["val"]} if sets.keys() == {"train", "val"} else dict(sets)


def _read_some(part: Part) -> list[Image.Image]:
    """Return some images, spread over all; broken ones are passed over.

    Raises:
        UserError: All are broken.
    """
    images, errors = [], []
    for i in spread_sample(range(len(part))):
        try:
            images.append(part.read(i)[0])
        except BrokenImage as error:
            errors.append(error)
    if not images:
        raise errors[0]
    return images


def _read_images(
    part: Part,
    prepare: Callable[[Image.Image], Image.Image],
    memory: Memory,
    settings: DataSettings,
    notes: list[str],
) -> dict[int, tuple[Image.Image, int]]:
    """Return the images and labels that can be read, by position, one after the other."""

    def read(position: int) -> tuple[Image.Image, int]:
        image, target = part.read(position)
        prepared = prepare(image)
        # Pillow keeps four bytes of a pixel in colour.
        memory.take((1 if prepared.mode == "L" else 4) * prepared.width * prepared.height)
        return prepared, part.label(target, position)

    return read_all(range(len(part)), read, settings, notes, threads=1)


def _in_memory(images: Mapping[int, tuple[Image.Image, int]], side: int | None) -> InMemoryImages:
    pixels = torch.stack([to_tensor(image) for image, _ in images.values()])
    labels = torch.tensor([label for _, label in images.values()], dtype=torch.int64)
    return InMemoryImages(pixels if side is None else resize_images(pixels, side), labels)


def _as_files(part: Part, shorter: int, memory: Memory | None, settings: DataSettings, notes: list[str]) -> OwnImages:
    """Return images that are kept small, or read when wanted; labels are the optional ``targets``, or read."""
    targets = part.labels()
    kept: dict[int, Image.Image] = {}
    if memory is not None:
        images = _read_images(part, lambda image: shrink(to_channels(image, 3), shorter), memory, settings, notes)
        labels = {i: label for i, (_, label) in images.items()}
        kept = {i: image for i, (image, _) in images.items()}
    elif targets is None:
        read = read_all(range(len(part)), lambda i: part.label(part.read(i)[1], i), settings, notes, threads=1)
        labels = dict(read)
    else:
        labels = dict(enumerate(targets))
    paths = part.paths
    return OwnImages(
        tuple(paths[i] for i in labels),
        torch.tensor(list(labels.values()), dtype=torch.int64),
        tuple(kept.get(i) for i in labels),
        shorter,
        settings.broken == "skip",
        part=part,
    )


def _load_scenes(parts: Mapping[str, Part], settings: DataSettings, notes: list[str]) -> Splits:
    """Read images with masks of class indices."""
    classes = next(iter(parts.values())).classes
    if len(classes) > IGNORED:
        raise UserError(f"{settings.source} has {len(classes)} classes; masks of uint8 can tell {IGNORED} apart")
    stored = {index: index for index in range(len(classes))} | {IGNORED: IGNORED}
    scenes = {split: tuple(OwnScene(path, path, part=part) for path in part.paths) for split, part in parts.items()}
    names = name_classes(classes, settings)
    return split_scenes(make_layout(names, None, stored, scenes, notes), scenes, Path(), settings)


def _kind(value: Any) -> str:
    """Return what something is, for a message."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} and shape {value.shape}"
    shown = repr(value)
    return f"{shown if len(shown) < 30 else ''} ({type(value).__name__})".strip()
