"""Rewards that weigh quality against cost (TuNAS, Sec. 4.2), on any cost: MACs, parameters, latency; or connections."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from ..config.search_settings import RewardKind


def reward(kind: RewardKind, quality: Tensor, cost: Tensor, target: float, beta: float) -> Tensor:
    """Rewards networks, all in one shape.

    Args:
        kind: "absolute": Q + beta |T / T0 - 1| (the relaxation of Eq. 2); "soft": Q (T / T0)^beta; "hard": the same
            where T > T0, else Q (Eq. 1).
        quality: Q, e.g. an accuracy from 0 to 1.
        cost: T.
        target: T0, in the unit of the cost.
        beta: The cost exponent, negative. An absolute reward leads to the target if -beta is more than what quality
            gains where the cost rises by one target (see `trend`).
    """
    ratio = cost / target
    if kind == "absolute":
        return quality + beta * (ratio - 1).abs()
    factor = ratio.pow(beta)
    return quality * (factor if kind == "soft" else factor.clamp(max=1.0))


def connection_reward(schemes: Tensor, quality: Tensor, sparsity: float, accuracy: float) -> Tensor:
    """Rewards connection schemes without curiosity: lambda 1 (1 - |a| / m) + lambda 2 quality (LTH4SA, Eq. 29).

    Args:
        schemes: a, a flag per block, (S, M).
        quality: From 0 to 1, (S,).
        sparsity: lambda 1.
        accuracy: lambda 2.
    """
    return sparsity * (1 - schemes.double().mean(1)) + accuracy * quality


class Trend(NamedTuple):
    """A line through costs and qualities.

    Attributes:
        slope: What quality gains where the cost rises by one target.
        error: Standard error of the slope.
    """

    slope: float
    error: float

    def exceeds(self, beta: float) -> bool:
        """Whether an absolute reward leads past its target, which is told only where chance is no likely cause."""
        return self.slope - 2 * self.error > -beta


def fit_trend(quality: Tensor, cost: Tensor, target: float) -> Trend:
    """The least-squares line through networks; unknown of fewer than three, and where all cost the same."""
    ratio = (cost / target).double()
    centred = ratio - ratio.mean()
    deviation = quality.double() - quality.double().mean()
    spread = float(centred.square().sum())
    if len(ratio) < 3 or not spread > 0:
        return Trend(0.0, math.inf)
    slope = float((centred * deviation).sum()) / spread
    residual = float((deviation - slope * centred).square().sum()) / (len(ratio) - 2)
    return Trend(slope, math.sqrt(residual / spread))
