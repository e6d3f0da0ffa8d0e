"""Search by shrinking: the choice of units that go, and every tensor cut to the rest.

Shrinking is rebuilding: flags of what stays -> (new spec, sliced tensors) -> ``spec.build()`` -> load. Nothing is cut
on a live module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..models.base import Spec, UnitGroup

Tensors = dict[str, Tensor]
Keep = Mapping[str, Tensor]


def select_units(importance: Mapping[str, Tensor], threshold: float, at_least: int) -> Tensors:
    """Flag the units to keep: those above the threshold, and in any case the most important ones.

    Args:
        importance: Group name -> |scale| of its units.
        threshold: Units at or below it go.
        at_least: Number of units that stay whatever their importance; the network never comes out empty.

    Returns:
        Group name -> bool vector.
    """
    if not importance:
        return {}
    values = torch.cat([v.detach().abs().flatten() for v in importance.values()])
    keep = values > threshold
    if int(keep.sum()) < at_least:
        keep[torch.argsort(values, descending=True, stable=True)[:at_least]] = True
    parts = keep.split([len(v) for v in importance.values()])
    return dict(zip(importance, parts, strict=True))


def min_units(supernet: Spec, floor: float) -> int:
    """Return the number of units that a floor (share of the supernet's units) stands for."""
    return math.ceil(floor * sum(len(group) for group in supernet.unit_groups()))


def fold_constants(tensors: Mapping[str, Tensor], groups: Sequence[UnitGroup], keep: Keep) -> Tensors:
    """Move what removed channels emit into the running mean behind them.

    A channel with scale 0 emits ReLU(beta) everywhere; the projection turns it into W[:, c] * ReLU(beta_c), which
    the output BN subtracts. Taking it out of the running mean keeps the function, in eval and in train mode.

    Returns:
        The tensors that change: running means by name.
    """
    changed: Tensors = {}
    for group in groups:
        if group.fold is None or group.fold.mean not in tensors or bool(keep[group.name].all()):
            continue
        gone = ~keep[group.name]
        columns = tensors[group.fold.project][:, gone].flatten(1)
        constant = columns @ tensors[group.fold.beta][gone].clamp_min(0)
        changed[group.fold.mean] = tensors[group.fold.mean] - constant
    return changed


def slice_tensors(
    tensors: Mapping[str, Tensor], groups: Sequence[UnitGroup], keep: Keep, names: Sequence[str]
) -> Tensors:
    """Cut tensors that are named and shaped like a network's own down to the kept units.

    Serves weights, moments, averages, stored values and masks alike. Tensors of parts that are gone are dropped.

    Args:
        tensors: Tensors by name.
        groups: The unit groups before the cut.
        keep: Group name -> bool vector.
        names: Names that the network has after the cut.
    """
    cuts: dict[str, list[tuple[int, Tensor]]] = {}
    for group in groups:
        for part in group.slices:
            index = keep[group.name][part.start : part.stop].nonzero().flatten()
            cuts.setdefault(part.tensor, []).append((part.dim, index))
    alive = set(names)
    out: Tensors = {}
    for name, value in tensors.items():
        if name not in alive:
            continue
        for dim, index in cuts.get(name, []) if value.ndim else ():  # Adam's step count is a scalar
            value = value.index_select(dim, index.to(value.device))
        out[name] = value
    return out
