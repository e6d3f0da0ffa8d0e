"""Small data sets on disk, to be made odd: an image at a time, and every layout of classes and scenes."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from supertickets import UserError
from supertickets.config.recipe import DataSettings
from supertickets.data import ImageFiles, Splits, load_splits
from supertickets.data.segmentation import SegmentationDataset

BACK = {  # what makes an upright image the one that is stored with an orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (12, 10), **how: Any) -> Path:
    """Write an image of random colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, **how)
    return path


def labels(path: Path, values: Any, size: tuple[int, int] = (12, 10), palette: Sequence[int] | None = None) -> Path:
    """Write a mask: one label everywhere, or labels in stripes from the left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stripes = [values] if isinstance(values, int) else list(values)
    columns = np.array(stripes, np.uint8)[np.arange(size[0]) * len(stripes) // size[0]]
    image = Image.fromarray(np.tile(columns, (size[1], 1)))
    if palette is not None:
        image.putpalette(palette)
    image.save(path)
    return path


def class_tree(root: Path, classes: Iterable[str], count: int = 4) -> Path:
    """Write a folder of images per class."""
    for number, name in enumerate(classes):
        for i in range(count):
            write_image(root / name / f"{i}.png", 100 * number + i)
    return root


def pairs(root: Path, values: Any = (0, 1), count: int = 10, images: str = "images", masks: str = "masks") -> Path:
    """Write images and masks of "masks"."""
    for i in range(count):
        write_image(root / images / f"{i}.png", i)
        labels(root / masks / f"{i}.png", values)
    return root


def voc(root: Path, values: Any = (0, 1), count: int = 10, **lists: Sequence[int]) -> Path:
    """Write VOC's layout; ``lists`` are numbers of scenes by list, half in train and half in val by default."""
    for i in range(count):
        write_image(root / "JPEGImages" / f"{i}.jpg", i)
        labels(root / "SegmentationClass" / f"{i}.png", values)
    for name, numbers in (lists or {"train": range(count // 2), "val": range(count // 2, count)}).items():
        path = root / "ImageSets" / "Segmentation" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{number}\n" for number in numbers))
    return root


def ade(root: Path, values: Any = (1, 2), count: int = 5, splits: Sequence[str] = ("training", "validation")) -> Path:
    """Write ADE20K's layout."""
    for split in splits:
        for i in range(count):
            write_image(root / "images" / split / f"{i}.jpg", i)
            labels(root / "annotations" / split / f"{i}.png", values)
    return root


def city(root: Path, values: Any = (7, 11), count: int = 5, splits: Sequence[str] = ("train", "val")) -> Path:
    """Write Cityscapes' layout."""
    for split in splits:
        for i in range(count):
            write_image(root / "leftImg8bit" / split / "ulm" / f"ulm_{i}_leftImg8bit.png", i)
            labels(root / "gtFine" / split / "ulm" / f"ulm_{i}_gtFine_labelIds.png", values)
    return root


def cifar(folder: Path, source: str = "cifar10", names: Any = None, numbers: Any = list) -> Path:
    """Write CIFAR's Python version as people repack it: keys are bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    key, count = ("label", 10) if source == "cifar10" else ("fine_label", 100)
    parts = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"] if count == 10 else ["train", "test"]
    for seed, name in enumerate(parts):
        data = np.random.default_rng(seed).integers(0, 256, (2 * count, 3072)).astype(np.uint8)
        values = {b"data": data, f"{key}s".encode(): numbers([i % count for i in range(2 * count)])}
        (folder / name).write_bytes(pickle.dumps(values, protocol=2))
    meta = {f"{key}_names".encode(): [f"c{i}" for i in range(count)] if names is None else names}
    (folder / ("batches.meta" if count == 10 else "meta")).write_bytes(pickle.dumps(meta, protocol=2))
    return folder


def tiny_imagenet(root: Path, codes: Sequence[str] = ("n01", "n02"), count: int = 5) -> Path:
    """Write Tiny-ImageNet's layout."""
    rows = []
    for number, code in enumerate(codes):
        for i in range(count):
            write_image(root / "train" / code / "images" / f"{code}_{i}.JPEG", 10 * number + i, (16, 16))
        write_image(root / "val" / "images" / f"val_{number}.JPEG", number, (16, 16))
        rows.append(f"val_{number}.JPEG\t{code}\t0\t0\t15\t15")
    (root / "wnids.txt").write_text("\n".join(codes) + "\n")
    (root / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    return root


def read(source: str, root: Path | None, **settings: Any) -> Splits:
    """Return the splits of a data set, as every command reads it; its digest can be made."""
    if source in ("masks", "voc", "ade20k", "cityscapes"):
        settings = {"size": (16, 16), **settings}
    splits = load_splits(DataSettings(source=source, dir=None if root is None else str(root), **settings))
    assert splits.digest()
    return splits


def refusal(source: str, root: Path | None, **settings: Any) -> str:
    """Return the one line by which a data set is refused."""
    with pytest.raises(UserError) as error:
        read(source, root, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def noted(splits: Splits, *words: object) -> bool:
    """Return whether a note has all of some words."""
    return any(all(str(word) in note for word in words) for note in splits.notes)


def total(splits: Splits) -> int:
    """Return the number of samples in all splits."""
    return sum(map(len, (splits.train, splits.validation, splits.test)))


def image_paths(splits: Splits) -> list[Path]:
    """Return the image of every sample, in all splits."""
    paths: list[Path] = []
    for part in (splits.train, splits.validation, splits.test):
        assert isinstance(part, ImageFiles | SegmentationDataset)
        paths += part.paths if isinstance(part, ImageFiles) else part.images
    return paths


def class_of(splits: Splits) -> dict[str, str]:
    """Return the name of the class that the images of every folder have."""
    names: dict[str, str] = {}
    for part in (splits.train, splits.validation, splits.test):
        assert isinstance(part, ImageFiles)
        for path, label in zip(part.paths, part.labels.tolist(), strict=True):
            assert names.setdefault(path.parent.name, splits.classes[label]) == splits.classes[label]
    return names
