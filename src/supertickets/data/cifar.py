"""CIFAR-10 and CIFAR-100 in their Python version: pickles, read without running any of what they ask for."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..config.recipe import DataSettings
from ..errors import UserError
from .classification import InMemoryImages, make_splits
from .file_lists import data_folder
from .samples import Splits


@dataclass(frozen=True)
class _Layout:
    """Files of a data set's Python version, and the key of its labels."""

    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    key: str


_LAYOUTS = {
    "cifar10": _Layout(
        "cifar-10-batches-py", tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta", "label"
    ),
    "cifar100": _Layout("cifar-100-python", ("train",), "test", "meta", "fine_label"),
}


def load_cifar(settings: DataSettings) -> Splits:
    """Read the Python version of CIFAR-10 (five batches and a test batch) or CIFAR-100 (train and test), unpacked."""
    layout = _LAYOUTS[settings.source]
    meta, key = layout.meta, layout.key
    folder = data_folder(settings, f"the folder of {settings.source}'s Python version, {layout.folder}")
    folder = folder / layout.folder if (folder / layout.folder).is_dir() else folder
    if not (folder / meta).is_file():
        raise UserError(
            f"{folder} holds no {meta}, so it is not {layout.folder}; unpack the archive of {settings.source}"
        )
    described = read_pickle(folder / meta)
    names = described.get(f"{key}_names")
    if not isinstance(names, list):
        raise UserError(f"{folder / meta} has no list '{key}_names'; unpack the archive again")
    parts = [_cifar_part(folder / name, f"{key}s", len(names)) for name in layout.train]
    both = InMemoryImages(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
    return make_splits(both, _cifar_part(folder / layout.test, f"{key}s", len(names)), names, settings, crop=True)


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a pickled dictionary of numbers, texts, lists and numpy arrays; nothing else is let in.

    Raises:
        UserError: The file is missing, damaged, or asks for anything else.
    """
    try:
        content = _Restricted(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}, not a dictionary")
        return {
            key if isinstance(key, str) else str(key, "latin1"): value.read() if isinstance(value, _Array) else value
            for key, value in content.items()
        }
    except FileNotFoundError:
        raise UserError(f"{path} is missing; unpack the archive again") from None
    except Exception as error:  # damaged bytes may say anything
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is not a CIFAR file or is damaged ({why}); unpack the archive again") from None


class _Array:
    """Stands in for a numpy array: keeps what a pickle says of it, without trusting any of it."""

    def __init__(self, *_: Any) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def read(self) -> npt.NDArray[np.uint8]:
        """Return the array, if it holds bytes in C order."""
        _, shape, kind, fortran, raw = self.state
        if not isinstance(kind, _Kind) or kind.name not in ("u1", "uint8") or fortran:
            raise ValueError("an array is not of bytes in C order")
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        return np.frombuffer(data, np.uint8).reshape(tuple(int(n) for n in shape)).copy()


class _Kind:
    """Stands in for a numpy type."""

    def __init__(self, name: str = "", *_: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Ignore what else a type has (byte order, flags): it does not matter for bytes."""


def _to_bytes(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _to_bytes,
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
}


class _Restricted(pickle.Unpickler):
    """Puts stand-ins where data names numpy; a file that names anything else is refused before anything runs."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which data has no need of")
        return _STAND_INS[module, name]


def _cifar_part(path: Path, key: str, classes: int) -> InMemoryImages:
    content = read_pickle(path)
    data, labels = content.get("data"), content.get(key)
    if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2 and data.shape[1] == 3072):
        raise UserError(f"{path} holds no images (N x 3072 bytes under 'data'); unpack the archive again")
    if not (isinstance(labels, list) and len(labels) == len(data) and all(isinstance(i, int) for i in labels)):
        raise UserError(f"{path} does not hold one number under '{key}' per image; unpack the archive again")
    if labels and not 0 <= min(labels) <= max(labels) < classes:
        raise UserError(f"{path} holds labels from {min(labels)} to {max(labels)}, but there are {classes} classes")
    return InMemoryImages(torch.from_numpy(data.reshape(-1, 3, 32, 32).copy()), torch.tensor(labels, dtype=torch.int64))
