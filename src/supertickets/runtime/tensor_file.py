"""Read and write files of tensors in the safetensors layout, with numpy alone and every length checked.

Layout: 8 bytes with the length of the header (little endian), a JSON header, the data. The header has one entry per
tensor (type, shape, begin and end of its bytes in the data) and ``__metadata__``, text by name.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UserError

Array = npt.NDArray[Any]
_TYPES: Mapping[str, Any] = {"F32": np.float32, "I64": np.int64, "U8": np.uint8}
_LARGEST_HEADER = 64 * 2**20
_LARGEST_RANK = 8


def read_tensors(path: str | Path) -> tuple[dict[str, str], dict[str, Array]]:
    """Return the metadata and the tensors of a file.

    Raises:
        UserError: The file cannot be read, or is damaged.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give a file of supertickets export") from None
    try:
        return _parse(data)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({_first_line(error)}); export the ticket again") from None


def write_tensors(path: str | Path, metadata: Mapping[str, str], tensors: Mapping[str, Array]) -> None:
    """Write tensors and metadata; the file appears whole or not at all."""
    names = {np.dtype(kind): name for name, kind in _TYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    chunks, end = [], 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
        chunks.append(tensor.tobytes())
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    partial = Path(f"{path}.partial-{os.getpid()}")
    partial.write_bytes(b"".join((struct.pack("<Q", len(text)), text, *chunks)))
    os.replace(partial, path)


def _parse(data: bytes) -> tuple[dict[str, str], dict[str, Array]]:
    if len(data) < 8:
        raise ValueError("it ends within the header")
    (length,) = struct.unpack_from("<Q", data)
    if not 2 <= length <= min(len(data) - 8, _LARGEST_HEADER):
        raise ValueError("it does not begin as a file of export --format sparse")
    header = json.loads(data[8 : 8 + length].decode())
    if not isinstance(header, dict):
        raise ValueError("the header is no table")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("the metadata are no texts")
    tensors, ends = {}, [0]
    size = len(data) - 8 - length
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        kind, shape, (begin, end) = np.dtype(_TYPES[entry["dtype"]]), entry["shape"], entry["data_offsets"]
        if not isinstance(shape, list) or len(shape) > _LARGEST_RANK:
            raise ValueError(f"tensor {name} has no shape")
        if not all(type(value) is int and value >= 0 for value in (*shape, begin, end)):
            raise ValueError(f"tensor {name} has sizes that are no counts")
        count = math.prod(shape)
        if begin != ends[-1] or end > size or end - begin != count * kind.itemsize:
            raise ValueError(f"the bytes of tensor {name} are not where they belong")
        ends.append(end)
        tensors[name] = np.frombuffer(data, kind, count, 8 + length + begin).reshape(shape)
    if ends[-1] != size:
        raise ValueError("bytes belong to no tensor")
    return metadata, tensors


def _first_line(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing or unknown"
    return (str(error) or type(error).__name__).splitlines()[0][:200]
