"""MNIST, Fashion-MNIST and their kin: idx files of images and labels."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from ..config.recipe import DataSettings
from ..errors import UserError
from .classification import InMemoryImages, make_splits
from .file_lists import data_folder, describe_folder, find_entry, unwrap_until
from .samples import Splits

_MOST_BYTES = 1 << 30  # of one file; the largest published ones (EMNIST) have half of that
_MOST_DIMS = 4
_DEFLATE = 1032  # bytes that gzip can put into one, at most
_IDX_FILES = {
    "train images": "train-images-idx3-ubyte",
    "train labels": "train-labels-idx1-ubyte",
    "test images": "t10k-images-idx3-ubyte",
    "test labels": "t10k-labels-idx1-ubyte",
}


def load_idx(settings: DataSettings) -> Splits:
    """MNIST, Fashion-MNIST and their kin: four idx files, plain or gzipped, with the published names."""
    folder = data_folder(
        settings, f"the folder with the four idx files of MNIST's layout ({_IDX_FILES['train images']}.gz ...)"
    )
    folder = unwrap_until(folder, lambda below: any(_find_file(below, name) for name in _IDX_FILES.values()))
    paths = {what: _find_file(folder, name) for what, name in _IDX_FILES.items()}
    missing = [_IDX_FILES[what] for what, path in paths.items() if path is None]
    if missing:
        raise UserError(
            f"data folder {folder} lacks {', '.join(missing)} (.gz or not), {describe_folder(folder)}; "
            "it needs the four idx files of MNIST's layout"
        )
    sets = {}
    for split in ("train", "test"):
        image_path, label_path = paths[f"{split} images"], paths[f"{split} labels"]
        assert image_path is not None
        assert label_path is not None
        images, labels = read_idx(image_path), read_idx(label_path)
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise UserError(
                f"{image_path} has shape {images.shape} and {label_path.name} {labels.shape}; "
                "expected N images (3 dimensions) and N labels (1 dimension): fetch the pair again"
            )
        if images.size == 0:
            raise UserError(f"{image_path} holds no samples; fetch the file again")
        sets[split] = InMemoryImages(torch.from_numpy(images)[:, None], torch.from_numpy(labels.astype(np.int64)))
    classes = int(sets["train"].labels.max()) + 1
    if int(sets["test"].labels.max()) >= classes:
        raise UserError(
            f"{paths['test labels']} holds labels up to {int(sets['test'].labels.max())}, train only to {classes - 1}"
        )
    return make_splits(sets["train"], sets["test"], tuple(str(i) for i in range(classes)), settings)


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read an idx file of unsigned bytes, gzipped or not.

    Format: two zero bytes, type 0x08, number of dimensions, each dimension as a big-endian uint32, then the data. No
    more is read than the header claims, which is checked against the file before memory is taken.

    Raises:
        UserError: The file is not idx, shorter or longer than its header says, or larger than 1 GiB.
    """
    try:
        with path.open("rb") as file:
            packed = path.suffix.lower() == ".gz" or file.peek(2)[:2] == b"\x1f\x8b"
            size = path.stat().st_size * (_DEFLATE if packed else 1)
            return _parse_idx(path, gzip.GzipFile(fileobj=file) if packed else file, size)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error or 'truncated'}); fetch the file again") from None


def _parse_idx(path: Path, file: BinaryIO | gzip.GzipFile, size: int) -> npt.NDArray[np.uint8]:
    """Return the array of a file that holds no more than some bytes."""
    head = file.read(4)
    dims_size = 4 * head[3] if len(head) == 4 else 0
    dims_raw = file.read(dims_size)
    if head[:3] != b"\0\0\x08" or len(head) < 4 or head[3] > _MOST_DIMS or len(dims_raw) < dims_size:
        raise UserError(f"{path} is not an idx file of bytes (it must begin with 00 00 08); fetch the file again")
    dims = struct.unpack(f">{head[3]}I", dims_raw)
    want = math.prod(dims)
    if not want:
        raise UserError(f"{path} holds no data (it claims {' x '.join(map(str, dims))}); fetch the file again")
    if want > _MOST_BYTES and size >= want:
        raise UserError(f"{path} claims {want:,} bytes of data, at most {_MOST_BYTES:,} are read; give fewer samples")
    data = file.read(min(want, size) + 1)
    if len(data) != want:
        have = f"more than {want}" if len(data) > want else f"{len(data)} of {want}"
        raise UserError(f"{path} is truncated or damaged: {have} data bytes; fetch the file again")
    return np.frombuffer(data, np.uint8).reshape(dims).copy()


def _find_file(folder: Path, name: str) -> Path | None:
    # Both spellings are in circulation: "idx3-ubyte" and "idx3.ubyte".
    for candidate in (name, name.replace("-idx", ".idx")):
        for suffix in (".gz", ""):
            if (path := find_entry(folder, candidate + suffix)) is not None and path.is_file():
                return path
    return None
