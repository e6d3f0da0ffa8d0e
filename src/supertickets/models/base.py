"""Specs and networks of every family: inputs and outputs, search units, and how tensors follow them.

A *spec* is a frozen, JSON-able description; ``spec.build()`` makes the *network*. Its search units are data (`units`).
"""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from torch import Tensor, nn

from ..config.network_families import FAMILIES
from ..errors import UserError
from .units import UnitGroup

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
class UnitRow:
    """Search units of one block.

    Attributes:
        name: Name of the block.
        shape: Channels in and out, and the stride, as text.
        place: Part of the network that the block belongs to, e.g. "stage 2".
        branch: Branch that it leads to, counted from 1.
        weights: Prefix of its weights' names.
        left: Units that are left, for every kind of `UnitTable.kinds`.
        most: Units of the supernet, likewise.
    """

    name: str
    shape: str
    place: str
    branch: int
    weights: str
    left: tuple[int, ...]
    most: tuple[int, ...]


@dataclass(frozen=True)
class UnitTable:
    """Search units of a network, for tables and figures.

    Attributes:
        kinds: Names of the kinds of units: kernel sizes, and tokens.
        rows: One per block, in the order in which data meets them.
    """

    kinds: tuple[str, ...]
    rows: tuple[UnitRow, ...]


@dataclass(frozen=True)
class LayerRow:
    """A layer of a network without search units, for figures.

    Attributes:
        name: Name of the layer.
        hidden: Channels inside.
        kernel: Kernel size.
        notes: Widths in and out, and what else is to be known of it.
    """

    name: str
    hidden: int
    kernel: int
    notes: str


@dataclass(frozen=True, kw_only=True)
class TransferTarget:
    """The target of a transfer: what features are joined with.

    Attributes:
        name: Name of the recipe, for messages.
        network: Name of the recipe's network.
        settings: Its settings.
        head: Kind of head that the target needs.
        image_size: Height and width of its images, in pixels.
        create: Function that makes the spec of a network by name and settings.
    """

    name: str
    network: str
    settings: Mapping[str, Any]
    head: Head
    image_size: tuple[int, int]
    create: Callable[..., Spec]


class Spec(ABC):
    """Exact description of a network; what a family leaves out, its networks do not have.

    Attributes:
        heads: Kinds of head that ``supernet.settings.head`` may name; none if the family has one kind only.
        head_settings: Settings of a recipe's network that belong to its head; None if a network of the family cannot
            be parted into features and head, so that its features do not transfer.
        transfers_network: Whether the network of a transfer is called as that of the ticket, not as the recipe's.
        replaceable: Settings that may be replaced where ``ticket:RUN`` takes the architecture of a ticket.
        packages: Installed packages that the network depends on besides PyTorch.
        coarsest_stride: Pixels of the input per cell of the coarsest map, in each direction; None if the network takes
            images of one size only.
    """

    heads: ClassVar[tuple[Head, ...]] = ()
    head_settings: ClassVar[tuple[str, ...] | None] = None
    transfers_network: ClassVar[bool] = False
    replaceable: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def family(self) -> str:
        """Name of the family, a key of `config.network_families.FAMILIES`."""

    @property
    @abstractmethod
    def head(self) -> Head:
        """Kind of the last layers: class scores, maps, or predictions for the anchors of a detector."""

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Number of classes or joints."""

    @property
    @abstractmethod
    def in_channels(self) -> int:
        """Channels of the input image."""

    @property
    @abstractmethod
    def image_size(self) -> tuple[int, int]:
        """Height and width that costs refer to, in pixels."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return (self.in_channels, *self.image_size)

    @property
    def coarsest_stride(self) -> int | None:
        return None

    @property
    def packages(self) -> tuple[str, ...]:
        return ()

    @property
    def search(self) -> Literal["policy", "connections"] | None:
        """Method by which networks of the family are searched."""
        return FAMILIES[self.family].search

    @abstractmethod
    def build(self) -> Network:
        """Make the network with fresh weights; its parameter order depends on the spec alone."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; `factory.spec_from_json` reads it back."""

    # Search units.

    def unit_groups(self) -> tuple[UnitGroup, ...]:
        """List the units that are left, in a fixed order; none if the family has no search units."""
        return ()

    def full(self) -> Self:
        """Return the spec before any unit was removed."""
        return self

    def keep(self, kept: Mapping[str, Tensor]) -> Self:
        """Return the spec with only the units whose flag in ``kept[group.name]`` (bool vector) is set."""
        return self

    # Decisions.

    def decisions(self) -> tuple[Decision, ...]:
        """List what is open, in a fixed order."""
        return ()

    def is_search_space(self) -> bool:
        """Return whether the spec stands for several networks, one of which is to be chosen before it is trained."""
        return False

    def select(self, choices: Mapping[str, Choice]) -> Self:
        """Return the spec with the given answers to its decisions."""
        return self

    # Other data and other heads.

    def refit(self, settings: Mapping[str, Any], fitted: Mapping[str, Any]) -> Self:
        """Return the same architecture for other data.

        Args:
            settings: Settings to replace, of `replaceable`.
            fitted: Fields that follow from the data.

        Raises:
            UserError: A setting belongs to the architecture.
        """
        for key, value in settings.items():
            if key not in self.replaceable or not isinstance(value, int | float):
                raise UserError(f"supernet.settings.{key} {value} is not for the architecture of a ticket")
        return dataclasses.replace(self, **settings, **fitted)  # type: ignore[type-var]

    def check_transfer(self, head: Spec | None, network: str) -> None:  # noqa: B027 (any will do)
        """Refuse a head, or the network of a recipe, that the features of this one cannot be joined with.

        Args:
            head: Spec of the ticket that gives the head; None for a fresh one.
            network: Name of the recipe's network.

        Raises:
            UserError: The head or the recipe is of a family that does not fit.
        """

    def join_head(self, head: Spec | None, target: TransferTarget) -> Callable[..., Spec]:
        """Return what makes the full network of these features and a head; it takes the fields that follow from data.

        Args:
            head: Spec of the ticket that gives the head; None for this one's own, or a fresh one for another task.
            target: The target.

        Raises:
            UserError: The head does not fit the features or the target.
        """
        raise NotImplementedError

    def join_units(self, features: Spec, behind: Spec) -> Self:
        """Return the spec with the units that are left in the features of one network and in the head of another."""
        return self

    # Tables and figures.

    def reference_specs(self) -> dict[str, Spec]:
        """Return the networks that this one is usually timed beside, by name, in the order of a table."""
        return {"dense supernet": self.full()}

    def unit_table(self) -> UnitTable | None:
        """Return the search units by block; None if the family has none."""
        return None

    def layer_table(self) -> tuple[LayerRow, ...] | None:
        """Return the layers by their width, for a figure of the architecture; None if costs per layer say more."""
        return None


class Network(nn.Module, ABC):
    """Network of a spec: takes images (B, C, H, W), gives scores (B, classes) or maps.

    Attributes:
        spec: Spec that it was built from.
    """

    spec: Spec

    @abstractmethod
    def maskable_weights(self, *, transformer: bool = False, classifier: bool = False) -> list[str]:
        """List the names of the weights that pruning covers.

        Args:
            transformer: Whether the linear layers of a supernet's Transformer path count too.
            classifier: Whether the classifier counts too.
        """

    @staticmethod
    def is_feature(name: str) -> bool:
        """Return whether a parameter or buffer of that name belongs to the features, not to the head."""
        raise NotImplementedError(name)

    def shared_names(self) -> dict[str, str]:
        """Return the further names of parameters that stand in several places, each with the name that stands for it.

        Optimizers, averages and masks know such a parameter by the latter alone; a state dict has both.
        """
        first = {id(parameter): name for name, parameter in self.named_parameters()}
        every = self.named_parameters(remove_duplicate=False)
        return {name: first[id(parameter)] for name, parameter in every if first[id(parameter)] != name}

    def folded(self) -> Self:
        """Return a copy for other runtimes than PyTorch, in eval mode: the same function in fewer operations."""
        return copy.deepcopy(self).eval()


def as_tuples(value: Any) -> Any:
    """Return a value whose lists, as JSON and YAML have them, are tuples."""
    return tuple(as_tuples(v) for v in value) if isinstance(value, list | tuple) else value
