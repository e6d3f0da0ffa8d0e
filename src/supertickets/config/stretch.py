"""Move a recipe to another number of epochs: everything that is counted in epochs moves along."""

from __future__ import annotations

import dataclasses

from .optimizer_settings import LrSettings
from .recipe import Recipe


def stretch_recipe(recipe: Recipe, epochs: int, meant_for: int | None = None) -> Recipe:
    """Return a recipe over another number of epochs, with intervals, warm-ups and milestones in proportion.

    Args:
        recipe: The settings.
        epochs: Number of epochs.
        meant_for: Number of epochs that the intervals are written for; None for the recipe's own.
    """
    factor = epochs / (meant_for or recipe.epochs)
    search, prune = recipe.search, recipe.prune
    interval = stretch_interval(search.interval, factor)
    # The last removal falls onto a multiple of the interval.
    times = round(search.last_epoch / search.interval) if search.last_epoch and search.interval else 0
    return dataclasses.replace(
        recipe,
        epochs=epochs,
        lr=stretch_schedule(recipe.lr, factor),
        search=dataclasses.replace(
            search,
            interval=interval,
            last_epoch=min(times * interval, epochs) if times else search.last_epoch,
            warmup_epochs=search.warmup_epochs * factor,
        ),
        prune=dataclasses.replace(prune, interval=max(1, stretch_interval(prune.interval, factor))),
    )


def stretch_schedule(lr: LrSettings, factor: float) -> LrSettings:
    """Return a schedule of the learning rate over ``factor`` times as many epochs."""
    return dataclasses.replace(
        lr,
        warmup_epochs=lr.warmup_epochs * factor,
        milestones=tuple(max(1, round(milestone * factor)) for milestone in lr.milestones),
        decay_epochs=lr.decay_epochs * factor,
    )


def stretch_interval(interval: int, factor: float) -> int:
    """Return an interval in epochs over ``factor`` times as many; 0 stays 0, which switches something off."""
    return max(1, round(interval * factor)) if interval else 0
