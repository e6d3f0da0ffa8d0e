"""Random files of the sparse runtime, whole and damaged; one number makes one file."""

from __future__ import annotations

import copy
import functools
import json
import struct
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from supertickets import UserError
from supertickets.runtime.graph import Graph, Node, infer_values, save_graph
from supertickets.runtime.operations import OPERATIONS

Random = np.random.Generator
_PER_GRAPH = 20  # files that come from one graph
_ACTIVATIONS: tuple[tuple[Any, ...], ...] = (
    *(("none",), ("relu",), ("clip", -0.5, 1.5), ("hard_swish",), ("silu",), ("gelu",), ("leaky_relu", 0.1)),
    *(("sigmoid",), ("tanh",), ("hard_sigmoid", 0.2, 0.5)),
)
_STRANGE: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 17, 63, 64, 255, 256, 257, 1000, 2**15, 2**16, 2**20, 2**28, 2**31 - 1, 2**31),
    *(-(2**31), 2**62, 2**63, 2**64, 10**30, 0.5, 1e-9, 1e30, -1.0, float("nan"), float("inf"), None, True, False),
    *("", "images", "w0", "v0", "none", "relu", "conv", "add", "resize", [], {}, [0], [1, 1], [2, 2], [0] * 4),
)


def _values(random: Random, *shape: int) -> Any:
    """Return weights, most of them zero at times."""
    density = random.choice([0.0, 0.1, 0.4, 1.0])
    return (random.standard_normal(shape) * (random.random(shape) < density)).astype(np.float32)


def _window(random: Random, kernel: tuple[int, int]) -> dict[str, Any]:
    stride = int(random.integers(1, 4))
    pads = [int(random.integers(0, side + 1)) for side in (*kernel, *kernel)]
    return {"strides": (stride, stride if random.random() < 0.9 else 1), "pads": tuple(pads)}


def propose_node(random: Random, names: list[str], shapes: Any) -> tuple[str, list[Any], dict[str, Any]]:
    """Return an operation, its inputs (names, or new weights) and its attributes; it may be impossible."""
    one, other = (str(random.choice(names)) for _ in range(2))
    shape = shapes[one]
    axis, kernel = int(random.integers(-4, 4)), (int(random.integers(1, 6)), int(random.integers(1, 6)))
    activation = {"activation": _ACTIVATIONS[random.integers(len(_ACTIVATIONS))]}
    kind = str(random.choice(["conv"] * 6 + ["add", "mul"] * 2 + sorted(set(OPERATIONS) - {"shape"})))
    dilations = {"dilations": tuple(int(v) for v in random.integers(1, 3, 2))}
    if kind == "conv":
        groups = int(random.choice([1, 1, 2, max(1, shape[1] if len(shape) > 1 else 1)]))
        out = groups * int(random.integers(1, 20 // groups + 2))
        depth = max(1, (shape[1] if len(shape) > 1 else 1) // groups)
        inputs = [one, _values(random, out, depth, *kernel), *([_values(random, out)] if random.random() < 0.7 else [])]
        return kind, inputs, {**_window(random, kernel), **dilations, "groups": groups, **activation}
    if kind in ("max_pool", "avg_pool"):
        extra = dilations if kind == "max_pool" else {"count_pads": bool(random.random() < 0.5)}
        ceil = bool(random.random() < 0.5)
        return kind, [one], {**_window(random, kernel), "kernel": kernel, "ceil": ceil, **extra}
    if kind == "linear":
        return kind, [one, _values(random, int(random.integers(1, 40)), shape[-1] if shape else 1)], activation
    sizes = random.integers(1, 12, 4)
    first = shape[axis] // 2 if len(shape) > abs(axis) else 1
    simple: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "matmul": ([one, other], {}),
        "activation": ([one], activation),
        "concat": ([one, other, one], {"axis": axis}),
        "split": ([one], {"axis": axis, "sizes": (first, (shape[axis] if len(shape) > abs(axis) else 1) - first)}),
        "slice": ([one], {"axes": (axis,), "starts": (1,), "ends": (-1,), "steps": (kernel[0],)}),
        "mean": ([one], {"axes": (axis,) if random.random() < 0.5 else (2, 3), "keep": bool(random.random() < 0.5)}),
        "sum": ([one], {"axes": (axis,), "keep": bool(random.random() < 0.5)}),
        "resize": ([one, np.array([1, shape[1] if len(shape) > 1 else 1, *sizes[:2]])], {"mode": "linear"}),
        "reshape": ([one, np.array([0, -1, int(sizes[0] % 3) + 1])], {"zero_copies": True}),
        "expand": ([one, sizes[: max(len(shape), 1)]], {}),
        "transpose": ([one], {"order": tuple(int(v) for v in random.permutation(len(shape)))}),
        "squeeze": ([one], {"axes": (axis,)}),
        "unsqueeze": ([one], {"axes": (axis,)}),
        "softmax": ([one], {"axis": axis}),
        "layer_norm": ([one, _values(random, shape[-1] if shape else 1)], {"axis": -1, "epsilon": 1e-5}),
        "gather": ([one, sizes[:2] - 1], {"axis": axis}),
    }
    if kind in simple:
        inputs, attributes = simple[kind]
        centres = str(random.choice(["half_pixel", "asymmetric", "align_corners"]))
        return kind, inputs, {**attributes, **({"centres": centres} if kind == "resize" else {})}
    right = other if random.random() < 0.7 else _values(random, *shape[-1:])
    return kind, [one, right] if random.random() < 0.5 else [right, one], activation


def draw_graph(random: Random, operations: int = 6) -> Graph:
    """Return a random graph that runs."""
    shape = tuple(int(v) for v in random.integers(1, [7, 20, 24]))
    graph = Graph("images", (None, *shape), shape, ("images",), (), {})
    names = ["images"]
    for number in range(operations):
        values = infer_values(graph, (1, *shape))
        kind, inputs, attributes = propose_node(random, names, values.shapes)
        tensors, words = dict(graph.tensors), []
        for given in inputs:
            word = given if isinstance(given, str) else f"w{len(tensors)}"
            words.append(word)
            if word not in names:
                tensors[word] = np.asarray(given)
        outputs = tuple(f"v{number}{i}" for i in range(2 if kind == "split" else 1))
        node = Node(kind, tuple(words), outputs, attributes)
        grown = replace(graph, nodes=(*graph.nodes, node), outputs=outputs[:1], tensors=tensors)
        try:
            infer_values(grown, (1, *shape))
        except UserError:
            continue
        graph = grown
        names.extend(outputs)
    return replace(graph, outputs=(*dict.fromkeys((*graph.outputs, names[-1])),))


def damage_bytes(random: Random, data: bytes) -> bytes:
    """Return a file cut, longer, or with bits flipped."""
    content = bytearray(data)
    kind = random.random()
    if kind < 0.2:
        return bytes(content[: random.integers(0, len(content))])
    if kind < 0.25:
        return bytes(content) + random.bytes(int(random.integers(1, 40)))
    for _ in range(random.integers(1, 9)):
        content[random.integers(len(content))] ^= 1 << int(random.integers(8))
    return bytes(content)


def damage_header(random: Random, data: bytes) -> bytes:
    """Return a file whose header, or the graph in it, has other entries."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    graph = json.loads(header["__metadata__"]["graph"])
    target = header if random.random() < 0.2 else graph
    for _ in range(random.choice([1, 1, 2, 4])):
        _damage_entry(random, target)
    header.setdefault("__metadata__", {})
    if isinstance(header["__metadata__"], dict) and target is graph:
        header["__metadata__"]["graph"] = json.dumps(graph)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _damage_entry(random: Random, tree: Any) -> None:
    """Change, remove, repeat or copy one entry of a tree of tables and lists."""
    places = _places(tree)
    if not places:
        return
    holder, key = places[random.integers(len(places))]
    kind = random.random()
    if kind < 0.05:
        del holder[key]
    elif kind < 0.1 and isinstance(holder, list):
        holder.insert(int(random.integers(len(holder) + 1)), copy.deepcopy(holder[key]))
    elif kind < 0.25:
        other, inner = places[random.integers(len(places))]
        holder[key] = copy.deepcopy(other[inner])
    elif kind < 0.8 and type(holder[key]) is int:
        holder[key] += int(random.integers(-3, 4))
    else:
        holder[key] = copy.deepcopy(_STRANGE[random.integers(len(_STRANGE))])


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Return every entry of a tree: the table or list that holds it, and its key there."""
    places = [(tree, key) for key in _keys(tree)]
    return places + [place for holder, key in places for place in _places(holder[key])]


def _keys(tree: Any) -> list[Any]:
    return list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []


@functools.lru_cache(maxsize=2)
def _whole_file(number: int) -> tuple[bytes, tuple[int, ...]]:
    """Return a file that runs on images of any size that its operations allow, and an image's sizes."""
    graph = replace(draw_graph(np.random.default_rng(number)), shape=(None,) * 4)
    with tempfile.NamedTemporaryFile() as file:
        save_graph(graph, file.name, {})
        return Path(file.name).read_bytes(), graph.example


def write_case(seed: int, path: Path) -> tuple[str, tuple[int, ...] | None]:
    """Write the file of a number; returns its kind, and the size of images to give if it is not the example's."""
    random = np.random.default_rng(seed)
    data, (channels, height, width) = _whole_file(seed // _PER_GRAPH)
    kind = str(random.choice(["whole", "bytes", "header", "header", "header"]))
    damage = {"bytes": damage_bytes, "header": damage_header}.get(kind)
    path.write_bytes(data if damage is None else damage(random, data))
    if kind != "whole":
        return kind, None
    more = random.integers(-3, 4, 2) if random.random() < 0.5 else random.integers(0, 40, 2)
    return kind, (channels + int(random.random() < 0.05), max(0, height + int(more[0])), max(0, width + int(more[1])))
