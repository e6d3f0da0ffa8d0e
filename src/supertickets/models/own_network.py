"""A user's own network by the name of the function that makes it, ``package.module:make_network``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ..errors import UserError
from ..plugins import is_plugin, load_plugin
from .external import ExternalSpec, external_fields, split_overrides


@dataclass(frozen=True, kw_only=True)
class ModuleSpec(ExternalSpec):
    """Exact description of a network that a user's own function makes.

    ``name`` is that of the function. It is called as ``make_network(num_classes=..., in_channels=...,
    image_size=(height, width), **settings)`` and returns a module that gives class scores (B, num_classes). The module
    is imported when the network is built, never when the spec is read.

    Raises:
        UserError: The name is not written as ``package.module:make_network``.
    """

    taken: ClassVar[Mapping[str, str]] = dict.fromkeys(("num_classes", "in_channels", "image_size"), "the data")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_plugin(self.name):
            raise UserError(f"supernet.name {self.name} is no function's name; write package.module:make_network")

    def __str__(self) -> str:
        return self.name

    @property
    def family(self) -> str:
        return "module"

    def make_module(self) -> nn.Module:
        """Make the network as the user's function does.

        Raises:
            UserError: There is no such function, or it returns something else.
        """
        make = load_plugin(self.name, "supernet.name")
        module = make(
            num_classes=self.num_classes, in_channels=self.in_channels, image_size=self.image_size, **self.settings
        )
        if not isinstance(module, nn.Module):
            kind = type(module).__name__
            raise UserError(f"supernet.name {self.name} returns {kind}; let it return a torch.nn.Module")
        return module

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ModuleSpec:
        """Read what `to_json` wrote; nothing is imported."""
        return ModuleSpec(**external_fields(data))


def create_module_spec(name: str, **overrides: Any) -> ModuleSpec:
    """Make the spec of a user's own network.

    Args:
        name: Name of the function, ``package.module:make_network``.
        **overrides: Fields of `ModuleSpec`; all others are settings, which the function takes.

    Raises:
        UserError: There is no such function, or what it makes cannot work.
    """
    spec = ModuleSpec(name=name, **split_overrides(overrides))
    _ = spec.weights  # refuses what cannot work
    return spec
