"""Planar maps in memory: rows with shared columns of zeros behind them, rows of zeros above and below.

A kernel position is then one offset for all pixels of a map, and convolutions need no code for borders. All maps of one
height and width share one `Geometry`, made wide enough for every kernel that reads or writes such maps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .arena import Arena
from .native import CMap

Array = npt.NDArray[Any]
LINE = 16  # floats of a cache line, and of the widest vector


def round_up(value: int, step: int = LINE) -> int:
    """Return the next multiple."""
    return -(-value // step) * step


@dataclass(frozen=True)
class Window:
    """The positions of a kernel over maps of one size, as shifts on maps taken apart by the stride.

    Attributes:
        size: Height and width of the input.
        out: Height and width of the output.
        strides: Strides down and across; equal.
        shifts: Per kernel position that reads any pixel: its row and column in the kernel, the plane it reads, and by
            how many rows and columns it is shifted there.
    """

    size: tuple[int, int]
    out: tuple[int, int]
    stride: int
    shifts: tuple[tuple[int, int, int, int, int], ...]

    @property
    def plane_size(self) -> tuple[int, int]:
        """Height and width of the planes of the input."""
        return -(-self.size[0] // self.stride), -(-self.size[1] // self.stride)

    @property
    def direct(self) -> bool:
        """True if maps can be read as they are."""
        return self.stride == 1 and self.size == self.out


def make_window(
    size: tuple[int, int], out: tuple[int, int], kernel: tuple[int, int], attributes: dict[str, Any]
) -> Window | None:
    """Return the window of a convolution or of pooling; None for strides that differ."""
    stride, across = attributes["strides"]
    if stride != across:
        return None
    dilations, pads = attributes.get("dilations", (1, 1)), attributes["pads"]
    sides: list[list[tuple[int, int, int]]] = []
    for i in (0, 1):
        side = []
        for position in range(kernel[i]):
            start = position * dilations[i] - pads[i]
            if any(0 <= start + stride * j < size[i] for j in range(out[i])):
                side.append((position, start % stride, start // stride))
        sides.append(side)
    shifts = [(ky, kx, py * stride + px, dy, dx) for ky, py, dy in sides[0] for kx, px, dx in sides[1]]
    return Window(size, out, stride, tuple(shifts))


@dataclass(frozen=True)
class Geometry:
    """The form of all maps of one height and width.

    Attributes:
        height: Rows.
        width: Columns.
        pitch: Floats from one row to the next.
        lead: Floats in front of the first pixel.
        stride: Floats from one channel to the next.
        vector: Floats of a vector.
        inside: -1 for pixels, 0 for padding, of every float of a channel.
    """

    height: int
    width: int
    pitch: int
    lead: int
    stride: int
    vector: int
    inside: Array = field(compare=False, repr=False)

    @property
    def vectors(self) -> int:
        """Vectors that hold the pixels of a channel."""
        return -(-self.height * self.pitch // self.vector)


@dataclass
class Needs:
    """Room that kernels ask of the maps of one size: pitch, rows above, rows from the first to the last below."""

    pitch: int
    above: int
    rows: int

    def add(self, window: Window) -> None:
        """Make room for a window whose output has this size."""
        (height, width), (plane_height, plane_width) = window.out, window.plane_size
        rows, columns = [0, *(s[3] for s in window.shifts)], [0, *(s[4] for s in window.shifts)]
        self.pitch = max(self.pitch, plane_width - min(columns), width + max(columns))
        self.above = max(self.above, -min(rows) + (min(columns) < 0))
        self.rows = max(self.rows, plane_height, height + max(rows) + 1)


def make_geometry(height: int, width: int, needs: Needs, vector: int, arena: Arena) -> Geometry:
    """Return the form of maps of a size, with the room that is needed."""
    pitch, lead = needs.pitch, round_up(needs.above * needs.pitch)
    used = round_up(height * pitch, vector) + vector  # a vector may begin within the last pixels
    stride = round_up(lead + max(needs.rows * pitch, used) + LINE)
    if stride % 256 == 0:
        stride += LINE  # channels that lie a power of two apart meet in the cache
    at = np.arange(round_up(height * pitch) + 2 * LINE)
    inside = arena.zeros(len(at), np.int32)
    inside[:] = np.where((at % pitch < width) & (at // pitch < height), -1, 0)
    return Geometry(height, width, pitch, lead, stride, vector, inside)


@dataclass(frozen=True)
class MapView:
    """Channels of a buffer.

    Attributes:
        buffer: All floats of the buffer.
        origin: Position of pixel (0, 0) of the first channel.
        channels: Number of channels; of a map that was taken apart, of planes.
        size: Height and width.
        pitch: Floats from one row to the next.
        stride: Floats from one channel to the next.
    """

    buffer: Array
    origin: int
    channels: int
    size: tuple[int, int]
    pitch: int
    stride: int

    @property
    def address(self) -> int:
        """Address of pixel (0, 0) of the first channel."""
        return int(self.buffer.ctypes.data) + 4 * self.origin

    def part(self, first: int, count: int) -> MapView:
        """Return some channels."""
        return MapView(self.buffer, self.origin + first * self.stride, count, self.size, self.pitch, self.stride)

    def to_c(self) -> CMap:
        """Return it as kernels take it."""
        return CMap(self.address, self.stride, self.channels, *self.size, self.pitch)


def buffer_size(geometry: Geometry, channels: int) -> int:
    """Return the floats of a buffer for channels of a geometry, with what kernels read behind it."""
    return channels * geometry.stride + 2 * geometry.pitch + 40 * LINE


def view(geometry: Geometry, buffer: Array, channels: int, size: tuple[int, int] | None = None) -> MapView:
    """Return the first channels of a buffer as a map of a geometry; of another size if it was taken apart."""
    size = size or (geometry.height, geometry.width)
    return MapView(buffer, geometry.lead, channels, size, geometry.pitch, geometry.stride)
