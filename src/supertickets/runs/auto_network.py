"""Choose depth, strides and width of a plain ResNet by the size of the images and the budget (docs/defaults.md)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from ..config.recipe import Recipe
from ..cost import Cost, count
from ..models.factory import create_spec

_WIDTHS = (16, 24, 32, 48, 64, 96)
_USUAL_WIDTH = 32
_COARSEST = 4  # cells of a side of the last map, at least
_DENSITY = 0.15  # of a network that skips zeros, at its budget; a half where units go
_MACS_PER_MS = 5e7  # of small networks on one thread; the budget is met by measuring, this only chooses a width
_BYTES = 4


def fit_network(recipe: Recipe, side: int) -> tuple[Recipe, list[str]]:
    """Choose what ``supernet.settings`` of a recipe with ``supernet.fit`` leave open.

    Args:
        recipe: The settings.
        side: Shorter side of the images, in pixels.

    Returns:
        The recipe, and a line on what was chosen.
    """
    if not (recipe.supernet.fit and recipe.supernet.family.fits_images) or recipe.supernet.pretrained:
        return recipe, []
    given = recipe.supernet.settings
    settings = {**strides_for(side), **given}
    is_open = not {"width", "widths"} & set(given)
    if is_open:
        settings["width"] = width_for(recipe, settings, side)
    supernet = dataclasses.replace(recipe.supernet, fit=False, settings=settings)
    if settings == given:
        return dataclasses.replace(recipe, supernet=supernet), []
    first = settings.get("width") or settings["widths"][0]
    halved = settings["stem_stride"] * math.prod(settings["strides"])
    why = "the budget" if recipe.budget.given and is_open else "their size"
    line = (
        f"chosen: {recipe.supernet.name} of width {first}, {len(settings['blocks'])} stages, for images of {side} "
        f"pixels that become {math.ceil(side / halved)}, by {why} (--supernet.settings.width, ...)"
    )
    return dataclasses.replace(recipe, supernet=supernet), [line]


def strides_for(side: int) -> dict[str, Any]:
    """Return stages and strides with which images become maps of 4 to 8 cells a side, or as near as strides allow.

    Args:
        side: Shorter side of the images, in pixels.
    """
    halvings = min(max(int(math.log2(max(side, 1) / _COARSEST)), 0), 5)
    stages = 4 if halvings >= 4 else 3
    stem = 4 if halvings == 5 else 2 if halvings >= 3 else 1
    inside = halvings - int(math.log2(stem))
    strides = [1] * (stages - inside) + [2] * inside
    settings: dict[str, Any] = {"blocks": [1] * stages, "strides": strides, "stem_stride": stem}
    return settings | ({"stem": "large"} if stem == 4 else {})


def width_for(recipe: Recipe, settings: dict[str, Any], side: int) -> int:
    """Return the width of the first stage: the least that a budget leaves little enough of, else the usual one.

    Args:
        recipe: The settings; reads name, budget and runtime.
        settings: Those of the network, without a width.
        side: Shorter side of the images, in pixels.
    """
    budget = recipe.budget
    if not budget.given:
        return _USUAL_WIDTH
    density = _DENSITY if recipe.prunes_to_budget else 0.5
    for width in _WIDTHS:
        cost = count(create_spec(recipe.supernet.name, image_size=(side, side), width=width, **settings))
        if any(density * guess_cost(name, cost) >= value for name, value in budget.given.items()):
            return width
    return _WIDTHS[-1]


def guess_cost(name: str, cost: Cost) -> float:
    """Return a cost by the name of its budget; a latency as that of a small network on one thread, which is a guess."""
    return {
        "macs": float(cost.macs),
        "params": float(cost.params),
        "size_kb": cost.params * _BYTES / 1000,
        "latency_ms": cost.macs / _MACS_PER_MS,
    }[name]
