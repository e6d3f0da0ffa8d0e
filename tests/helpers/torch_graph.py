"""Graphs of the sparse runtime computed by PyTorch: convolutions, sums, joined, cut and resized maps, heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from supertickets.runtime.graph import Graph, Node

ACTIVATIONS: Mapping[str, Callable[..., Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "clip": torch.clamp,
    "hard_sigmoid": lambda x, slope, shift: torch.clamp(x * slope + shift, 0, 1),
    "hard_swish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "leaky_relu": F.leaky_relu,
}
BINARY: Mapping[str, Callable[..., Tensor]] = {"add": torch.add, "sub": torch.sub, "mul": torch.mul}


def run_in_torch(graph: Graph, images: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Return the outputs of a graph."""
    values = {name: torch.from_numpy(tensor) for name, tensor in graph.tensors.items()}
    values[graph.input] = torch.from_numpy(images)
    for node in graph.nodes:
        out = _run(node, *(values[name] if name else None for name in node.inputs))
        values.update(zip(node.outputs, out if isinstance(out, tuple) else (out,), strict=True))
    return [values[name].numpy() for name in graph.outputs]


def _run(node: Node, x: Any, *more: Any) -> Any:
    take = node.attributes
    if node.operation in ("conv", "linear"):
        weight, bias, skip = (*more, None, None)[:3]
        if node.operation == "linear":
            out = F.linear(x, weight, bias)
        else:
            top, left, bottom, right = take["pads"]
            padded = F.pad(x, (left, right, top, bottom))
            out = F.conv2d(padded, weight, bias, take["strides"], 0, take["dilations"], take["groups"])
        return _activate(out if skip is None else out + skip, take["activation"])
    if node.operation in BINARY:
        return _activate(BINARY[node.operation](x, more[0]), take["activation"])
    if node.operation == "resize":
        size = more[0][2:].tolist()
        return F.interpolate(x, size, mode="nearest" if take["mode"] == "nearest" else "bilinear")
    other: Mapping[str, Callable[[], Any]] = {
        "mean": lambda: x.mean(take["axes"], keepdim=take["keep"]),
        "concat": lambda: torch.cat((x, *more), take["axis"]),
        "split": lambda: x.split(take["sizes"], take["axis"]),
        "reshape": lambda: x.reshape(len(x), *more[0][1:].tolist()),
        "transpose": lambda: x.permute(take["order"]),
        "matmul": lambda: x @ more[0],
        "softmax": lambda: x.softmax(take["axis"]),
    }
    return other[node.operation]()


def _activate(x: Tensor, activation: tuple[Any, ...]) -> Tensor:
    return ACTIVATIONS[activation[0]](x, *activation[1:])
