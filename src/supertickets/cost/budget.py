"""The budget of a policy search: one cost, its target, and a way to tell it of any network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ..config.search_settings import BudgetSettings
from ..device import on_threads
from ..models import MobileSpec
from ..models.base import Choice
from .latency import time_interleaved
from .latency_table import LatencyTable
from .operations import additive_cost, network_size

_CALLS = 20  # of a network that is timed
_FORMATS = {
    "latency_ms": "{:,.4g} ms",
    "macs": "{:,.0f} MACs",
    "params": "{:,.0f} parameters",
    "size_kb": "{:,.4g} kB",
}


@dataclass(frozen=True)
class Budget:
    """A limit.

    Attributes:
        name: "latency_ms", "macs" or "params".
        target: The figure that is wanted.
        cost: Function that tells the figure of a network of the space.
    """

    name: str
    target: float
    cost: Callable[[Mapping[str, Choice]], float]


def make_budget(settings: BudgetSettings, spec: MobileSpec, table: Path) -> Budget:
    """Make the budget of a space.

    Args:
        settings: Settings that limit one figure.
        spec: The space.
        table: File of the latency table, read if latencies are predicted.

    Raises:
        UserError: The table cannot be read, or is of another space.
    """
    [(name, target)] = settings.given.items()
    if name == "macs":
        return Budget(name, target, additive_cost(spec, lambda operation: network_size(operation, spec).macs))
    if name == "params":
        return Budget(name, target, additive_cost(spec, lambda operation: network_size(operation, spec).params))
    if settings.measured:
        known: dict[MobileSpec, float] = {}  # one figure per network and process

        def measured(choices: Mapping[str, Choice]) -> float:
            network = spec.select(choices)
            if network not in known:
                known[network] = measure_latency(network, settings.threads)
            return known[network]

        return Budget(name, target, measured)
    predicted = LatencyTable.load(table)
    predicted.check_serves(spec, str(table))
    return Budget(name, target, predicted.predictor(spec))


def format_cost(name: str, cost: float) -> str:
    """Format a cost of a kind of budget, for reading."""
    formats = {
        "latency_ms": "{:,.4g} ms",
        "macs": "{:,.0f} MACs",
        "params": "{:,.0f} parameters",
        "size_kb": "{:,.4g} kB",
    }
    return formats[name].format(cost)


def format_setting(cost: float, *, up: bool = False) -> str:
    """Format a cost as it is typed, in whole numbers or four digits; rounded up if it is the least that can be met."""
    step = 1.0 if cost >= 1000 else 10.0 ** (math.floor(math.log10(cost)) - 3) if cost > 0 else 1.0
    if up:
        cost = math.ceil(cost / step) * step
    return f"{cost:.0f}" if cost >= 1000 else f"{cost:.4g}"


def measure_latency(spec: MobileSpec, threads: int) -> float:
    """Return the median ms of one image through a network with fresh weights, by PyTorch; random numbers stay."""
    with torch.random.fork_rng(devices=[]):
        module = spec.build().eval()
    images = torch.zeros(1, *spec.input_shape)
    with on_threads(threads), torch.inference_mode():
        return time_interleaved({"": lambda: module(images)}, _CALLS)[""].median_ms
