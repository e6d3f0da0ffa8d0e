"""The learning rate and momentum as pure functions of the step."""

from __future__ import annotations

import math

from .optimizer_settings import LrSettings


def lr_factor(step: int, total: int, steps_per_epoch: int, settings: LrSettings) -> float:
    """Return the factor of the peak rate at a step.

    Args:
        step: Number of steps done, from 0.
        total: Number of steps of the run.
        steps_per_epoch: Number of steps of an epoch.
        settings: The schedule.
    """
    if settings.shape == "one_cycle":
        return _one_cycle(
            step,
            total,
            settings.rise,
            1 / settings.start_divisor,
            1.0,
            1 / settings.start_divisor / settings.end_divisor,
        )
    warmup = settings.warmup_epochs * steps_per_epoch
    if step < warmup:
        return settings.warmup_from + (1 - settings.warmup_from) * step / warmup
    epochs = step / steps_per_epoch
    if settings.shape == "step":
        return settings.gamma ** sum(epochs >= milestone for milestone in settings.milestones)
    if settings.shape == "exponential":
        return settings.gamma ** math.floor(epochs / settings.decay_epochs)
    done = (step - warmup) / max(total - warmup, 1)
    if settings.shape == "poly":
        return (1 - done) ** settings.power
    if settings.shape == "cosine":
        return settings.final + (1 - settings.final) * (1 + math.cos(math.pi * done)) / 2
    return 1.0


def momentum_at(step: int, total: int, settings: LrSettings) -> float | None:
    """Return momentum (beta1) at a step, if the schedule moves it."""
    if settings.shape != "one_cycle" or not settings.cycle_momentum:
        return None
    return _one_cycle(step, total, settings.rise, 0.95, 0.85, 0.95)


def _one_cycle(step: int, total: int, rise: float, start: float, peak: float, end: float) -> float:
    """Return a value on two cosine arcs: start -> peak -> end (the schedule of "super-convergence")."""
    top = rise * total - 1
    if step <= top:
        share, low, high = step / top if top else 1.0, start, peak
    else:
        share, low, high = (step - top) / max(total - 1 - top, 1e-12), peak, end
    return high + (low - high) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
