"""The operations of a graph: their attributes, how many inputs they take, and what they compute, in numpy.

Slow but right: the kernels are checked against these, and where there is no compiler these run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .activations import activate, check_activation
from .limits import LARGEST, check_count
from .windows import avg_pool, conv, infer_conv, infer_pool, max_pool, resize

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Check = Callable[[Any], Any]
_MOST_NUMBERS, _MOST_PARTS = 64, 1024  # of an attribute that is a list; parts of a split


@dataclass(frozen=True)
class Operation:
    """One kind of operation.

    Attributes:
        run: Function of arrays and attributes; returns an array or several.
        inputs: Smallest and largest number of inputs.
        attributes: Check of every attribute; each has to be there.
        infer: Function of the inputs' shapes and the attributes that returns the shape of the output; without it the
            operation is run on zeros, which costs no more than moving them.
    """

    run: Callable[..., Any]
    inputs: tuple[int, int]
    attributes: Mapping[str, Check] = field(default_factory=dict)
    infer: Callable[[Sequence[Shape | None], dict[str, Any]], Shape] | None = None


def integer(low: int, high: int) -> Check:
    """Return a check of whole numbers in a range."""

    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{value!r} is no whole number from {low} to {high}")
        return value

    return check


def integers(low: int, high: int, count: int | None = None, most: int = _MOST_NUMBERS) -> Check:
    """Return a check of lists of whole numbers in a range: so many, or at most so many."""
    one = integer(low, high)

    def check(value: Any) -> tuple[int, ...]:
        if not isinstance(value, list | tuple) or len(value) > most or (count is not None and len(value) != count):
            raise ValueError(f"{value!r} is no list of whole numbers of its length")
        return tuple(one(v) for v in value)

    return check


def one_of(*words: Any) -> Check:
    """Return a check of words."""

    def check(value: Any) -> Any:
        if not any(value is word or (isinstance(value, str) and value == word) for word in words):
            raise ValueError(f"{value!r} is none of {words}")
        return value

    return check


def number(low: float, high: float) -> Check:
    """Return a check of numbers in a range."""

    def check(value: Any) -> float:
        if type(value) not in (int, float) or not low <= value <= high:
            raise ValueError(f"{value!r} is no number from {low} to {high}")
        return float(value)

    return check


def linear(x: Array, weight: Array, bias: Array | None = None, skip: Array | None = None, *, activation: Any) -> Array:
    """Return the activation of the products with rows of a matrix (outputs, inputs), plus bias and another array."""
    out = np.matmul(x, weight.T)
    for more in (bias, skip):
        if more is not None:
            out = out + more
    return activate(out, activation)


def infer_linear(shapes: Sequence[Shape | None], attributes: dict[str, Any]) -> Shape:
    """Return the output shape of `linear`, having checked those of its inputs."""
    x, weight, bias, skip = (*shapes, None, None)[:4]
    if x is None or weight is None or not x or len(weight) != 2 or x[-1] != weight[1]:
        raise ValueError(f"a matrix {weight} does not fit {x}")
    out = (*x[:-1], weight[0])
    if bias not in (None, (weight[0],)) or skip not in (None, out):
        raise ValueError(f"a bias {bias} or a sum with {skip} does not fit {out}")
    return out


def infer_matmul(shapes: Sequence[Shape | None], attributes: dict[str, Any]) -> Shape:
    """Return the shape of a matrix product."""
    left, right = shapes
    if left is None or right is None or len(left) < 2 or len(right) < 2 or left[-1] != right[-2]:
        raise ValueError(f"there is no product of {left} and {right}")
    return (*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1])


def divide(left: Array, right: Array) -> Array:
    """Return a quotient; of whole numbers the whole part."""
    return left // right if left.dtype == np.int64 else left / right


def softmax(x: Array, *, axis: int) -> Array:
    """Return exponentials that sum to one along an axis."""
    powers = np.exp(x - x.max(axis, keepdims=True))
    out: Array = powers / powers.sum(axis, keepdims=True)
    return out


def layer_norm(x: Array, scale: Array, bias: Array | None = None, *, axis: int, epsilon: float) -> Array:
    """Return values normalised over the axes from ``axis`` on, scaled and shifted."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    centred = x - x.mean(axes, keepdims=True)
    out: Array = centred / np.sqrt((centred * centred).mean(axes, keepdims=True) + np.float32(epsilon)) * scale
    return out if bias is None else out + bias


def split(x: Array, *, axis: int, sizes: Sequence[int]) -> list[Array]:
    """Return consecutive parts of an array along an axis."""
    if sum(sizes) != x.shape[axis]:
        raise ValueError(f"parts of {sizes} do not make {x.shape[axis]}")
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def cut(x: Array, *, axes: Sequence[int], starts: Sequence[int], ends: Sequence[int], steps: Sequence[int]) -> Array:
    """Return every so many elements of a range along some axes."""
    where = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        where[axis] = slice(start, end, step)
    return x[tuple(where)]


def reshape(x: Array, shape: Array, *, zero_copies: bool) -> Array:
    """Return an array in another shape; 0 takes the size that was there, -1 what is left."""
    sizes = [int(s) for s in shape]
    if zero_copies:
        sizes = [x.shape[i] if s == 0 else s for i, s in enumerate(sizes)]
    return x.reshape(sizes)


def expand(x: Array, shape: Array) -> Array:
    """Return an array repeated along the axes where it has size one."""
    sizes = np.broadcast_shapes(x.shape, tuple(int(s) for s in shape))
    check_count(sizes)
    return np.ascontiguousarray(np.broadcast_to(x, sizes))


def _reduce(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda x, *, axes, keep: function(x, axis=tuple(axes), keepdims=keep)


def _binary(function: Callable[[Array, Array], Array]) -> Operation:
    def run(left: Array, right: Array, *, activation: Any) -> Array:
        check_count(np.broadcast_shapes(left.shape, right.shape))
        return activate(function(left, right), activation)

    return Operation(run, (2, 2), {"activation": check_activation})


def concat(*arrays: Array, axis: int) -> Array:
    """Return arrays behind each other along an axis."""
    check_count([sum(x.size for x in arrays)])
    return np.concatenate(arrays, axis)


def gather(x: Array, index: Array, *, axis: int) -> Array:
    """Return the elements at some positions along an axis."""
    check_count([*index.shape, *(size for i, size in enumerate(x.shape) if i != axis % x.ndim)])
    return np.take(x, index, axis)


def _squeeze(x: Array, *, axes: Sequence[int]) -> Array:
    return x.reshape([s for i, s in enumerate(x.shape) if i not in {a % x.ndim for a in axes} or s != 1])


_WINDOW: Mapping[str, Check] = {"strides": integers(1, 64, 2), "pads": integers(0, 256, 4)}
_POOL = {**_WINDOW, "kernel": integers(1, 256, 2), "ceil": one_of(True, False)}
_AXIS, _AXES = integer(-8, 7), integers(-8, 7)
_LIMITS = integers(-(2**62), 2**62)
OPERATIONS: Mapping[str, Operation] = {
    "conv": Operation(
        conv,
        (2, 4),
        {**_WINDOW, "dilations": integers(1, 256, 2), "groups": integer(1, 2**20), "activation": check_activation},
        infer_conv,
    ),
    "linear": Operation(linear, (2, 4), {"activation": check_activation}, infer_linear),
    "matmul": Operation(np.matmul, (2, 2), {}, infer_matmul),
    "add": _binary(np.add),
    "sub": _binary(np.subtract),
    "mul": _binary(np.multiply),
    "div": _binary(divide),
    "activation": Operation(lambda x, *, activation: activate(x, activation), (1, 1), {"activation": check_activation}),
    "concat": Operation(concat, (1, 1024), {"axis": _AXIS}),
    "split": Operation(split, (1, 1), {"axis": _AXIS, "sizes": integers(0, LARGEST, most=_MOST_PARTS)}),
    "slice": Operation(cut, (1, 1), {"axes": _AXES, "starts": _LIMITS, "ends": _LIMITS, "steps": integers(1, LARGEST)}),
    "max_pool": Operation(max_pool, (1, 1), {**_POOL, "dilations": integers(1, 256, 2)}, infer_pool),
    "avg_pool": Operation(avg_pool, (1, 1), {**_POOL, "count_pads": one_of(True, False)}, infer_pool),
    "mean": Operation(_reduce(np.mean), (1, 1), {"axes": _AXES, "keep": one_of(True, False)}),
    "sum": Operation(_reduce(np.sum), (1, 1), {"axes": _AXES, "keep": one_of(True, False)}),
    "resize": Operation(
        resize,
        (2, 2),
        {"mode": one_of("nearest", "linear"), "centres": one_of("half_pixel", "asymmetric", "align_corners")},
    ),
    "reshape": Operation(reshape, (2, 2), {"zero_copies": one_of(True, False)}),
    "expand": Operation(expand, (2, 2)),
    "transpose": Operation(lambda x, *, order: np.transpose(x, order), (1, 1), {"order": integers(0, 7)}),
    "squeeze": Operation(_squeeze, (1, 1), {"axes": _AXES}),
    "unsqueeze": Operation(lambda x, *, axes: np.expand_dims(x, axes), (1, 1), {"axes": _AXES}),
    "softmax": Operation(softmax, (1, 1), {"axis": _AXIS}),
    "layer_norm": Operation(layer_norm, (2, 3), {"axis": _AXIS, "epsilon": number(0, 1)}),
    "shape": Operation(
        lambda x, *, start, end: np.array(x.shape[start:end], np.int64),
        (1, 1),
        {"start": integer(0, 8), "end": integer(0, 8)},
    ),
    "gather": Operation(gather, (2, 2), {"axis": _AXIS}),
}
