"""Costs of a network of which a mask prunes weights, for a runtime that skips zeros."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..models.base import Spec
from .mac_counter import Mask, count
from .width_costs import KB_PER_FLAG, KB_PER_PARAMETER


class MaskCosts:
    """The costs of what a mask leaves; each weight costs as many MACs as positions it is applied at.

    Args:
        spec: The network as it is now.
    """

    def __init__(self, spec: Spec) -> None:
        dense = count(spec)
        self._macs, self._params = dense.macs, dense.params
        self._uses = {row.weight: row.uses for row in dense.layers if row.weight is not None}

    def measure(self, name: str, mask: Mask) -> float:
        """Return a cost by its name.

        Args:
            name: "macs", "params" or "size_kb", of what is not zero.
            mask: Parameter name -> flags of the weights that live; parameters that are absent are dense.
        """
        measures: Mapping[str, Callable[[Mask], float]] = {
            "macs": self.macs,
            "params": self.params,
            "size_kb": self.size_kb,
        }
        return measures[name](mask)

    def macs(self, mask: Mask) -> float:
        """Return the MACs of one image."""
        return float(self._macs - sum(self._uses.get(name, 0) * n for name, n in _zeros(mask).items()))

    def params(self, mask: Mask) -> float:
        """Return the number of parameters that are not pruned."""
        return float(self._params - sum(_zeros(mask).values()))

    def size_kb(self, mask: Mask) -> float:
        """Return the size of the values that are left, in float32, and of the flags that say where they are, in kB."""
        flags = sum(flags.numel() for flags in mask.values())
        return self.params(mask) * KB_PER_PARAMETER + flags * KB_PER_FLAG


def _zeros(mask: Mask) -> dict[str, int]:
    return {name: flags.numel() - int(flags.sum()) for name, flags in mask.items()}
