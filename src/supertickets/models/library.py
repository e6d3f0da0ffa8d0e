"""Networks of timm and torchvision by name: no search units, but pruned and trained by the same recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import UserError, suggest
from .base import Head, Network, NoUnits, as_tuples
from .op_counter import count_operations

LIBRARIES = ("timm", "torchvision")
# Words of their constructors that follow from the data, or that load weights.
_TAKEN = {"num_classes": "the data", "in_chans": "the data"} | dict.fromkeys(
    ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "weights", "weights_backbone"),
    "the recipe, which begins with fresh weights",
)


@dataclass(frozen=True, kw_only=True)
class LibrarySpec(NoUnits):
    """Exact description of a network that a library makes, for one version of the library.

    Attributes:
        library: "timm" or "torchvision".
        name: What the library calls it.
        num_classes: Classes.
        in_channels: Channels of the input image; networks of torchvision see grey ones three times.
        image_size: Height and width that costs refer to, in pixels.
        settings: What else the library's constructor is told, e.g. ``{"drop_rate": 0.2}``.
    """

    library: str
    name: str
    num_classes: int = 1000
    in_channels: int = 3
    image_size: tuple[int, int] = (224, 224)
    settings: Mapping[str, Any] = field(default_factory=dict)
    head: ClassVar[Head] = "classification"

    def __post_init__(self) -> None:
        for word in self.settings:  # also of a file from elsewhere, which must not make a library load anything
            if word in _TAKEN:
                raise UserError(f"supernet.settings.{word} follows from {_TAKEN[word]}; leave it out")

    def __str__(self) -> str:
        return f"{self.library}:{self.name}"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return (self.in_channels, *self.image_size)

    def build(self) -> LibraryNetwork:
        """Makes the network with fresh weights."""
        try:
            return LibraryNetwork(self)
        except RuntimeError:
            if torch.get_default_device().type != "meta":
                raise
            with torch.device("cpu"):  # some constructors read numbers from tensors
                return LibraryNetwork(self).to("meta")

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON; the family is the library."""
        fields = asdict(self)
        return {"family": fields.pop("library"), **fields}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> LibrarySpec:
        """Reads what `to_json` wrote."""
        fields = {name: value for name, value in data.items() if name != "family"}
        fields["settings"] = {name: as_tuples(value) for name, value in data["settings"].items()}
        return LibrarySpec(library=data["family"], **fields | {"image_size": as_tuples(data["image_size"])})

    @cached_property
    def weights(self) -> tuple[str, ...]:
        """Names of the weights of convolutions and matrix products, in the order of a forward in training.

        Raises:
            UserError: The library cannot make the network, it does not take such images, or it gives no scores.
        """
        with torch.device("meta"):
            try:
                network = self.build().train()
            except UserError:
                raise
            except Exception as error:  # whatever a library's constructor raises at what it does not know
                told = f" with supernet.settings {dict(self.settings)}" if self.settings else ""
                raise UserError(
                    f"{self} cannot be made{told} ({_first_line(error)}); change them, or clear them"
                ) from None
            try:
                found, scores = count_operations(network, torch.empty(2, *self.input_shape))
            except Exception as error:  # likewise
                size = "{1} x {2} pixels and {0} channels".format(*self.input_shape)
                raise UserError(
                    f"{self} does not take images of {size} ({_first_line(error)}); set data.size, "
                    "or take another network"
                ) from None
        if not isinstance(scores, Tensor) or scores.shape != (2, self.num_classes):
            raise UserError(
                f"{self} gives {getattr(scores, 'shape', type(scores).__name__)} in training where two rows of "
                f"{self.num_classes} scores are needed; see its settings (aux_logits: false?), or take another network"
            )
        return tuple(product.weight for product in found if product.weight)


class LibraryNetwork(Network):
    """The network of a `LibrarySpec`; ``network`` is the library's own.

    Shapes: input (B, in_channels, H, W); output (B, num_classes).
    """

    def __init__(self, spec: LibrarySpec) -> None:
        super().__init__()
        self.spec: LibrarySpec = spec
        channels = {"in_chans": spec.in_channels} if spec.library == "timm" else {}
        self.network = library_network(
            spec.library, spec.name, num_classes=spec.num_classes, **channels, **spec.settings
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.spec.library == "torchvision":
            x_BCHW = x_BCHW.expand(-1, 3, -1, -1)
        scores: Tensor = self.network(x_BCHW)
        return scores

    def maskable_weights(self, *, transformer: bool = False, classifier: bool = False) -> list[str]:
        """Names of the weights that pruning covers: those of all convolutions and matrix products but the classifier.

        A weight that a layer normalises before it is used is not among them: pruned, it would not be zero in use.
        """
        found = set(self.spec.weights)
        if not classifier:
            found -= self._classifier()
        return [name for name, _ in self.named_parameters() if name in found]

    def _classifier(self) -> set[str]:
        """What timm calls so; elsewhere the last weight that is used."""
        find: Callable[[], Any] | None = getattr(self.network, "get_classifier", None)
        if find is None:
            return {self.spec.weights[-1]}
        heads = find()
        own = {id(p) for head in (heads if isinstance(heads, tuple) else (heads,)) for p in head.parameters()}
        return {name for name, p in self.named_parameters() if id(p) in own}


def create_library_spec(name: str, **overrides: Any) -> LibrarySpec:
    """Makes the spec of a library's network.

    Args:
        name: "timm:NAME" or "torchvision:NAME".
        **overrides: Fields of `LibrarySpec`; all others are settings.

    Raises:
        UserError: There is no such library or network, or it cannot work so.
    """
    library, _, own = name.partition(":")
    if library not in LIBRARIES:
        raise UserError(f"unknown supernet '{name}'; networks of libraries are timm:NAME and torchvision:NAME")
    if "." in own:
        raise UserError(
            f"{name} names published weights, but a recipe begins with fresh ones; leave out what follows the dot"
        )
    fields = {k: as_tuples(overrides.pop(k)) for k in ("num_classes", "in_channels", "image_size") if k in overrides}
    settings = {key: as_tuples(value) for key, value in overrides.items()}
    spec = LibrarySpec(library=library, name=own, settings=settings, **fields)
    _ = spec.weights  # refuses what cannot work
    return spec


def library_network(library: str, name: str, **settings: Any) -> nn.Module:
    """Makes a network of timm or torchvision, as their own functions do.

    Raises:
        UserError: timm is not installed, or the library has no such network for classification.
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
    network: nn.Module = make(name, **settings)
    return network


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
