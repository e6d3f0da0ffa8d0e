"""Readers of data sets in the formats they are published in."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..config.recipe import DataSettings
from ..errors import UserError
from .cifar import load_cifar
from .classification import InMemoryImages, make_splits, stratified_split
from .coco_detection import load_coco_detection
from .coco_keypoints import load_coco_keypoints
from .folders import data_folder, load_folders, load_tiny_imagenet
from .samples import Splits, limit_samples
from .segmentation import load_segmentation
from .shanghaitech import load_shanghaitech

_IDX_FILES = {
    "train images": "train-images-idx3-ubyte",
    "train labels": "train-labels-idx1-ubyte",
    "test images": "t10k-images-idx3-ubyte",
    "test labels": "t10k-labels-idx1-ubyte",
}

# Channels, height and width in pixels, and classes.
_PUBLISHED = {
    "digits": (1, (8, 8), 10),
    "idx": (1, (28, 28), 10),
    "cifar10": (3, (32, 32), 10),
    "cifar100": (3, (32, 32), 100),
    "tiny_imagenet": (3, (64, 64), 200),
    "cityscapes": (3, (512, 512), 19),
    "ade20k": (3, (512, 512), 150),
    "voc": (3, (512, 512), 21),
    "coco": (3, (256, 192), 17),
    "coco_boxes": (3, (320, 320), 80),
    "shanghaitech": (3, (256, 256), 1),
}

# By recipe: images, scenes, crowds, and of COCO persons with joints or images with boxes, that are published for
# training.
_PUBLISHED_SAMPLES = {
    "imagenet": 1_281_167,
    "tiny_imagenet": 100_000,
    "cityscapes": 2_975,
    "ade20k": 20_210,
    "coco": 149_813,
    "coco_boxes": 117_266,
    "shanghaitech_a": 300,
    "shanghaitech_b": 400,
}


def published_samples(recipe: str, settings: DataSettings) -> int | None:
    """Samples that a shipped recipe trains on, without looking at files: what validation leaves of those published.

    Args:
        recipe: Its name.
        settings: Reads ``validation`` and ``limit``.

    Returns:
        None where the recipe may be given any data.
    """
    published = _PUBLISHED_SAMPLES.get(recipe)
    if published is None:
        return None
    if recipe != "tiny_imagenet":  # which has a validation part of its own
        published -= round(published * settings.validation)
    return published if settings.limit is None else min(settings.limit, published)


def published_shape(settings: DataSettings) -> dict[str, Any]:
    """What a network takes and makes for a published data set, as settings of a spec, without looking at files.

    Of "folders" only the size is known: the one that is set, or the largest that is chosen.
    """
    found: dict[str, Any] = {"image_size": (64, 64)}
    if settings.source in _PUBLISHED:
        channels, (height, width), classes = _PUBLISHED[settings.source]
        found = {"in_channels": channels, "image_size": (height, width), "num_classes": classes}
    if settings.size is not None:
        size = settings.size
        found["image_size"] = (size, size) if isinstance(size, int) else size
    if settings.source == "masks" and settings.class_names:
        found["num_classes"] = len(set(range(len(settings.class_names))) - set(settings.ignore))
    return found


def load_splits(settings: DataSettings) -> Splits:
    """Reads the data set that the settings name.

    Raises:
        UserError: The folder or a file is missing or damaged, or a share or a limit is impossible.
    """
    readers: dict[str, Callable[[DataSettings], Splits]] = {
        "digits": load_digits,
        "idx": load_idx,
        "cifar10": load_cifar,
        "cifar100": load_cifar,
        "tiny_imagenet": load_tiny_imagenet,
        "folders": load_folders,
        "coco": load_coco_keypoints,
        "coco_boxes": load_coco_detection,
        "shanghaitech": load_shanghaitech,
        **dict.fromkeys(("cityscapes", "ade20k", "voc", "masks"), load_segmentation),
    }
    return limit_samples(readers[settings.source](settings), settings)


def load_digits(settings: DataSettings) -> Splits:
    """The 1,797 handwritten digits (8x8, 17 grey levels) that come with scikit-learn; a fifth is the test split."""
    from sklearn.datasets import load_digits as load

    bunch = load()
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    data = InMemoryImages(images, torch.from_numpy(bunch.target.astype(np.int64)))
    test, rest = stratified_split(data.labels.numpy(), 0.2, settings.split_seed)
    return make_splits(data.subset(rest), data.subset(test), tuple(str(i) for i in range(10)), settings)


def load_idx(settings: DataSettings) -> Splits:
    """MNIST, Fashion-MNIST and their kin: four idx files, plain or gzipped, with the published names."""
    folder = data_folder(
        settings, f"the folder with the four idx files of MNIST's layout ({_IDX_FILES['train images']}.gz ...)"
    )
    found = {what: _find_file(folder, name) for what, name in _IDX_FILES.items()}
    missing = [_IDX_FILES[what] for what, path in found.items() if path is None]
    if missing:
        raise UserError(
            f"data folder {folder} lacks {', '.join(missing)} (.gz or not); "
            "it needs the four idx files of MNIST's layout"
        )
    sets = {}
    for split in ("train", "test"):
        image_path, label_path = found[f"{split} images"], found[f"{split} labels"]
        assert image_path is not None
        assert label_path is not None
        images, labels = read_idx(image_path), read_idx(label_path)
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise UserError(
                f"{image_path} has shape {images.shape} and {label_path.name} {labels.shape}; "
                "expected N images (3 dimensions) and N labels (1 dimension): fetch the pair again"
            )
        if len(labels) == 0:
            raise UserError(f"{image_path} holds no samples; fetch the file again")
        sets[split] = InMemoryImages(torch.from_numpy(images)[:, None], torch.from_numpy(labels.astype(np.int64)))
    classes = int(sets["train"].labels.max()) + 1
    if int(sets["test"].labels.max()) >= classes:
        raise UserError(
            f"{found['test labels']} holds labels up to {int(sets['test'].labels.max())}, train only to {classes - 1}"
        )
    return make_splits(sets["train"], sets["test"], tuple(str(i) for i in range(classes)), settings)


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Reads an idx file of unsigned bytes, gzipped or not.

    Format: two zero bytes, type 0x08, number of dimensions, each dimension as a big-endian uint32, then the data.

    Raises:
        UserError: The file is not idx, or shorter or longer than its header says.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error or 'truncated'}); fetch the file again") from None
    if len(raw) < 4 or raw[:3] != b"\0\0\x08" or len(raw) < 4 + 4 * raw[3]:
        raise UserError(f"{path} is not an idx file of bytes (it must begin with 00 00 08); fetch the file again")
    dims = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    have, want = len(raw) - 4 - 4 * raw[3], int(np.prod(dims))
    if have != want:
        raise UserError(f"{path} is truncated or damaged: {have} of {want} data bytes; fetch the file again")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(dims).copy()


def _find_file(folder: Path, name: str) -> Path | None:
    # Both spellings are in circulation: "idx3-ubyte" and "idx3.ubyte".
    for candidate in (name, name.replace("-idx", ".idx")):
        for suffix in (".gz", ""):
            if (path := folder / (candidate + suffix)).is_file():
                return path
    return None
