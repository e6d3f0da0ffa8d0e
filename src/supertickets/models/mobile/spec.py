"""Mobile networks as specs: blocks of inverted bottlenecks whose kernels, widths and modules may be open decisions.

One kind of spec serves a search space (several options where something is to be found) and every network in it (one
option everywhere); `narrow` makes the second of the first. Sources: TuNAS, Sec. 3.1 and Table 2, and its released code.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ...errors import UserError
from ..base import Choice, Decision, NoUnits, as_tuples

if TYPE_CHECKING:
    from .network import MobileNetwork

Activation = Literal["relu", "relu6", "swish6"]
BASE = 8  # widths are multiples of it


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer and its options.

    Attributes:
        kind: A convolution with BN and activation; a separable one (depthwise with BN and activation, then pointwise
            with BN); or an inverted bottleneck (the same behind a pointwise expansion with BN and activation).
        kernels: Options of the kernel's size (of the depthwise convolution, if there is one).
        expansions: Options of a bottleneck's hidden width, as multiples of its input.
        se: Options of a squeeze-and-excite module on the hidden channels.
        skips: Options of leaving the layer out; empty if that is no question (the released index lists have an entry
            for some of the layers that always stay: one option).
        stride: Of the convolution with the kernel.
        activation: Behind it, and behind the expansion.
        residual: Whether the input is added to the output.
    """

    kind: Literal["conv", "separable", "bottleneck"] = "bottleneck"
    kernels: tuple[int, ...] = (3,)
    expansions: tuple[float, ...] = ()
    se: tuple[bool, ...] = (False,)
    skips: tuple[bool, ...] = ()
    stride: int = 1
    activation: Activation = "relu"
    residual: bool = False


@dataclass(frozen=True, kw_only=True)
class Block:
    """Layers that share their output width, so that residual connections fit.

    Attributes:
        name: Unique in its network.
        filters: Options of the width.
        layers: In the order in which data meets them.
    """

    name: str
    filters: tuple[int, ...]
    layers: tuple[Layer, ...]


@dataclass(frozen=True, kw_only=True)
class MobileSpec(NoUnits):
    """Exact description of a mobile network, or of a space of them.

    Attributes:
        blocks: From the image to the last map.
        head: What follows: pooling and linear layers, or a detector (`ssdlite.SSDLite`).
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
    head: Literal["classification", "detection"] = "classification"
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

    def __str__(self) -> str:
        layers = sum(len(block.layers) for block in self.blocks)
        return f"a mobile {'space' if self.is_search_space() else 'network'} of {layers} layers"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return (self.in_channels, *self.image_size)

    def build(self) -> MobileNetwork:
        """Makes the network with fresh weights; of a space, the one whose weights all its networks share."""
        from .network import MobileNetwork

        return MobileNetwork(self)

    def decisions(self) -> tuple[Decision, ...]:
        """What is open, in the order of the released index lists: a layer's parts, the layer, its block's width."""
        found: list[Decision] = []
        for block in self.blocks:
            for i, layer in enumerate(block.layers):
                found += _decisions(f"{block.name}.{i}", layer, self.collapsed)
            found.append(Decision(f"{block.name}.filters", block.filters, "filters"))
        if self.last_filters and self.head == "classification":
            found.append(Decision("last.filters", self.last_filters, "filters"))
        return tuple(found)

    def last_halving(self) -> tuple[str, int]:
        """Block and place of the last layer with a stride; a detector also looks at the map in front of it.

        Raises:
            UserError: There is none.
        """
        found = [(block.name, i) for block in self.blocks for i, layer in enumerate(block.layers) if layer.stride > 1]
        if not found:
            raise UserError("a detector needs a map and its half; give a block a stride (supernet.settings.strides)")
        return found[-1]

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
        """Whether any decision has more than one option."""
        return any(len(decision.options) > 1 for decision in self.decisions())

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


def _decisions(at: str, layer: Layer, collapsed: bool) -> Iterator[Decision]:
    within = (f"{at}.skip", False) if layer.skips else None
    if len(layer.kernels) > 1:
        yield Decision(f"{at}.kernel", layer.kernels, "op", within)
    if len(layer.expansions) > 1:
        yield Decision(f"{at}.expansion", layer.expansions, "filters" if collapsed else "op", within)
    if len(layer.se) > 1:
        yield Decision(f"{at}.se", layer.se, "op", within)
    if layer.skips:
        yield Decision(f"{at}.skip", layer.skips, "op")


def options_per_decision(layer: Layer) -> list[Layer]:
    """The layers with one option each that a layer stands for; whether it is left out stays open."""
    expansions: list[tuple[float, ...]] = [(e,) for e in layer.expansions] or [()]
    return [
        dataclasses.replace(layer, kernels=(kernel,), expansions=expansion, se=(se,))
        for kernel, expansion, se in itertools.product(layer.kernels, expansions, layer.se)
    ]


def scale_filters(filters: int, multiplier: float, base: int = BASE) -> int:
    """Nearest multiple of ``base``, at least ``base``."""
    return max(base, base * math.floor(filters * multiplier / base + 0.5))


def squeeze_channels(hidden: int) -> int:
    """Width inside a squeeze-and-excite module: a quarter, as a multiple of 8 that is no less than 90% of it."""
    wanted = hidden / 4
    width = max(BASE, int(wanted + BASE / 2) // BASE * BASE)
    return width + BASE if width < 0.9 * wanted else width
