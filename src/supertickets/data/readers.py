"""Readers of data sets in the formats they are published in."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import UserError
from ..recipe import DataSettings
from .folders import data_folder, load_folders, load_tiny_imagenet
from .images import ImageSet, Splits, make_splits, stratified

_IDX_FILES = {
    "train images": "train-images-idx3-ubyte",
    "train labels": "train-labels-idx1-ubyte",
    "test images": "t10k-images-idx3-ubyte",
    "test labels": "t10k-labels-idx1-ubyte",
}


def load_splits(settings: DataSettings) -> Splits:
    """Reads the data set that the settings name.

    Raises:
        UserError: The folder or a file is missing or damaged.
    """
    readers: dict[str, Callable[[DataSettings], Splits]] = {
        "digits": load_digits,
        "idx": load_idx,
        "cifar": load_cifar,
        "tiny_imagenet": load_tiny_imagenet,
        "folders": load_folders,
    }
    if settings.size is not None and settings.size < 8:
        raise UserError(f"data.size is {settings.size}; the nearest possible is 8 pixels")
    return readers[settings.source](settings)


def load_digits(settings: DataSettings) -> Splits:
    """The 1,797 handwritten digits (8x8, 17 grey levels) that come with scikit-learn; a fifth is the test split."""
    from sklearn.datasets import load_digits as load

    bunch = load()
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    data = ImageSet(images, torch.from_numpy(bunch.target.astype(np.int64)))
    test, rest = stratified(data.labels.numpy(), 0.2, settings.split_seed)
    return make_splits(data.subset(rest), data.subset(test), tuple(str(i) for i in range(10)), settings)


def load_idx(settings: DataSettings) -> Splits:
    """MNIST, Fashion-MNIST and their kin: four idx files, plain or gzipped, with the published names."""
    folder = data_folder(
        settings, f"the folder with the four idx files of MNIST's layout ({_IDX_FILES['train images']}.gz ...)"
    )
    found = {what: _find(folder, name) for what, name in _IDX_FILES.items()}
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
        sets[split] = ImageSet(torch.from_numpy(images)[:, None], torch.from_numpy(labels.astype(np.int64)))
    classes = int(sets["train"].labels.max()) + 1
    if int(sets["test"].labels.max()) >= classes:
        raise UserError(
            f"{found['test labels']} holds labels up to {int(sets['test'].labels.max())}, train only to {classes - 1}"
        )
    return make_splits(sets["train"], sets["test"], tuple(str(i) for i in range(classes)), settings)


def load_cifar(settings: DataSettings) -> Splits:
    """The Python version of CIFAR-10 (five batches and a test batch) or CIFAR-100 (train and test), unpacked."""
    folder = data_folder(settings, "the folder of CIFAR's Python version (cifar-10-batches-py or cifar-100-python)")
    for name in ("cifar-10-batches-py", "cifar-100-python"):
        folder = folder / name if (folder / name).is_dir() else folder
    if (folder / "batches.meta").is_file():
        train, test, meta, key = [f"data_batch_{i}" for i in range(1, 6)], "test_batch", "batches.meta", "label"
    elif (folder / "meta").is_file():
        train, test, meta, key = ["train"], "test", "meta", "fine_label"
    else:
        raise UserError(
            f"{folder} holds neither batches.meta (CIFAR-10) nor meta (CIFAR-100); unpack the archive again"
        )
    described = read_pickle(folder / meta)
    names = described.get(f"{key}_names")
    if not isinstance(names, list):
        raise UserError(f"{folder / meta} has no list '{key}_names'; unpack the archive again")
    parts = [_cifar_part(folder / name, f"{key}s", len(names)) for name in train]
    both = ImageSet(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
    return make_splits(both, _cifar_part(folder / test, f"{key}s", len(names)), names, settings, crop=True)


def read_pickle(path: Path) -> dict[str, Any]:
    """Reads a pickled dictionary of numbers, texts, lists and numpy arrays; nothing else is let in.

    Raises:
        UserError: The file is missing, damaged, or asks for anything else.
    """
    try:
        found = _Restricted(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except FileNotFoundError:
        raise UserError(f"{path} is missing; unpack the archive again") from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is not a CIFAR file or is damaged ({why}); unpack the archive again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is not a CIFAR file (a {type(found).__name__}, not a dictionary)")
    return {key if isinstance(key, str) else str(key, "latin1"): value for key, value in found.items()}


_ALLOWED = {
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
}


class _Restricted(pickle.Unpickler):
    """Unpickles numpy arrays; a file that names any other class or function is refused before anything runs."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which data has no need of")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _cifar_part(path: Path, key: str, classes: int) -> ImageSet:
    found = read_pickle(path)
    data, labels = found.get("data"), found.get(key)
    if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2 and data.shape[1] == 3072):
        raise UserError(f"{path} holds no pictures (N x 3072 bytes under 'data'); unpack the archive again")
    if not (isinstance(labels, list) and len(labels) == len(data) and all(isinstance(i, int) for i in labels)):
        raise UserError(f"{path} does not hold one number under '{key}' per picture; unpack the archive again")
    if labels and not 0 <= min(labels) <= max(labels) < classes:
        raise UserError(f"{path} holds labels from {min(labels)} to {max(labels)}, but there are {classes} classes")
    return ImageSet(torch.from_numpy(data.reshape(-1, 3, 32, 32).copy()), torch.tensor(labels, dtype=torch.int64))


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


def _find(folder: Path, name: str) -> Path | None:
    # Both spellings are in circulation: "idx3-ubyte" and "idx3.ubyte".
    for candidate in (name, name.replace("-idx", ".idx")):
        for suffix in (".gz", ""):
            if (path := folder / (candidate + suffix)).is_file():
                return path
    return None
