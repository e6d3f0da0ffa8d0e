"""Networks of timm and torchvision by name, trained, searched and pruned by the same recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from ..errors import UserError, suggest
from .external import ExternalSpec, external_fields, split_overrides

LIBRARIES = ("timm", "torchvision")
# Words of their constructors that follow from the data, or that load weights.
_TAKEN = {"num_classes": "the data", "in_chans": "the data"} | dict.fromkeys(
    ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "weights", "weights_backbone"),
    "supernet.pretrained, which says what weights to begin with",
)


@dataclass(frozen=True, kw_only=True)
class LibrarySpec(ExternalSpec):
    """Exact description of a network that a library makes, for one version of the library.

    Attributes:
        library: "timm" or "torchvision"; networks of torchvision see grey images three times.
    """

    library: str
    taken: ClassVar[Mapping[str, str]] = _TAKEN

    def __str__(self) -> str:
        return f"{self.library}:{self.name}"

    @property
    def family(self) -> str:
        return self.library

    @property
    def packages(self) -> tuple[str, ...]:
        return (self.library,)

    def make_module(self) -> nn.Module:
        """Make the network as the library does."""
        channels = {"in_chans": self.in_channels} if self.library == "timm" else {}
        return library_network(self.library, self.name, num_classes=self.num_classes, **channels, **self.settings)

    def prepare(self, x_BCHW: Tensor) -> Tensor:
        """Return images as the network takes them."""
        return x_BCHW.expand(-1, 3, -1, -1) if self.library == "torchvision" else x_BCHW

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> LibrarySpec:
        """Read what `to_json` wrote."""
        return LibrarySpec(library=data["family"], **external_fields(data))


def create_library_spec(name: str, **overrides: Any) -> LibrarySpec:
    """Make the spec of a library's network.

    Args:
        name: "timm:NAME" or "torchvision:NAME".
        **overrides: Fields of `LibrarySpec`; all others are settings.

    Raises:
        UserError: There is no such network, or it cannot work so.
    """
    library, _, own = name.partition(":")
    if "." in own:
        raise UserError(
            f"{name} names published weights, but the recipe begins with others; set supernet.pretrained to true, "
            "or leave out what follows the dot"
        )
    spec = LibrarySpec(library=library, name=own, **split_overrides(overrides))
    _ = spec.weights  # refuses what cannot work
    return spec


def library_network(library: str, name: str, **settings: Any) -> nn.Module:
    """Make a network of timm or torchvision, as their own functions do.

    Raises:
        UserError: timm is not installed, or the library has no such network for classification.
    """
    network: nn.Module = find_maker(library, name)(name, **settings)
    return network


def find_maker(library: str, name: str) -> Callable[..., nn.Module]:
    """Return the function of a library that makes its networks by name.

    Raises:
        UserError: As `library_network`.
    """
    if library == "timm":
        try:
            import timm
        except ImportError:
            raise UserError(f"timm:{name} needs timm: pip install 'supertickets[timm]'") from None
        known, make = timm.list_models(), timm.create_model
    else:
        from torchvision import models

        known, make = models.list_models(module=models), models.get_model
    if name.split(".")[0] not in known:  # "resnet18.a1_in1k" of timm names weights as well
        hint = suggest(name, known, f"; see {'timm' if library == 'timm' else 'torchvision.models'}.list_models()")
        raise UserError(f"{library} has no classification network '{name}'{hint}")
    maker: Callable[..., nn.Module] = make
    return maker
