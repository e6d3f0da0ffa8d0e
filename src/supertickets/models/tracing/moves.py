"""Operations that only move entries: they move the labels likewise."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from .labels import AxisKey, Labels, constant, drop, is_constant
from .operation import Handler, Operation, Trace

_COPIES = ("clone", "_to_copy", "alias", "detach", "contiguous", "lift_fresh")
_MOVES = (
    *("permute", "transpose", "t", "expand", "slice", "select", "squeeze", "unsqueeze", "narrow", "roll", "flip"),
    *("repeat", "pixel_unshuffle", "stack"),
)
_VIEWS = ("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten")
_SPLITS = ("split", "split_with_sizes", "chunk", "unbind")
_LIKE = (
    *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"),
    *("bernoulli_", "uniform_", "normal_", "fill_"),
)
_MAKES = ("new_empty", "new_zeros", "new_ones", "new_full", "empty_strided", "sym_size")


def move_parameter(trace: Trace, op: Operation) -> None:
    """Follow a view of a parameter; what is computed from parameters is none."""
    view = trace.parameter(op.inputs[0])
    if view is not None and op.name == "index":  # by places that are data, e.g. of a table of position biases
        pick = partial(_replace, op.inputs[0])
        trace.set_parameter(op.out, view.move(lambda positions: op.call(partial(pick, positions))))
    if view is None or len(op.inputs) > 1:
        return
    if op.name in _COPIES:
        trace.set_parameter(op.out, view)
    elif op.name in _MOVES + _VIEWS:
        move = op.apply_to if op.name in _MOVES else lambda array: array.reshape(op.out.shape)
        trace.set_parameter(op.out, view.move(move))
    elif op.name in _SPLITS:
        parts = [op.apply_to(array) for array in view.positions]
        for i, out in enumerate(op.out):
            trace.set_parameter(out, view.with_positions(tuple(part[i] for part in parts)))


def _replace(old: Tensor, new: Tensor, tensor: Tensor) -> Tensor:
    return new if tensor is old else tensor


def labels_of_parameter(trace: Trace, tensor: Tensor, units: Tensor) -> Labels:
    """Let units own the entries of a parameter that is used as a map, and return its labels.

    Args:
        trace: The trace.
        tensor: A parameter or a view of one.
        units: Units of its shape.
    """
    keys: list[AxisKey | None] = []
    for dim in range(tensor.ndim):
        if not is_constant(units, dim):
            varies_elsewhere = any(not is_constant(units, i) for i in range(tensor.ndim) if i != dim)
            if varies_elsewhere:
                trace.record.fix(units, "it meets a parameter along more than one dimension")
            else:
                keys.append(trace.own(tensor, dim, units.movedim(dim, 0).reshape(tensor.shape[dim], -1)[:, 0]))
    return Labels(units, constant(trace.record.writer_set(keys or [None]), tensor.shape))


def _move(trace: Trace, op: Operation) -> None:
    labels = trace.labels_or_none(op.inputs[0])
    if len(op.inputs) == 1:
        trace.set_labels(op.out, labels.move(op.apply_to))
    else:  # stack
        parts = [trace.labels_or_none(tensor) for tensor in op.inputs]
        trace.set_labels(op.out, Labels(*_join(op, parts)))


def _join(op: Operation, parts: list[Labels]) -> tuple[Tensor, Tensor]:
    dim = op.arguments["dim"]
    return op.function([part.units for part in parts], dim), op.function([part.writers for part in parts], dim)


def _copy(trace: Trace, op: Operation) -> None:
    trace.set_labels(op.out, trace.labels_or_none(op.inputs[0]))


def _like(trace: Trace, op: Operation) -> None:
    """Follow what fills a map of the shape of another: nothing is known to silence it."""
    trace.set_labels(op.out, trace.labels_or_none(op.inputs[0]).without_writers())


def _make(trace: Trace, op: Operation) -> None:
    """Follow what makes a map of a shape that may come from another's, such as the noise that drops channels."""
    labels, shape = trace.labels_or_none(op.inputs[0]), op.out.shape
    if len(shape) == labels.units.ndim:
        other = [dim for dim, size in enumerate(shape) if size != labels.units.shape[dim]]
        if all(is_constant(labels.units, dim) for dim in other):
            units = drop(labels.units, *other).expand(shape)
            trace.set_labels(op.out, Labels(units, units).without_writers())


def _view(trace: Trace, op: Operation) -> None:
    """Follow a view: where units are split, one part may shrink, so that the others lose the same units."""
    labels = trace.labels_or_none(op.inputs[0])
    for dim, parts in _split_dimensions(op.inputs[0].shape, op.out.shape):
        if not is_constant(labels.units, dim):
            _unite_parts(trace, labels.units, dim, parts, _part_that_shrinks(labels.units.ndim, dim, parts))
    trace.set_labels(op.out, labels.move(lambda array: array.reshape(op.out.shape)))


def _part_that_shrinks(ndim: int, dim: int, parts: list[int]) -> int:
    """Return the part of a split dimension that may shrink; the check refuses what was guessed wrong.

    Channels in front of rows and columns are split as (groups, channels), where channels shrink; channels behind
    tokens as (heads, channels) or (3, heads, channels), where heads do; vectors as (channels, rows, columns).
    """
    if dim == 0 or dim < ndim - 1:
        return len(parts) - 1
    return 0 if ndim == 2 else max(len(parts) - 2, 0)


def _unite_parts(trace: Trace, units: Tensor, dim: int, parts: list[int], shrinks: int) -> None:
    """Unite the units of a dimension that is split into several, of which one can shrink."""
    others = [size for i, size in enumerate(parts) if i != shrinks]
    rows = units.movedim(dim, -1).reshape(-1, *parts).movedim(shrinks + 1, -1)
    rows = rows.reshape(-1, math.prod(others), parts[shrinks])
    trace.record.unite(rows[:, :1].expand_as(rows), rows, "it meets entries of no unit in a view")


def _split_dimensions(before: torch.Size, after: torch.Size) -> list[tuple[int, list[int]]]:
    """Return the dimensions that a view splits, and the sizes of their parts (ones left out)."""
    splits, i, j = [], 0, 0
    while i < len(before) and j < len(after):
        start, begin, a, b = i, j, before[i], after[j]
        while a != b:
            if a < b:
                i += 1
                a *= before[i]
            else:
                j += 1
                b *= after[j]
        sources = [dim for dim in range(start, i + 1) if before[dim] > 1]
        parts = [size for size in after[begin : j + 1] if size > 1]
        if len(sources) == 1 and len(parts) > 1:
            splits.append((sources[0], parts))
        i, j = i + 1, j + 1
    return splits


def _split(trace: Trace, op: Operation) -> None:
    """Follow a split: where units are split into equal parts, every part loses the same ones."""
    labels = trace.labels_or_none(op.inputs[0])
    units, writers = op.apply_to(labels.units), op.apply_to(labels.writers)
    equal = len({part.shape for part in units}) == 1
    if op.name != "unbind" and equal and not is_constant(labels.units, op.arguments["dim"]):
        for part in units[1:]:
            trace.record.unite(units[0], part, "it meets entries of no unit in a split")
    for out, part_units, part_writers in zip(op.out, units, writers, strict=True):
        trace.set_labels(out, Labels(part_units, part_writers))


def _concatenate(trace: Trace, op: Operation) -> None:
    """Follow a concatenation; a parameter beside maps, such as a class token, has their units."""
    dim = op.arguments["dim"]
    maps = [labels for labels in map(trace.labels, op.inputs) if labels is not None]
    parts = []
    for tensor in op.inputs:
        labels = trace.labels_or_none(tensor)
        if trace.labels(tensor) is None and trace.parameter(tensor) and is_constant(maps[0].units, dim):
            labels = labels_of_parameter(trace, tensor, drop(maps[0].units, dim).expand(tensor.shape))
        parts.append(labels)
    trace.set_labels(op.out, Labels(*_join(op, parts)))


def _channel_shuffle(trace: Trace, op: Operation) -> None:
    """Follow a shuffle: rows of channels become columns, and every row loses the same ones."""
    labels, groups = trace.labels_or_none(op.inputs[0]), op.arguments["groups"]
    channels = labels.units.shape[1]
    _unite_parts(trace, labels.units, 1, [groups, channels // groups], shrinks=1)
    order = torch.arange(channels).view(groups, -1).t().reshape(-1)
    trace.set_labels(op.out, labels.move(lambda array: array.index_select(1, order)))


def _gated_half(trace: Trace, op: Operation) -> None:
    """Follow a gated linear unit: the first half times what the second half opens; both lose the same units."""
    dim = op.arguments["dim"]
    labels = trace.labels_or_none(op.inputs[0])
    first, second = labels.units.chunk(2, dim)
    trace.record.unite(first, second, "it meets entries of no unit in a gate")
    trace.set_labels(op.out, labels.move(lambda array: array.chunk(2, dim)[0]))


def _pixel_shuffle(trace: Trace, op: Operation) -> None:
    """Follow a pixel shuffle: the channels that become one go together."""
    rows = trace.labels_or_none(op.inputs[0]).units.movedim(-3, -1)
    rows = rows.reshape(-1, op.arguments["upscale_factor"] ** 2)
    trace.record.unite(rows[:, :1].expand_as(rows), rows, "it meets entries of no unit in a pixel shuffle")
    _move(trace, op)


HANDLERS = {
    **dict.fromkeys(_COPIES, Handler(_copy)),
    **dict.fromkeys(_MOVES, Handler(_move)),
    **dict.fromkeys(_VIEWS, Handler(_view)),
    **dict.fromkeys(_SPLITS, Handler(_split)),
    **dict.fromkeys(_LIKE, Handler(_like)),
    **dict.fromkeys(_MAKES, Handler(_make)),
    "cat": Handler(_concatenate),
    "pixel_shuffle": Handler(_pixel_shuffle),
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), Handler(_channel_shuffle)),
    "glu": Handler(_gated_half),
}
