"""The steps of operations on plain arrays with axes in any order: copies bring them into the form that kernels take."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from . import native
from .graph import Node
from .planner import Planner

Array = npt.NDArray[Any]
_AXES = 6


def add_copy(plan: Planner, source: Array, out: Array) -> bool:
    """Add the copy of a view of an array, whose axes are in another order, cut or repeated; False for too many axes."""
    missing = _AXES - source.ndim
    if missing < 0 or not source.size:
        return False
    arguments = native.Strided(input=source.ctypes.data, output=out.ctypes.data)
    arguments.sizes[:] = (*[1] * missing, *source.shape)
    arguments.strides[:] = (*[0] * missing, *(stride // 4 for stride in source.strides))
    plan.add(arguments)
    return True


def lower_transpose(plan: Planner, node: Node) -> bool:
    """Add the steps of a transposition."""
    source = plan.array_of(node.inputs[0]).transpose(node.attributes["order"])
    return add_copy(plan, source, plan.output_array(node.outputs[0]))


def lower_slice(plan: Planner, node: Node) -> bool:
    """Add the steps of a slice."""
    where = [slice(None)] * len(plan.shape(node.inputs[0]))
    attributes = [node.attributes[key] for key in ("axes", "starts", "ends", "steps")]
    for axis, start, end, step in zip(*attributes, strict=True):
        where[axis] = slice(start, end, step)
    return add_copy(plan, plan.array_of(node.inputs[0])[tuple(where)], plan.output_array(node.outputs[0]))


def lower_expand(plan: Planner, node: Node) -> bool:
    """Add the steps of an array that is repeated along some axes."""
    shape = plan.shape(node.outputs[0])
    return add_copy(plan, np.broadcast_to(plan.array_of(node.inputs[0]), shape), plan.output_array(node.outputs[0]))


def lower_gather(plan: Planner, node: Node) -> bool:
    """Add the steps of elements at constant positions along an axis."""
    name, index = node.inputs
    if not plan.is_constant(index) or len(plan.shape(name)) > _AXES:
        return False
    source = np.moveaxis(plan.array_of(name), node.attributes["axis"], 0)
    return _stack(plan, [source[int(i)][None] for i in plan.constant(index).reshape(-1)], node)


def lower_concat(plan: Planner, node: Node) -> bool:
    """Add the steps of a concatenation of arrays."""
    if any(len(plan.shape(name)) > _AXES for name in node.inputs):
        return False
    arrays = [plan.array_of(name) for name in node.inputs]
    return _stack(plan, [np.moveaxis(array, node.attributes["axis"], 0) for array in arrays], node)


def _stack(plan: Planner, parts: list[Array], node: Node) -> bool:
    """Add the copies of parts behind each other along what becomes the axis of an operation."""
    shape = plan.shape(node.outputs[0])
    rank = parts[0].ndim
    axis = node.attributes["axis"] % rank
    total = (sum(len(part) for part in parts), *parts[0].shape[1:])
    if math.prod(total) != math.prod(shape) or not math.prod(total):
        return False
    out = plan.output_array(node.outputs[0])
    stacked = out.reshape(total) if math.prod(total[1 : axis + 1]) == 1 else plan.new_array(total)
    first = 0
    for part in parts:
        if part.size:
            add_copy(plan, part, stacked[first : first + len(part)])
        first += len(part)
    if stacked.ctypes.data != out.ctypes.data:
        add_copy(plan, np.moveaxis(stacked, 0, axis), out)
    return True


def lower_reduction(plan: Planner, node: Node) -> bool:
    """Add the steps of a mean or sum over any axes."""
    shape = plan.shape(node.inputs[0])
    axes = sorted(axis % len(shape) for axis in node.attributes["axes"])
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    source = plan.array_of(node.inputs[0]).transpose(*rest, *axes)
    if not source.size or len(shape) > _AXES:
        return False
    if axes != list(range(len(rest), len(shape))):
        turned = plan.new_array(source.shape)
        add_copy(plan, source, turned)
        source = turned
    count = math.prod(shape[axis] for axis in axes)
    where = {"input": source.ctypes.data, "stride": count, "count": count, "channels": source.size // count}
    pixels = count if node.operation == "mean" else 1
    plan.add(native.Mean(**where, output=plan.output_array(node.outputs[0]).ctypes.data, pixels=pixels))
    return True


def lower_softmax(plan: Planner, node: Node) -> bool:
    """Add the steps of a softmax along any axis."""
    shape, axis = plan.shape(node.inputs[0]), node.attributes["axis"]
    if not math.prod(shape) or len(shape) > _AXES:
        return False
    source = plan.array_of(node.inputs[0])
    out = plan.output_array(node.outputs[0])
    rows = {"rows": source.size // shape[axis], "size": shape[axis]}
    if axis % len(shape) == len(shape) - 1:
        plan.add(native.Softmax(input=source.ctypes.data, output=out.ctypes.data, **rows))
        return True
    turned = np.moveaxis(source, axis, -1)
    before, after = plan.new_array(turned.shape), plan.new_array(turned.shape)
    add_copy(plan, turned, before)
    plan.add(native.Softmax(input=before.ctypes.data, output=after.ctypes.data, **rows))
    return add_copy(plan, np.moveaxis(after, -1, axis), out)


def repeated(plan: Planner, name: str, shape: tuple[int, ...]) -> Array | None:
    """Return a value as an array of a larger shape; None if it has too many axes."""
    if plan.shape(name) == shape:
        return plan.array_of(name)
    out = plan.new_array(shape)
    return out if add_copy(plan, np.broadcast_to(plan.array_of(name), shape), out) else None
