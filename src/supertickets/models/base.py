"""What every network tells about itself: what goes in and out, its search units and how tensors follow them.

A *spec* is a frozen, JSON-able description; ``spec.build()`` makes the *network*. A *unit group* is a vector of search
units that share one importance vector (a BN scale). Which slice of which tensor belongs to a unit is data, so that
weights, moments, averages, stored values and masks are all cut by the same function (`search/shrink.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

from torch import Tensor, nn

Head = Literal["classification", "segmentation", "keypoints", "detection", "density"]


Choice = bool | int | float


@dataclass(frozen=True)
class Decision:
    """One categorical question about a network.

    Attributes:
        name: Unique in its network, e.g. ``"b2.0.kernel"``.
        options: The possible answers.
        kind: Whether operations or widths are chosen (TuNAS warms them up differently).
        within: The decision and the answer under which this one means anything; None if it always does.
    """

    name: str
    options: tuple[Choice, ...]
    kind: Literal["op", "filters"] = "op"
    within: tuple[str, Choice] | None = None


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
    """What the spec of a network of any family offers to the other rooms.

    Attributes:
        head: What the last layers make: class scores, maps, or predictions for the anchors of a detector.
        num_classes: Classes or joints.
        in_channels: Channels of the input image.
        image_size: Height and width that costs refer to, in pixels.
        input_shape: Channels, height and width.
    """

    @property
    def head(self) -> Head: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def in_channels(self) -> int: ...

    @property
    def image_size(self) -> tuple[int, int]: ...

    @property
    def input_shape(self) -> tuple[int, int, int]: ...

    def build(self) -> Network:
        """Makes the network with fresh weights; its parameter order depends on the spec alone."""

    def unit_groups(self) -> tuple[UnitGroup, ...]:
        """Lists the units that are left, in a fixed order; none if the family has no search units."""

    def full(self) -> Spec:
        """Returns the spec before any unit was removed."""

    def keep(self, kept: Mapping[str, Tensor]) -> Spec:
        """Returns the spec with only the units whose flag in ``kept[group.name]`` (bool vector) is set."""

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON; `supernets.spec_from_json` reads it back."""


class NoUnits:
    """What the spec of a family without search units says of them; it is always the full one."""

    def unit_groups(self) -> tuple[UnitGroup, ...]:
        """There are none."""
        return ()

    def full(self) -> Self:
        """The spec itself."""
        return self

    def keep(self, kept: Mapping[str, Tensor]) -> Self:
        """The spec itself."""
        return self


class Network(nn.Module, ABC):
    """What a spec builds: takes images (B, C, H, W), gives scores (B, classes) or maps.

    Attributes:
        spec: What it was built from.
    """

    spec: Spec

    @abstractmethod
    def maskable_weights(self, *, transformer: bool = False, classifier: bool = False) -> list[str]:
        """Names of the weights that pruning covers.

        Args:
            transformer: Whether the linear layers of a supernet's Transformer path count too.
            classifier: Whether the classifier counts too.
        """


def as_tuples(value: Any) -> Any:
    """Lists, as JSON and YAML have them, become tuples."""
    return tuple(as_tuples(v) for v in value) if isinstance(value, list | tuple) else value
