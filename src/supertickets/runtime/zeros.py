"""Store tensors with many zeros as one bit per element and the values that are not zero.

An index cannot point outside a tensor, since there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UserError

Array = npt.NDArray[Any]
_BITS, _VALUES, _SHAPE = ".nonzero_bits", ".nonzero_values", ".shape"
_LARGEST = 2**28  # elements of a tensor


def pack_zeros(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Return tensors to write: those that are smaller so as bits and values, all others as they are."""
    packed: dict[str, Array] = {}
    for name, tensor in tensors.items():
        flat = np.ascontiguousarray(tensor).reshape(-1)
        nonzero = flat != 0
        if tensor.dtype != np.float32 or 4 * int(nonzero.sum()) + flat.size / 8 > 0.9 * 4 * flat.size:
            packed[name] = tensor
            continue
        packed[name + _BITS] = np.packbits(nonzero)
        packed[name + _VALUES] = flat[nonzero]
        packed[name + _SHAPE] = np.array(tensor.shape, np.int64)
    return packed


def unpack_zeros(stored: Mapping[str, Array]) -> dict[str, Array]:
    """Return the tensors that `pack_zeros` took.

    Raises:
        UserError: The parts of a tensor do not fit together.
    """
    tensors: dict[str, Array] = {}
    for name, value in stored.items():
        if name.endswith(_SHAPE):
            base = name.removesuffix(_SHAPE)
            tensors[base] = _unpack(base, value, stored.get(base + _BITS), stored.get(base + _VALUES))
        elif not name.endswith((_BITS, _VALUES)):
            tensors[name] = value
    return tensors


def _unpack(name: str, shape: Array, bits: Array | None, values: Array | None) -> Array:
    sizes = [int(size) for size in shape.reshape(-1)]
    count = math.prod(sizes)
    fits = (
        bits is not None
        and values is not None
        and [shape.dtype, bits.dtype, values.dtype] == [np.dtype(t) for t in (np.int64, np.uint8, np.float32)]
        and len(sizes) <= 8
        and all(0 <= size <= _LARGEST for size in sizes)
        and 0 <= count <= _LARGEST
        and bits.shape == (-(-count // 8),)
        and values.ndim == 1
    )
    if fits:
        assert bits is not None
        assert values is not None
        nonzero = np.unpackbits(bits, count=count).astype(bool)
        if int(nonzero.sum()) == len(values):
            tensor = np.zeros(count, np.float32)
            tensor[nonzero] = values
            return tensor.reshape(sizes)
    raise UserError(f"the parts of tensor {name} do not fit together; export the ticket again")
