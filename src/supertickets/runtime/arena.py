"""Memory in few large pieces, in huge pages where the system has them: maps span many pages, and look-ups cost time."""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_PIECE, _PAGE = 8 * 2**20, 2 * 2**20
_LINE = 64  # bytes


class Arena:
    """Gives arrays of zeros that begin on a cache line, with room for two vectors behind them."""

    def __init__(self) -> None:
        self._piece: Array = np.zeros(0, np.uint8)
        self._at = 0

    def zeros(self, count: int, kind: Any = np.float32) -> Array:
        """Return a flat array of zeros; it holds its memory."""
        size = -(-(count * np.dtype(kind).itemsize + 2 * _LINE) // _LINE) * _LINE
        if self._at + size > len(self._piece):
            self._piece = _new_piece(max(size, _PIECE))
            self._at = 0
        out = self._piece[self._at : self._at + size].view(kind)[:count]
        self._at += size
        return out


def _new_piece(size: int) -> Array:
    """Return bytes that begin at a huge page."""
    memory = mmap.mmap(-1, size + _PAGE)
    with contextlib.suppress(AttributeError, OSError):  # not every system has them
        memory.madvise(mmap.MADV_HUGEPAGE)
    piece = np.frombuffer(memory, np.uint8)
    return piece[-piece.ctypes.data % _PAGE :][:size]
