"""Small graphs of the sparse runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from supertickets.runtime.graph import Graph, Node

_OUTPUTS = {"split": 2}


def one_operation(
    operation: str, shape: tuple[int, ...], weights: Sequence[npt.NDArray[Any]], attributes: dict[str, Any]
) -> Graph:
    """Return the graph of one operation on images (C, H, W) and weights; its first output is the result."""
    tensors = {f"w{i}": np.asarray(w, order="C") for i, w in enumerate(weights)}
    outputs = tuple(f"out{i}" for i in range(_OUTPUTS.get(operation, 1)))
    node = Node(operation, ("images", *tensors), outputs, attributes)
    return Graph("images", (None, None, None, None), shape, outputs[:1], (node,), tensors)
