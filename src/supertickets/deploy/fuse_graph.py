"""Fuse the operations of a graph: activations, biases and sums into the products in front of them."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from dataclasses import replace

from ..runtime.graph import Graph, Node, Values, infer_values

_PLAIN = ("none",)
_FUSING = ("conv", "linear", "add", "mul", "sub", "div")
_PRODUCTS = ("conv", "linear")


def fuse(graph: Graph) -> Graph:
    """Return a graph of the same function in fewer operations, without tensors that nothing reads."""
    graph = _without(graph, graph.nodes)
    values = infer_values(graph, (1, *graph.example))
    nodes = _swish(list(graph.nodes))
    nodes = _fuse_bias(nodes, values, graph.outputs)
    nodes = _fuse_activations(nodes, graph.outputs)
    nodes = _fuse_sums(nodes, values, graph.outputs)
    nodes = _fuse_activations(nodes, graph.outputs)
    return _without(graph, nodes)


def _without(graph: Graph, nodes: object) -> Graph:
    """Return the graph of some nodes, less what does not lead to an output."""
    kept: list[Node] = []
    needed = set(graph.outputs)
    for node in reversed(list(nodes)):  # type: ignore[call-overload]
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    tensors = {name: t for name, t in graph.tensors.items() if name in needed}
    return replace(graph, nodes=tuple(reversed(kept)), tensors=tensors)


def _readers(nodes: list[Node], outputs: tuple[str, ...]) -> Mapping[str, int]:
    """Return how often every value is read; results count."""
    return collections.Counter([*outputs, *(name for node in nodes for name in node.inputs)])


def _swish(nodes: list[Node]) -> list[Node]:
    """Write x * sigmoid(x) and x * hard_sigmoid(x) as one activation."""
    makers = {node.outputs[0]: node for node in nodes}
    fused = []
    for node in nodes:
        if node.operation == "mul" and node.attributes["activation"] == _PLAIN:
            for x, gate in (node.inputs, node.inputs[::-1]):
                maker = makers.get(gate)
                if maker is None or maker.operation != "activation" or maker.inputs != (x,):
                    continue
                name, *parameters = maker.attributes["activation"]
                sixth = parameters and abs(parameters[0] - 1 / 6) < 1e-6 and parameters[1] == 0.5
                word = "silu" if name == "sigmoid" else "hard_swish" if name == "hard_sigmoid" and sixth else None
                if word:
                    node = Node("activation", (x,), node.outputs, {"activation": (word,)})
                    break
        fused.append(node)
    return fused


def _fuse_bias(nodes: list[Node], values: Values, outputs: tuple[str, ...]) -> list[Node]:
    """Move the constant that is added to a product with a matrix into its bias."""
    readers = _readers(nodes, outputs)
    position = {node.outputs[0]: i for i, node in enumerate(nodes)}
    result: list[Node | None] = list(nodes)
    for i, node in enumerate(nodes):
        if node.operation != "add":
            continue
        for product, bias in (node.inputs, node.inputs[::-1]):
            maker = result[position[product]] if product in position else None
            if (
                maker is not None
                and maker.operation == "linear"
                and len(maker.inputs) == 2
                and readers[product] == 1
                and bias in values.constants
                and values.shapes[bias] == values.shapes[product][-1:]
            ):
                attributes = {"activation": node.attributes["activation"]}
                result[i] = Node("linear", (*maker.inputs, bias), node.outputs, attributes)
                result[position[product]] = None
                break
    return [node for node in result if node is not None]


def _fuse_activations(nodes: list[Node], outputs: tuple[str, ...]) -> list[Node]:
    """Move activations into the operations in front of them."""
    readers = _readers(nodes, outputs)
    place: dict[str, int] = {}
    result: list[Node] = []
    for node in nodes:
        at = place.get(node.inputs[0]) if node.operation == "activation" and readers[node.inputs[0]] == 1 else None
        if at is not None and result[at].attributes["activation"] == _PLAIN:
            result[at] = replace(
                result[at], outputs=node.outputs, attributes={**result[at].attributes, **node.attributes}
            )
        else:
            at = len(result)
            result.append(node)
        if result[at].operation in _FUSING:
            place[node.outputs[0]] = at
    return result


def _fuse_sums(nodes: list[Node], values: Values, outputs: tuple[str, ...]) -> list[Node]:
    """Move the sum of a product and another map into the product, which then runs where the sum did."""
    readers = _readers(nodes, outputs)
    position = {node.outputs[0]: i for i, node in enumerate(nodes)}
    result: list[Node | None] = list(nodes)
    for i, node in enumerate(nodes):
        if node.operation != "add":
            continue
        pairs = sorted((node.inputs, node.inputs[::-1]), key=lambda pair: -position.get(pair[0], -1))
        for product, other in pairs:
            maker = result[position[product]] if product in position else None
            if (
                maker is not None
                and maker.operation in _PRODUCTS
                and len(maker.inputs) < 4
                and maker.attributes["activation"] == _PLAIN
                and readers[product] == 1
                and values.shapes[other] == values.shapes[product]
            ):
                inputs = (*maker.inputs, *[""] * (3 - len(maker.inputs)), other)
                attributes = {**maker.attributes, "activation": node.attributes["activation"]}
                result[position[product]] = None
                result[i] = Node(maker.operation, inputs, node.outputs, attributes)
                break
    return [node for node in result if node is not None]
