"""Mobile networks: one network, or the weights that all networks of a space share (TuNAS, Sec. 3.1 and 4.1).

One kind of spec serves a search space (several options where something is to be searched) and every network in it (one
option everywhere); `MobileSpec.select` makes the second of the first. Sources: TuNAS, Table 2, and its released code.

*Operations are collapsed*: all options of a layer share its pointwise convolutions, and there is one depthwise
convolution with its batch norm per kernel size. *Channels are masked* by cutting: a narrower network uses the first
channels of every weight, so that what is not chosen is not computed. The cut of one network out of the shared weights
is the network itself.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ...errors import UserError
from ..base import Choice, Decision, LayerRow, Network, Spec, as_tuples
from ..heads import FeatureMap, HeadedSpec
from .layer_spec import Activation, Block, Layer, layer_decisions, options_per_decision, scale_filters
from .layers import ACTIVATIONS, Choices, MixedLayer, SeparatePaths, first_channels, option_key
from .shared_weights import Style, linear_first
from .ssdlite import SSDLite


@dataclass(frozen=True, kw_only=True)
class MobileSpec(HeadedSpec):
    """Exact description of a mobile network, or of a space of them.

    Attributes:
        blocks: From the image to the last map.
        head: What follows: pooling and linear layers, a detector (`ssdlite.SSDLite`), or a head for maps. The last is
            not for spaces.
        last_filters: Options of the width of a pointwise layer with bias behind the pooling; empty if there is none.
            A detector has none.
        last_activation: Behind that layer.
        extra_filters: Widths of the maps that a detector makes of the last one.
        num_classes: Classes.
        in_channels: Channels of the input image.
        image_size: Height and width that costs refer to, in pixels.
        dropout: In front of the classifier.
        padding: Of strided convolutions: as TensorFlow's "SAME" (more below and on the right), or the same on all
            sides.
        gate: Of squeeze-and-excite modules.
        statistics: What batch norms of a space with open decisions use: those of the batch, always (the released code),
            or running ones that all its networks share, or those measured anew for every network that is judged
            ("recalibrated"). Networks without open decisions have ordinary batch norms.
        collapsed: Whether the options of a layer share its pointwise convolutions (operation collapsing, Sec. 4.1);
            else each combination has a layer of its own, and expansions are operations.
        bn_eps: Of all batch norms.
        bn_momentum: Share of a batch in the running statistics.
    """

    blocks: tuple[Block, ...]
    last_filters: tuple[int, ...] = ()
    last_activation: Activation = "swish6"
    extra_filters: tuple[int, ...] = (512, 256, 256, 128)
    num_classes: int = 1000
    in_channels: int = 3
    image_size: tuple[int, int] = (224, 224)
    dropout: float = 0.0
    padding: Literal["same_tf", "symmetric"] = "same_tf"
    gate: Literal["sigmoid", "hard_sigmoid"] = "sigmoid"
    statistics: Literal["batch", "running", "recalibrated"] = "batch"
    collapsed: bool = True
    bn_eps: float = 1e-3
    bn_momentum: float = 0.01
    head_settings: ClassVar[tuple[str, ...] | None] = None
    transfers_network: ClassVar[bool] = False
    replaceable: ClassVar[tuple[str, ...]] = ("dropout", "bn_eps", "bn_momentum")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.joins_maps and self.is_search_space():
            raise UserError(
                f"spaces of mobile networks have heads for classification and detection, not for {self.head}; answer "
                "their decisions (supernet.settings.choices), or take a network, e.g. mobilenet_v3_large"
            )

    def __str__(self) -> str:
        layers = sum(len(block.layers) for block in self.blocks)
        return f"a mobile {'space' if self.is_search_space() else 'network'} of {layers} layers"

    @property
    def family(self) -> str:
        return "mobile"

    def build(self) -> MobileNetwork:
        """Makes the network with fresh weights; of a space, the one whose weights all its networks share."""
        return MobileNetwork(self)

    def style(self, *, stateless: bool) -> Style:
        """Return what the layers of the network need to know of it.

        Args:
            stateless: Whether batch norms use the statistics of their batch, always.
        """
        return Style(
            stateless=stateless,
            bn_eps=self.bn_eps,
            bn_momentum=self.bn_momentum,
            padding=self.padding,
            gate=self.gate,
        )

    def decisions(self) -> tuple[Decision, ...]:
        """List what is open, as the released index lists do: a layer's parts, the layer, its block's width."""
        decisions: list[Decision] = []
        for block in self.blocks:
            for i, layer in enumerate(block.layers):
                decisions += layer_decisions(f"{block.name}.{i}", layer, self.collapsed)
            decisions.append(Decision(f"{block.name}.filters", block.filters, "filters"))
        if self.last_filters and self.head == "classification":
            decisions.append(Decision("last.filters", self.last_filters, "filters"))
        return tuple(decisions)

    @property
    def joins_maps(self) -> bool:
        """Return whether the head makes maps of those of the network."""
        return self.head not in ("classification", "detection")

    @property
    def coarsest_stride(self) -> int | None:
        """Pixels of the input per cell of the last map; None if the head takes images of one size."""
        return self.maps()[-1].stride if self.joins_maps else None

    def maps(self) -> list[FeatureMap]:
        """List the maps in front of every layer with a stride, and the last one, finest first."""
        maps, one = list[FeatureMap](), FeatureMap(self.in_channels, 1)
        for block in self.blocks:
            for layer in block.layers:
                if layer.stride > 1:
                    maps.append(one)
                one = FeatureMap(block.filters[0], one.stride * layer.stride)
        return [*maps[1:], one]  # the first one is the image

    def last_halving(self) -> tuple[str, int]:
        """Block and place of the last layer with a stride; a detector also looks at the map in front of it.

        Raises:
            UserError: There is none.
        """
        strided = [(block.name, i) for block in self.blocks for i, layer in enumerate(block.layers) if layer.stride > 1]
        if not strided:
            raise UserError("a detector needs a map and its half; give a block a stride (supernet.settings.strides)")
        return strided[-1]

    def fine_filters(self) -> tuple[int, ...]:
        """Options of the width of the map in front of `last_halving`."""
        name, place = self.last_halving()
        widths = [(self.in_channels,), *(block.filters for block in self.blocks)]
        at = [block.name for block in self.blocks].index(name)
        return widths[at + 1] if place else widths[at]

    def select(self, choices: Mapping[str, Choice]) -> MobileSpec:
        """Returns the spec with one option for every decision that ``choices`` names, layers that are skipped left out.

        Decisions inside a layer that is skipped may be absent. What is not named stays open.
        """

        def only(name: str, options: tuple[Any, ...]) -> tuple[Any, ...]:
            return (choices[name],) if name in choices else options

        blocks = []
        for block in self.blocks:
            layers = []
            for i, layer in enumerate(block.layers):
                at = f"{block.name}.{i}"
                skips = only(f"{at}.skip", layer.skips)
                if skips != (True,):
                    layers.append(
                        dataclasses.replace(
                            layer,
                            kernels=only(f"{at}.kernel", layer.kernels),
                            expansions=only(f"{at}.expansion", layer.expansions),
                            se=only(f"{at}.se", layer.se),
                            skips=() if f"{at}.skip" in choices else skips,
                        )
                    )
            if layers:
                filters = only(f"{block.name}.filters", block.filters)
                blocks.append(Block(name=block.name, filters=filters, layers=tuple(layers)))
        return dataclasses.replace(self, blocks=tuple(blocks), last_filters=only("last.filters", self.last_filters))

    def extreme(self, *, largest: bool) -> dict[str, Choice]:
        """Answers of the smallest or the largest network: least or most of everything, all left out or nothing."""
        return {
            decision.name: max(decision.options)
            if largest != decision.name.endswith(".skip")
            else min(decision.options)
            for decision in self.decisions()
        }

    def is_search_space(self) -> bool:
        """Return whether any decision has more than one option."""
        return any(len(decision.options) > 1 for decision in self.decisions())

    def layer_table(self) -> tuple[LayerRow, ...]:
        """Return the hidden width of every layer, and the kernel that works on it."""
        rows, width_in = [], self.in_channels
        for block in self.blocks:
            for i, layer in enumerate(block.layers):
                kernel, width_out = layer.kernels[0], block.filters[0]
                hidden = scale_filters(width_in, layer.expansions[0]) if layer.expansions else width_out
                notes = [f"{width_in}-{width_out}", *(["SE"] if layer.se == (True,) else [])]
                notes += [f"stride {layer.stride}"] if layer.stride > 1 else []
                rows.append(LayerRow(f"{block.name}.{i}", hidden, kernel, ", ".join(notes)))
                width_in = width_out
        return tuple(rows)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON with the family's name."""
        return {"family": "mobile", **dataclasses.asdict(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> MobileSpec:
        """Reads what `to_json` wrote."""
        fields = {name: as_tuples(value) for name, value in data.items() if name not in ("family", "blocks")}
        blocks = []
        for block in data["blocks"]:
            layers = tuple(
                Layer(**{name: as_tuples(value) for name, value in layer.items()}) for layer in block["layers"]
            )
            blocks.append(Block(name=block["name"], filters=tuple(block["filters"]), layers=layers))
        return MobileSpec(blocks=tuple(blocks), **fields)


def require_mobile(spec: Spec) -> MobileSpec:
    """Return a spec as that of a mobile network or a space of them, whose operations can be timed one by one.

    Raises:
        UserError: It is of another family.
    """
    if not isinstance(spec, MobileSpec):
        raise UserError(f"a policy searches spaces of mobile networks, which {spec} is not; take another supernet.name")
    return spec


class MobileNetwork(Network):
    """The network of a `MobileSpec`.

    Shapes: input (B, in_channels, H, W); output (B, num_classes), or for detection that of `SSDLite`.
    """

    def __init__(self, spec: MobileSpec) -> None:
        super().__init__()
        self.spec: MobileSpec = spec
        style = spec.style(stateless=spec.is_search_space() and spec.statistics == "batch")
        width = spec.in_channels
        self.blocks = nn.ModuleDict()
        for block in spec.blocks:
            layers = nn.ModuleList()
            for layer in block.layers:
                kind = MixedLayer if spec.collapsed or len(options_per_decision(layer)) == 1 else SeparatePaths
                layers.append(kind(layer, width, max(block.filters), style))
                width = max(block.filters)
            self.blocks[block.name] = layers
        self.classifier: nn.Module
        if spec.joins_maps:
            self._initialise()
            self.head, self.classifier = spec.make_head(spec.maps(), spec.dropout)
            return
        if spec.head == "detection":
            spec.last_halving()  # refuses a network without one
            self.detector = SSDLite((max(spec.fine_filters()), width), spec.extra_filters, spec.num_classes, style)
        else:
            self.last: nn.Linear | None = None
            if spec.last_filters:
                self.last = nn.Linear(width, max(spec.last_filters))
                width = max(spec.last_filters)
            self.dropout = nn.Dropout(spec.dropout)
            self.classifier = nn.Linear(width, spec.num_classes)
        self._initialise()

    def forward(self, x_BCHW: Tensor, choices: Choices | None = None) -> Tensor:
        """Runs the network of these choices.

        Args:
            x_BCHW: Images.
            choices: Answers to the spec's decisions; what is absent is the largest option.
        """
        spec, chosen = self.spec, choices or {}
        maps = []  # in front of every layer with a stride
        for block in spec.blocks:
            width = first_channels(chosen, f"{block.name}.filters", block.filters)
            layers = self.blocks[block.name]
            assert isinstance(layers, nn.ModuleList)
            for i, layer in enumerate(layers):
                if block.layers[i].stride > 1:
                    maps.append(x_BCHW)
                x_BCHW = layer(x_BCHW, f"{block.name}.{i}", chosen, width)
        if spec.head == "detection":
            predictions: Tensor = self.detector(maps[-1], x_BCHW)
            return predictions
        if spec.joins_maps:
            scores: Tensor = self.classifier(self.head([*maps[1:], x_BCHW]))
            return scores
        x_BC = x_BCHW.mean((2, 3))
        if self.last is not None:
            x_BC = linear_first(self.last, x_BC, first_channels(chosen, "last.filters", spec.last_filters))
            x_BC = ACTIVATIONS[spec.last_activation](x_BC)
        assert isinstance(self.classifier, nn.Linear)
        return linear_first(self.classifier, self.dropout(x_BC), spec.num_classes)

    def maskable_weights(self, *, transformer: bool = False, classifier: bool = False) -> list[str]:
        """Names of the weights that pruning covers: all of convolutions and linear layers but the classifier's.

        What makes a detector's predictions counts as its classifier; the rest of its head is pruned like any layer.
        """
        names = [f"{name}.weight" for name, m in self.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        last = {name for name in names if name.startswith("classifier.")}
        if self.spec.head == "detection":
            last = {f"detector.{name}" for name in self.detector.outputs()}
        return [name for name in names if classifier or name not in last]

    @staticmethod
    def is_feature(name: str) -> bool:
        """Return whether a parameter or buffer of that name belongs to the features, not to the head."""
        return not name.startswith(("last.", "classifier.", "detector."))

    def extract_subnet(self, choices: Mapping[str, Choice]) -> MobileNetwork:
        """Copies the network of these choices out of the shared weights; random numbers stay as they are.

        Where all networks use the statistics of their batch, there are no running ones to copy: measure those of the
        copy before it is evaluated.

        Args:
            choices: An answer to every decision that means anything.
        """
        with torch.random.fork_rng(devices=[]):
            network = self.spec.select(choices).build().to(next(self.parameters()))
        network.load_state_dict(slice_state_dict(self.spec, choices, self.state_dict()))
        return network

    def _initialise(self) -> None:
        """He-normal by the inputs of an output, truncated; the classifier's weights have a deviation of 0.01.

        A detector's stay as torchvision has them.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and not name.startswith("detector."):
                deviation = 0.01
                if name != "classifier":
                    deviation = (2 / module.weight[0].numel()) ** 0.5 / 0.87962566  # what truncation takes away
                nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def slice_state_dict(
    spec: MobileSpec, choices: Mapping[str, Choice], shared: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Cuts the tensors of one network out of shared ones: its weights, or masks of them.

    Args:
        spec: Of what is shared.
        choices: An answer to every decision that means anything.
        shared: Named and shaped like the tensors of the shared network; some may be absent.

    Returns:
        Named and shaped like those of ``spec.select(choices)``; views.
    """
    network = spec.select(choices)
    with torch.device("meta"):
        own = network.build().state_dict()
    kept = {block.name: block.layers for block in network.blocks}
    places: dict[str, str] = {}
    for block in spec.blocks:
        stays = [i for i in range(len(block.layers)) if choices.get(f"{block.name}.{i}.skip") is not True]
        for new, old in enumerate(stays):
            is_apart = not spec.collapsed and len(options_per_decision(block.layers[old])) > 1
            apart = f"options.{option_key(kept[block.name][new])}." if is_apart else ""
            places[f"blocks.{block.name}.{new}."] = f"blocks.{block.name}.{old}.{apart}"
    cut = {}
    for name, tensor in own.items():
        prefix = next((p for p in places if name.startswith(p)), "")
        source = places.get(prefix, "") + name.removeprefix(prefix)
        if source in shared:
            cut[name] = shared[source][tuple(slice(size) for size in tensor.shape)]
    return cut
