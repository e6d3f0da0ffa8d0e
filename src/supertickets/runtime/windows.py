"""Convolution, pooling and resizing of maps (B, C, H, W): sizes, and the numpy reference.

Shapes: B batch, C channels, H height, W width, O output channels, K kernel.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .activations import activate
from .limits import check_count

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
_LARGEST_SIDE = 2**16


def output_size(size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], ceil: bool = False) -> int:
    """Return the number of positions of a kernel along one side."""
    span = size + sum(pads) - dilation * (kernel - 1) - 1
    if span < 0:
        raise ValueError(f"a kernel of {kernel} does not fit into {size} pixels")
    count = (span + (stride - 1 if ceil else 0)) // stride + 1
    if ceil and (count - 1) * stride >= size + pads[0]:
        count -= 1  # a position that would lie in the padding alone
    return count


def window_shape(shape: Sequence[int], kernel: Sequence[int], attributes: dict[str, Any]) -> Shape:
    """Return height and width of the output of a convolution or of pooling; pads are top, left, bottom, right."""
    pads, ceil = attributes["pads"], attributes.get("ceil", False)
    return tuple(
        output_size(shape[2 + i], kernel[i], attributes["strides"][i], dilation, (pads[i], pads[2 + i]), ceil)
        for i, dilation in enumerate(attributes.get("dilations", (1, 1)))
    )


def infer_conv(shapes: Sequence[Shape | None], attributes: dict[str, Any]) -> Shape:
    """Return the output shape of `conv`, having checked those of its inputs."""
    x, weight, bias, skip = (*shapes, None, None)[:4]
    if x is None or weight is None or len(x) != 4 or len(weight) != 4:
        raise ValueError("a convolution takes maps and filters of four dimensions")
    groups = attributes["groups"]
    if x[1] != weight[1] * groups or weight[0] % groups or 0 in weight:
        raise ValueError(f"filters {weight} in {groups} groups do not fit {x[1]} channels")
    out = (x[0], weight[0], *window_shape(x, weight[2:], attributes))
    if bias is not None and bias != (weight[0],):
        raise ValueError(f"a bias {bias} does not fit {weight[0]} channels")
    if skip is not None and skip != out:
        raise ValueError(f"a map {skip} cannot be added to one of {out}")
    return out


def conv(x: Array, weight: Array, bias: Array | None = None, skip: Array | None = None, **attributes: Any) -> Array:
    """Return the activation of the cross-correlation with bias, plus another map."""
    groups, (_, depth, *kernel) = attributes["groups"], weight.shape
    _, channels, height, width = infer_conv([x.shape, weight.shape], attributes)
    batch = len(x)
    total = np.zeros((batch, groups, channels // groups, height * width), np.float32)
    filters = weight.reshape(groups, channels // groups, depth, *kernel)
    for (row, column), pixels in _kernel_positions(x, kernel, (height, width), attributes, 0.0):
        part = pixels.reshape(batch, groups, depth, height * width)
        factor = filters[..., row, column]
        total += factor * part if factor.shape[1:] == (1, 1) else np.matmul(factor, part)
    out = total.reshape(batch, channels, height, width)
    if bias is not None:
        out = out + bias[:, None, None]
    if skip is not None:
        out = out + skip
    return activate(out, attributes["activation"])


def infer_pool(shapes: Sequence[Shape | None], attributes: dict[str, Any]) -> Shape:
    """Return the output shape of pooling."""
    x = shapes[0]
    if x is None or len(x) != 4:
        raise ValueError("pooling takes maps of four dimensions")
    if any(pad >= side for pad, side in zip(attributes["pads"], 2 * tuple(attributes["kernel"]), strict=True)):
        raise ValueError("pooling is padded by its kernel or more")
    return (*x[:2], *window_shape(x, attributes["kernel"], attributes))


def max_pool(x: Array, **attributes: Any) -> Array:
    """Return the largest value below every position of the kernel."""
    shape = infer_pool([x.shape], attributes)
    out = np.full(shape, -np.inf, np.float32)
    for _, pixels in _kernel_positions(x, attributes["kernel"], shape[2:], attributes, -np.inf):
        np.maximum(out, pixels, out=out)
    return out


def avg_pool(x: Array, **attributes: Any) -> Array:
    """Return the mean below every position of the kernel; with ``count_pads`` zeros outside count."""
    shape = infer_pool([x.shape], attributes)
    total, count = np.zeros(shape, np.float32), np.zeros(shape[2:], np.float32)
    pads = attributes["pads"] if attributes["count_pads"] else (0, 0, 0, 0)
    inside = np.ones((1, 1, x.shape[2] + pads[0] + pads[2], x.shape[3] + pads[1] + pads[3]), np.float32)
    rest = {**attributes, "pads": [p - q for p, q in zip(attributes["pads"], pads, strict=True)]}
    for _, pixels in _kernel_positions(x, attributes["kernel"], shape[2:], attributes, 0.0):
        total += pixels
    for _, pixels in _kernel_positions(inside, attributes["kernel"], shape[2:], rest, 0.0):
        count += pixels[0, 0]
    return total / count


def _kernel_positions(
    x: Array, kernel: Sequence[int], size: Sequence[int], attributes: dict[str, Any], outside: float
) -> Iterator[tuple[tuple[int, int], Array]]:
    """Yield every position in the kernel, and the pixels (B, C, H, W) of the output's size that lie below it."""
    top, left, bottom, right = attributes["pads"]
    strides, dilations = attributes["strides"], attributes.get("dilations", (1, 1))
    more = [strides[i] * size[i] for i in (0, 1)]  # what rounding up may reach behind the padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom + more[0]), (left, right + more[1])), constant_values=outside)
    for position in itertools.product(range(kernel[0]), range(kernel[1])):
        rows, columns = (
            slice(position[i] * dilations[i], position[i] * dilations[i] + strides[i] * size[i], strides[i])
            for i in (0, 1)
        )
        yield position, padded[:, :, rows, columns]


def resize(x: Array, sizes: Array, *, mode: str, centres: str) -> Array:
    """Return maps of another height and width.

    Args:
        x: The maps.
        sizes: Their new shape; or, as numbers that are not whole, the factors of their shape.
        mode: "nearest" or "linear".
        centres: "half_pixel", "asymmetric" or "align_corners", as in ONNX.
    """
    height, width = (int(side) for side in (sizes if sizes.dtype == np.int64 else np.floor(x.shape * sizes))[-2:])
    if x.ndim != 4 or not (1 <= height <= _LARGEST_SIDE and 1 <= width <= _LARGEST_SIDE):
        raise ValueError(f"maps cannot be resized to {height} x {width}")
    for size in ((height, x.shape[3]), (height, width)):
        check_count((*x.shape[:2], *size))
    out = x
    for axis, side in ((2, height), (3, width)):
        low, high, share = source_pixels(x.shape[axis], side, mode, centres)
        share = share.reshape(-1, 1) if axis == 2 else share
        first = np.take(out, low, axis)
        out = first if mode == "nearest" else first + share * (np.take(out, high, axis) - first)
    return out


def source_pixels(before: int, after: int, mode: str, centres: str) -> tuple[Array, Array, Array]:
    """Return the two pixels that every pixel of a resized side lies between, and the share of the second."""
    position = np.arange(after, dtype=np.float64)
    if centres == "half_pixel":
        position = (position + 0.5) * (before / after) - 0.5
    elif centres == "asymmetric":
        position = position * (before / after)
    else:
        position = position * ((before - 1) / max(after - 1, 1))
    if mode == "nearest":
        position = np.floor(position)
    position = np.clip(position, 0, before - 1)
    low = np.floor(position).astype(np.int32)
    return low, np.minimum(low + 1, before - 1).astype(np.int32), (position - low).astype(np.float32)
