"""Folders of images: any tree of class folders with or without splits, and Tiny-ImageNet's own layout."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..config.recipe import DataSettings
from ..errors import UserError, suggest
from .broken_files import read_all
from .classification import ImageFiles
from .file_lists import SPLITS, data_folder, find_child, list_folder_images, list_folders
from .preprocessing import BrokenImage, Preprocessing, open_image, shrink, to_channels, with_normalisation
from .randomness import sample_indices
from .samples import Splits, square_side
from .splits import hold_out, stratified_split

_CHOSEN_SIZES = (16, 64)  # a size that nobody gave lies between these
_FEWEST = 3  # images of a class: one for each split
_MEASURED = 512  # images that the normalisation is measured on


@dataclass(frozen=True)
class _Files:
    """Image files and their class names, in the same order."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]


def load_folders(settings: DataSettings) -> Splits:
    """Reads images in folders by class.

    With folders ``train`` and ``val`` and/or ``test`` the splits are given: ``test`` is the test split and ``val`` the
    validation split; of two alone, the second is the test split and the validation split is held out from training.
    Without, every class is split by the settings' shares.

    Raises:
        UserError: No classes or images are found, or the splits do not fit together.
    """
    root = _unwrap_folder(data_folder(settings, "a folder with one folder of images per class"))
    notes: list[str] = []
    given = {split: path for split, names in SPLITS.items() if (path := find_child(root, names)) is not None}
    if len(given) > 1:
        if "train" not in given:
            raise UserError(f"{root} has {' and '.join(given)} but no train; add it, or give one folder per class")
        parts = {"train": given["train"], "test": given.get("test", given.get("val", root))}
        if len(given) == 3:
            parts["val"] = given["val"]
        found = {split: list_classes(path, settings.class_level, notes) for split, path in parts.items()}
    else:
        found = {"all": list_classes(root, settings.class_level, notes)}
    main = next(iter(found.values()))
    classes = tuple(sorted(set(main.names)))
    if len(classes) < 2:
        raise UserError(f"{root} has images of one class only ({classes[0]}); give a folder with one folder per class")
    for split, files in found.items():
        if strange := sorted(set(files.names) - set(classes)):
            raise UserError(
                f"class '{strange[0]}' is in {split}/ of {root} but not in train/{suggest(strange[0], classes)}"
            )
    size = square_side(settings) or _choose_size(main.paths)
    # Random crops take a part of the image, so more is kept than the size that the network sees.
    sets = {split: _image_set(files, classes, settings, round(size * 1.5), notes) for split, files in found.items()}
    return _splits(sets, classes, settings, size, notes)


def list_classes(root: Path, level: str, notes: list[str]) -> _Files:
    """Lists the images below a folder with their classes; folders without images are noted and left out.

    Args:
        root: Where to look.
        level: "top": the class is the topmost folder; "leaf": the folder that holds the image, by its path.
        notes: What a person should know is added here.
    """
    folders, loose = list_folders(root), list_folder_images(root, below=False)
    paths: list[Path] = []
    names: list[str] = []
    for folder in folders:
        images = list_folder_images(folder)
        if not images:
            notes.append(f"folder {folder} holds no images; it is left out")
        paths += images
        names += [folder.name if level == "top" else str(path.parent.relative_to(root)) for path in images]
    if not paths:
        hint = f"its {len(loose)} images are in no folder: put them" if loose else "put images"
        raise UserError(f"{root} has no class folders with images; {hint} into one folder per class")
    if loose:
        notes.append(f"{len(loose)} images in {root} itself are in no class folder; they are left out")
    return _Files(tuple(paths), tuple(names))


def _splits(
    sets: Mapping[str, ImageFiles], classes: tuple[str, ...], settings: DataSettings, size: int, notes: list[str]
) -> Splits:
    if "all" in sets:
        data = sets["all"]
        _check_counts(data.labels.tolist(), classes, _FEWEST)
        if not 0 < settings.test < 1:
            raise UserError(f"data.test is {settings.test:g}; it is a share between 0 and 1, e.g. 0.15")
        tested, rest = stratified_split(data.labels.numpy(), settings.test, settings.split_seed)
        if len(set(data.labels[rest].tolist())) < len(classes):
            raise UserError(f"data.test {settings.test:g} leaves a class without training images; try 0.15")
        data, test = data.subset(rest), data.subset(tested)
        how = f"{settings.test:.0%} of every class is the test split"
    else:
        data, test = sets["train"], sets["test"]
        for split, part in sets.items():
            if len(part) == 0:
                raise UserError(f"no image of {split}/ can be read; mend the files or remove the folder")
        _check_counts(data.labels.tolist(), classes, 1 if "val" in sets else 2)
        how = "splits as given"
    if "val" in sets:
        train, validation = data, sets["val"]
    else:
        kept, held = hold_out(data.labels, settings)
        train, validation = data.subset(kept), data.subset(held)
    missing = [name for label, name in enumerate(classes) if not (train.labels == label).any()]
    if missing:
        raise UserError(f"no image of class '{missing[0]}' is left for training; set data.validation lower")
    counts = np.bincount(train.labels.numpy(), minlength=len(classes))
    shown = ", ".join(f"{name} {n}" for name, n in list(zip(classes, counts, strict=True))[:12])
    notes.append(f"{len(classes)} classes, training images each: {shown}{', ...' if len(classes) > 12 else ''}")
    notes.append(f"{len(train)} training, {len(validation)} validation, {len(test)} test images ({how})")
    notes.append(f"images are made to {size} x {size} pixels")
    names = settings.class_names or classes
    if len(names) != len(classes):
        raise UserError(f"data.class_names has {len(names)} names, the data has {len(classes)} classes")
    return Splits(train, validation, test, names, _with_normalisation(train, size), tuple(notes))


def _check_counts(labels: Sequence[int], classes: Sequence[str], fewest: int) -> None:
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    for name, count in zip(classes, counts, strict=True):
        if count < fewest:
            raise UserError(
                f"class '{name}' has {count} readable image{'s' * (count != 1)}, at least {fewest} are needed to "
                "split them; add images or remove its folder"
            )


def _with_normalisation(train: ImageFiles, size: int) -> Preprocessing:
    """The preprocessing, with mean and deviation over some training images."""
    plain = Preprocessing(3, (size, size), (0.0,) * 3, (1.0,) * 3, "crop", 0.875, "bicubic")
    return with_normalisation(
        plain, (plain.pixels(train.image_or_substitute(i)) for i in sample_indices(len(train), _MEASURED))
    )


def _image_set(
    files: _Files, classes: tuple[str, ...], settings: DataSettings, shorter: int, notes: list[str]
) -> ImageFiles:
    """Decodes what fits into memory; of a larger set only as many files as needed are looked at later."""
    bytes_each = 3 * shorter * round(shorter * 1.4)
    kept: Sequence[Image.Image | None]
    if len(files.paths) * bytes_each <= settings.keep_gb * 1e9:
        kept, files = _decode(files, settings, shorter, notes)
    else:
        kept = [None] * len(files.paths)
    labels = torch.tensor([classes.index(name) for name in files.names], dtype=torch.int64)
    return ImageFiles(files.paths, labels, tuple(kept), shorter, settings.broken == "skip")


def _decode(files: _Files, settings: DataSettings, shorter: int, notes: list[str]) -> tuple[list[Image.Image], _Files]:
    """Decodes all files; leaves broken ones out, or refuses them."""

    def read(path: Path) -> Image.Image:
        return shrink(to_channels(open_image(path, shorter), 3), shorter)

    images = read_all(files.paths, read, settings, notes)
    good = [(path, name) for path, name in zip(files.paths, files.names, strict=True) if path in images]
    return [images[path] for path, _ in good], _Files(tuple(p for p, _ in good), tuple(n for _, n in good))


def _choose_size(paths: Sequence[Path]) -> int:
    """The usual shorter side of some images, within what the tiny networks take."""
    sides = []
    for path in _spread_sample(paths, 64):
        try:
            sides.append(min(open_image(path, _CHOSEN_SIZES[1]).size))
        except BrokenImage:
            continue
    usual = statistics.median(sides) if sides else _CHOSEN_SIZES[1]
    return int(min(max(usual // 8 * 8, _CHOSEN_SIZES[0]), _CHOSEN_SIZES[1]))


def _spread_sample(paths: Sequence[Path], count: int) -> Iterable[Path]:
    return paths[:: max(1, len(paths) // count)][:count]


def _unwrap_folder(root: Path) -> Path:
    """Goes down through folders that hold one folder and no image, as unpacked archives do."""
    while len(inside := list_folders(root)) == 1 and not list_folder_images(root, below=False):
        root = inside[0]
    return root
