"""Create networks and specs by name, and read specs back from JSON."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from ..config.network_families import FAMILIES, find_family
from ..errors import UserError
from .base import Network, Spec


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
    try:
        network = {name: value for name, value in data.items() if name != "traced"}
        spec: Spec = _load(families[family]).from_json(network)
        if "traced" in data:
            spec = _load("traced:TracedSpec").from_json(spec, data["traced"])
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"the network's spec is damaged ({error}); fetch the file again") from error
    return spec


def _load(name: str) -> Any:
    """Import an entry of `FAMILIES`."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(f"{__package__}.{module}"), attribute)
