"""Create networks and specs by name, and read specs back from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UserError, suggest
from .base import Network, Spec
from .hrnet.network import HRNetSpec
from .hrnet.presets import _SUPERNETS
from .library import LIBRARIES, LibrarySpec, create_library_spec
from .mobile.network import MobileSpec
from .mobile.spaces import MOBILE, create_mobile
from .resnet.network import RESNETS, ResNetSpec, create_resnet


def list_supernets() -> list[str]:
    """Names that `create_supernet` knows."""
    return sorted((*_SUPERNETS, *MOBILE, *RESNETS))


def list_spaces() -> list[str]:
    """Names of `list_supernets` that are spaces of mobile networks."""
    return sorted(name for name in MOBILE if MOBILE[name]().is_search_space())


def create_spec(name: str, *, transformer: bool = True, **overrides: Any) -> Spec:
    """Makes the spec of a full supernet, of a search space or of a known network.

    Args:
        name: One of `list_supernets`, or "timm:NAME" or "torchvision:NAME".
        transformer: Whether identity blocks of a supernet hold a Transformer path.
        **overrides: Fields of `HRNetSpec` or of its `BlockStyle`, e.g. ``num_classes=100, grid=4``; of mobile networks
            see `create_mobile`, of ResNets `create_resnet`; of a known network also what its constructor takes.

    Raises:
        UserError: The name or an override is unknown.
    """
    if ":" in name:
        return create_library_spec(name, **overrides)
    if name in MOBILE:
        return create_mobile(name, **overrides)
    if name in RESNETS:
        return create_resnet(name, **overrides)
    if name not in _SUPERNETS:
        raise UserError(f"unknown supernet '{name}'{suggest(name, list_supernets())} (or timm:NAME, torchvision:NAME)")
    return _SUPERNETS[name](**overrides, **({} if transformer else {"tokens": 0}))


def create_supernet(name: str, *, transformer: bool = True, **overrides: Any) -> Network:
    """Builds a full supernet, or a known network, by name, as `create_spec` describes it."""
    return create_spec(name, transformer=transformer, **overrides).build()


def spec_from_json(data: Mapping[str, Any]) -> Spec:
    """Reads a spec that `to_json` wrote.

    Raises:
        UserError: The family is unknown or fields are missing.
    """
    family = data.get("family")
    families: dict[Any, type[HRNetSpec | MobileSpec | ResNetSpec | LibrarySpec]] = {
        "hrnet": HRNetSpec,
        "mobile": MobileSpec,
        "resnet": ResNetSpec,
    }
    families |= dict.fromkeys(LIBRARIES, LibrarySpec)
    if family not in families:
        raise UserError(f"unknown network family '{family}' in the spec; this version reads {', '.join(families)}")
    try:
        return families[family].from_json(data)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"the network's spec is damaged ({error}); fetch the file again") from error
