"""Predicted latency of mobile networks: the sum of what their operations were measured to take, on one device.

The features are those of TuNAS (released code): which layer stands at which place, between which widths. Here they are
*operations*: a layer with one option each, its widths and the size of its map. Equal ones are measured once.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..supernets import MobileSpec
from ..supernets.mobile_spec import Layer
from ..supernets.spec import Choice


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A part of a network that is timed by itself.

    Attributes:
        layer: One option each; None for what follows the last map: pooling and linear layers.
        width_in: Channels of its input.
        width_out: Of its output; behind the last map the width of the pointwise layer there, 0 if there is none.
        size: Height and width of its input map.
    """

    layer: Layer | None
    width_in: int
    width_out: int
    size: tuple[int, int]

    def __str__(self) -> str:
        at = f"{self.width_in}->{self.width_out} at {self.size[0]}x{self.size[1]}"
        if self.layer is None:
            return f"tail {at}"
        layer = self.layer
        expansion = f" e{layer.expansions[0]:g}" if layer.expansions else ""
        se = " se" if layer.se == (True,) else ""
        stride = f" s{layer.stride}" if layer.stride > 1 else ""
        plus = " +" if layer.residual else ""
        return f"{layer.kind} k{layer.kernels[0]}{expansion}{se}{stride}{plus} {layer.activation} {at}"


def operations(spec: MobileSpec) -> list[Operation]:
    """The operations of a network, in order.

    Args:
        spec: Without open decisions.
    """
    found, size, width = [], spec.image_size, spec.in_channels
    for block in spec.blocks:
        for layer in block.layers:
            found.append(
                Operation(layer=replace(layer, skips=()), width_in=width, width_out=block.filters[0], size=size)
            )
            size, width = _strided(size, layer.stride), block.filters[0]
    last = spec.last_filters[0] if spec.last_filters else 0
    return [*found, Operation(layer=None, width_in=width, width_out=last, size=size)]


def all_operations(spec: MobileSpec) -> list[Operation]:
    """The operations of all networks of a space, each once."""
    found: dict[Operation, None] = {}
    size = spec.image_size
    widths: tuple[int, ...] = (spec.in_channels,)
    for block in spec.blocks:
        for place, layer in enumerate(block.layers):
            pairs = itertools.product(widths, block.filters) if place == 0 else ((f, f) for f in block.filters)
            for (width_in, width_out), single in itertools.product(list(pairs), _singles(layer)):
                found[Operation(layer=single, width_in=width_in, width_out=width_out, size=size)] = None
            size = _strided(size, layer.stride)
        widths = block.filters
    for width_in, width_out in itertools.product(widths, spec.last_filters or (0,)):
        found[Operation(layer=None, width_in=width_in, width_out=width_out, size=size)] = None
    return list(found)


def _singles(layer: Layer) -> Iterator[Layer]:
    expansions: list[tuple[float, ...]] = [(e,) for e in layer.expansions] or [()]
    for kernel, expansion, se in itertools.product(layer.kernels, expansions, layer.se):
        yield replace(layer, kernels=(kernel,), expansions=expansion, se=(se,), skips=())


def _strided(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Size of a map behind a convolution, which rounds up."""
    return -(-size[0] // stride), -(-size[1] // stride)


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """What the operations of a space take on one device, and how their sum becomes a network's time.

    Attributes:
        spec: The space.
        device: Name of the processor.
        runtime: "torch" or "onnxruntime".
        threads: Of the runtime.
        ms: Operation (as text) -> median time of a call, for one image.
        bias: ms of a network beyond its operations.
        scale: What the sum of its operations is multiplied by.
        networks: Whole networks that bias and scale were fitted to.
        check: How well networks that were not among them are predicted.
    """

    spec: MobileSpec
    device: str
    runtime: str
    threads: int
    ms: Mapping[str, float]
    bias: float = 0.0
    scale: float = 1.0
    networks: int = 0
    check: Mapping[str, float]

    def total(self, choices: Mapping[str, Choice]) -> float:
        """ms of the operations of a network of the space.

        Raises:
            UserError: The choices leave something open, or name what the space has not.
        """
        network = self.spec.narrow(choices)
        if network.is_open():
            left = next(decision.name for decision in network.decisions() if len(decision.options) > 1)
            raise UserError(f"the network's {left} is not chosen; answer every decision of the space")
        try:
            return sum(self.ms[str(operation)] for operation in operations(network))
        except KeyError as error:
            raise UserError(f"the space has no {error.args[0]}; see its decisions()") from None

    def predict(self, choices: Mapping[str, Choice]) -> float:
        """ms that a network of the space takes."""
        return self.bias + self.scale * self.total(choices)

    def save(self, path: Path) -> None:
        """Writes JSON; the file is the old one or the new one, whole."""
        scratch = path.with_name(f"unfinished-{path.name}")
        scratch.write_text(json.dumps(self.to_json(), indent=1) + "\n")
        os.replace(scratch, path)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON."""
        return asdict(self) | {"spec": self.spec.to_json()}

    @staticmethod
    def load(path: str | Path) -> LatencyTable:
        """Reads what `save` wrote.

        Raises:
            UserError: There is no such file, or it is no latency table.
        """
        try:
            data = json.loads(Path(path).read_text())
            return LatencyTable(**data | {"spec": MobileSpec.from_json(data["spec"])})
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}); make it with supertickets latency-table"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{path} is no latency table; make it anew with supertickets latency-table") from None
