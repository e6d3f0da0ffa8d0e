"""CIFAR-10 and CIFAR-100 in their Python version: pickles, read without running any of what they ask for."""

from __future__ import annotations

import io
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..config.recipe import DataSettings
from ..errors import UserError
from .class_names import check_names, clean_name
from .classification import InMemoryImages, make_splits
from .file_lists import data_folder, describe_folder, find_entry, unwrap_folder
from .samples import Splits

_MOST_BYTES = 1 << 30  # of one file; the largest published one has 155 MB


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
    folder = unwrap_folder(find_entry(folder, layout.folder) or folder, meta)
    described_by = find_entry(folder, meta)
    if described_by is None:
        raise UserError(
            f"{folder} holds no {meta} ({describe_folder(folder)}), so it is not {layout.folder}; "
            f"unpack the archive of {settings.source}"
        )
    names = _read_names(described_by, f"{key}_names")
    parts = [_cifar_part(folder, name, f"{key}s", len(names)) for name in layout.train]
    both = InMemoryImages(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
    return make_splits(both, _cifar_part(folder, layout.test, f"{key}s", len(names)), names, settings, crop=True)


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a pickled dictionary of numbers, texts, lists and numpy arrays of whole numbers; nothing else is let in.

    Texts of Python 2 stay bytes. Memory stays below a few times the size of the file, whatever that claims.

    Raises:
        UserError: The file is missing, damaged, too large, or asks for anything else.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES:,} bytes")
        raw = path.read_bytes()
        content = _Restricted(raw).load()
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}, not a dictionary")
        each = {id(value): value for value in content.values() if isinstance(value, _Array)}  # though under many names
        arrays = {key: value.read() for key, value in each.items()}
        return {_to_text(key): arrays.get(id(value), value) for key, value in content.items()}
    except FileNotFoundError:
        raise UserError(f"{path} is missing; unpack the archive again") from None
    except Exception as error:  # damaged bytes may say anything
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is not a CIFAR file or is damaged ({why[:200]}); unpack the archive again") from None


class _Array:
    """Stands in for a numpy array: keeps what a pickle says of it, without trusting any of it."""

    def __init__(self, *_: Any) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def read(self) -> npt.NDArray[np.integer]:
        """Return the array, if it holds whole numbers in C order."""
        _, shape, kind, fortran, raw = self.state
        if not isinstance(kind, _Kind) or fortran:
            raise ValueError("an array is not of bytes in C order")
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        return np.frombuffer(data, kind.dtype()).reshape(tuple(int(n) for n in shape)).copy()


class _Kind:
    """Stands in for a numpy type."""

    def __init__(self, name: Any = "", *_: Any) -> None:
        self.name, self.order = name, "|"

    def __setstate__(self, state: Any) -> None:
        """Keep the byte order; what else a type has does not matter for whole numbers."""
        self.order = state[1]

    def dtype(self) -> np.dtype[np.integer]:
        """Return the type, if it is one of whole numbers."""
        name, order = _to_text(self.name), _to_text(self.order)
        name = "u1" if name == "uint8" else name
        if not re.fullmatch("[iu][1248]", name) or order not in ("|", "<", ">", "="):
            raise ValueError("an array is not of bytes or other whole numbers")
        return np.dtype(order + name)


class _Restricted(pickle._Unpickler):
    """Puts stand-ins where data names numpy; a file that names anything else is refused before anything runs.

    The unpickler in Python is used, since that in C takes as much memory as an index in the file asks for.
    """

    dispatch = {  # noqa: RUF012 -- as the base class has it
        code: method
        for code, method in pickle._Unpickler.dispatch.items()
        if code not in pickle.BYTEARRAY8 + pickle.NEXT_BUFFER + pickle.PERSID + pickle.BINPERSID + b"\x82\x83\x84"
    }

    def __init__(self, raw: bytes) -> None:
        super().__init__(io.BytesIO(raw), encoding="bytes")
        self._left = 4 * len(raw)  # bytes of texts that are made into others

    def find_class(self, module: str, name: str) -> Any:
        stand_ins: dict[tuple[str, str], Any] = {
            ("_codecs", "encode"): self._to_bytes,
            ("numpy", "dtype"): _Kind,
            ("numpy", "ndarray"): _Array,
            ("numpy.core.multiarray", "_reconstruct"): _Array,
            ("numpy._core.multiarray", "_reconstruct"): _Array,
            ("numpy.core.multiarray", "scalar"): _scalar,
            ("numpy._core.multiarray", "scalar"): _scalar,
        }
        if (module, name) not in stand_ins:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which data has no need of")
        return stand_ins[module, name]

    def _to_bytes(self, text: str, encoding: Any = "latin1") -> bytes:
        self._left -= len(text)
        if self._left < 0:
            raise ValueError("it holds more than its size")
        return text.encode("latin1")


def _scalar(kind: Any, raw: Any) -> int:
    """Stand in for numpy's numbers: return a plain one."""
    data = raw.encode("latin1") if isinstance(raw, str) else raw
    return int(np.frombuffer(data, kind.dtype(), 1)[0])


def _to_text(value: Any) -> str:
    """Return a text that may be bytes; raises TypeError for anything else."""
    if isinstance(value, str):
        return value
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        return str(value, "latin1")


def _read_names(path: Path, key: str) -> list[str]:
    """Return the names of the classes.

    Raises:
        UserError: There are none, or they are no different texts.
    """
    names = read_pickle(path).get(key)
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str | bytes) for name in names):
        raise UserError(f"{path} has no list '{key}' of names; unpack the archive again")
    clean = [clean_name(_to_text(name)) for name in names]
    check_names(clean)
    return clean


def _cifar_part(folder: Path, name: str, key: str, classes: int) -> InMemoryImages:
    path = find_entry(folder, name) or folder / name
    content = read_pickle(path)
    data, labels = content.get("data"), content.get(key)
    if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2 and data.shape[1] == 3072):
        raise UserError(f"{path} holds no images (N x 3072 bytes under 'data'); unpack the archive again")
    labels = labels.tolist() if isinstance(labels, np.ndarray) and labels.ndim == 1 else labels
    if not (isinstance(labels, list) and len(labels) == len(data) and all(type(i) is int for i in labels)):
        raise UserError(f"{path} does not hold one number under '{key}' per image; unpack the archive again")
    if labels and not 0 <= min(labels) <= max(labels) < classes:
        raise UserError(f"{path} holds labels from {min(labels)} to {max(labels)}, but there are {classes} classes")
    return InMemoryImages(torch.from_numpy(data.reshape(-1, 3, 32, 32).copy()), torch.tensor(labels, dtype=torch.int64))
