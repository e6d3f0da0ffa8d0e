"""Mobile networks as a list of operations, so that a cost that adds up is known without building a network.

An *operation* is a layer with one option each, its widths and the size of its map; the last one is what follows the
last map: pooling and linear layers, or a detector.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from ..errors import UserError
from ..models import MobileSpec
from ..models.base import Choice
from ..models.mobile.layer_spec import Layer, options_per_decision
from ..models.mobile.layers import SingleLayer
from ..models.mobile.ssdlite import SingleDetector
from ..models.op_counter import count_operations


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A part of a network that is timed by itself.

    Attributes:
        layer: One option each; None for what follows the last map.
        width_in: Channels of its input.
        width_out: Channels of its output; behind the last map the width of the pointwise layer there, or 0.
        size: Height and width of its input map; of a detector's larger one.
        fine: Channels of the larger map that a detector looks at; 0 for all else.
    """

    layer: Layer | None
    width_in: int
    width_out: int
    size: tuple[int, int]
    fine: int = 0

    def __str__(self) -> str:
        if self.fine:
            return f"detector {self.fine}+{self.width_in} at {self.size[0]}x{self.size[1]}"
        at = f"{self.width_in}->{self.width_out} at {self.size[0]}x{self.size[1]}"
        if self.layer is None:
            return f"tail {at}"
        layer = self.layer
        expansion = f" e{layer.expansions[0]:g}" if layer.expansions else ""
        se = " se" if layer.se == (True,) else ""
        stride = f" s{layer.stride}" if layer.stride > 1 else ""
        plus = " +" if layer.residual else ""
        return f"{layer.kind} k{layer.kernels[0]}{expansion}{se}{stride}{plus} {layer.activation} {at}"


def operations_of(spec: MobileSpec) -> list[Operation]:
    """Return the operations of a network, in order.

    Args:
        spec: Spec without open decisions.
    """
    operations, size, width = [], spec.image_size, spec.in_channels
    fine, fine_size = width, size
    for block in spec.blocks:
        for layer in block.layers:
            if layer.stride > 1:
                fine, fine_size = width, size
            operations.append(
                Operation(layer=replace(layer, skips=()), width_in=width, width_out=block.filters[0], size=size)
            )
            size, width = _strided(size, layer.stride), block.filters[0]
    if spec.head == "detection":
        return [*operations, Operation(layer=None, width_in=width, width_out=0, size=fine_size, fine=fine)]
    last = spec.last_filters[0] if spec.last_filters else 0
    return [*operations, Operation(layer=None, width_in=width, width_out=last, size=size)]


def list_operations(spec: MobileSpec) -> list[Operation]:
    """Return the operations of all networks of a space, each once."""
    operations: dict[Operation, None] = {}
    size = fine_size = spec.image_size
    widths: tuple[int, ...] = (spec.in_channels,)
    for block in spec.blocks:
        for place, layer in enumerate(block.layers):
            pairs = itertools.product(widths, block.filters) if place == 0 else ((f, f) for f in block.filters)
            for (width_in, width_out), single in itertools.product(list(pairs), options_per_decision(layer)):
                layer = replace(single, skips=())
                operations[Operation(layer=layer, width_in=width_in, width_out=width_out, size=size)] = None
            fine_size = size if layer.stride > 1 else fine_size
            size = _strided(size, layer.stride)
        widths = block.filters
    if spec.head == "detection":
        for fine, width_in in itertools.product(spec.fine_filters(), widths):
            operations[Operation(layer=None, width_in=width_in, width_out=0, size=fine_size, fine=fine)] = None
        return list(operations)
    for width_in, width_out in itertools.product(widths, spec.last_filters or (0,)):
        operations[Operation(layer=None, width_in=width_in, width_out=width_out, size=size)] = None
    return list(operations)


def _strided(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Return the size of a map behind a convolution, which rounds up."""
    return -(-size[0] // stride), -(-size[1] // stride)


def build_operation(operation: Operation, spec: MobileSpec) -> tuple[Callable[[], nn.Module], tuple[int, int, int]]:
    """Return a function that makes an operation's module, and the shape of its input.

    Args:
        operation: Operation of a network of the spec.
        spec: Settings that all layers share.
    """
    style = spec.style(stateless=False)
    if operation.fine:
        widths = (operation.fine, operation.width_in)
        make = partial(SingleDetector, widths, spec.extra_filters, spec.num_classes, style)
        return make, (operation.fine + operation.width_in, *operation.size)
    shape = (operation.width_in, *operation.size)
    if operation.layer is None:
        last = (operation.width_out,) if operation.width_out else ()
        tail = replace(spec, blocks=(), last_filters=last, in_channels=operation.width_in, image_size=operation.size)
        return tail.build, shape
    return partial(SingleLayer, operation.layer, operation.width_in, operation.width_out, style), shape


class Size(NamedTuple):
    """The share of an operation in a network's figures."""

    params: int
    macs: int


def network_size(operation: Operation, spec: MobileSpec) -> Size:
    """Return parameters and MACs of an operation; those of a network are their sums."""
    make, shape = build_operation(operation, spec)
    with torch.device("meta"):
        module = make().eval()
    products, _ = count_operations(module, torch.empty(1, *shape, device="meta"))
    return Size(sum(p.numel() for p in module.parameters()), sum(product.macs for product in products))


def additive_cost(spec: MobileSpec, figure: Callable[[Operation], float]) -> Callable[[Mapping[str, Choice]], float]:
    """Return the cost of a space's networks as the sum of a figure of their operations, each asked for once.

    Args:
        spec: The space.
        figure: Function that gives the cost of an operation.

    Returns:
        A function that tells the cost of a network, given an answer to every decision that means anything.
    """
    known = functools.cache(figure)

    def cost(choices: Mapping[str, Choice]) -> float:
        network = spec.select(choices)
        if network.is_search_space():
            left = next(decision.name for decision in network.decisions() if len(decision.options) > 1)
            raise UserError(f"the network's {left} is not chosen; answer every decision of the space")
        return sum(known(operation) for operation in operations_of(network))

    return cost
