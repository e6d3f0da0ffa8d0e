"""What every supernet tells about itself: its search units and how tensors follow them.

A *spec* is a frozen, JSON-able description; ``spec.build()`` makes the module. A *unit group* is a vector of search
units that share one importance vector (a BN scale). Which slice of which tensor belongs to a unit is data, so that
weights, moments, averages, stored values and masks are all cut by the same function (`search/shrink.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Units:
    """Search units that are left in one block.

    Attributes:
        hidden: Channels per kernel size of the MixConv path.
        tokens: Tokens of the Transformer path; 0 means there is no such path.
    """

    hidden: tuple[int, ...]
    tokens: int = 0


@dataclass(frozen=True)
class Slice:
    """Units ``start`` to ``stop`` of a group are the entries of dimension ``dim`` of a tensor, in order."""

    tensor: str
    dim: int
    start: int
    stop: int


@dataclass(frozen=True)
class Fold:
    """How the constant of a removed channel is kept: it moves into a running mean.

    Attributes:
        project: Name of the 1x1 convolution weight that reads the channels.
        beta: Name of the shift of the BN in front of the ReLU.
        mean: Name of the running mean that follows the convolution.
    """

    project: str
    beta: str
    mean: str


@dataclass(frozen=True)
class UnitGroup:
    """A vector of search units.

    Attributes:
        name: Unique name, e.g. ``"s2_b0_0.hidden"``.
        kind: What a unit is.
        scale: Name of the BN weight whose magnitude is the units' importance.
        kernels: Kernel size of each unit (channels) or 0s (tokens); its length is the number of units.
        slices: The entries of every tensor that belong to the units.
        fold: How removed units leave their constant behind; None if they have none.
        path: Prefix of modules that run once per unit without holding a slice of it (a Transformer's layers).
    """

    name: str
    kind: Literal["channel", "token"]
    scale: str
    kernels: tuple[int, ...]
    slices: tuple[Slice, ...]
    fold: Fold | None = None
    path: str | None = None

    def __len__(self) -> int:
        return len(self.kernels)


class Spec(Protocol):
    """What a supernet's spec offers to the other rooms."""

    @property
    def input_shape(self) -> tuple[int, int, int]: ...

    def build(self) -> nn.Module:
        """Makes the module with fresh weights; its parameter order depends on the spec alone."""

    def unit_groups(self) -> tuple[UnitGroup, ...]:
        """Lists the units that are left, in a fixed order."""

    def keep(self, kept: Mapping[str, Tensor]) -> Spec:
        """Returns the spec with only the units whose flag in ``kept[group.name]`` (bool vector) is set."""

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON; `supernets.spec_from_json` reads it back."""
