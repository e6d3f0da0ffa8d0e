"""Create networks and specs by name, and read specs back from JSON."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from ..config.network_families import FAMILIES, find_family
from ..errors import UserError
from .base import Network, Spec

_LARGEST = 2**20  # of numbers in a spec
_LAYERS_PER_TENSOR, _LAYERS = 8, 1000  # layers, those without weights and those around others included


def list_supernets() -> list[str]:
    """Return the names of networks that `create_supernet` knows."""
    return sorted(name for family in FAMILIES.values() for name in family.networks)


def list_spaces() -> list[str]:
    """Return the names of `list_supernets` that are spaces, of which a policy chooses a network."""
    names = (name for family in FAMILIES.values() if family.search == "policy" for name in family.networks)
    return sorted(name for name in names if create_spec(name).is_search_space())


def create_spec(name: str, *, transformer: bool = True, **overrides: Any) -> Spec:
    """Make the spec of a full supernet, of a search space or of a known network.

    Args:
        name: One of `list_supernets`, or "timm:NAME", "torchvision:NAME", or "package.module:make_network" of a user's
            own.
        transformer: Whether identity blocks of a supernet hold a Transformer path.
        **overrides: Fields of `HRNetSpec` or of its `BlockStyle`, e.g. ``num_classes=100, grid=4``; of mobile networks
            see `create_mobile`, of ResNets `create_resnet`; of other networks also what makes them takes.

    Raises:
        UserError: The name or an override is unknown.
    """
    family = find_family(name)
    if family.create is None:
        raise UserError(f"supernet.name {name} has no spec of its own; load that ticket instead")
    if family.has_transformer and not transformer:
        overrides |= {"tokens": 0}
    spec: Spec = _load(family.create)(name, **overrides)
    return spec


def create_supernet(name: str, *, transformer: bool = True, **overrides: Any) -> Network:
    """Build a full supernet, or a known network, by name, as `create_spec` describes it."""
    return create_spec(name, transformer=transformer, **overrides).build()


def spec_from_json(data: Mapping[str, Any]) -> Spec:
    """Read a spec that `to_json` wrote; no code that the spec names is imported before it is built.

    Raises:
        UserError: The family is unknown or fields are missing.
    """
    families = {name: family.spec for name, family in FAMILIES.items() if family.spec is not None}
    family = data.get("family")
    if family not in families:
        raise UserError(f"unknown network family '{family}' in the spec; this version reads {', '.join(families)}")
    check_sizes(data)
    try:
        network = {name: value for name, value in data.items() if name != "traced"}
        spec: Spec = _load(families[family]).from_json(network)
        if "traced" in data:
            spec = _load("traced:TracedSpec").from_json(spec, data["traced"])
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"the network's spec is damaged ({error}); fetch the file again") from error
    return spec


def check_sizes(data: Mapping[str, Any]) -> None:
    """Check the numbers of a spec, as JSON, before anything is made of them.

    Raises:
        UserError: One is far beyond what networks have.
    """
    level: list[Any] = [value for name, value in data.items() if name != "traced"]
    while level:
        for value in level:
            if isinstance(value, int) and abs(value) > _LARGEST:
                raise UserError(f"the network's spec is damaged (a size of {value}); fetch the file again")
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list | tuple)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]


def build_bounded(spec: Spec, tensors: int) -> Network:
    """Build a network without memory for its tensors, if it has no more of them than a file that belongs to it.

    Args:
        spec: The spec, which may claim anything.
        tensors: Number of its tensors.

    Returns:
        The network, on the device "meta".

    Raises:
        ValueError: It has more tensors, or far more layers than tensors.
    """
    left, own = [_LAYERS_PER_TENSOR * tensors + _LAYERS], threading.get_ident()

    def count(*_: Any) -> None:
        left[0] -= threading.get_ident() == own  # other threads build networks of their own
        if left[0] < 0:
            raise ValueError("the network has more layers than the file has weights")

    hooks = (register_module_module_registration_hook(count), register_module_parameter_registration_hook(count))
    try:
        with torch.device("meta"):
            return spec.build()
    finally:
        for hook in hooks:
            hook.remove()


def _load(name: str) -> Any:
    """Import an entry of `FAMILIES`."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(f"{__package__}.{module}"), attribute)
