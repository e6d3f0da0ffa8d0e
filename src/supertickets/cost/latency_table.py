"""Predicted latency of mobile networks: the sum of the measured times of their operations, on one device.

The features are those of TuNAS (released code): which layer stands at which place, between which widths. Here they are
`operations.Operation`s. Equal ones are measured once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..models import MobileSpec
from ..models.base import Choice
from ..storage import read_json, write_text
from .operations import additive_cost, list_operations

RUNTIMES = ("torch", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """Size and runtime of the measurement of a latency table.

    Attributes:
        runtime: "torch" or "onnxruntime".
        threads: CPU threads of the runtime.
        repeats: Calls per operation and network. Of an operation the 10th percentile counts, since what disturbs a
            machine would otherwise decide which operation is dear; of a network the median, which is to be predicted.
        networks: Networks for the check, which bias and scale have not seen; a third as many more fit these.
        seed: Seed of the networks.
    """

    runtime: str = "torch"
    threads: int = 1
    repeats: int = 60
    networks: int = 50
    seed: int = 0

    def check(self) -> None:
        """Refuse numbers that are too small, and an unknown runtime."""
        if self.runtime not in RUNTIMES:
            raise UserError(f"--runtime is {self.runtime}; take one of {', '.join(RUNTIMES)}")
        for name, value, least in (
            ("threads", self.threads, 1),
            ("repeats", self.repeats, 1),
            ("networks", self.networks, 2),
        ):
            if value < least:
                raise UserError(f"--{name} is {value}; the nearest possible is {least}")


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Times of the operations of a space on one device, and how their sum becomes a network's time.

    Attributes:
        spec: The space.
        device: Name of the processor.
        runtime: "torch" or "onnxruntime".
        threads: CPU threads of the runtime.
        ms: Operation (as text) -> median time of a call, for one image.
        bias: Time in ms of a network beyond its operations.
        scale: Factor of the sum of its operations.
        networks: Whole networks that bias and scale were fitted to.
        check: Errors of the prediction of networks that were not among them.
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

    def predict(self, choices: Mapping[str, Choice]) -> float:
        """Return the ms that a network of the space takes.

        Raises:
            UserError: The choices leave something open, or name what the space has not.
        """
        try:
            return self._predict(choices)
        except KeyError as error:
            raise UserError(f"the space has no {error.args[0]}; see its decisions()") from None

    @cached_property
    def _predict(self) -> Callable[[Mapping[str, Choice]], float]:
        return self.predictor(self.spec)

    def predictor(self, spec: MobileSpec) -> Callable[[Mapping[str, Choice]], float]:
        """Return a function that tells the ms of networks of a space that the table serves."""
        total = additive_cost(spec, lambda operation: self.ms[str(operation)])
        return lambda choices: self.bias + self.scale * total(choices)

    def check_serves(self, spec: MobileSpec, name: str) -> None:
        """Refuse another space than that of the table.

        Args:
            spec: The space.
            name: Name of the table for the message.
        """
        same = all(
            getattr(self.spec, field) == getattr(spec, field)
            for field in ("head", "num_classes", "in_channels", "extra_filters", "padding", "gate")
        )
        height, width = spec.image_size
        if not same or any(str(operation) not in self.ms for operation in list_operations(spec)):
            raise UserError(
                f"{name} was measured for another space, size of images ({height} x {width} are wanted) or number of "
                f"channels or classes ({spec.in_channels}, {spec.num_classes}), or another head ({spec.head}) or "
                f"padding ({spec.padding}); leave out budget.table, then the search measures one"
            )

    def save(self, path: Path) -> None:
        """Write JSON; the file is the old one or the new one, whole."""
        write_text(path, json.dumps(self.to_json(), indent=1) + "\n")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self) | {"spec": self.spec.to_json()}

    @staticmethod
    def load(path: str | Path) -> LatencyTable:
        """Read what `save` wrote.

        Raises:
            UserError: There is no such file, or it is no latency table.
        """
        try:
            data = read_json(Path(path))
            table = LatencyTable(**data | {"spec": MobileSpec.from_json(data["spec"])})
            if not all(map(math.isfinite, (*table.ms.values(), table.bias, table.scale))):
                raise ValueError("a figure is not finite")
            table.predict({decision.name: decision.options[0] for decision in table.spec.decisions()})  # it can
            return table
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}); make it with supertickets latency-table"
            ) from None
        except (ValueError, LookupError, ArithmeticError, TypeError, AttributeError):
            raise UserError(f"{path} is no latency table; make it anew with supertickets latency-table") from None
