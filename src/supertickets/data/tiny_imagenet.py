"""Tiny-ImageNet in its published layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ..config.recipe import DataSettings
from ..errors import UserError
from .classification import InMemoryImages, make_splits
from .file_lists import data_folder, list_folder_images
from .folders import _decode, _Files
from .preprocessing import to_tensor
from .samples import Splits


def load_tiny_imagenet(settings: DataSettings) -> Splits:
    """Read Tiny-ImageNet as published: wnids.txt, words.txt, train/WNID/images, val with val_annotations.txt.

    Its test images have no labels, so ``val`` is the test split and the validation split is held out from training.
    """
    root = data_folder(settings, "Tiny-ImageNet's folder, with wnids.txt, train and val")
    root = root / "tiny-imagenet-200" if (root / "tiny-imagenet-200").is_dir() else root
    annotations = root / "val" / "val_annotations.txt"
    for path in (root / "wnids.txt", annotations):
        if not path.is_file():
            raise UserError(f"{root} is not laid out like Tiny-ImageNet: {path.relative_to(root)} is missing")
    words = _table(root / "words.txt") if (root / "words.txt").is_file() else {}
    codes = (root / "wnids.txt").read_text().split()
    of_file = _table(annotations)
    notes: list[str] = []
    train = [(path, code) for code in codes for path in list_folder_images(root / "train" / code / "images")]
    test = [(root / "val" / "images" / name, rest.split("\t")[0]) for name, rest in of_file.items()]
    sets = {}
    for split, pairs in (("train", train), ("val", test)):
        if strange := sorted({code for _, code in pairs} - set(codes)):
            raise UserError(f"class '{strange[0]}' of {split}/ is not in {root / 'wnids.txt'}")
        files = _Files(tuple(path for path, _ in pairs), tuple(code for _, code in pairs))
        image_list, files = _decode(files, settings, 10**6, notes)
        if missing := [code for code in codes if code not in files.names]:
            raise UserError(f"{root / split} has no readable image of class '{missing[0]}'; fetch the data set again")
        for path, image in zip(files.paths, image_list, strict=True):
            if image.size != image_list[0].size:
                raise UserError(
                    f"{path} is {image.size[0]} x {image.size[1]} pixels, unlike the others; fetch it again"
                )
        images = torch.stack([to_tensor(image) for image in image_list])
        sets[split] = InMemoryImages(images, torch.tensor([codes.index(code) for code in files.names]))
    names = [words.get(code, code).split(",")[0] for code in codes]
    names = [name if names.count(name) == 1 else f"{name} ({code})" for name, code in zip(names, codes, strict=True)]
    splits = make_splits(sets["train"], sets["val"], names, settings, crop=True)
    return replace(splits, notes=(*notes, *splits.notes))


def _table(path: Path) -> dict[str, str]:
    """Return lines of "key<tab>rest"."""
    rows = (line.split("\t", 1) for line in path.read_text().splitlines() if "\t" in line)
    return {key: rest.strip() for key, rest in rows}
