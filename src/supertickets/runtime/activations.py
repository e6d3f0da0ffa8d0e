"""Functions of single numbers that follow a convolution or a sum: numpy, as reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)


def gelu(x: Array) -> Array:
    """Return x times the normal distribution function of x (the exact form)."""
    half = np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2)) if x.size else x
    return np.asarray(0.5 * x * (1 + half)).astype(x.dtype)


# Name -> the function and its number of parameters.
_FUNCTIONS: Mapping[str, tuple[Callable[..., Array], int]] = {
    "none": (lambda x: x, 0),
    "relu": (lambda x: np.maximum(x, 0), 0),
    "clip": (lambda x, low, high: np.clip(x, np.float32(low), np.float32(high)), 2),
    "hard_sigmoid": (
        lambda x, alpha, beta: np.clip(np.float32(alpha) * x + np.float32(beta), np.float32(0), np.float32(1)),
        2,
    ),
    "hard_swish": (lambda x: x * np.clip(x / np.float32(6) + np.float32(0.5), np.float32(0), np.float32(1)), 0),
    "sigmoid": (sigmoid, 0),
    "silu": (lambda x: x * sigmoid(x), 0),
    "gelu": (gelu, 0),
    "tanh": (np.tanh, 0),
    "sqrt": (lambda x: np.sqrt(x), 0),
    "leaky_relu": (lambda x, slope: np.where(x >= 0, x, np.float32(slope) * x), 1),
}
# The order is that of the kernels (kernels/activations.h).
ACTIVATION_NAMES = tuple(_FUNCTIONS)


def activate(x: Array, activation: Sequence[Any]) -> Array:
    """Return an activation of an array; see `check_activation` for its form."""
    name, *parameters = activation
    return _FUNCTIONS[name][0](x, *parameters)


def check_activation(value: Any) -> tuple[Any, ...]:
    """Return ``(name, parameter, ...)`` of an activation as a file has it.

    Raises:
        ValueError: There is no such activation, or its parameters are no finite numbers.
    """
    name, *parameters = value
    if name not in _FUNCTIONS or len(parameters) != _FUNCTIONS[name][1]:
        raise ValueError(f"there is no activation {value}")
    if not all(type(p) in (int, float) and math.isfinite(p) for p in parameters):
        raise ValueError(f"the parameters of activation {value} are no numbers")
    return (name, *map(float, parameters))
