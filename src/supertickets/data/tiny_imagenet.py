"""Tiny-ImageNet in its published layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..config.recipe import DataSettings
from ..errors import UserError
from .broken_files import first_reason
from .class_names import clean_name
from .classification import InMemoryImages, make_splits
from .depth import check_depth
from .file_lists import (
    count_noun,
    data_folder,
    describe_folder,
    find_entry,
    list_folder_images,
    list_folders,
    shorten_list,
    unify,
    unwrap_folder,
)
from .folders import _decode, _Files
from .preprocessing import to_tensor
from .samples import Splits


def load_tiny_imagenet(settings: DataSettings) -> Splits:
    """Read Tiny-ImageNet as published: wnids.txt, words.txt, train/WNID/images, val with val_annotations.txt.

    Its test images have no labels, so ``val`` is the test split and the validation split is held out from training.
    """
    root = data_folder(settings, "Tiny-ImageNet's folder, with wnids.txt, train and val")
    root = unwrap_folder(find_entry(root, "tiny-imagenet-200") or root, "wnids.txt", "train", "val")
    codes = _text(root, "wnids.txt").split()
    of_file = _table(_text(root, "val/val_annotations.txt"))
    words = _table(_text(root, "words.txt")) if find_entry(root, "words.txt") else {}
    notes: list[str] = []
    train = _training_files(root, codes, notes)
    test = _validation_files(root, of_file, notes)
    check_depth([path for path, _ in train])
    sets = {}
    for split, pairs in (("train", train), ("val", test)):
        if strange := sorted({code for _, code in pairs} - set(codes)):
            raise UserError(f"class '{strange[0]}' of {split}/ is not in {root / 'wnids.txt'}")
        files = _Files(tuple(path for path, _ in pairs), tuple(code for _, code in pairs))
        image_list, files = _decode(files, settings, 10**6, notes)
        if missing := [code for code in codes if code not in files.names]:
            raise UserError(
                f"{root / split} has no readable image of class '{missing[0]}'{first_reason(notes, missing[0])}; "
                "fetch the data set again"
            )
        for path, image in zip(files.paths, image_list, strict=True):
            if image.size != image_list[0].size:
                raise UserError(
                    f"{path} is {image.size[0]} x {image.size[1]} pixels, unlike the others; fetch it again"
                )
        images = torch.stack([to_tensor(image) for image in image_list])
        index = {code: label for label, code in enumerate(codes)}
        sets[split] = InMemoryImages(images, torch.tensor([index[code] for code in files.names]))
    names = [clean_name(words.get(code, code).split(",")[0]) for code in codes]
    names = [name if names.count(name) == 1 else f"{name} ({code})" for name, code in zip(names, codes, strict=True)]
    splits = make_splits(sets["train"], sets["val"], names, settings, crop=True)
    return replace(splits, notes=(*notes, *splits.notes))


def _training_files(root: Path, codes: Sequence[str], notes: list[str]) -> list[tuple[Path, str]]:
    """Return the training images and their classes; folders of classes that are not listed are noted."""
    folder = find_entry(root, "train") or root / "train"
    if folder.is_dir() and (rest := [path.name for path in list_folders(folder) if path.name not in codes]):
        notes.append(f"{count_noun(len(rest), 'folder')} of {folder} left out, not in wnids.txt: {shorten_list(rest)}")
    return [
        (path, code)
        for code in codes
        for path in list_folder_images(find_entry(folder, f"{code}/images") or folder / code / "images")
    ]


def _validation_files(root: Path, of_file: Mapping[str, str], notes: list[str]) -> list[tuple[Path, str]]:
    """Return the images of val and their classes; images without an annotation are noted."""
    folder = find_entry(root, "val/images") or root / "val" / "images"
    there = {unify(path.name): path for path in list_folder_images(folder)}
    pairs = [(there.pop(unify(name), folder / name), rest.split("\t")[0]) for name, rest in of_file.items()]
    if there:
        rest = [path.name for path in there.values()]
        notes.append(f"{count_noun(len(rest), 'image')} of {folder} without a class left out: {shorten_list(rest)}")
    return pairs


def _text(root: Path, name: str) -> str:
    path = find_entry(root, name)
    if path is None or not path.is_file():
        raise UserError(
            f"{root} is not laid out like Tiny-ImageNet: {name} is missing ({describe_folder(root)}); "
            "unpack the archive again"
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; fetch it again") from None


def _table(text: str) -> dict[str, str]:
    """Return lines of "key<tab>rest"."""
    rows = (line.split("\t", 1) for line in text.splitlines() if "\t" in line)
    return {key: rest.strip() for key, rest in rows}
