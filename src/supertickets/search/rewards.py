"""Rewards that weigh quality against cost (TuNAS, Sec. 4.2), on any cost: MACs, parameters, latency."""

from __future__ import annotations

from torch import Tensor

from ..policy_settings import RewardKind


def reward(kind: RewardKind, quality: Tensor, cost: Tensor, target: float, beta: float) -> Tensor:
    """Rewards networks, all in one shape.

    Args:
        kind: "absolute": Q + beta |T / T0 - 1| (the relaxation of Eq. 2); "soft": Q (T / T0)^beta; "hard": the same
            where T > T0, else Q (Eq. 1).
        quality: Q, e.g. an accuracy from 0 to 1.
        cost: T.
        target: T0, in the unit of the cost.
        beta: The cost exponent, negative. An absolute reward leads to the target if -beta is more than what quality
            gains where the cost rises by one target (see `slope`).
    """
    ratio = cost / target
    if kind == "absolute":
        return quality + beta * (ratio - 1).abs()
    factor = ratio.pow(beta)
    return quality * (factor if kind == "soft" else factor.clamp(max=1.0))


def slope(quality: Tensor, cost: Tensor, target: float) -> float:
    """What quality gains where the cost rises by one target: the slope of a least-squares line through all networks."""
    ratio = (cost / target).double()
    centred = ratio - ratio.mean()
    spread = centred.square().sum()
    if not spread > 0:
        return 0.0
    return float((centred * (quality.double() - quality.double().mean())).sum() / spread)
