"""Files of tensors: safetensors, with tensors that a network uses under several names stored once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..storage import parse_json, replace_file

_SHARED = "shared"  # entry of the metadata: further name -> name that the tensor is stored by


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors so that the file is either the old one or the new one, whole and on the disk.

    Args:
        path: The file.
        tensors: Tensors by name, on any device.
        metadata: Texts by name, written beside them.

    Raises:
        OSError: The disk is full, a limit of file sizes is met, or the folder is gone or read-only.
    """
    stored, shared = split_shared(tensors)
    texts = {**(metadata or {}), **({_SHARED: json.dumps(shared)} if shared else {})}
    flat = {name: value.detach().cpu().contiguous() for name, value in stored.items()}
    with replace_file(path) as scratch:
        try:
            save_file(flat, scratch, texts or None)
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `save_tensors` wrote.

    Returns:
        The tensors by all of their names, and the metadata.

    Raises:
        OSError: There is no such file.
        SafetensorError: It is damaged.
        ValueError: Its table of further names is.
    """
    with safe_open(path, "pt") as file:
        metadata: dict[str, str] = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    shared = parse_json(metadata.pop(_SHARED, "{}"))
    if not isinstance(shared, dict) or not all(name in tensors for name in shared.values()):
        raise ValueError("its shared tensors are not there")
    return tensors | {name: tensors[kept] for name, kept in shared.items()}, metadata


def split_shared(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors without those that others are already, and the further names of these.

    Returns:
        Tensors by the first of their names, none of which shares memory with another; further name -> first name.
    """
    stored: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    first: dict[tuple[object, ...], str] = {}
    memories: set[int] = set()
    for name, value in tensors.items():
        same = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        if value.data_ptr() and same in first:
            shared[name] = first[same]
            continue
        first[same] = name
        memory = value.untyped_storage().data_ptr()
        stored[name] = value.detach().clone() if memory in memories else value
        memories.add(memory)
    return stored, shared
