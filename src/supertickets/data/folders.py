"""Folders of images: any tree of class folders with or without splits, and Tiny-ImageNet's own layout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from ..config.recipe import DataSettings
from ..errors import UserError, suggest
from .broken_files import read_all
from .classification import CHOSEN_SIZES, ImageFiles, choose_size, file_preprocessing, spread_sample
from .file_lists import SPLITS, data_folder, find_child, list_folder_images, list_folders
from .preprocessing import BrokenImage, open_image, shrink, to_channels
from .samples import Splits, square_side
from .splits import split_classes


@dataclass(frozen=True)
class _Files:
    """Image files and their class names, in the same order."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]


def load_folders(settings: DataSettings) -> Splits:
    """Read images in folders by class.

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
        listed = {split: list_classes(path, settings.class_level, notes) for split, path in parts.items()}
    else:
        listed = {"all": list_classes(root, settings.class_level, notes)}
    main = next(iter(listed.values()))
    classes = tuple(sorted(set(main.names)))
    if len(classes) < 2:
        raise UserError(f"{root} has images of one class only ({classes[0]}); give a folder with one folder per class")
    for split, files in listed.items():
        if strange := sorted(set(files.names) - set(classes)):
            raise UserError(
                f"class '{strange[0]}' is in {split}/ of {root} but not in train/{suggest(strange[0], classes)}"
            )
    size = square_side(settings) or choose_size(_shorter_sides(main.paths))
    # Random crops take a part of the image, so more is kept than the size that the network sees.
    sets = {split: _image_set(files, classes, settings, round(size * 1.5), notes) for split, files in listed.items()}
    train, validation, test = split_classes(sets, classes, settings, notes)
    notes.append(f"images are made to {size} x {size} pixels")
    preprocessing = file_preprocessing(train, size)
    return Splits(train, validation, test, settings.class_names or classes, preprocessing, tuple(notes))


def list_classes(root: Path, level: str, notes: list[str]) -> _Files:
    """List the images below a folder with their classes; folders without images are noted and left out.

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


def _image_set(
    files: _Files, classes: tuple[str, ...], settings: DataSettings, shorter: int, notes: list[str]
) -> ImageFiles:
    """Decode what fits into memory; of a larger set only as many files as needed are looked at later."""
    bytes_each = 3 * shorter * round(shorter * 1.4)
    kept: Sequence[Image.Image | None]
    if len(files.paths) * bytes_each <= settings.keep_gb * 1e9:
        kept, files = _decode(files, settings, shorter, notes)
    else:
        kept = [None] * len(files.paths)
    labels = torch.tensor([classes.index(name) for name in files.names], dtype=torch.int64)
    return ImageFiles(files.paths, labels, tuple(kept), shorter, settings.broken == "skip")


def _decode(files: _Files, settings: DataSettings, shorter: int, notes: list[str]) -> tuple[list[Image.Image], _Files]:
    """Decode all files; leave broken ones out, or refuse them."""

    def read(path: Path) -> Image.Image:
        return shrink(to_channels(open_image(path, shorter), 3), shorter)

    images = read_all(files.paths, read, settings, notes)
    good = [(path, name) for path, name in zip(files.paths, files.names, strict=True) if path in images]
    return [images[path] for path, _ in good], _Files(tuple(p for p, _ in good), tuple(n for _, n in good))


def _unwrap_folder(root: Path) -> Path:
    """Go down through folders that hold one folder and no image, as unpacked archives do."""
    while len(inside := list_folders(root)) == 1 and not list_folder_images(root, below=False):
        root = inside[0]
    return root


def _shorter_sides(paths: Sequence[Path]) -> Iterator[int]:
    """Yield the shorter side of some images, spread over all; broken ones are passed over."""
    for path in spread_sample(paths):
        with contextlib.suppress(BrokenImage):
            yield min(open_image(path, CHOSEN_SIZES[1]).size)
