"""The resource-aware L1 penalty on importance factors, without a graph (Sec. 3.1; network slimming, HR-NAS)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config.search_settings import SearchSettings
from ..cost import unit_macs
from ..models.base import Spec
from .importance import scales_per_unit


def unit_weights(spec: Spec, supernet: Spec, exponent: float = 1.0) -> dict[str, Tensor]:
    """Return p: MACs of each unit over the mean MACs of a unit of the full supernet, to a power.

    A unit with several scales is penalised by the mean of their magnitudes: each has its share of p.

    Args:
        spec: The network as it is now.
        supernet: The network that the run began with, which fixes the unit of measure.
        exponent: The power: 1 in the paper; less takes relatively less from the units that cost most.

    Returns:
        Name of the scale -> float vector.
    """
    every = torch.cat(list(unit_macs(supernet).values()) or [torch.ones(1, dtype=torch.float64)])
    macs = unit_macs(spec)
    weights: dict[str, Tensor] = {}
    for group in spec.unit_groups():
        p = (macs[group.name] / every.mean()) ** exponent / scales_per_unit(group).clamp_min(1)
        for scale in group.scales:
            owned = torch.cat([p, p.new_zeros(1)])[scale.index]  # -1 is the zero
            weights[scale.tensor] = weights[scale.tensor] + owned if scale.tensor in weights else owned
    return weights


@dataclass
class Penalty:
    """A pull of the scales towards zero, with strength rho(t) * p per unit.

    Attributes:
        scales: The BN weights.
        weights: p of their units, in the same order and shapes.
        settings: Reads ``rho``, ``warmup_epochs``, ``penalty`` and ``last_epoch``.
    """

    scales: list[Tensor]
    weights: list[Tensor]
    settings: SearchSettings

    @staticmethod
    def of(
        named: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
        settings: SearchSettings,
        factors: Mapping[str, float] | None = None,
    ) -> Penalty:
        """Bind the penalty to a network's parameters.

        Args:
            named: Parameters by name.
            weights: p of the units of scales by name.
            settings: The search.
            factors: Factors of the learning rate by name, which the optimizer gives a subgradient by itself.
        """
        scales = [named[name] for name in weights]
        own = factors if factors is not None and settings.penalty == "proximal" else {}
        return Penalty(scales, [weights[name].to(named[name]) * own.get(name, 1.0) for name in weights], settings)

    @torch.no_grad()
    def add_to_gradients(self, epochs_done: float) -> None:
        """Add the subgradient: grad += rho(t) * p * sign(scale), before the optimizer's step."""
        rho = rho_at(epochs_done, self.settings)
        if rho and self.settings.penalty == "subgradient" and self.scales:
            pull = torch._foreach_mul(torch._foreach_sign(self.scales), self.weights)
            torch._foreach_add_([scale.grad for scale in self.scales if scale.grad is not None], pull, alpha=rho)

    @torch.no_grad()
    def shrink_scales(self, epochs_done: float, lr: float) -> None:
        """Take the proximal step, after the optimizer's: scale = sign(scale) * max(|scale| - lr * rho(t) * p, 0)."""
        rho = rho_at(epochs_done, self.settings)
        if rho and self.settings.penalty == "proximal" and self.scales:
            size = torch._foreach_abs(self.scales)
            torch._foreach_sub_(size, torch._foreach_mul(self.weights, lr * rho))
            torch._foreach_clamp_min_(size, 0.0)
            torch._foreach_mul_(size, torch._foreach_sign(self.scales))
            torch._foreach_copy_(self.scales, size)


def rho_at(epochs_done: float, settings: SearchSettings) -> float:
    """Return the strength after so many (fractional) epochs: linear warm-up, then rho, 0 once the search is over."""
    rho = settings.rho or 0.0
    if settings.interval == 0 or (settings.last_epoch is not None and epochs_done >= settings.last_epoch):
        return 0.0
    if settings.warmup_epochs <= 0:
        return rho
    return rho * min(1.0, epochs_done / settings.warmup_epochs)


def expected_shrinkage(lrs: list[float], steps_per_epoch: int, settings: SearchSettings, momentum: float) -> float:
    """Return the way that the penalty alone moves the scale of a unit with p = 1, were the loss indifferent.

    About sum(lr) * rho / (1 - momentum) for SGD with the subgradient, sum(lr) * rho for the proximal step. Scales
    start at 1; since the loss pulls back, a short run wants 3 or more.

    Args:
        lrs: Learning rate of every step up to the last removal.
        steps_per_epoch: Steps of an epoch.
        settings: The search.
        momentum: SGD's momentum; 0 for other optimizers.
    """
    total = sum(lr * rho_at(step / steps_per_epoch, settings) for step, lr in enumerate(lrs))
    return total / (1 - momentum) if settings.penalty == "subgradient" else total
