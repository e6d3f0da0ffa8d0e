"""Folders of images: any tree of class folders with or without splits, and Tiny-ImageNet's own layout."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from ..config.recipe import DataSettings
from ..errors import UserError, suggest
from .broken_files import read_all
from .class_names import clean_name, name_classes
from .classification import CHOSEN_SIZES, ImageFiles, choose_size, file_preprocessing, spread_sample
from .depth import check_depth
from .file_lists import (
    count_noun,
    data_folder,
    describe_folder,
    find_splits,
    holds_images,
    list_folder_images,
    list_folders,
    natural_key,
    note_other_files,
    refuse_loop,
    shorten_list,
    split_of,
)
from .foreign_formats import describe_published
from .mirror_names import pair_names
from .preprocessing import BrokenImage, open_image, open_small, stored_size
from .samples import Splits, square_side
from .splits import split_classes


@dataclass(frozen=True)
class _Files:
    """Image files and their class names, in the same order."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]


def load_folders(settings: DataSettings) -> Splits:
    """Read images in folders by class.

    With folders ``train`` and ``val`` and/or ``test`` (`split_of` has their names) the splits are given: ``test`` is
    the test split and ``val`` the validation split; of two alone, the second is the test split and the validation split
    is held out from training. Without, every class is split by the settings' shares.

    Raises:
        UserError: No classes or images are found, or the splits do not fit together.
    """
    given = data_folder(settings, "a folder with one folder of images per class")
    if published := describe_published(given):
        raise UserError(published)
    root = _unwrap_folder(given)
    notes: list[str] = []
    listed = _list_parts(root, settings.class_level, notes)
    main = next(iter(listed.values()))
    classes, names = _order_classes(set(main.names), settings, notes)
    if len(classes) < 2:
        raise UserError(f"{root} has images of one class only ({classes[0]}); give a folder with one folder per class")
    for split, files in listed.items():
        if strange := sorted(set(files.names) - set(classes)):
            raise UserError(
                f"class '{strange[0]}' is in {split}/ of {root} but not in train/{suggest(strange[0], classes)}"
            )
    check_depth(main.paths)
    size = square_side(settings) or choose_size(_shorter_sides(main.paths))
    # Random crops take a part of the image, so more is kept than the size that the network sees.
    shorter = round(size * 1.5)
    keep = _fit_in_memory([path for files in listed.values() for path in files.paths], shorter, settings)
    decode = functools.partial(_decode, settings=settings, shorter=shorter, notes=notes) if keep else _keep_none
    read = {split: decode(files) for split, files in listed.items()}
    sets = {split: _image_set(kept, files, classes, settings, shorter) for split, (kept, files) in read.items()}
    train, validation, test = split_classes(sets, classes, settings, notes)
    paired, alone = pair_names(names)
    if sided := [*(name for i, name in enumerate(names) if paired[i] != i), *alone]:
        notes.append(
            f"mirrored images keep their class ({shorten_list(sided)}): set augment.flip to false if sides count"
        )
    notes.append(f"images are made to {size} x {size} pixels")
    return Splits(train, validation, test, names, file_preprocessing(train, size), tuple(notes))


def list_classes(root: Path, level: str, notes: list[str]) -> _Files:
    """List the images below a folder with their classes; folders without images are noted and left out.

    Args:
        root: Where to look.
        level: "top": the class is the topmost folder; "leaf": the folder that holds the image, by its path.
        notes: What a person should know is added here.
    """
    others: list[Path] = []
    loose = list_folder_images(root, below=False)
    paths: list[Path] = []
    names: list[str] = []
    folder_of: dict[str, Path] = {}
    for folder in list_folders(root):
        images = list_folder_images(refuse_loop(folder, itself=True), others=others)
        if not images:
            notes.append(f"folder {folder} holds no images; it is left out")
            continue
        same = folder_of.setdefault(clean_name(folder.name), folder)
        if same is not folder:
            notes.append(f"folders {same} and {folder} are two spellings of one name: they are one class")
        paths += images
        names += [folder.name if level == "top" else str(path.parent.relative_to(root)) for path in images]
    if not paths:
        hint = f"its {len(loose)} images are in no folder: put them" if loose else "put images"
        raise UserError(
            f"{root} has no class folders with images ({describe_folder(root)}); {hint} into one folder per class"
        )
    if loose:
        notes.append(f"{len(loose)} images in {root} itself are in no class folder; they are left out")
    note_other_files(others, notes)
    return _Files(tuple(paths), tuple(map(clean_name, names)))


def _list_parts(root: Path, level: str, notes: list[str]) -> dict[str, _Files]:
    """Return the files of every given split, training first; or of "all" where no splits are given."""
    given = find_splits(root, notes)
    if not given:
        return {"all": list_classes(root, level, notes)}
    splits = set(given.values())
    rest = [path for path in list_folders(root) if split_of(path.name) is None and holds_images(path)]
    if len(given) == 1 and rest:
        (split,) = splits
        if not list_folder_images(split, below=False):
            raise UserError(
                f"folder {split} holds folders, as a split does, but is beside {shorten_list([p.name for p in rest])}; "
                f"give --data {split}, add a folder for another split, or rename it if it is a class"
            )
        notes.append(f"folder {split} holds images like the folders beside it: it is taken for a class")
        return {"all": list_classes(root, level, notes)}
    if len(given) > 1 and "train" not in given:
        raise UserError(f"{root} has {' and '.join(given)} but no train; add it, or give one folder per class")
    if rest:
        notes.append(
            f"{count_noun(len(rest), 'folder')} beside the splits of {root} left out: "
            f"{shorten_list([path.name for path in rest])}"
        )
    if len(given) == 1:
        return {"all": list_classes(next(iter(splits)), level, notes)}
    return _list_splits(given, level, notes)


def _list_splits(given: Mapping[str, Path], level: str, notes: list[str]) -> dict[str, _Files]:
    """Return the files of given splits; one without class folders, as of a contest, has no labels and is left out."""
    labelled = dict(given)
    for split in ("val", "test"):
        folder = given.get(split)
        if folder is not None and not list_folders(folder) and (loose := list_folder_images(folder, below=False)):
            notes.append(f"{len(loose)} images in {folder} are in no class folder, so without labels; left out")
            del labelled[split]
    listed = {split: list_classes(path, level, notes) for split, path in labelled.items()}
    if len(listed) == 1:
        return {"all": listed["train"]}
    return {"train": listed["train"], "test": listed["val"]} if "test" not in listed else listed


def _order_classes(
    folders: Iterable[str], settings: DataSettings, notes: list[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes by their folders, in the order of their indices; and their names.

    Folders are in natural order, 2 before 10. Where ``data.class_names`` are the folders' names, theirs is the order.
    """
    classes = tuple(sorted(folders, key=natural_key))
    given = tuple(map(clean_name, settings.class_names))
    if len(given) == len(classes) and set(given) == set(classes):
        return given, given
    names = name_classes(classes, settings)
    if names != classes:
        pairs = [f"{folder} is '{name}'" for folder, name in zip(classes, names, strict=True)]
        notes.append(f"names of the class folders: {', '.join(pairs[:20])}{', ...' if len(pairs) > 20 else ''}")
    return classes, names


def _image_set(
    kept: Sequence[Image.Image | None], files: _Files, classes: tuple[str, ...], settings: DataSettings, shorter: int
) -> ImageFiles:
    index = {name: label for label, name in enumerate(classes)}
    labels = torch.tensor([index[name] for name in files.names], dtype=torch.int64)
    return ImageFiles(files.paths, labels, tuple(kept), shorter, settings.broken == "skip")


def _keep_none(files: _Files) -> tuple[list[None], _Files]:
    """Keep nothing of files: only as many as needed are looked at later."""
    return [None] * len(files.paths), files


def _fit_in_memory(paths: Sequence[Path], shorter: int, settings: DataSettings) -> bool:
    """Return whether images fit, as they are kept; their heads are read until they do not."""
    left = settings.keep_gb * 1e9
    for path in paths:
        with contextlib.suppress(BrokenImage):
            width, height = stored_size(path)
            scale = min(1.0, shorter / min(width, height))
            left -= 4 * width * height * scale**2
        if left < 0:
            return False
    return True


def _decode(files: _Files, settings: DataSettings, shorter: int, notes: list[str]) -> tuple[list[Image.Image], _Files]:
    """Decode all files; leave broken ones out, or refuse them."""
    images = read_all(files.paths, functools.partial(open_small, shorter=shorter), settings, notes)
    good = [(path, name) for path, name in zip(files.paths, files.names, strict=True) if path in images]
    return [images[path] for path, _ in good], _Files(tuple(p for p, _ in good), tuple(n for _, n in good))


def _unwrap_folder(root: Path) -> Path:
    """Go down through folders that hold one folder of folders and no image, as unpacked archives do."""
    while len(inside := list_folders(root)) == 1 and not list_folder_images(root, below=False):
        if list_folder_images(inside[0], below=False):
            break  # a class, though it is the only one
        root = inside[0]
    return root


def _shorter_sides(paths: Sequence[Path]) -> Iterator[int]:
    """Yield the shorter side of some images, spread over all; broken ones are passed over."""
    for path in spread_sample(paths):
        with contextlib.suppress(BrokenImage):
            yield min(open_image(path, CHOSEN_SIZES[1]).size)
