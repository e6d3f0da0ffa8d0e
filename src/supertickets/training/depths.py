"""The depth of every parameter: the block it belongs to, counted from the image, for rates that follow the depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

_OF_OTHER_CODE = "network"  # name of what other code made in a network of ours


def parameter_depths(module: nn.Module) -> dict[str, int]:
    """Return the depth of every parameter, from 0, by its name.

    A network of timm has a table of its own. In any other, each part counts one, in the order in which the network
    names them, and containers are opened. A norm belongs to what stands in front of it, and parameters of the network
    itself (tokens, positions) to the first part.

    Names and their order tell all of it, so that the depths stay when units go.
    """
    depths = {name: depth for depth, names in enumerate(_blocks(module, "")) for name in names}
    return {name: depths[name] for name, _ in module.named_parameters()}


def _blocks(module: nn.Module, prefix: str) -> list[list[str]]:
    """Return the names of a network's parameters by depth."""
    children = _children(module)
    while len(children) == 1 and not list(module.parameters(recurse=False)):  # nothing but another network
        ((name, module),) = children
        prefix, children = f"{prefix}{name}.", _children(module)
    find_table: Callable[..., Any] | None = getattr(module, "group_matcher", None)
    return _parts(module, prefix) if find_table is None else _timms_blocks(module, find_table(coarse=False), prefix)


def _timms_blocks(module: nn.Module, table: Any, prefix: str) -> list[list[str]]:
    from timm.models import group_parameters

    return [[f"{prefix}{name}" for name in names] for names in group_parameters(module, table).values()]


def _parts(module: nn.Module, prefix: str) -> list[list[str]]:
    """Return the names of the parameters of a network's parts, or of those of a container, in order."""
    blocks: list[list[str]] = []
    for name, child in _children(module):
        inside = f"{prefix}{name}."
        if isinstance(child, nn.ModuleDict) or _is_numbered(child):
            blocks += _parts(child, inside)
        elif name == _OF_OTHER_CODE:
            blocks += _blocks(child, inside)
        else:
            parameters = dict(child.named_parameters(prefix=inside.removesuffix(".")))
            if blocks and all(parameter.ndim <= 1 for parameter in parameters.values()):
                blocks[-1] += parameters
            else:
                blocks.append(list(parameters))
    own = [f"{prefix}{name}" for name, _ in module.named_parameters(recurse=False)]
    return [own + blocks[0], *blocks[1:]] if blocks else [own]


def _is_numbered(module: nn.Module) -> bool:
    """Return whether a module's children have numbers for names: a sequence, a list, or what a graph left of them."""
    names = [name for name, _ in module.named_children()]
    return bool(names) and all(name.isdigit() for name in names)


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the children that have parameters."""
    return [(name, child) for name, child in module.named_children() if any(True for _ in child.parameters())]
