"""MATLAB files of versions 5 to 7: numbers, cells and structures, read within bounds.

scipy reads them too, but damaged and hostile files end its process or fill the memory. Here nothing is allocated by
what a file claims, only by what it holds, and a file is at most `_MOST_BYTES` long when it is unpacked.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_MOST_BYTES = 1 << 24
_DEEPEST = 16  # cells in structures in cells ...
_MOST_PARTS = 100_000  # cells and fields in a file
_HEADER = 128  # bytes
_MATRIX, _COMPRESSED = 14, 15  # types of elements
# numpy's types of elements with numbers.
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CELL, _STRUCT = 1, 2  # classes of matrices
_NUMERIC = range(6, 16)
_KNOWN = range(1, 16)  # others (tables, texts as objects) are laid out in ways that are not published
_COMPLEX = 0x08  # flag

Bytes = memoryview  # so that a part of a file is no copy of it
Numbers = npt.NDArray[np.float64]


class BadMatFile(ValueError):
    """A file that is no MATLAB file of versions 5 to 7, or not as it says."""


@dataclass(frozen=True)
class Matrix:
    """A variable, or a part of one.

    Attributes:
        shape: Its sizes.
        numbers: float64 of that shape; None if it holds something else.
        parts: What cells hold, in MATLAB's order (columns first); or, per element of a structure, its fields by name.
    """

    shape: tuple[int, ...]
    numbers: Numbers | None = None
    parts: tuple[Any, ...] = ()


def read_mat(path: Path) -> dict[str, Matrix]:
    """Return the variables of a file by their name.

    Raises:
        OSError: It cannot be read.
        BadMatFile: It is damaged, too large, or of another version.
    """
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise BadMatFile(f"more than {_MOST_BYTES >> 20} MiB")
    if data.startswith(b"MATLAB 7.3") or b"\x89HDF\r\n\x1a\n" in data[:1024]:
        raise BadMatFile("a MATLAB file of version 7.3; save it as version 7 or older")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise BadMatFile("no MATLAB file of versions 5 to 7")
    reader = _Reader(order)
    return dict(reader.variables(memoryview(data)[_HEADER:]))


class _Reader:
    """Reads the elements of a file, and counts what its bounds leave."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.bytes_left = _MOST_BYTES
        self.parts_left = _MOST_PARTS

    def variables(self, data: Bytes) -> Iterator[tuple[str, Matrix]]:
        """Yield names and variables."""
        for kind, content in self.elements(data):
            if kind == _COMPRESSED:
                inner = self.elements(self.unpack(content))
                yield from (self.matrix(matrix, 0) for kind, matrix in inner if kind == _MATRIX)
            elif kind == _MATRIX:
                yield self.matrix(content, 0)

    def elements(self, data: Bytes) -> Iterator[tuple[int, Bytes]]:
        """Yield types and contents of the elements in some bytes."""
        at = 0
        while at + 8 <= len(data):
            kind, size = self.integers(data[at : at + 8], "u4")
            if kind >> 16:  # a small element, in the 8 bytes themselves
                kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            else:
                start = at + 8
                end = start + size if kind == _COMPRESSED else start + (size + 7) // 8 * 8
            if start + size > min(end, len(data)):
                raise BadMatFile("it ends too early")
            yield kind, data[start : start + size]
            at = end

    def matrix(self, data: Bytes, depth: int) -> tuple[str, Matrix]:
        """Return the name and the content of a matrix."""
        self.parts_left -= 1
        if depth > _DEEPEST or self.parts_left < 0:
            raise BadMatFile("too many or too deep cells and structures")
        if not data:
            return "", Matrix((0, 0), np.empty((0, 0)))
        elements = self.elements(data)
        flags = self.whole_numbers(elements) or (0,)
        kind = flags[0] & 0xFF
        if kind not in _KNOWN:
            return "", Matrix((0, 0))
        sides = self.whole_numbers(elements)
        name = bytes(self.next_of(elements)[1]).decode("latin-1")
        if len(sides) < 2 or min(sides) < 0:
            raise BadMatFile("a matrix without sizes")
        count = math.prod(sides)
        if kind == _CELL:
            return name, Matrix(sides, None, tuple(self.below(elements, count, depth)))
        if kind == _STRUCT:
            return name, Matrix(sides, None, tuple(self.fields(elements, count, depth)))
        if kind not in _NUMERIC or flags[0] >> 8 & _COMPLEX:
            return name, Matrix(sides)
        values = self.numbers(*self.next_of(elements))
        # Sides beside one of zero count as well: numpy makes no array of too many.
        if len(values) != count or math.prod(max(side, 1) for side in sides) > _MOST_BYTES:
            raise BadMatFile("a matrix has another size than it says")
        return name, Matrix(sides, values.reshape(sides, order="F"))

    def whole_numbers(self, elements: Iterator[tuple[int, Bytes]]) -> tuple[int, ...]:
        """Return the numbers of the next element, which are flags or sizes."""
        values = self.numbers(*self.next_of(elements))
        if not np.isfinite(values).all():
            raise BadMatFile("flags or sizes that are no numbers")
        return tuple(int(value) for value in values)

    def below(self, elements: Iterator[tuple[int, Bytes]], count: int, depth: int) -> Iterator[Matrix]:
        """Yield the next matrices."""
        if count > self.parts_left:
            raise BadMatFile("too many cells or fields")
        for _ in range(count):
            kind, content = self.next_of(elements)
            if kind != _MATRIX:
                raise BadMatFile("a cell or field that is no matrix")
            yield self.matrix(content, depth + 1)[1]

    def fields(self, elements: Iterator[tuple[int, Bytes]], count: int, depth: int) -> Iterator[Mapping[str, Matrix]]:
        """Yield the fields of every element of a structure."""
        lengths = self.numbers(*self.next_of(elements))
        text = self.next_of(elements)[1]
        length = int(lengths[0]) if len(lengths) else 0
        if not 0 < length <= 64:
            raise BadMatFile("a structure without names")
        names = [bytes(text[at : at + length]).split(b"\0")[0].decode("latin-1") for at in range(0, len(text), length)]
        for _ in range(count if names else 0):
            yield dict(zip(names, self.below(elements, len(names), depth), strict=True))

    def next_of(self, elements: Iterator[tuple[int, Bytes]]) -> tuple[int, Bytes]:
        element = next(elements, None)
        if element is None:
            raise BadMatFile("it ends too early")
        return element

    def numbers(self, kind: int, content: Bytes) -> Numbers:
        """Return the numbers of an element, float64."""
        if kind not in _NUMBERS:
            raise BadMatFile("no numbers where some should be")
        dtype = np.dtype(f"{self.order}{_NUMBERS[kind]}")
        return np.frombuffer(content, dtype, len(content) // dtype.itemsize).astype(np.float64)

    def integers(self, data: Bytes, kind: str) -> list[int]:
        values: list[int] = np.frombuffer(data, f"{self.order}{kind}").tolist()
        return values

    def unpack(self, data: Bytes) -> Bytes:
        """Return compressed bytes as they were, as far as the bound allows."""
        try:
            unpacked = zlib.decompressobj().decompress(data, self.bytes_left + 1)
        except zlib.error as error:
            raise BadMatFile(f"damaged: {error}") from None
        self.bytes_left -= len(unpacked)
        if self.bytes_left < 0:
            raise BadMatFile(f"more than {_MOST_BYTES >> 20} MiB when unpacked")
        return memoryview(unpacked)
