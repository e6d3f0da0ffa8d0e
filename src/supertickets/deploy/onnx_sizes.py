"""Sizes of resized maps in ONNX files, in a form that tools for ONNX can follow.

onnxruntime's inference of symbolic shapes, the first step of its quantisation, multiplies the batch by a resize's
factors (``floor(1.0*batch)``) and cannot tell that two sums of the height are equal. Where a resized map meets another
one, it takes the size of that; elsewhere it is a whole multiple of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def name_resized_sizes(graph: Any) -> None:
    """Replace factors and computed sizes of the resizes of a graph, in place.

    Args:
        graph: Graph of `onnx_ir`, in topological order.
    """
    places = {node: i for i, node in enumerate(graph)}
    for node in [node for node in graph if node.op_type == "Resize"]:
        beside = _neighbour(node, places)
        factors = _whole_factors(node)
        if beside is None and factors is None:
            continue
        import onnx_ir

        added: list[Any] = []

        def add(kind: str, *inputs: Any, added: list[Any] = added, **attributes: int) -> Any:
            added.append(onnx_ir.node(kind, inputs, attributes))
            return added[-1].outputs[0]

        own = node.inputs[0]
        if beside is not None:
            size = add("Shape", beside, start=2, end=4)
        else:
            size = add("Shape", own, start=2, end=4)
            tensor = onnx_ir.tensor(np.asarray(factors, np.int64))
            added.append(onnx_ir.node("Constant", (), {"value": tensor}))
            size = add("Mul", size, added[-1].outputs[0])
        sizes = add("Concat", add("Shape", own, start=0, end=2), size, axis=0)
        graph.insert_before(node, added)
        scales = node.inputs[2] if len(node.inputs) > 2 else None
        node.resize_inputs(4)
        node.replace_input_with(2, None)
        node.replace_input_with(3, sizes)
        if scales is not None and scales.name in graph.initializers and not scales.uses():
            del graph.initializers[scales.name]


def _neighbour(node: Any, places: dict[Any, int]) -> Any:
    """Return the map that a resized map is added to or joined with, if it is made before; None if there is none."""
    users = list(node.outputs[0].uses())
    if len(users) != 1 or users[0].node.op_type not in ("Add", "Concat"):
        return None
    if users[0].node.op_type == "Concat" and users[0].node.attributes["axis"].as_int() not in (1, -3):
        return None
    if _has_factors(node) and _whole_factors(node) is None:  # pixels lie where the factors say
        return None
    for value in users[0].node.inputs:
        producer = value.producer() if value is not None else None
        if producer is None or producer.op_type == "Resize" or places.get(producer, len(places)) >= places[node]:
            continue
        if _may_be_as_large(value.shape, node.outputs[0].shape):
            return value
    return None


def _may_be_as_large(shape: Any, other: Any) -> bool:
    """Return whether two maps may have one height and width, and neither is a row, column or point to be repeated."""
    if shape is None or other is None or len(shape) != 4 or len(other) != 4:
        return False
    sides = zip(shape[2:], other[2:], strict=True)
    return all(a == b if isinstance(a, int) and isinstance(b, int) else 1 not in (a, b) for a, b in sides)


def _has_factors(node: Any) -> bool:
    return len(node.inputs) > 2 and node.inputs[2] is not None


def _whole_factors(node: Any) -> list[int] | None:
    """Return the factors of height and width if they are constant whole numbers; None if the sizes are given."""
    scales = node.inputs[2] if len(node.inputs) > 2 else None
    if scales is None or scales.const_value is None:
        return None
    batch, channels, *factors = scales.const_value.numpy().tolist()
    if (batch, channels) != (1, 1) or any(factor != int(factor) for factor in factors):
        return None
    return [int(factor) for factor in factors]
