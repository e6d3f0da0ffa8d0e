"""A user's own dataset, named as ``data.source: package.module:Class``; see docs/adding-a-dataset.md.

The class is made as ``Class(folder, split)``. What it returns is checked here, then goes through the same dataset
classes as everything else, so that normalisation, resizing, augmentation and batches are those of any source.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image

from ..config.recipe import DataSettings
from ..errors import UserError
from ..plugins import load_plugin
from .broken_files import DoesNotFit, Memory, read_all
from .class_names import name_classes
from .classification import (
    InMemoryImages,
    choose_size,
    file_preprocessing,
    memory_preprocessing,
    resize_images,
    spread_sample,
)
from .depth import check_values_of
from .file_lists import data_folder
from .own_samples import OwnImages, OwnScene, Part
from .preprocessing import BrokenImage, shrink, to_channels, to_tensor
from .samples import Splits, square_side
from .segmentation import split_scenes
from .segmentation_classes import make_layout
from .segmentation_masks import IGNORED
from .splits import split_classes

_LACKING = (LookupError, ValueError, NotImplementedError, FileNotFoundError)  # a class may say so of "val" and "test"
_GREY = ("1", "L")


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
    check_values_of((f"one of {main.name}", image) for image in looked_at)
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
    # Sizes are known when all is read: it is tried unless some images say clearly that they do not fit.
    if _fits(total, 4 * _mean_pixels(looked_at, shorter) / 2, settings):
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


def _mean_pixels(images: Sequence[Image.Image], shorter: int) -> float:
    """Return the mean number of pixels of some images that are made small."""
    scales = (min(1.0, shorter / min(image.size)) for image in images)
    return statistics.mean(image.width * image.height * scale**2 for image, scale in zip(images, scales, strict=True))


def _fits(count: int, bytes_each: float, settings: DataSettings) -> bool:
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
