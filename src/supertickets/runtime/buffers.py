"""Memory of maps: used again once nothing reads it; the parts of a concatenation lie behind each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt

from .arena import Arena
from .graph import Node, Values
from .maps import Geometry, MapView, buffer_size, view

Array = npt.NDArray[Any]
# Operations whose outputs may be the memory of their inputs, seen in another way.
_VIEWS = ("split", "slice", "reshape", "squeeze", "unsqueeze")
# Operations that can write into a part of a larger map.
_WRITERS = ("conv", "max_pool", "avg_pool", "resize", "add", "mul", "activation")


class Buffers:
    """The memory of all maps of a graph.

    Padding stays zero for good, since every kernel writes it as zeros; so memory is used again within one geometry.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        results: Sequence[str],
        values: Values,
        geometry: Callable[[str], Geometry],
        arena: Arena,
    ) -> None:
        self._values, self._geometry, self._arena = values, geometry, arena
        self._parts = find_parts(nodes, values)
        self._group = _group_views(nodes, self._parts)
        self._ends = _last_uses(nodes, results, self._group, chain_ends(nodes, values))
        self._free: list[tuple[Geometry, int, Array]] = []
        self._used: dict[str, list[tuple[Geometry, int, Array]]] = {}
        self._wholes: dict[str, MapView] = {}

    def take(self, geometry: Geometry, channels: int, owner: str) -> Array:
        """Return memory for channels until the last use of a value."""
        fits = [entry for entry in self._free if entry[0] == geometry and entry[1] >= channels]
        if fits:
            entry = min(reversed(fits), key=lambda one: one[1])  # the last that was freed may still be in a cache
            self._free = [other for other in self._free if other is not entry]
        else:
            entry = (geometry, channels, self._arena.zeros(buffer_size(geometry, channels)))
        self._used.setdefault(self._group.get(owner, owner), []).append(entry)
        return entry[2]

    def map_of(self, name: str) -> MapView:
        """Return the map that a value is written to, which may be a part of a larger one."""
        channels = self._values.shapes[name][1]
        if name in self._parts:
            whole, first = self._parts[name]
            return self.map_of(whole).part(first, channels)
        if name not in self._wholes:
            self._wholes[name] = self.extra_map(name)
        return self._wholes[name]

    def extra_map(self, name: str) -> MapView:
        """Return memory for a further copy of a value."""
        geometry, channels = self._geometry(name), self._values.shapes[name][1]
        return view(geometry, self.take(geometry, channels, name), channels)

    def place_of(self, name: str) -> tuple[str, int] | None:
        """Return the concatenation that the map of a value is a part of, and its first channel there."""
        return self._parts.get(name)

    def release(self, node: int) -> None:
        """Free the memory of values that nothing reads after a node."""
        for group in [group for group in self._used if self._ends.get(group, -1) == node]:
            self._free.extend(self._used.pop(group))


def find_parts(nodes: Sequence[Node], values: Values) -> dict[str, tuple[str, int]]:
    """Return the values that can be written into a concatenation of channels at once: its name, the first channel."""
    makers = {name: node for node in nodes for name in node.outputs}
    parts: dict[str, tuple[str, int]] = {}
    for node in nodes:
        shape = values.shapes[node.outputs[0]]
        if node.operation != "concat" or len(shape) != 4 or node.attributes["axis"] not in (1, -3) or shape[0] != 1:
            continue
        first = 0
        for name in node.inputs:
            writer = name in makers and makers[name].operation in _WRITERS and name not in values.constants
            if writer and name not in parts and shape[2] * shape[3] > 1:
                parts[name] = (node.outputs[0], first)
            first += values.shapes[name][1]
    return parts


def chain_ends(nodes: Sequence[Node], values: Values) -> list[int]:
    """Return for every node the last one of its chain: of convolutions that may run band by band; see `schedule`.

    Each reads what the one before it wrote. A chain ends with the first convolution that has fewer channels than its
    input: behind it little is worth keeping in the cache.
    """
    ends = list(range(len(nodes)))
    for number in reversed(range(len(nodes) - 1)):
        one, other = nodes[number], nodes[number + 1]
        if one.operation == other.operation == "conv" and other.inputs[0] == one.outputs[0]:
            before, after = (values.shapes[name] for name in (one.inputs[0], one.outputs[0]))
            if after[1] >= before[1]:
                ends[number] = ends[number + 1]
    return ends


def _group_views(nodes: Sequence[Node], parts: dict[str, tuple[str, int]]) -> dict[str, str]:
    """Return for every value that may share memory with others the name that they all have in common."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while name in parent:
            name = parent[name]
        return name

    def join(one: str, other: str) -> None:
        if root(one) != root(other):
            parent[root(one)] = root(other)

    for name, (whole, _) in parts.items():
        join(name, whole)
    for node in nodes:
        if node.operation in _VIEWS:
            for name in node.outputs:
                join(name, node.inputs[0])
    return {name: root(name) for name in parent}


def _last_uses(
    nodes: Sequence[Node], results: Sequence[str], group: dict[str, str], ends: Sequence[int]
) -> dict[str, int]:
    """Return the number of the node after which nothing reads a group; results are read after all."""
    last: dict[str, int] = {}
    for number, node in enumerate(nodes):
        for name in (*node.inputs, *node.outputs):
            last[group.get(name, name)] = ends[number]
    return last | {group.get(name, name): len(nodes) for name in results}
