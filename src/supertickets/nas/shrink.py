"""Search by shrinking: every tensor of a network in training cut to the units that stay.

Shrinking is rebuilding: flags of what stays -> (new spec, sliced tensors) -> ``spec.build()`` -> load. Nothing is cut
on a live module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..models.units import UnitGroup, axis_flags

Tensors = dict[str, Tensor]
Keep = Mapping[str, Tensor]


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
    alive = set(names)
    out = {name: value for name, value in tensors.items() if name in alive}
    for (name, dim), flags in axis_flags(groups, keep).items():
        if name in out and out[name].ndim:  # Adam's step count is a scalar
            index = flags.nonzero().flatten()
            out[name] = out[name].index_select(dim, index.to(out[name].device))
    return out
