"""Layers and blocks of mobile networks as data: options of kernels, widths and modules."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..base import Decision

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


def layer_decisions(at: str, layer: Layer, collapsed: bool) -> Iterator[Decision]:
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
