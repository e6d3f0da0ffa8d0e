"""Operations of layers: convolutions, products, norms, pooling and sums."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .labels import NO_UNIT, Labels, constant, drop, is_constant
from .operation import Handler, Operation, Trace

_SPATIAL = (
    *("max_pool2d_with_indices", "max_pool2d", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool2d"),
    *("adaptive_max_pool2d", "upsample_nearest2d", "_upsample_nearest_exact2d", "upsample_bilinear2d"),
    *("_upsample_bilinear2d_aa", "upsample_bicubic2d", "reflection_pad2d", "replication_pad2d"),
)
_SUMS = ("sum", "mean", "amax", "amin", "var", "std", "var_mean", "linalg_vector_norm")
_SEES_NO_ZEROS = ("sum", "linalg_vector_norm")  # which entries of zero do not change
_BATCH_NORMS = (
    *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
    *("cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_with_update"),
)


def _convolution(trace: Trace, op: Operation) -> None:
    x, weight, bias = (op.arguments[name] for name in ("input", "weight", "bias"))
    groups, transposed = op.arguments["groups"], op.arguments["transposed"]
    read = trace.units_along(x, 1, "a convolution")
    if groups > 1 and trace.labels(x) is None:
        return
    made = trace.record.create(op.out.shape[1])
    if groups == 1:
        trace.record.read(trace.labels_or_none(x), trace.own(weight, 0 if transposed else 1, read))
        written = trace.own(weight, 1 if transposed else 0, made)
    else:  # whole groups go, input and output
        entries, results = read.view(groups, -1), made.view(groups, -1)
        reason = "it shares the group of a convolution with entries of no unit"
        for units in (entries, results):
            trace.record.unite(entries[:, :1].expand_as(units), units, reason)
        written = trace.own(weight, 0, read if transposed else made)
    writers = [written, *([] if bias is None else [trace.own(bias, 0, made)])]
    trace.set_units_along(op.out, 1, made, trace.record.writer_set(writers))


def _product(trace: Trace, op: Operation) -> None:
    """Follow x @ y, with a bias or without: a layer if one factor is a parameter, else attention or its like."""
    arguments = list(op.arguments.values())
    has_bias = op.name in ("addmm", "baddbmm")
    bias = arguments.pop(0) if has_bias else None
    if op.name == "baddbmm" and op.arguments["beta"] == 0:
        bias = None
    x, y = arguments[:2]
    if trace.parameter(y) is not None and trace.parameter(x) is None:
        _linear(trace, op.out, x, y, bias)
    elif trace.parameter(x) is not None and trace.parameter(y) is None and bias is None:
        _mix(trace, op.out, x, y)
    elif bias is None and trace.parameter(x) is None:
        _multiply(trace, op.out, x, y)
    elif any(trace.labels(tensor) is not None for tensor in op.inputs):
        raise NotImplementedError


def _linear(trace: Trace, out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Follow out = x @ weight + bias."""
    labels = trace.labels_or_none(x)
    if is_constant(labels.units, -1) and bool((labels.units != NO_UNIT).any()):  # rows are units: entries are mixed
        nothing = constant(NO_UNIT, (max(weight.shape),))
        trace.own(weight, -2, nothing[: weight.shape[-2]])
        trace.own(weight, -1, nothing[: weight.shape[-1]])
        rows = labels if bias is None else labels.without_writers()
        trace.set_labels(out, rows.move(lambda array: drop(array, array.ndim - 1).expand(out.shape)))
        return
    trace.record.read(labels, trace.own(weight, -2, trace.units_along(x, -1, "a linear layer")))
    made = trace.record.create(out.shape[-1])
    writers = [trace.own(weight, -1, made), *([] if bias is None else [trace.own(bias, -1, made)])]
    trace.set_units_along(out, out.ndim - 1, made, trace.record.writer_set(writers))


def _mix(trace: Trace, out: Tensor, weight: Tensor, y: Tensor) -> None:
    """Follow out = weight @ y, where the columns of y may be units."""
    labels = trace.labels_or_none(y)
    if not is_constant(labels.units, -2):
        trace.record.fix(labels.units, "it enters a product along its rows")
    for dim in (-2, -1):
        trace.own(weight, dim, constant(NO_UNIT, (weight.shape[dim],)))
    trace.set_labels(out, labels.move(lambda array: drop(array, array.ndim - 2).expand(out.shape)))


def _multiply(trace: Trace, out: Tensor, x: Tensor, y: Tensor) -> None:
    """Follow the product of two maps: entries that are summed over meet; rows and columns go on."""
    lx, ly = trace.labels_or_none(x), trace.labels_or_none(y).move(lambda array: array.transpose(-1, -2))
    x_rows, y_rows = (not is_constant(labels.units, -2) for labels in (lx, ly))
    if x_rows and y_rows:
        raise NotImplementedError
    if not x_rows and not y_rows:
        _contract(trace, out, lx, ly)
        return
    rows, other = (lx, ly) if x_rows else (ly, lx)
    if not is_constant(rows.units, -1) or bool((other.units != NO_UNIT).any()):
        raise NotImplementedError
    rows = rows.move(lambda array: drop(array, array.ndim - 1).expand(out.shape if x_rows else out.mT.shape))
    trace.set_labels(out, rows if x_rows else rows.move(lambda array: array.transpose(-1, -2)))


def _contract(trace: Trace, out: Tensor, x: Labels, y: Labels) -> None:
    """Follow a product in which units are summed over, or in which every matrix of a batch belongs to a unit."""
    x, y = (labels.move(lambda array: drop(array, array.ndim - 2)) for labels in (x, y))
    trace.record.unite(x.units, y.units, "it is multiplied with entries of no unit")
    met = Labels(torch.maximum(x.units, y.units), trace.record.any_writers(x.writers, y.writers))
    if is_constant(met.units, -1) and any(not is_constant(met.units, dim) for dim in range(met.units.ndim - 2)):
        trace.set_labels(out, met.move(lambda array: drop(array, array.ndim - 1).expand(out.shape)))
    else:
        trace.record.read(met, None)


def _batch_norm(trace: Trace, op: Operation) -> None:
    x = op.inputs[0]
    units = trace.units_along(x, 1, "a batch norm")
    _scale_and_shift(trace, op, units)
    for name in ("running_mean", "running_var"):
        trace.own(op.arguments.get(name), 0, units)


def _scale_and_shift(trace: Trace, op: Operation, units: Tensor) -> None:
    """Let units own scale and shift of a norm over dimension 1; both at zero silence what comes out."""
    scale, shift = op.arguments.get("weight"), op.arguments.get("bias")
    keys = [trace.own(scale, 0, units), *([] if shift is None else [trace.own(shift, 0, units)])]
    trace.set_units_along(op.outputs[0], 1, units, trace.record.writer_set(keys))


def _group_norm(trace: Trace, op: Operation) -> None:
    """Follow a group norm: the channels of a group are normalised together, and go together."""
    units, groups = trace.units_along(op.inputs[0], 1, "a group norm"), op.arguments["group"]
    if groups == 1:
        trace.record.fix(units, "a group norm divides by what all units share")
        groups = len(units)
    rows = units.view(groups, -1)
    trace.record.unite(rows[:, :1].expand_as(rows), rows, "it is normalised with entries of no unit")
    _scale_and_shift(trace, op, units)


def _layer_norm(trace: Trace, op: Operation) -> None:
    labels = trace.labels_or_none(op.inputs[0])
    dims = range(-len(op.arguments["normalized_shape"]), 0)
    if any(not is_constant(labels.units, dim) for dim in dims):
        trace.record.fix(labels.units, "a layer norm divides by what all units share")
    trace.set_labels(op.outputs[0], labels.without_writers())


def _softmax(trace: Trace, op: Operation) -> None:
    labels = trace.labels_or_none(op.inputs[0])
    if not is_constant(labels.units, op.arguments["dim"]):
        trace.record.fix(labels.units, "a softmax divides by what all units share")
    trace.set_labels(op.out, labels.without_writers())


def _resize(trace: Trace, op: Operation) -> None:
    """Follow pooling, resizing and padding with zeros or edges: maps change their size, never their channels."""
    labels = trace.labels_or_none(op.inputs[0])
    out = op.outputs[0]
    resized = [dim for dim in range(out.ndim) if out.shape[dim] != op.inputs[0].shape[dim]]
    if any(not is_constant(labels.units, dim) for dim in resized):
        trace.record.fix(labels.units, f"it enters {op.name} along the units")
    trace.set_labels(out, labels.move(lambda array: drop(array, *resized).expand(out.shape)))


def _pad(trace: Trace, op: Operation) -> None:
    _resize(trace, op)
    if op.arguments["value"] != 0:
        trace.set_labels(op.out, trace.labels_or_none(op.out).without_writers())


def _sum(trace: Trace, op: Operation) -> None:
    """Follow sums and their like: a sum over units reads them, a sum over maps of units unites these."""
    labels = trace.labels_or_none(op.inputs[0])
    dims = _reduced_dims(op, labels.units.ndim)
    if any(not is_constant(labels.units, dim) for dim in dims):
        if op.name not in _SEES_NO_ZEROS:
            trace.record.fix(labels.units, f"{op.name} runs over the units")
        others = [dim for dim in range(labels.units.ndim) if dim not in dims]
        if all(is_constant(labels.units, dim) for dim in others):
            trace.record.read(labels, None)
            return
        labels = _unite_along(trace, labels, dims)
    for out in op.outputs:
        kept = Labels(*(drop(array, *dims).reshape(out.shape) for array in (labels.units, labels.writers)))
        trace.set_labels(out, kept)


def _unite_along(trace: Trace, labels: Labels, dims: list[int]) -> Labels:
    """Unite units along dimensions, and return the labels with the writers of all that are summed."""
    reason = "it is summed with entries of no unit"
    trace.record.unite(drop(labels.units, *dims).expand_as(labels.units), labels.units, reason)
    units, writers = trace.record.roots(labels.units), labels.writers
    for dim in dims:
        parts = writers.unbind(dim)
        together = parts[0]
        for part in parts[1:]:
            together = trace.record.all_writers(together, part)
        writers = together.unsqueeze(dim)
    return Labels(units, writers.expand_as(units))


def _reduced_dims(op: Operation, ndim: int) -> list[int]:
    dims: Any = op.arguments.get("dim")
    if dims is None or dims == []:
        return list(range(ndim))
    return [dim % ndim for dim in ([dims] if isinstance(dims, int) else dims)]


HANDLERS = {
    "convolution": Handler(_convolution, makes_units=True),
    **dict.fromkeys(("addmm", "mm", "bmm", "baddbmm"), Handler(_product, makes_units=True)),
    **dict.fromkeys(_BATCH_NORMS, Handler(_batch_norm)),
    "native_group_norm": Handler(_group_norm),
    "native_layer_norm": Handler(_layer_norm),
    **dict.fromkeys(("_softmax", "_log_softmax", "_safe_softmax"), Handler(_softmax)),
    **dict.fromkeys(_SPATIAL, Handler(_resize)),
    "constant_pad_nd": Handler(_pad),
    **dict.fromkeys(_SUMS, Handler(_sum)),
}
