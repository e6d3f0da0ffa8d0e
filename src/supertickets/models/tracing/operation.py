"""One call of an operation of PyTorch, and what a trace knows of the tensors that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from .labels import NO_UNIT, UNKNOWN, AxisKey, Labels, ParameterView, UnitRecord, constant, first_along, is_constant


@dataclass(frozen=True)
class Operation:
    """One call of an operation of PyTorch.

    Attributes:
        function: The overload.
        args: Arguments by place.
        kwargs: Arguments by name.
        out: What came out.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any

    @property
    def name(self) -> str:
        """Name without namespace and overload."""
        name: str = self.function.overloadpacket.__name__
        return name

    @cached_property
    def inputs(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor)]

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """All arguments by the names of the operation's schema, with defaults."""
        schema = self.function._schema.arguments
        given = dict(zip((argument.name for argument in schema), self.args, strict=False))
        return {argument.name: argument.default_value for argument in schema} | given | self.kwargs

    @property
    def outputs(self) -> list[Tensor]:
        """All tensors that came out."""
        return [leaf for leaf in tree_leaves(self.out) if isinstance(leaf, Tensor)]

    def call(self, replace: Callable[[Tensor], Tensor]) -> Any:
        """Call the operation once more, with other tensors."""
        args, kwargs = tree_map_only(Tensor, replace, (self.args, self.kwargs))
        return self.function(*args, **kwargs)

    def apply_to(self, array: Tensor) -> Any:
        """Call the operation once more, on an array in the place of its only tensor."""
        return self.call(lambda _: array)


class Trace:
    """Knowledge of the tensors of a forward: their units, or the parameter that they view.

    Attributes:
        record: What was learnt about units.
    """

    def __init__(self, module: nn.Module, record: UnitRecord) -> None:
        self.record = record
        self._labels: dict[int, Labels] = {}
        self._parameters: dict[int, ParameterView] = {}
        self._alive: list[Tensor] = []  # so that no two tensors have one id
        for name, value in module.state_dict(keep_vars=True).items():
            if id(value) not in self._parameters:
                self.set_parameter(value, ParameterView.whole(name, tuple(value.shape)))

    def keep_alive(self, tensors: list[Tensor]) -> None:
        """Keep tensors, which are known by their ids."""
        self._alive += tensors

    def labels(self, tensor: Any) -> Labels | None:
        """Return the labels of a map; None if it has no units."""
        labels = self._labels.get(id(tensor))
        return None if labels is None else Labels(self.record.roots(labels.units), labels.writers)

    def labels_or_none(self, tensor: Tensor) -> Labels:
        """Return the labels of a map, or labels that say that it has no units."""
        nothing = constant(NO_UNIT, tensor.shape)
        return self.labels(tensor) or Labels(nothing, nothing)

    def set_labels(self, tensor: Tensor, labels: Labels) -> None:
        """Give a map its labels."""
        assert labels.units.shape == tensor.shape == labels.writers.shape
        self._labels[id(tensor)] = labels

    def parameter(self, tensor: Any) -> ParameterView | None:
        """Return the view of a parameter or buffer that a tensor is; None if it is none."""
        return self._parameters.get(id(tensor))

    def set_parameter(self, tensor: Tensor, view: ParameterView) -> None:
        """Note that a tensor is a parameter or a view of one."""
        self._alive.append(tensor)
        self._parameters[id(tensor)] = view

    def own(self, tensor: Tensor | None, dim: int, units: Tensor) -> AxisKey | None:
        """Let units own the entries along a dimension of a parameter, and return that axis of the parameter.

        Args:
            tensor: A parameter or a view of one; of None, nothing is owned.
            dim: Dimension of the tensor.
            units: Unit of every entry there.
        """
        return None if tensor is None else self.record.own(self.parameter(tensor), dim, units)

    def units_along(self, tensor: Tensor, dim: int, what: str) -> Tensor:
        """Return the units along one dimension of a map; those that vary elsewhere too must stay.

        Args:
            tensor: The map.
            dim: Dimension.
            what: Name of what the map enters, for the reason.
        """
        units = self.labels_or_none(tensor).units
        if all(is_constant(units, i) for i in range(units.ndim) if i != dim % units.ndim):
            return first_along(units, dim)
        self.record.fix(units, f"it enters {what} along more than one dimension")
        return constant(NO_UNIT, (tensor.shape[dim],))

    def set_units_along(self, tensor: Tensor, dim: int, units: Tensor, writers: int = UNKNOWN) -> None:
        """Give a map labels that vary along one dimension alone.

        Args:
            tensor: The map.
            dim: Dimension along which the units lie.
            units: Unit of every entry there.
            writers: Index of the set that writes all of them.
        """
        sizes = [1] * tensor.ndim
        sizes[dim] = -1
        units = units.view(sizes).expand(tensor.shape)
        self.set_labels(tensor, Labels(units, constant(writers, tensor.shape)))


@dataclass(frozen=True)
class Handler:
    """Effect of a kind of operation.

    Attributes:
        follow: Function that sets the labels of the outputs.
        makes_units: Whether it does so for inputs without units too.
    """

    follow: Callable[[Trace, Operation], None]
    makes_units: bool = False


def is_pointwise(operation: Operation) -> bool:
    """Return whether every entry of the output depends on the entries at its place alone."""
    return torch.Tag.pointwise in operation.function.tags
