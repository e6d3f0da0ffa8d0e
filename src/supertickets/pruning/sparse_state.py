"""The sparsity of a run as one value, and the changes to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class SparseState:
    """The weights that are pruned now, and their values before; equal if all values are.

    Attributes:
        mask: Parameter name -> bool tensor, True where the weight lives; empty while the network is dense.
        stored: Values that were taken out at the prune, by tensor name: weights, and under ``"<state>/<weight>"`` the
            optimizer's second moments. Zero where nothing was taken.
        ratio: Target of the last prune; 0 while the network is dense.
    """

    mask: Tensors = field(default_factory=dict)
    stored: Tensors = field(default_factory=dict)
    ratio: float = 0.0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SparseState):
            return NotImplemented
        pairs = ((self.mask, other.mask), (self.stored, other.stored))
        return self.ratio == other.ratio and all(_equal(mine, theirs) for mine, theirs in pairs)

    def __hash__(self) -> int:
        # Values are left out: tensors may change, and reading them all would be slow.
        shapes = tuple(sorted((name, tuple(flags.shape)) for name, flags in self.mask.items()))
        return hash((self.ratio, shapes, tuple(sorted(self.stored))))

    @property
    def sparsity(self) -> float:
        """Return zeros / maskable weights."""
        return mask_sparsity(self.mask)


def mask_sparsity(mask: Mapping[str, Tensor]) -> float:
    """Return zeros / weights under a mask."""
    total = sum(flags.numel() for flags in mask.values())
    return 1 - sum(int(flags.sum()) for flags in mask.values()) / total if total else 0.0


def _equal(mine: Tensors, theirs: Tensors) -> bool:
    """Return whether tensors have the same names, types, shapes and values, on whatever devices they are."""
    return mine.keys() == theirs.keys() and all(
        value.dtype == theirs[name].dtype and torch.equal(value.cpu(), theirs[name].cpu())
        for name, value in mine.items()
    )


def store_pruned(
    state: SparseState, mask: Mapping[str, Tensor], tensors: Mapping[str, Tensor], ratio: float
) -> SparseState:
    """Return the sparsity under a new mask, which keeps the values it takes out.

    Args:
        state: The sparsity before. A weight that was pruned already keeps the value stored then.
        mask: The new mask.
        tensors: Tensors to store: weights by name, second moments by ``"<state>/<weight>"``.
        ratio: Target that the mask meets.
    """
    stored = {}
    for name, value in tensors.items():
        flags = mask[name.rsplit("/", 1)[-1]]
        value = value.detach()
        if name in state.stored:
            value = torch.where(state.mask[name.rsplit("/", 1)[-1]], value, state.stored[name])
        stored[name] = torch.where(flags, torch.zeros_like(value), value)
    return SparseState(dict(mask), stored, ratio)


def restore(state: SparseState, tensors: Mapping[str, Tensor]) -> Tensors:
    """Return the tensors with every pruned entry replaced by what was taken out."""
    return {
        name: torch.where(state.mask[name.rsplit("/", 1)[-1]], value, state.stored[name])
        for name, value in tensors.items()
        if name in state.stored
    }


class Enforcer:
    """Keeper of pruned weights at exactly zero during a step, without a mask in the forward (fused, float).

    Args:
        named: Parameters by name.
        mask: Parameter name -> bool tensor; empty means that there is nothing to do.
    """

    def __init__(self, named: Mapping[str, Tensor], mask: Mapping[str, Tensor]) -> None:
        self.params = [named[name] for name in mask]
        # Float masks in the weights' own memory format: boolean ones, or other strides, are several times slower.
        self.masks = [torch.empty_like(named[name]).copy_(flags) for name, flags in mask.items()]

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Disable the gradients of pruned weights (line 13 of Algorithm 1)."""
        if self.params:
            torch._foreach_mul_([p.grad for p in self.params if p.grad is not None], self.masks)

    @torch.no_grad()
    def mask_weights(self) -> None:
        """Set pruned weights to zero."""
        if self.params:
            torch._foreach_mul_(self.params, self.masks)
