"""Places of the memory of a plan in a C program: constants as arrays of their own, all else in one array."""

from __future__ import annotations

import bisect
import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.planner import Planner

Array = npt.NDArray[Any]
_LINE = 16  # floats
_TYPES = {"float32": "float", "int32": "int32_t", "uint16": "uint16_t"}
_PER_LINE = 16


def number_text(value: float) -> str:
    """Return a number as C."""
    return "-INFINITY" if value == -np.inf else f"{value:.9g}"


class Constants:
    """Arrays of constants by their content: what is the same is stored once."""

    def __init__(self) -> None:
        self._names: dict[bytes, str] = {}
        self._lines: list[str] = []
        self.bytes = 0

    def add(self, values: Array) -> str:
        """Return the name of an array of constants; kernels may read a vector behind it."""
        flat = np.ascontiguousarray(values).reshape(-1)
        content = hashlib.sha256(str(flat.dtype).encode() + flat.tobytes()).digest()
        if content not in self._names:
            name = self._names[content] = f"c{len(self._names)}"
            size = len(flat) + (_LINE if flat.dtype == np.float32 else 0) or 1
            words = np.char.mod("%.9g" if flat.dtype == np.float32 else "%d", flat).tolist() or ["0"]
            rows = [",".join(words[i : i + _PER_LINE]) for i in range(0, len(words), _PER_LINE)]
            text = ",\n".join(rows)
            self._lines.append(f"static const {_TYPES[str(flat.dtype)]} {name}[{size}] = {{\n{text}}};\n")
            self.bytes += size * flat.itemsize
        return self._names[content]

    def source(self) -> str:
        """Return the arrays as C."""
        return "".join(self._lines)


class Layout:
    """The places of a plan's arrays in the C program.

    Attributes:
        constants: What nothing writes.
        floats: Floats of `memory`.
        integers: Numbers of `inside`, the masks of maps.
        prepare: Lines of C that have to run once.
    """

    def __init__(self, planner: Planner) -> None:
        self.constants = Constants()
        self.floats = self.integers = 0
        self.prepare: list[str] = []
        self._constant = {array.ctypes.data: array for array in planner.arena.constants}
        self._places: dict[int, str] = {}
        self._offsets: dict[int, int] = {}
        insides = {geometry.inside.ctypes.data: geometry for geometry in planner.geometries.values()}
        for array in planner.arena.arrays:
            address = array.ctypes.data
            if address in insides:
                geometry = insides[address]
                sizes = f"{geometry.height}, {geometry.width}, {geometry.pitch}"
                self.prepare.append(f"mark_inside(inside + {self.integers}, {sizes});")
                self._places[address], self._offsets[address] = "inside", self.integers
                self.integers += len(array)
            elif address not in self._constant:
                self._place(array)
        self._addresses = sorted(array.ctypes.data for array in planner.arena.arrays)

    def array(self, address: int) -> Array:
        """Return the constants at an address."""
        return self._constant[address]

    def is_constant(self, address: int) -> bool:
        """Return whether nothing writes an array."""
        return address in self._constant

    def expression(self, address: int | None) -> str:
        """Return an address as C."""
        if address is None:
            return "0"
        base = self._addresses[bisect.bisect_right(self._addresses, address) - 1]
        more = (address - base) // 4
        if base in self._constant:
            return f"({_TYPES[str(self._constant[base].dtype)]} *){self.constants.add(self._constant[base])} + {more}"
        return f"{self._places[base]} + {self._offsets[base] + more}"

    def _place(self, array: Array) -> None:
        """Give an array its place in `memory`, with room for two vectors behind it."""
        address = array.ctypes.data
        self._places[address], self._offsets[address] = "memory", self.floats
        if array.any():  # padding that is not zero
            [value] = np.unique(array)
            self.prepare.append(f"fill_floats(memory + {self.floats}, {len(array)}, {number_text(value)});")
        self.floats += -(-(len(array) + 2 * _LINE) // _LINE) * _LINE
