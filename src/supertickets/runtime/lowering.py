"""The steps of every operation that the kernels have; operations in forms that they lack return False."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from . import native
from .arrays import (
    add_copy,
    lower_concat,
    lower_expand,
    lower_gather,
    lower_reduction,
    lower_slice,
    lower_softmax,
    lower_transpose,
    repeated,
)
from .convolutions import lower_avg_pool, lower_conv, lower_max_pool
from .graph import Node
from .maps import LINE, round_up
from .planner import Planner
from .products import add_product
from .threads import most_pieces
from .windows import source_pixels

Array = npt.NDArray[Any]
_FUNCTIONS = {"add": 0, "sub": 1, "mul": 2, "div": 3}
_KEEP_FIRST = 4


def _lower_activation(plan: Planner, node: Node) -> bool:
    return _binary(plan, node, node.inputs[0], np.zeros((), np.float32), _KEEP_FIRST)


def _lower_binary(plan: Planner, node: Node) -> bool:
    function, (a, b) = _FUNCTIONS[node.operation], node.inputs
    shape = plan.shape(node.outputs[0])
    if plan.shape(a) == shape and not plan.is_constant(a) and _binary(plan, node, a, b, function):
        return True
    if plan.shape(b) == shape and not plan.is_constant(b) and _binary(plan, node, b, a, function, swapped=True):
        return True
    return _repeated_binary(plan, node, function)


def _repeated_binary(plan: Planner, node: Node, function: int) -> bool:
    """Add the steps of a function of two values that are repeated along axes."""
    shape = plan.shape(node.outputs[0])
    left, right = (repeated(plan, name, shape) for name in node.inputs)
    if left is None or right is None:
        return False
    count = math.prod(shape)
    plan.add(
        native.Binary(
            **{"a": left.ctypes.data, "b": right.ctypes.data, "output": plan.output_array(node.outputs[0]).ctypes.data},
            **{"stride": count, "b_stride": count, "count": count, "channels": 1, "function": function},
            activation=plan.activation(node),
        )
    )
    return True


def _binary(plan: Planner, node: Node, first: str, other: str | Array, function: int, *, swapped: bool = False) -> bool:
    """Add the steps of a function of a value and another of its form, one number per channel, or one number."""
    shape, out = plan.shape(first), node.outputs[0]
    other_shape = other.shape if isinstance(other, np.ndarray) else plan.shape(other)
    same, channels = other_shape == shape, 1
    numbers = math.prod(other_shape)
    per_channel = len(shape) == 4 and shape[0] == 1 and tuple(other_shape)[-3:] == (shape[1], 1, 1)
    if not same and numbers != 1 and not (per_channel and numbers == shape[1]):
        return False
    geometry = None
    as_map = plan.is_map(first) or (same and isinstance(other, str) and plan.is_map(other))
    if as_map:
        geometry, source = plan.geometry(first), plan.map_of(first)
        target = plan.output_map(out)
        a, result, channels = source.address, target.address, shape[1]
        stride, count = source.stride, round_up(shape[2] * source.pitch, plan.library.width)
    else:
        a, result = plan.array_of(first).ctypes.data, plan.output_array(out).ctypes.data
        channels = shape[1] if per_channel and not same else 1
        stride = count = math.prod(shape) // channels
    if same:
        assert isinstance(other, str)
        b, b_stride = (plan.map_of(other).address if as_map else plan.array_of(other).ctypes.data), stride
    else:
        numbers_array = other if isinstance(other, np.ndarray) else plan.array_of(other)
        constant = isinstance(other, np.ndarray) or plan.is_constant(other)
        b, b_stride = (plan.address(numbers_array) if constant else numbers_array.ctypes.data), 0
    plan.add(
        native.Binary(
            **{"a": a, "b": b, "output": result, "inside": geometry.inside.ctypes.data if geometry else None},
            **{"stride": stride, "b_stride": b_stride, "count": count, "channels": channels},
            **{"function": function, "b_step": int(numbers > 1), "swapped": int(swapped)},
            activation=plan.activation(node),
        )
    )
    return True


def _lower_concat(plan: Planner, node: Node) -> bool:
    shape = plan.shape(node.outputs[0])
    along_channels = len(shape) == 4 and shape[0] == 1 and node.attributes["axis"] in (1, -3)
    if not along_channels or not any(plan.is_map(name) for name in node.inputs):
        return lower_concat(plan, node)
    out, first = plan.output_map(node.outputs[0]), 0
    for name in node.inputs:
        channels = plan.shape(name)[1]
        if not plan.is_in_place(name, node.outputs[0], first):
            part, source = out.part(first, channels), plan.source_of(name)
            plan.add(native.Copy(input=source.to_c(), output=part.to_c()))
        first += channels
    return True


def _lower_split(plan: Planner, node: Node) -> bool:
    [name], axis = node.inputs, node.attributes["axis"]
    shape = plan.shape(name)
    if plan.is_map(name) and axis in (1, -3):
        first = 0
        for out, count in zip(node.outputs, node.attributes["sizes"], strict=True):
            plan.output_view(out, plan.map_of(name).part(first, count))
            first += count
        return True
    first, axis = 0, axis % len(shape)
    for out, count in zip(node.outputs, node.attributes["sizes"], strict=True):
        source = np.moveaxis(plan.array_of(name), axis, 0)[first : first + count]
        if not add_copy(plan, np.moveaxis(source, 0, axis), plan.output_array(out)):
            return False
        first += count
    return True


def _lower_view(plan: Planner, node: Node) -> bool:
    out = node.outputs[0]
    plan.output_view(out, plan.array_of(node.inputs[0]).reshape(plan.shape(out)))
    return True


def _lower_resize(plan: Planner, node: Node) -> bool:
    name, out = node.inputs[0], node.outputs[0]
    before, after = plan.shape(name)[2:], plan.shape(out)[2:]
    if plan.shape(out)[0] != 1 or plan.shape(name)[1] != plan.shape(out)[1]:
        return False
    mode, centres = node.attributes["mode"], node.attributes["centres"]
    tables = [source_pixels(before[i], after[i], mode, centres) for i in (0, 1)]
    (row_low, row_high, row_share), (column_low, column_high, column_share) = tables
    if mode == "nearest":
        row_share, column_share = 0 * row_share, 0 * column_share
    source = plan.source_of(name)
    arguments = {"row_low": row_low, "row_high": row_high, "row_share": row_share}
    arguments |= {"column_low": column_low, "column_high": column_high, "column_share": column_share}
    addresses = {key: plan.address(table) for key, table in arguments.items()}
    stride = round_up(before[1]) + LINE  # a vector is read from any pixel on
    scratch = {"scratch": plan.new_array((most_pieces(plan.threads) * stride,)).ctypes.data, "scratch_stride": stride}
    plan.add(native.Resize(input=source.to_c(), output=plan.output_map(out).to_c(), **scratch, **addresses))
    return True


def _lower_mean(plan: Planner, node: Node) -> bool:
    name, shape = node.inputs[0], plan.shape(node.inputs[0])
    if not plan.is_map(name) or sorted(axis % len(shape) for axis in node.attributes["axes"]) != [2, 3]:
        return lower_reduction(plan, node)
    source = plan.map_of(name)
    where = {"input": source.address, "stride": source.stride, "count": source.size[0] * source.pitch}
    pixels, out = shape[2] * shape[3], plan.output_array(node.outputs[0])
    plan.add(native.Mean(**where, output=out.ctypes.data, channels=shape[1], pixels=pixels))
    return True


def _lower_linear(plan: Planner, node: Node) -> bool:
    name, weight, bias, skip = (*node.inputs, "", "")[:4]
    if not plan.is_constant(weight) or (bias and not plan.is_constant(bias)):
        return False
    add_product(plan, plan.array_of(name), plan.constant(weight).T, node, bias, skip)
    return True


def _lower_matmul(plan: Planner, node: Node) -> bool:
    left, right = (plan.shape(name) for name in node.inputs)
    counts = [math.prod(shape[:-2]) for shape in (left, right)]
    count = max(counts)
    if not all(c in (1, count) for c in counts) or (count > 1 and left[:-2] != right[:-2] and min(counts) > 1):
        return False
    a, b = (plan.source_array(name) for name in node.inputs)
    rows, inner, columns = left[-2], left[-1], right[-1]
    plan.add(
        native.Product(
            **{"a": a, "b": b, "count": count, "rows": rows, "inner": inner, "columns": columns, "b_pitch": columns},
            a_stride=rows * inner if counts[0] > 1 else 0,
            b_stride=inner * columns if counts[1] > 1 else 0,
            out_stride=rows * columns,
            output=plan.output_array(node.outputs[0]).ctypes.data,
            activation=native.Activation(0, 0, 0),
        )
    )
    return True


def _lower_layer_norm(plan: Planner, node: Node) -> bool:
    shape, parts = plan.shape(node.inputs[0]), node.inputs[1:]
    if node.attributes["axis"] not in (-1, len(shape) - 1) or not all(map(plan.is_constant, filter(None, parts))):
        return False
    if any(plan.shape(name) != shape[-1:] for name in parts if name):
        return False
    scale, shift = (plan.address(plan.constant(name)) if name else None for name in (*parts, "")[:2])
    plan.add(
        native.LayerNorm(
            **{"input": plan.source_array(node.inputs[0]), "scale": scale, "shift": shift},
            **{"rows": math.prod(shape[:-1]), "size": shape[-1], "epsilon": node.attributes["epsilon"]},
            output=plan.output_array(node.outputs[0]).ctypes.data,
        )
    )
    return True


LOWERINGS: Mapping[str, Callable[[Planner, Node], bool]] = {
    "conv": lower_conv,
    "max_pool": lower_max_pool,
    "avg_pool": lower_avg_pool,
    "activation": _lower_activation,
    **dict.fromkeys(_FUNCTIONS, _lower_binary),
    "concat": _lower_concat,
    "split": _lower_split,
    "slice": lower_slice,
    "transpose": lower_transpose,
    "expand": lower_expand,
    "gather": lower_gather,
    **dict.fromkeys(("reshape", "squeeze", "unsqueeze"), _lower_view),
    "resize": _lower_resize,
    "mean": _lower_mean,
    "sum": lower_reduction,
    "linear": _lower_linear,
    "matmul": _lower_matmul,
    "softmax": lower_softmax,
    "layer_norm": _lower_layer_norm,
}
