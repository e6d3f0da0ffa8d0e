"""The arguments of the kernels, as C sees them; the order of fields and kinds is that of kernels/*.h."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, ClassVar

_P, _L, _I, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_float


class Step(ctypes.Structure):
    """One operation, for the vectors from first to last of every channel.

    Threads take ``pieces`` of it; with 0 it runs as a whole at the same time as the step before it.
    """

    _fields_ = (("kind", _I), ("first", _I), ("last", _I), ("pieces", _I), ("arguments", _P))


class Activation(ctypes.Structure):
    """An activation by its number, and its parameters."""

    _fields_ = (("kind", _I), ("first", _F), ("second", _F))


class CMap(ctypes.Structure):
    """A map: its first pixel, its strides, its size."""

    _fields_ = (("pixels", _P), ("stride", _L), *((name, _I) for name in ("channels", "height", "width", "pitch")))


class Arguments(ctypes.Structure):
    """The arguments of one kind of step."""

    kind: ClassVar[int]

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)

    def numbers(self) -> int:
        """Return about how many numbers are computed; large where it is not known."""
        return 2**31


def _pointers(*names: str) -> list[tuple[str, Any]]:
    return [(name, _P) for name in names]


class Convolution(Arguments):
    kind = 0
    _fields_ = (
        *_pointers("input", "output", "skip", "begins", "offsets", "weights", "bias", "inside"),
        ("out_stride", _L),
        *((name, _I) for name in ("blocks", "block", "aligned", "past")),
        ("activation", Activation),
    )


class Copy(Arguments):
    kind = 1
    _fields_ = (("input", CMap), ("output", CMap))

    def numbers(self) -> int:
        return int(self.input.channels * self.input.height * self.input.width)


class Move(Arguments):
    kind = 2
    _fields_ = (*_pointers("input", "output"), ("count", _L))

    def numbers(self) -> int:
        return int(self.count)


class Split(Arguments):
    kind = 3
    _fields_ = (("input", CMap), ("output", CMap), ("step", _I), ("outside", _F))

    def numbers(self) -> int:
        return int(self.input.channels * self.input.height * self.input.width)


class MaxPool(Arguments):
    kind = 4
    _fields_ = (
        *_pointers("input", "output", "offsets", "inside"),
        *(("in_stride", _L), ("out_stride", _L), ("channels", _I), ("taps", _I)),
    )


class Binary(Arguments):
    kind = 5
    _fields_ = (
        *_pointers("a", "b", "output", "inside"),
        *(("stride", _L), ("b_stride", _L), ("count", _L)),
        *((name, _I) for name in ("channels", "function", "b_step", "swapped")),
        ("activation", Activation),
    )

    def numbers(self) -> int:
        return int(self.channels * self.count)


class Resize(Arguments):
    kind = 6
    _fields_ = (
        *(("input", CMap), ("output", CMap)),
        *_pointers("row_low", "row_high", "column_low", "column_high", "row_share", "column_share", "scratch"),
        ("scratch_stride", _L),
    )

    def numbers(self) -> int:
        return int(self.output.channels * self.output.height * self.output.width)


class Mean(Arguments):
    kind = 7
    _fields_ = (*_pointers("input", "output"), ("stride", _L), ("count", _L), ("channels", _I), ("pixels", _F))

    def numbers(self) -> int:
        return int(self.channels * self.count)


class Product(Arguments):
    kind = 8
    _fields_ = (
        *_pointers("a", "b", "bias", "skip", "output"),
        *((name, _L) for name in ("a_stride", "b_stride", "out_stride")),
        *((name, _I) for name in ("count", "rows", "inner", "columns", "b_pitch")),
        ("activation", Activation),
    )

    def numbers(self) -> int:
        return int(self.count * self.rows * self.columns * (self.inner // 16 + 1))


class LayerNorm(Arguments):
    kind = 9
    _fields_ = (*_pointers("input", "scale", "shift", "output"), ("rows", _L), ("size", _I), ("epsilon", _F))

    def numbers(self) -> int:
        return int(self.rows * self.size)


class Softmax(Arguments):
    kind = 10
    _fields_ = (*_pointers("input", "output"), ("rows", _L), ("size", _I))

    def numbers(self) -> int:
        return int(self.rows * self.size)


class Strided(Arguments):
    kind = 11
    _fields_ = (*_pointers("input", "output"), ("sizes", _L * 6), ("strides", _L * 6))


def make_table(entries: Sequence[tuple[Arguments, int, int, int]]) -> ctypes.Array[Step]:
    """Return steps as kernels take them: arguments, which have to be kept, first and last vector, pieces."""
    table = (Step * len(entries))()
    for row, (arguments, first, last, pieces) in zip(table, entries, strict=True):
        row.kind, row.first, row.last, row.pieces = arguments.kind, first, last, pieces
        row.arguments = ctypes.addressof(arguments)
    return table
