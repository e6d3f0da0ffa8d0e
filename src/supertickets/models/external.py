"""Networks that other code makes, trained, searched, pruned and exported by the same recipes."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ..errors import UserError
from .backbones import Backbone, find_backbone
from .base import Network, as_tuples
from .heads import HEAD_SETTINGS, HeadedSpec
from .op_counter import count_operations

Made = TypeVar("Made", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class ExternalSpec(HeadedSpec):
    """Exact description of a network that other code makes, for one version of that code.

    For class scores it is the network as it is. For another head its maps are taken (`backbones.find_backbone`), unless
    the network itself gives what such a head gives.

    Attributes:
        name: Name of the network, as its maker calls it.
        num_classes: Number of classes.
        in_channels: Channels of the input image.
        image_size: Height and width that costs refer to, in pixels.
        settings: Further arguments of what makes it, e.g. ``{"drop_rate": 0.2}``.
        taken: Words that are no settings, and where they come from instead.
    """

    name: str
    num_classes: int = 1000
    in_channels: int = 3
    image_size: tuple[int, int] = (224, 224)
    settings: Mapping[str, Any] = field(default_factory=dict)
    taken: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        for word in self.settings:  # also of a file from elsewhere, which must not make a library load anything
            if word in self.taken:
                raise UserError(f"supernet.settings.{word} follows from {self.taken[word]}; leave it out")

    @property
    def coarsest_stride(self) -> int | None:
        if self.head == "classification" or self.backbone is None:
            return None
        return self.backbone.maps[-1].stride

    @cached_property
    def backbone(self) -> Backbone | None:
        """Way to take the maps of the network; None if its output is that of the whole.

        Raises:
            UserError: The network does not take such images, or its maps cannot be found.
        """
        return None if self.head == "classification" else _find_backbone(_Key(json.dumps(self.to_json()), self))

    @abstractmethod
    def make_module(self) -> nn.Module:
        """Make the network as its maker does."""

    def prepare(self, x_BCHW: Tensor) -> Tensor:
        """Return images as the network takes them."""
        return x_BCHW

    def build(self) -> ExternalNetwork:
        """Make the network with fresh weights."""
        return self.make_for_device(lambda: ExternalNetwork(self))

    @staticmethod
    def make_for_device(make: Callable[[], Made]) -> Made:
        """Make a module on the default device, without data if that is meta."""
        try:
            return make()
        except (RuntimeError, TypeError, ValueError):
            if torch.get_default_device().type != "meta":
                raise
            with torch.device("cpu"):  # some constructors read numbers from tensors
                return make().to("meta")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON with the family's name; the settings of a head only if there is one."""
        without = {"library", *(("head", *HEAD_SETTINGS) if self.head == "classification" else ())}
        return {"family": self.family, **{name: v for name, v in asdict(self).items() if name not in without}}

    def refit(self, settings: Mapping[str, Any], fitted: Mapping[str, Any]) -> ExternalSpec:
        """Refuse: the name of such a network says all of its architecture."""
        raise UserError(f"supernet.name is a ticket of {self}, which other code makes; give its own name")

    @cached_property
    def weights(self) -> tuple[str, ...]:
        """Names of the weights of convolutions and matrix products, in the order of a forward in training.

        Raises:
            UserError: The network cannot be made, it does not take such images, or its output is not that of the head.
        """
        with torch.device("meta"):
            try:
                network = self.build().train()
            except UserError:
                raise
            except Exception as error:  # whatever a constructor raises at what it does not know
                given = f" with supernet.settings {dict(self.settings)}" if self.settings else ""
                raise UserError(
                    f"{self} cannot be made{given} ({_first_line(error)}); change them, or clear them"
                ) from None
            try:
                operations, scores = count_operations(network, torch.empty(2, *self.input_shape))
            except Exception as error:  # likewise
                raise self.refusal_of_images(error) from None
        if not isinstance(scores, Tensor) or not self.is_output(scores, images=2):
            raise UserError(
                f"{self} gives {getattr(scores, 'shape', type(scores).__name__)} in training where "
                f"two {self.describe_output()} are needed; see its settings (aux_logits: false?), or take another "
                "network"
            )
        return tuple(product.weight for product in operations if product.weight)

    def refusal_of_images(self, error: Exception) -> UserError:
        """Return what to say of an error that the network raised at images of the size of the data."""
        size = "{1} x {2} pixels and {0} channels".format(*self.input_shape)
        return UserError(
            f"{self} does not take images of {size} ({_first_line(error)}); set data.size, or take another network"
        )


class ExternalNetwork(Network):
    """Network of an `ExternalSpec`; ``network`` is what the other code made, up to its maps if a head follows.

    Shapes: input (B, in_channels, H, W); output (B, num_classes), or that of the head.
    """

    def __init__(self, spec: ExternalSpec) -> None:
        super().__init__()
        self.spec: ExternalSpec = spec
        self.network = spec.make_module()
        if spec.backbone is not None:
            self.network = spec.backbone.cut(self.network)
            self.head, self.classifier = spec.make_head(spec.backbone.maps)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        images_BCHW, backbone = self.spec.prepare(x_BCHW), self.spec.backbone
        if backbone is None:
            scores: Tensor = self.network(images_BCHW)
        else:
            scores = self.classifier(self.head(backbone.run(self.network, images_BCHW)))
        return scores

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load tensors as this version of the code names them: some layers ask for the version that wrote theirs."""
        versioned = OrderedDict(state_dict)
        versioned._metadata = getattr(state_dict, "_metadata", self.state_dict()._metadata)  # type: ignore[attr-defined]
        return super().load_state_dict(versioned, strict, assign)

    def maskable_weights(self, *, transformer: bool = False, classifier: bool = False) -> list[str]:
        """List the names of the weights that pruning covers: of convolutions and matrix products, but the classifier.

        A weight that a layer normalises before it is used is not among them: pruned, it would not be zero in use.
        """
        names = set(self.spec.weights)
        if not classifier:
            names -= self.classifier_tensors
        return [name for name, _ in self.named_parameters() if name in names]

    def is_feature(self, name: str) -> bool:  # type: ignore[override]
        """Return whether a parameter or buffer of that name belongs to the features, not to classifier or head."""
        return name not in self.classifier_tensors and not name.startswith("head.")

    @cached_property
    def classifier_tensors(self) -> frozenset[str]:
        """Names of the parameters and buffers of what timm calls the classifier; elsewhere of the last layer in use.

        Behind maps it is the classifier of the head.
        """
        if self.spec.backbone is not None:
            return frozenset(name for name in self.state_dict() if name.startswith("classifier."))
        last = self.spec.weights[-1]
        find: Callable[[], Any] | None = getattr(self.network, "get_classifier", None)
        if find is not None:
            layers = find()
            heads = set(layers if isinstance(layers, tuple) else (layers,))
        else:
            layer = self.get_submodule(last.rpartition(".")[0])
            heads = set() if any(layer.children()) else {layer}  # a parameter of a larger part stands for itself
        prefixes = tuple(f"{name}." for name, module in self.named_modules() if module in heads)
        return frozenset(name for name in self.state_dict() if name.startswith(prefixes)) or frozenset((last,))


@dataclass(frozen=True)
class _Key:
    """A spec by its JSON."""

    text: str
    spec: ExternalSpec = field(compare=False)


@lru_cache(maxsize=16)
def _find_backbone(key: _Key) -> Backbone | None:
    """Find the maps of a network once, since a graph of operations takes seconds."""
    spec = key.spec
    with torch.device("meta"):
        network = spec.make_for_device(spec.make_module)
        images = spec.prepare(torch.empty(2, *spec.input_shape))
    try:
        return find_backbone(network, images, str(spec))
    except UserError:
        raise
    except Exception as error:  # whatever a network raises at images that it does not take
        raise spec.refusal_of_images(error) from None


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def external_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an `ExternalSpec` that its JSON holds, without the family."""
    fields = {name: value for name, value in data.items() if name != "family"}
    fields["settings"] = {name: as_tuples(value) for name, value in data["settings"].items()}
    return fields | {"image_size": as_tuples(data["image_size"])}


def split_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an `ExternalSpec` among overrides; all others are its settings."""
    fitted = ("num_classes", "in_channels", "image_size", "head", *HEAD_SETTINGS)
    fields = {name: as_tuples(value) for name, value in overrides.items() if name in fitted}
    settings = {name: as_tuples(value) for name, value in overrides.items() if name not in fitted}
    return fields | {"settings": settings}
