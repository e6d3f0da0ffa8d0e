"""A network as a list of operations on named values, read from JSON and checked throughout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UserError
from .limits import check_count
from .operations import OPERATIONS
from .tensor_file import read_tensors, write_tensors
from .zeros import pack_zeros, unpack_zeros

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
FORMAT = "supertickets-graph-1"


@dataclass(frozen=True)
class Node:
    """One operation: its kind, the names of what it takes (empty: left out) and gives, and its attributes."""

    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "operation": self.operation,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "attributes": dict(self.attributes),
        }

    @staticmethod
    def from_json(data: Any) -> Node:
        """Read what `to_json` wrote.

        Raises:
            ValueError: An operation, an attribute or a number of inputs is impossible.
        """
        kind = data["operation"]
        if kind not in OPERATIONS:
            raise ValueError(f"there is no operation {kind!r}")
        operation = OPERATIONS[kind]
        inputs, outputs = (_names(data[key], f"{key} of {kind}") for key in ("inputs", "outputs"))
        if not operation.inputs[0] <= len(inputs) <= operation.inputs[1] or not outputs or "" in outputs:
            raise ValueError(f"{kind} has {len(inputs)} inputs and {len(outputs)} outputs")
        if "" in inputs[: operation.inputs[0]]:
            raise ValueError(f"{kind} lacks an input")
        given = data["attributes"]
        if set(given) != set(operation.attributes):
            raise ValueError(f"{kind} has attributes {sorted(given)}, not {sorted(operation.attributes)}")
        return Node(kind, inputs, outputs, {name: check(given[name]) for name, check in operation.attributes.items()})


@dataclass(frozen=True)
class Graph:
    """A network.

    Attributes:
        input: Name of the images.
        shape: Shape of the images; None for a size that is free.
        example: Sizes of one image (C, H, W) that it takes.
        outputs: Names of the values that are the result.
        nodes: Operations, every one behind those that it needs.
        tensors: Weights by name.
    """

    input: str
    shape: tuple[int | None, ...]
    example: Shape
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Array]

    def check_images(self, images: Any) -> Array:
        """Return images as a float array (B, C, H, W).

        Raises:
            UserError: They are of another shape.
        """
        array = np.asarray(images)
        if array.dtype.kind in "biu":
            raise UserError(
                f"images are {array.dtype}, not preprocessed; give float32, normalised as `about['preprocessing']` says"
            )
        array = np.ascontiguousarray(array, np.float32)
        if array.ndim != len(self.shape) or not all(
            want in (None, have) and have > 0 for want, have in zip(self.shape, array.shape, strict=True)
        ):
            want = " x ".join("any" if size is None else str(size) for size in self.shape)
            raise UserError(f"images of shape {array.shape} do not fit; give an array of {want}, one image at least")
        return array


def save_graph(graph: Graph, path: str | Path, about: Mapping[str, str]) -> None:
    """Write a graph with its weights, and further metadata, as one file."""
    data = {
        "input": graph.input,
        "shape": list(graph.shape),
        "example": list(graph.example),
        "outputs": list(graph.outputs),
        "nodes": [node.to_json() for node in graph.nodes],
    }
    metadata = {**about, "format": FORMAT, "graph": json.dumps(data)}
    write_tensors(path, metadata, pack_zeros(graph.tensors))


def load_graph(path: str | Path) -> tuple[Graph, dict[str, str]]:
    """Return the graph of a file, and the rest of its metadata.

    Raises:
        UserError: It is no such file, it is damaged, or the graph cannot run.
    """
    metadata, stored = read_tensors(path)
    if metadata.pop("format", None) != FORMAT:
        raise UserError(f"{path} is no file of this runtime; write one with supertickets export --format sparse")
    try:
        graph = _parse(json.loads(metadata.pop("graph", "null")), unpack_zeros(stored))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else str(error).split("\n")[0]
        raise UserError(f"{path} holds a graph that cannot run: {reason}. Export the ticket again.") from None
    infer_values(graph, (1, *graph.example))
    return graph, metadata


@dataclass(frozen=True)
class Values:
    """The values of a graph for images of one shape.

    Attributes:
        shapes: Shapes by name.
        constants: Values that do not depend on the pixels: weights, and what is computed of shapes.
    """

    shapes: Mapping[str, Shape]
    constants: Mapping[str, Array]


def infer_values(graph: Graph, images: Shape) -> Values:
    """Return the shapes of all values for images of a shape (B, C, H, W).

    Raises:
        UserError: The graph cannot run on such images.
    """
    constants = dict(graph.tensors)
    shapes: dict[str, Shape] = {graph.input: images, **{name: t.shape for name, t in constants.items()}}
    for number, node in enumerate(graph.nodes):
        try:
            values = infer_node(node, shapes, constants)
        except (
            ValueError,
            IndexError,
            TypeError,
            AttributeError,
            OverflowError,
            MemoryError,
            np.exceptions.AxisError,
        ) as e:
            reason = (str(e) or type(e).__name__).split("\n")[0][:200]
            where = f"operation {number} ({node.operation}) of the graph"
            raise UserError(
                f"{where} cannot run on images of {images}: {reason}. Give images of another size."
            ) from None
        shapes |= values
    return Values(shapes, constants)


def infer_node(node: Node, shapes: Mapping[str, Shape], constants: dict[str, Array]) -> dict[str, Shape]:
    """Return the shapes of the outputs; outputs that depend on constants or shapes alone become constants."""
    operation = OPERATIONS[node.operation]
    if operation.infer is not None:
        given = [shapes[name] if name else None for name in node.inputs]
        values = {node.outputs[0]: operation.infer(given, dict(node.attributes))}
        _check_size(values)
        return values
    known = all(name in constants for name in node.inputs if name) or node.operation == "shape"
    inputs = [constants.get(name, _zeros(shapes[name])) if name else None for name in node.inputs]
    with np.errstate(all="ignore"):
        outputs = run_node(node, inputs)
    values = {name: out.shape for name, out in zip(node.outputs, outputs, strict=True)}
    _check_size(values)
    if known:
        constants.update(zip(node.outputs, outputs, strict=True))
    return values


def run_node(node: Node, inputs: Sequence[Array | None]) -> list[Array]:
    """Return the outputs of one operation, computed with numpy."""
    result = OPERATIONS[node.operation].run(*inputs, **node.attributes)
    return [np.asarray(out) for out in result] if isinstance(result, list) else [np.asarray(result)]


def _zeros(shape: Shape) -> Array:
    return np.broadcast_to(np.float32(0), shape)


def _check_size(shapes: Mapping[str, Shape]) -> None:
    for shape in shapes.values():
        check_count(shape)


def _names(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{where} are no names")
    return tuple(value)


def _parse(data: Any, tensors: Mapping[str, Array]) -> Graph:
    nodes = tuple(Node.from_json(entry) for entry in data["nodes"])
    shape, example, [outputs] = data["shape"], data["example"], [_names(data["outputs"], "outputs")]
    sizes = [size for size in (*shape, *example) if size is not None]
    if len(shape) != 4 or len(example) != 3 or not all(type(s) is int and 1 <= s <= 2**20 for s in sizes):
        raise ValueError(f"images of {shape}, e.g. {example}, are impossible")
    check_count(example)
    defined = {data["input"], *tensors}
    if not isinstance(data["input"], str) or data["input"] in tensors:
        raise ValueError("the images have no name of their own")
    for node in nodes:
        missing = [name for name in node.inputs if name and name not in defined]
        if missing or not defined.isdisjoint(node.outputs) or len(set(node.outputs)) != len(node.outputs):
            raise ValueError(f"{node.operation} takes {missing or node.outputs} that is not there or already is")
        defined.update(node.outputs)
    if not outputs or not defined.issuperset(outputs):
        raise ValueError("an output is not computed")
    if not all(np.isfinite(tensor).all() for tensor in tensors.values() if tensor.dtype == np.float32):
        raise ValueError("a weight is not a finite number")
    return Graph(data["input"], tuple(shape), tuple(example), outputs, nodes, tensors)
