"""Rewards that weigh quality against cost (TuNAS, Sec. 4.2), on any cost: MACs, parameters, latency; or connections."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

from ..errors import UserError
from ..plugins import find_by_name

# (quality Q, cost T, target T0 in the unit of the cost, exponent or slope beta) -> rewards, all tensors in one shape.
Rewarding = Callable[[Tensor, Tensor, float, float], Tensor]


@dataclass(frozen=True)
class Reward:
    """A way to weigh quality against cost.

    Attributes:
        name: Name for messages and records.
        weigh: Function of quality Q, e.g. an accuracy from 0 to 1, cost T, target T0 in its unit, and beta (negative).
        has_slope: Whether beta is a slope: the reward leads to the target only if -beta is more than what quality
            gains where the cost rises by one target (see `Trend`).
    """

    name: str
    weigh: Rewarding
    has_slope: bool = False


def absolute(quality: Tensor, cost: Tensor, target: float, beta: float) -> Tensor:
    """Reward Q + beta |T / T0 - 1| (the relaxation of Eq. 2)."""
    return quality + beta * (cost / target - 1).abs()


def soft(quality: Tensor, cost: Tensor, target: float, beta: float) -> Tensor:
    """Reward Q (T / T0)^beta."""
    return quality * (cost / target).pow(beta)


def hard(quality: Tensor, cost: Tensor, target: float, beta: float) -> Tensor:
    """Reward Q (T / T0)^beta where T > T0, else Q (Eq. 1)."""
    return quality * (cost / target).pow(beta).clamp(max=1.0)


REWARDS = {
    reward.name: reward
    for reward in (Reward("absolute", absolute, has_slope=True), Reward("soft", soft), Reward("hard", hard))
}


def find_reward(name: str) -> Reward:
    """Return a shipped reward, or a user's own: a `Reward`, or a function like `absolute`.

    Args:
        name: Name of a shipped reward, or ``package.module:name``.

    Raises:
        UserError: There is no such reward.
    """
    own = find_by_name(name, REWARDS, "reward")
    if isinstance(own, Reward):
        return replace(own, name=name)
    if not callable(own):
        raise UserError(f"reward {name} cannot be called; make it a function of quality, cost, target and beta")
    return Reward(name, own, bool(getattr(own, "has_slope", False)))


def connection_reward(schemes: Tensor, quality: Tensor, sparsity: float, accuracy: float) -> Tensor:
    """Reward connection schemes without curiosity: lambda 1 (1 - |a| / m) + lambda 2 quality (LTH4SA, Eq. 29).

    Args:
        schemes: Flags a, one per block, (S, M).
        quality: Quality from 0 to 1, (S,).
        sparsity: Weight of the share of blocks without a connection, lambda 1.
        accuracy: Weight of the quality, lambda 2.
    """
    return sparsity * (1 - schemes.double().mean(1)) + accuracy * quality


class Trend(NamedTuple):
    """A line through costs and qualities.

    Attributes:
        slope: Gain of quality where the cost rises by one target.
        error: Standard error of the slope.
    """

    slope: float
    error: float

    def exceeds(self, beta: float) -> bool:
        """Return whether a reward with slope beta leads past its target, unless chance is a likely cause."""
        return self.slope - 2 * self.error > -beta


def fit_trend(quality: Tensor, cost: Tensor, target: float) -> Trend:
    """Fit the least-squares line through networks; unknown of fewer than three, and where all cost the same."""
    ratio = (cost / target).double()
    if len(ratio) < 3 or bool((ratio == ratio[0]).all()):
        return Trend(0.0, math.inf)
    from scipy.stats import linregress  # slow to import

    line = linregress(ratio.numpy(), quality.double().numpy())
    return Trend(float(line.slope), float(line.stderr))
