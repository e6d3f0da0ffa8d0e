"""Labels: which unit every entry of a map belongs to, and which parameters make the entry zero.

Labels lie in arrays shaped like the map, nearly always expanded from a vector, so that views, slices, concatenations
and shuffles are applied to them as they are to the map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

AxisKey = tuple[str, int]  # tensor and dimension
NO_UNIT = 0  # label of entries that belong to no unit
UNKNOWN = 0  # writers of entries that nothing is known to silence
_UNSEEN = -1
_CODE = 2**31  # above every unit and writer


@dataclass(frozen=True)
class Labels:
    """The labels of a map.

    Attributes:
        units: Unit of every entry (int32, of the map's shape); 0 for none.
        writers: Index of the set of axes that, at zero for the entry's unit, make the entry zero; 0 if unknown.
    """

    units: Tensor
    writers: Tensor

    def move(self, function: Callable[[Tensor], Tensor]) -> Labels:
        """Return the labels after an operation that only moves entries."""
        return Labels(function(self.units), function(self.writers))

    def expand(self, shape: Iterable[int]) -> Labels:
        """Return the labels broadcast to a shape."""
        sizes = tuple(shape)
        return self.move(lambda labels: labels.expand(sizes))

    def without_writers(self) -> Labels:
        """Return the labels of entries that nothing is known to silence."""
        return Labels(self.units, constant(UNKNOWN, self.units.shape))


@dataclass(frozen=True)
class ParameterView:
    """A parameter, buffer, or one of their views.

    Attributes:
        name: Name in the state dict.
        sizes: Shape of the parameter.
        positions: For each of its dimensions, the position of every entry of the view along it.
    """

    name: str
    sizes: tuple[int, ...]
    positions: tuple[Tensor, ...]

    @staticmethod
    def whole(name: str, sizes: tuple[int, ...]) -> ParameterView:
        """Return the view of a whole parameter."""
        ranges = [
            torch.arange(size, dtype=torch.int32).view([-1 if i == dim else 1 for i in range(len(sizes))]).expand(sizes)
            for dim, size in enumerate(sizes)
        ]
        return ParameterView(name, sizes, tuple(ranges))

    def move(self, function: Callable[[Tensor], Tensor]) -> ParameterView:
        """Return the view after an operation that only moves entries."""
        return self.with_positions(tuple(function(position) for position in self.positions))

    def with_positions(self, positions: tuple[Tensor, ...]) -> ParameterView:
        """Return a view of the same parameter with other positions."""
        return ParameterView(self.name, self.sizes, positions)

    def locate(self, dim: int) -> tuple[AxisKey, Tensor] | None:
        """Return the axis that runs along a dimension of the view, and the positions there; None if none does so alone.

        Args:
            dim: Dimension of the view.
        """
        if not self.positions:
            return None
        ndim = self.positions[0].ndim
        dim %= ndim
        along = [at for at, position in enumerate(self.positions) if not is_constant(position, dim)]
        if not along:  # a dimension of one entry: the first of that size
            along = [at for at, size in enumerate(self.sizes) if size == 1][:1]
        if len(along) != 1 or any(not is_constant(self.positions[along[0]], i) for i in range(ndim) if i != dim):
            return None
        return (self.name, along[0]), first_along(self.positions[along[0]], dim)


def constant(value: int, shape: Iterable[int]) -> Tensor:
    """Return an array of one value."""
    return torch.full((), value, dtype=torch.int32).expand(tuple(shape))


def is_constant(labels: Tensor, dim: int) -> bool:
    """Return whether labels do not vary along a dimension."""
    if labels.stride(dim) == 0 or labels.shape[dim] <= 1:
        return True
    (labels,) = shrink(labels)
    return bool((labels.narrow(dim, 0, 1) == labels).all())


def drop(labels: Tensor, *dims: int) -> Tensor:
    """Return labels with only the first entry along some dimensions, which stay with size 1."""
    for dim in dims:
        labels = labels.narrow(dim, 0, 1)
    return labels


def first_along(labels: Tensor, dim: int) -> Tensor:
    """Return the labels along one dimension as a vector, read at the first entry of every other one."""
    return drop(labels, *(i for i in range(labels.ndim) if i != dim % labels.ndim)).reshape(-1)


def shrink(*arrays: Tensor) -> tuple[Tensor, ...]:
    """Return arrays of one shape without the dimensions along which all are expanded (they stay with size 1)."""
    same = [dim for dim in range(arrays[0].ndim) if all(a.stride(dim) == 0 and a.shape[dim] > 1 for a in arrays)]
    return tuple(drop(array, *same) for array in arrays)


def distinct_pairs(a: Tensor, b: Tensor) -> list[tuple[int, int]]:
    """Return the distinct pairs of entries of two arrays of one shape, in rising order."""
    a, b = shrink(a, b)
    codes = torch.unique(a.long() * _CODE + b)
    return [divmod(code, _CODE) for code in codes.tolist()]


class UnitRecord:
    """Everything a trace learns about units: which are one, what they own, what silences them, which must stay."""

    def __init__(self) -> None:
        self._roots = torch.tensor([NO_UNIT], dtype=torch.int32)
        self.families: list[range] = []  # units that one operation brought forth
        self.fixed: dict[int, str] = {}
        self.owners: dict[AxisKey, Tensor] = {}
        self.gates: dict[int, set[AxisKey | None]] = {}
        self.reads: dict[int, set[AxisKey | None]] = {}  # None: without weights
        self._writer_sets: list[frozenset[AxisKey]] = [frozenset()]  # the first stands for UNKNOWN
        self._writer_index: dict[frozenset[AxisKey], int] = {}

    # Units.

    def roots(self, units: Tensor) -> Tensor:
        """Return the units that stand for all that were united with those of an array."""
        return self._roots[shrink(units)[0].long()].expand(units.shape)

    def all_roots(self) -> list[int]:
        """Return the units that stand for every one, by its number."""
        return [int(root) for root in self._roots.tolist()]

    def create(self, count: int) -> Tensor:
        """Return new units, as a vector."""
        first = len(self._roots)
        new = torch.arange(first, first + count, dtype=torch.int32)
        self._roots = torch.cat([self._roots, new])
        self.families.append(range(first, first + count))
        return new

    def unite(self, a: Tensor, b: Tensor, reason: str) -> None:
        """Make the units of two arrays one, entry by entry.

        Args:
            a: Units.
            b: Units of the same shape.
            reason: Why units must stay that meet entries of no unit.
        """
        parents: dict[int, int] = {}

        def top(unit: int) -> int:
            while unit in parents:
                unit = parents[unit]
            return unit

        for i, j in distinct_pairs(self.roots(a), self.roots(b)):
            if i and j and top(i) != top(j):
                i, j = top(i), top(j)
                parents[max(i, j)] = min(i, j)
            elif not (i and j) and (i or j):
                self.fixed.setdefault(i or j, reason)
        if parents:
            table = torch.arange(len(self._roots), dtype=torch.int32)
            table[list(parents)] = torch.tensor([top(unit) for unit in parents], dtype=torch.int32)
            self._roots = table[self._roots.long()]

    def fix(self, units: Tensor, reason: str) -> None:
        """Let units stay.

        Args:
            units: Units, of any shape.
            reason: Why they cannot go.
        """
        for unit in torch.unique(shrink(units)[0]).tolist():
            if unit:
                self.fixed.setdefault(unit, reason)

    # Entries of parameters.

    def own(self, view: ParameterView | None, dim: int, units: Tensor) -> AxisKey | None:
        """Let units own the entries along a dimension of a parameter, and return the axis.

        Args:
            view: The parameter; None if it was computed from others, so that its units must stay.
            dim: Dimension of the view.
            units: Unit of every entry.
        """
        place = None if view is None else view.locate(dim)
        if view is None or place is None:
            self.fix(units, "it passes a weight that is computed from others")
            return None
        key, positions = place
        owners = self.owners.setdefault(key, torch.full((view.sizes[key[1]],), _UNSEEN, dtype=torch.int32))
        at = positions.long()
        seen = owners[at] != _UNSEEN
        self.unite(owners[at][seen], units[seen], f"{key[0]} is also used without it")
        owners[at[~seen]] = units[~seen]
        self.unite(owners[at], units, f"{key[0]} is also used without it")
        return key

    # Writers.

    def writer_set(self, axes: Iterable[AxisKey | None]) -> int:
        """Return the index of a set of axes that together make entries zero; of UNKNOWN if one of them is None."""
        keys = set(axes)
        return UNKNOWN if None in keys else self._intern(frozenset(key for key in keys if key is not None))

    def _intern(self, axes: frozenset[AxisKey]) -> int:
        if axes not in self._writer_index:
            self._writer_index[axes] = len(self._writer_sets)
            self._writer_sets.append(axes)
        return self._writer_index[axes]

    def all_writers(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the writers of entries that are zero where two others both are."""
        return _map_pairs(
            a, b, lambda i, j: self._intern(self._writer_sets[i] | self._writer_sets[j]) if i and j else UNKNOWN
        )

    @staticmethod
    def any_writers(a: Tensor, b: Tensor) -> Tensor:
        """Return the writers of entries that are zero where one of two others is."""
        return _map_pairs(a, b, lambda i, j: i or j)

    def read(self, labels: Labels, axis: AxisKey | None) -> None:
        """Note that an operation sums over units: what writes them now must be able to silence them.

        Args:
            labels: Labels of what is summed over.
            axis: Axis of the weights that are multiplied with it; None if there is none.
        """
        for unit, writers in distinct_pairs(labels.units, labels.writers):
            if unit == NO_UNIT:
                continue
            self.reads.setdefault(unit, set()).add(axis)
            if writers == UNKNOWN:
                self.fixed.setdefault(unit, "no weight at zero silences what is read of it")
            self.gates.setdefault(unit, set()).update(self._writer_sets[writers])


def _map_pairs(a: Tensor, b: Tensor, function: Callable[[int, int], int]) -> Tensor:
    shape = a.shape
    a, b = shrink(a, b)
    codes, index = torch.unique(a.long() * _CODE + b, return_inverse=True)
    values = torch.tensor([function(*divmod(code, _CODE)) for code in codes.tolist()], dtype=torch.int32)
    return values[index].expand(shape)
