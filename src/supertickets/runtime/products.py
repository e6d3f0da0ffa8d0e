"""Products of plain arrays with the constant matrices of linear layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import native
from .graph import Node
from .maps import round_up
from .planner import Planner

Array = npt.NDArray[Any]


def add_product(plan: Planner, left: Array, matrix: Array, node: Node, bias: str = "", skip: str = "") -> None:
    """Add the product of an array with a constant matrix (inputs, outputs), its columns filled up to whole vectors."""
    (inner, columns), rows = matrix.shape, left.size // len(matrix)
    pitch = round_up(columns)
    padded = np.zeros((inner, pitch), np.float32)
    padded[:, :columns] = matrix
    other = plan.array_of(skip) if skip else None
    plan.add(
        native.Product(
            **{"a": left.ctypes.data, "b": plan.address(padded), "count": 1, "rows": rows, "inner": inner},
            **{"columns": columns, "b_pitch": pitch, "bias": plan.address(plan.constant(bias)) if bias else None},
            skip=None if other is None else other.ctypes.data,
            output=plan.output_array(node.outputs[0]).ctypes.data,
            activation=plan.activation(node),
        )
    )
