"""The depth of every parameter: the block it belongs to, counted from the image, for rates that follow the depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def parameter_depths(module: nn.Module) -> dict[str, int]:
    """Return the depth of every parameter, from 0, by its name.

    A network of timm has a table of its own. In any other, each part counts one, in the order in which the network
    names them, and containers are opened. A norm belongs to what stands in front of it, and parameters of the network
    itself (tokens, positions) to the first part.

    Names and their order tell all of it, so that the depths stay when units go.
    """
    prefix, inner = _unwrap(module)
    find_table: Callable[..., Any] | None = getattr(inner, "group_matcher", None)
    if find_table is not None:
        from timm.models import group_parameters

        table: dict[str, int] = group_parameters(inner, find_table(coarse=False), reverse=True)
    else:
        table = _depths_by_parts(inner)
    return {name: table[name.removeprefix(prefix)] for name, _ in module.named_parameters()}


def _unwrap(module: nn.Module) -> tuple[str, nn.Module]:
    """Return the network inside modules that hold nothing else, and the prefix of its parameters' names."""
    prefix, children = "", _children(module)
    while len(children) == 1 and not list(module.parameters(recurse=False)):
        ((name, module),) = children
        prefix, children = f"{prefix}{name}.", _children(module)
    return prefix, module


def _depths_by_parts(module: nn.Module) -> dict[str, int]:
    depths, depth = {name: 0 for name, _ in module.named_parameters(recurse=False)}, -1
    for prefix, part in _parts(module, ""):
        parameters = list(part.named_parameters())
        if depth < 0 or any(parameter.ndim > 1 for _, parameter in parameters):
            depth += 1
        depths |= {f"{prefix}{name}": depth for name, _ in parameters}
    return depths


def _parts(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the parts that have parameters, with the prefixes of their parameters' names, in order."""
    for name, child in _children(module):
        inside = f"{prefix}{name}."
        if isinstance(child, _CONTAINERS):
            yield from _parts(child, inside)
        else:
            yield inside, child


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the children that have parameters."""
    return [(name, child) for name, child in module.named_children() if any(True for _ in child.parameters())]
