"""The way of a network's costs from the supernet to a budget: what units and weights may cost at a point of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from ..config.recipe import Recipe
from ..cost import LatencyLine, MaskCosts, WidthCosts
from ..models import Spec

Limits = Mapping[str, float]


def path_cost(start: float, budget: float, progress: float) -> float:
    """Return the cost on the way from a supernet to a budget: B + (C - B) (1 - u)^3, fast at first.

    Args:
        start: Cost of the supernet, C.
        budget: The budget, B.
        progress: Share of the way, u, from 0 to 1.
    """
    return budget + (start - budget) * (1 - progress) ** 3


def final_limits(recipe: Recipe, line: LatencyLine | None) -> dict[str, float]:
    """Return what a ticket may cost, by name of the cost; a latency is restated in MACs.

    Args:
        recipe: The settings.
        line: MACs and latency of networks that were measured; None without a budget of latency.
    """
    limits = recipe.budget.given
    if line is not None:
        ms = limits.pop("latency_ms")
        limits["macs"] = min(line.macs_at(ms), limits.get("macs", math.inf))
    return limits


def unit_limits(supernet: WidthCosts, final: Limits, progress: float) -> Limits:
    """Return what a network may cost, as far as units decide it.

    For a runtime that skips zeros, units go only as far as `prune.ratio` zeros leave too much: its costs have them.

    Args:
        supernet: Costs of the network that the run began with.
        final: What the ticket may cost.
        progress: Share of the way, from 0 to 1.
    """
    starts = {name: supernet.measure(name, {}) for name in final}
    return {name: path_cost(starts[name], min(limit, starts[name]), progress) for name, limit in final.items()}


def mask_limits(supernet: Spec, final: Limits, progress: float) -> Limits:
    """Return what a network may cost without its zeros.

    Args:
        supernet: The network that the run began with.
        final: What the ticket may cost.
        progress: Share of the way, from 0 to 1.
    """
    costs = MaskCosts(supernet)
    return {name: path_cost(costs.measure(name, {}), limit, progress) for name, limit in final.items()}


def tightest_share(
    measure: Callable[[str, Mapping[str, Tensor]], float], limits: Limits, flags: Mapping[str, Tensor]
) -> float:
    """Return the largest of the costs of what flags leave, each as a share of its limit."""
    return max(measure(name, flags) / limit for name, limit in limits.items())
