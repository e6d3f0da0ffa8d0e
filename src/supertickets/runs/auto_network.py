"""Choose depth, strides and width of a plain ResNet by the size of the images and the budget (docs/defaults.md)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..config.recipe import Recipe
from ..cost import Cost, count
from ..errors import UserError
from ..models.factory import create_spec
from ..tasks import find_task

_WIDTHS = (16, 24, 32, 48, 64, 96)
_USUAL_WIDTH = 32
_COARSEST = 4  # cells of a side of the last map, at least
_DENSITY = 0.15  # of a network that skips zeros, at its budget
_DENSE_DENSITY = 0.25  # the same where a head makes maps, which cost time whatever is zero
_SHORT_DENSITY = 0.6  # the same where minutes are given: in equal time a narrower network learns more
_UNITS_DENSITY = 0.5  # where units go
_FACTORS = (0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0)
_WIDTHS_OF_STAGES = {"width", "widths"}
_SCALED = _WIDTHS_OF_STAGES | {"head_width"}
_CHANNELS = 8
_MACS_PER_MS = 5e7  # of small networks on one thread; the budget is met by measuring, this only chooses a width
_BYTES = 4


def scale_widths(recipe: Recipe, side: int) -> tuple[Recipe, list[str]]:
    """Multiply the widths of ``supernet.settings`` by ``supernet.width_factor``, which null chooses by the budget.

    The factor that is chosen is the least of which the budget leaves at most a quarter; a half where units go. Networks
    without such widths are left as they are where null stands.

    Args:
        recipe: The settings.
        side: Side of the images where ``data.size`` does not say it, in pixels.

    Returns:
        The recipe, of factor 1, and a line on what was chosen.

    Raises:
        UserError: There are no widths to multiply by a factor that is given.
    """
    factor, network = recipe.supernet.width_factor, recipe.supernet
    has_widths = network.family.counts_channels and bool(_WIDTHS_OF_STAGES & set(network.settings))
    if factor == 1 or (factor is None and not (has_widths and recipe.budget.given)):
        return _with_network(recipe, width_factor=1.0), []
    if not has_widths:
        how = "set them" if network.family.counts_channels else "leave the factor out"
        raise UserError(
            f"supernet.width_factor has nothing to multiply: {network.name} has no supernet.settings.widths; {how}"
        )
    if factor is not None:
        return _with_network(recipe, width_factor=1.0, settings=scaled_settings(network.settings, factor)), []
    chosen = next(
        (one for one in _FACTORS if _fills(recipe, scaled_settings(network.settings, one), side)), _FACTORS[-1]
    )
    settings = scaled_settings(network.settings, chosen)
    widths = ", ".join(map(str, settings["widths"])) if "widths" in settings else settings["width"]
    line = f"chosen: {network.name} of widths {widths}, by the budget (--supernet.width_factor {chosen:g})"
    return _with_network(recipe, width_factor=1.0, settings=settings), [line]


def scaled_settings(settings: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Return settings of a network with all widths multiplied, in multiples of 8 channels."""
    return {name: _scale(value, factor) if name in _SCALED else value for name, value in settings.items()}


def _scale(value: Any, factor: float) -> Any:
    """Return a width or several, multiplied; what is no width stays, for the network to refuse."""
    if isinstance(value, list | tuple):
        return [_scale(one, factor) for one in value]
    return round_channels(value * factor) if isinstance(value, int) else value


def round_channels(channels: float) -> int:
    """Return the nearest multiple of 8, at least 8."""
    return max(1, round(channels / _CHANNELS)) * _CHANNELS


def _with_network(recipe: Recipe, **changes: Any) -> Recipe:
    return dataclasses.replace(recipe, supernet=dataclasses.replace(recipe.supernet, **changes))


def _fills(recipe: Recipe, settings: Mapping[str, Any], side: int) -> bool:
    """Return whether the budget leaves little enough of a network with a head."""
    size = recipe.data.size
    sides = (size[0], size[-1]) if isinstance(size, Sequence) else (side, side)
    spec = create_spec(recipe.supernet.name, image_size=sides, head=find_task(recipe.task).head, **settings)
    density = _DENSE_DENSITY if recipe.prunes_to_budget else _UNITS_DENSITY
    return any(density * guess_cost(name, count(spec)) >= value for name, value in recipe.budget.given.items())


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
    settings, notes = {**strides_for(side), **given}, list[str]()
    create_spec(
        recipe.supernet.name, image_size=(side, side), head=find_task(recipe.task).head, **settings
    )  # or refuse
    is_open = not {"width", "widths"} & set(given)
    if is_open:
        recipe, notes = _with_short_budget(recipe, settings, side)
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
    return dataclasses.replace(recipe, supernet=supernet), [*notes, line]


def _with_short_budget(recipe: Recipe, settings: Mapping[str, Any], side: int) -> tuple[Recipe, list[str]]:
    """Give a short training without a budget that of the ticket of a long one: what zeros leave of the usual width."""
    prune = recipe.prune
    if recipe.minutes is None or recipe.budget.given or recipe.search.interval or prune.schedule != "cubic":
        return recipe, []
    usual = count(create_spec(recipe.supernet.name, image_size=(side, side), width=_USUAL_WIDTH, **settings))
    macs = float(round((1 - prune.ratio) * usual.macs))
    given = dataclasses.replace(recipe, budget=dataclasses.replace(recipe.budget, macs=macs))
    if not given.prunes_to_budget or width_for(given, settings, side) >= _USUAL_WIDTH:
        return recipe, []
    zeros = f"{prune.ratio:.0%} zeros leave of width {_USUAL_WIDTH}"
    return given, [f"chosen: a budget of {macs / 1e6:.3g} M MACs, what {zeros} (--budget.macs)"]


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


def width_for(recipe: Recipe, settings: Mapping[str, Any], side: int) -> int:
    """Return the width of the first stage: the least that a budget leaves little enough of, else the usual one.

    Args:
        recipe: The settings; reads name, budget, runtime and minutes.
        settings: Those of the network, without a width.
        side: Shorter side of the images, in pixels.
    """
    budget = recipe.budget
    if not budget.given:
        return _USUAL_WIDTH
    zeros_density = _DENSITY if recipe.minutes is None else _SHORT_DENSITY
    density = zeros_density if recipe.prunes_to_budget else _UNITS_DENSITY
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
