"""The steps of a plan as calls of the C kernels."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime import native
from .layout import Layout, number_text
from .taps import encode_matrix, encode_taps

Array = npt.NDArray[Any]
Call = tuple[str, str, dict[str, str]]  # function, type of its arguments, their fields
_FEW = 0.3  # share of a matrix's weights below which only those that are not zero are stored


def make_call(layout: Layout, arguments: native.Arguments) -> Call:
    """Return the function of the C kernels for a step, and its arguments.

    Raises:
        KeyError: The C kernels lack it.
    """
    return _CALLS[type(arguments)](layout, arguments)


def _plain(layout: Layout, arguments: Any) -> Call:
    name = type(arguments).__name__
    return "run" + re.sub("([A-Z])", r"_\1", name).lower(), name, _fields(layout, arguments)


def _convolution(layout: Layout, arguments: Any) -> Call:
    fields = _fields(layout, arguments, leave=("begins", "offsets", "weights", "block", "aligned", "past"))
    block = arguments.block
    begins, offsets = layout.array(arguments.begins), layout.array(arguments.offsets)
    taps = encode_taps(begins, offsets, layout.array(arguments.weights).reshape(-1, block))
    for name in ("begins", "starts", "steps", "weights"):
        fields[name] = layout.constants.add(getattr(taps, name))
    kind = "shifted" if block == 1 and not arguments.aligned else str(block)
    return f"run_convolution_{kind}", "Convolution", fields


def _resize(layout: Layout, arguments: Any) -> Call:
    return "run_resize", "Resize", _fields(layout, arguments, leave=("scratch_stride",))  # it takes row after row


def _product(layout: Layout, arguments: Any) -> Call:
    """Return a product; with the weights that are not zero alone where the matrix is constant and has few."""
    inner, columns, pitch = arguments.inner, arguments.columns, arguments.b_pitch
    if arguments.count != 1 or inner >= 2**16 or not layout.is_constant(arguments.b):
        return _plain(layout, arguments)
    matrix = layout.array(arguments.b)[: inner * pitch].reshape(inner, pitch)[:, :columns]
    if np.count_nonzero(matrix) > _FEW * matrix.size:
        return _plain(layout, arguments)
    leave = ("b", "a_stride", "b_stride", "out_stride", "count", "b_pitch")
    fields, taps = _fields(layout, arguments, leave), encode_matrix(matrix)
    for name in ("begins", "steps", "weights"):
        fields[name] = layout.constants.add(getattr(taps, name))
    return "run_sparse_product", "SparseProduct", fields


_CALLS: Mapping[type[native.Arguments], Callable[[Layout, Any], Call]] = {
    native.Convolution: _convolution,
    native.Product: _product,
    native.Resize: _resize,
    **dict.fromkeys((native.Copy, native.Split, native.MaxPool, native.Binary), _plain),
    **dict.fromkeys((native.Mean, native.LayerNorm, native.Softmax, native.Strided), _plain),
}


def _fields(layout: Layout, values: Any, leave: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the fields of a structure as C, by name."""
    return {name: _text(layout, kind, getattr(values, name)) for name, kind in values._fields_ if name not in leave}


def _text(layout: Layout, kind: Any, value: Any) -> str:
    if kind is ctypes.c_void_p:
        return layout.expression(value)
    if isinstance(value, ctypes.Structure):
        return in_braces(_fields(layout, value))
    if isinstance(value, ctypes.Array):
        return "{" + ", ".join(map(str, value)) + "}"
    return number_text(value) if isinstance(value, float) else str(value)


def in_braces(fields: Mapping[str, str]) -> str:
    """Return the initialiser of a structure."""
    return "{" + ", ".join(f".{name} = {text}" for name, text in fields.items()) + "}"
