"""Pointwise operations: units that meet are one, and functions with f(0) = 0 leave silence silent."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from .labels import NO_UNIT, UNKNOWN, Labels, constant, drop, is_constant
from .moves import labels_of_parameter
from .operation import Handler, Operation, Trace

_UNTAGGED = ("hardswish", "hardswish_", "_prelu_kernel", "rsub", "native_dropout", "log_sigmoid_forward")
_PROBES = (0.7, -1.3)  # values for operands that are not zero, of either sign


def follow_pointwise(trace: Trace, op: Operation) -> None:
    """Follow a pointwise operation."""
    out = op.outputs[0]
    units = _meeting_units(trace, op.inputs, out.shape)
    operands = []
    for tensor in op.inputs:
        labels = trace.labels_or_none(tensor)
        if trace.labels(tensor) is None:
            own = _units_of_operand(units, tensor.shape)
            if trace.parameter(tensor) is not None and tensor.numel() > 1:
                labels = labels_of_parameter(trace, tensor, own)
            elif any(not is_constant(own, dim) for dim in range(own.ndim)):
                trace.record.fix(units, "it meets a map of no unit")
        operands.append(labels.writers.expand(out.shape))
    trace.set_labels(out, Labels(units, _result_writers(trace, op, operands)))


def _meeting_units(trace: Trace, tensors: list[Tensor], shape: torch.Size) -> Tensor:
    """Return the units of the result; units that are spread over other units, e.g. by a map of one channel, stay."""
    maps = [(tensor, labels.units) for tensor in tensors if (labels := trace.labels(tensor)) is not None]
    spread = [any(_covers(other, own, shape) for _, other in maps if other is not own) for _, own in maps]
    units = constant(NO_UNIT, shape)
    first = True
    for (_, own), is_spread in zip(maps, spread, strict=True):
        if is_spread:
            trace.record.fix(own, "it is spread over other units")
            continue
        if not first:
            trace.record.unite(units, own.expand(shape), "it meets entries of no unit")
        units, first = torch.maximum(units, own.expand(shape)) if not first else own.expand(shape), False
    return units


def _covers(other: Tensor, own: Tensor, shape: torch.Size) -> bool:
    """Return whether units vary along a dimension along which other units are broadcast."""
    for dim in range(1, len(shape) + 1):
        is_broadcast = dim > own.ndim or own.shape[-dim] < shape[-dim]
        if is_broadcast and dim <= other.ndim and not is_constant(other, -dim):
            return True
    return False


def _units_of_operand(units: Tensor, shape: torch.Size) -> Tensor:
    """Return the units of a result at the entries of an operand that is broadcast to it."""
    own = units[(0,) * (units.ndim - len(shape))]
    return drop(own, *(dim for dim, size in enumerate(shape) if size == 1))


def _result_writers(trace: Trace, op: Operation, operands: list[Tensor]) -> Tensor:
    """Return what silences the result, by trying the operation on zeros."""
    count = len(operands)
    writers = constant(UNKNOWN, operands[0].shape)
    for i in range(count):
        if _is_zero(op, [j == i for j in range(count)]):
            writers = trace.record.any_writers(writers, operands[i])
    if count > 1 and _is_zero(op, [True] * count):
        together = operands[0]
        for other in operands[1:]:
            together = trace.record.all_writers(together, other)
        writers = trace.record.any_writers(writers, together)
    return writers


def _is_zero(op: Operation, zero: list[bool]) -> bool:
    """Return whether a pointwise operation gives zero where some operands are zero, whatever the others are.

    Args:
        op: The operation.
        zero: Whether each operand is zero.
    """
    for probe in _PROBES:
        out = op.call(partial(_next_value, iter([0.0 if is_zero else probe for is_zero in zero])))
        if bool(((out[0] if isinstance(out, tuple) else out) != 0).any()):
            return False
    return True


def _next_value(values: Iterator[float], like: Tensor) -> Tensor:
    return torch.full((1,), next(values)).to(like.dtype)


HANDLERS = dict.fromkeys(_UNTAGGED, Handler(follow_pointwise))
