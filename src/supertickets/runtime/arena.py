"""Memory in few large pieces, in huge pages where the system has them: maps span many pages, and look-ups cost time."""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UserError

Array = npt.NDArray[Any]
_PIECE, _PAGE = 8 * 2**20, 2 * 2**20
_LINE = 64  # bytes


class Arena:
    """Gives arrays that begin on a cache line, with room for two vectors behind them.

    Attributes:
        arrays: All arrays that were given, flat.
        constants: Those of them that nothing writes.
    """

    def __init__(self, limit: int = 8 * 2**30) -> None:
        self.arrays: list[Array] = []
        self.constants: list[Array] = []
        self._left = limit  # bytes
        self._piece: Array = np.zeros(0, np.uint8)
        self._at = 0

    def zeros(self, count: int, kind: Any = np.float32) -> Array:
        """Return a flat array of zeros; it holds its memory.

        Raises:
            UserError: The system has no more, or all arrays together would be above the limit.
        """
        size = -(-(count * np.dtype(kind).itemsize + 2 * _LINE) // _LINE) * _LINE
        if self._at + size > len(self._piece):
            self._left -= max(size, _PIECE)
            if self._left < 0:
                raise UserError("the network needs too much memory for images of this size; give smaller images")
            self._piece = _new_piece(max(size, _PIECE))
            self._at = 0
        out = self._piece[self._at : self._at + size].view(kind)[:count]
        self._at += size
        self.arrays.append(out)
        return out

    def constant(self, values: Array) -> Array:
        """Return a flat copy of an array that nothing writes."""
        copy = self.zeros(values.size, values.dtype)
        copy[:] = values.reshape(-1)
        self.constants.append(copy)
        return copy


def _new_piece(size: int) -> Array:
    """Return bytes that begin at a huge page."""
    try:
        # Private: shared memory has no huge pages, and a forked process would write into that of its parent.
        memory = mmap.mmap(-1, size + _PAGE, access=mmap.ACCESS_COPY)
    except (OSError, OverflowError):
        raise UserError(f"there is no memory for {size:,} bytes of maps; give smaller images") from None
    with contextlib.suppress(AttributeError, OSError):  # not every system has them
        memory.madvise(mmap.MADV_HUGEPAGE)
    piece = np.frombuffer(memory, np.uint8)
    return piece[-piece.ctypes.data % _PAGE :][:size]
