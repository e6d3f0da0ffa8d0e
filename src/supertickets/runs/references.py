"""Recipes of ordinary networks that one would train instead of drawing a ticket, on equal terms with it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config.recipe import Recipe, SupernetSettings
from ..config.schedule import last_search_epoch
from ..config.stretch import stretch_schedule
from ..cost import count
from ..data import Splits
from ..models import Head, create_mobile
from ..tasks import find_task
from .auto_network import guess_cost, round_channels, scaled_settings
from .derive import fixed_network
from .model_init import supernet_for

_PLAIN_WIDTHS = (4, 8, 12, 16, 24, 32, 48, 64, 96)
_SMALL_IMAGES = 64  # pixels of a side up to which a network for small images is usual
_LARGE_MAPS = 96  # pixels of a side from which four stages are usual
_ABOUT = 2  # times as much is still about as much: widths to choose from are as far apart
_CELLS = 4  # of a side that the last map of a mobile network has at least, or a quarter of the pixels if that is less


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Task and images that a reference is fitted to.

    Attributes:
        head: Head that the task needs.
        sides: Height and width of the images, in pixels.
        own: Settings of the recipe's network but its widths, if it is the same network; else None.
        widths: Widths of the stages of that network, where its settings name them one by one.
    """

    head: Head
    sides: tuple[int, int]
    own: Mapping[str, Any] | None
    widths: Sequence[int] | None


@dataclass(frozen=True, kw_only=True)
class ReferenceKind:
    """Networks of one kind, from narrow to wide.

    Attributes:
        title: Name for people to read.
        unit: Text between title and width.
        widths: Values of the setting ``width``.
        choices: Values from which those near a budget are taken; empty if it is always ``widths``.
        settings: Function from the setting and a width to ``supernet.settings``.
    """

    title: str
    unit: str
    widths: tuple[float, ...]
    choices: tuple[float, ...] = ()
    settings: Callable[[Setting, float], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A network to train beside tickets.

    Attributes:
        kind: Name of its kind, for people to read.
        title: Name for people to read, with its width.
        slug: Name of its files.
        recipe: Recipe that trains it: that of the ticket, without search and pruning.
    """

    kind: str
    title: str
    slug: str
    recipe: Recipe


def _plain_settings(setting: Setting, width: float) -> dict[str, Any]:
    """Return the settings of a plain residual network: those of the recipe, scaled, if it has the same network."""
    own = dict(_usual_settings(setting, width) if setting.own is None else setting.own)
    if setting.widths is None:
        return {**own, "width": int(width)}
    return scaled_settings({**own, "widths": setting.widths}, width / setting.widths[0])


def _usual_settings(setting: Setting, width: float) -> dict[str, Any]:
    if setting.head == "classification":
        return {"stem_stride": 1 if max(setting.sides) <= _SMALL_IMAGES // 2 else 2}
    stages = 4 if min(setting.sides) >= _LARGE_MAPS else 3  # a pyramid over maps down to a 32nd or a 16th of the sides
    head_width = round_channels(1.5 * width)
    return {"blocks": [1] * stages, "strides": [2] * stages, "stem_stride": 2, "head_width": head_width}


def _large_settings(setting: Setting, width: float) -> dict[str, Any]:
    return {**(setting.own or {}), "width": int(width)}


def _mobile_settings(network: str, setting: Setting, width: float) -> dict[str, Any]:
    """Return the settings of a mobile network; as many of its first strides go as small images need."""
    if setting.own is not None:
        return {**setting.own, "width": width}
    strides = [block.layers[0].stride for block in create_mobile(network).blocks]
    side = min(setting.sides)
    for i in range(len(strides)):
        if setting.head != "classification" or side >= min(_CELLS, side // 4) * math.prod(strides):
            break
        strides[i] = 1
    # TensorFlow's padding would add an operation in front of every convolution with a stride.
    return {"width": width, "padding": "symmetric", "strides": strides}


def _mobile(network: str, title: str) -> ReferenceKind:
    return ReferenceKind(
        title=title,
        unit=" x",
        widths=(0.25, 0.5, 1.0),
        settings=lambda setting, width: _mobile_settings(network, setting, width),
    )


def _plain(title: str) -> ReferenceKind:
    return ReferenceKind(
        title=title, unit=" width ", widths=(16, 32, 48), choices=_PLAIN_WIDTHS, settings=_plain_settings
    )


KINDS: Mapping[str, ReferenceKind] = {
    "resnet8": _plain("ResNet-8"),
    "resnet14": _plain("ResNet-14"),
    "resnet20": _plain("ResNet-20"),
    "resnet18": ReferenceKind(
        title="ResNet-18", unit=" width ", widths=(16, 32, 64), choices=_PLAIN_WIDTHS, settings=_large_settings
    ),
    "mobilenet_v2": _mobile("mobilenet_v2", "MobileNetV2"),
    "mobilenet_v3_large": _mobile("mobilenet_v3_large", "MobileNetV3"),
}


def usual_references(recipe: Recipe, sides: tuple[int, int]) -> tuple[str, ...]:
    """Return the names of the networks that one would take instead of a ticket, a plain residual network first.

    For classes plain and mobile networks; for maps and boxes a plain network alone; for a recipe that begins with
    published weights its own network.

    Args:
        recipe: Recipe of the ticket.
        sides: Height and width of the images, in pixels.
    """
    own = recipe.supernet
    if own.pretrained:
        return (own.name,)
    head = find_task(recipe.task).head
    plain = own.name if own.family.name == "plain" else plain_reference(head, sides)
    is_classification = head == "classification"
    return (plain, "mobilenet_v2", "mobilenet_v3_large") if is_classification else (plain,)


def plain_reference(head: Head, sides: tuple[int, int]) -> str:
    """Return the name of the plain residual network that is usual for a head and images of a size in pixels."""
    return "resnet8" if max(sides) <= _SMALL_IMAGES or head != "classification" else "resnet18"


def make_references(
    recipe: Recipe, sides: tuple[int, int], networks: Sequence[str], widths: Mapping[str, Sequence[float]] | None = None
) -> list[Reference]:
    """Return the references of some networks: each at its widths if it is one of `KINDS`, else as it is.

    Args:
        recipe: Recipe of the ticket, with all that the data chooses.
        sides: Height and width of the images, in pixels.
        networks: Values of ``supernet.name``.
        widths: Widths of some of them, instead of those of `KINDS`.

    Raises:
        UserError: A network is unknown.
    """
    references = []
    plain = fixed_network(recipe)
    for network in networks:
        supernet = SupernetSettings(name=network)
        if network not in KINDS or recipe.supernet.pretrained:
            if network == recipe.supernet.name:
                supernet = recipe.supernet
            elif supernet.family.publishes_weights:
                supernet = dataclasses.replace(supernet, pretrained=recipe.supernet.pretrained is True)
            slug = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in network)
            references.append(_reference(plain, supernet, network, network, slug))
            continue
        kind = KINDS[network]
        setting = _fit(recipe, sides, network)
        for width in (widths or {}).get(network, kind.widths):
            chosen = dataclasses.replace(supernet, settings=kind.settings(setting, width))
            title = f"{kind.title}{_size(kind, chosen, width)}"
            references.append(_reference(plain, chosen, kind.title, title, f"{network}-{width:g}"))
    return references


def _size(kind: ReferenceKind, supernet: SupernetSettings, width: float) -> str:
    """Return the width of a network as a part of its title: that of every stage, where they are rounded ones."""
    widths = supernet.settings.get("widths")
    return f" widths {'-'.join(map(str, widths))}" if widths else f"{kind.unit}{width:g}"


def costs_by_width(recipe: Recipe, splits: Splits, network: str, name: str) -> dict[float, float]:
    """Return what a network of each width to choose from costs; none if it has no choice of widths.

    Args:
        recipe: Recipe of the ticket, with all that the data chooses.
        splits: Its data.
        network: Value of ``supernet.name``.
        name: Name of a budget, whose cost is meant.
    """
    choices = KINDS[network].choices if network in KINDS and not recipe.supernet.pretrained else ()
    every = make_references(recipe, splits.preprocessing.size, [network], {network: choices}) if choices else []
    costs = (guess_cost(name, count(supernet_for(one.recipe, splits))) for one in every)
    return dict(zip(choices, costs, strict=True))


def tell_counterpart(recipe: Recipe, splits: Splits) -> list[str]:
    """Return a line on the plain network that costs about as much as the ticket of a recipe will, if that is known.

    Args:
        recipe: Recipe of the ticket, with all that the data chooses.
        splits: Its data.
    """
    if (title := name_counterpart(recipe, splits)) is None:
        return []
    guessed = ", by a guess of its latency" if recipe.budget.latency_ms is not None else ""
    return [f"without zeros, a {title} costs about as much{guessed}: supertickets compare trains both, and times them"]


def name_counterpart(recipe: Recipe, splits: Splits) -> str | None:
    """Return kind and width of the plain network that costs about as much as the ticket of a recipe will.

    Of several budgets the tightest one decides. A network of less than half or more than twice the cost is none.

    Args:
        recipe: Recipe of the ticket, with all that the data chooses.
        splits: Its data.

    Returns:
        For example "ResNet-8 of width 16"; None if there is none, or if only the search will tell the ticket's cost.
    """
    if not recipe.supernet.family.fits_images:
        return None
    network = usual_references(recipe, splits.preprocessing.size)[0]
    nearest = []
    for name, wanted in _costs_of_ticket(recipe, splits).items():
        if not (costs := costs_by_width(recipe, splits, network, name)):
            return None
        [width] = nearest_widths(costs, [wanted])
        nearest.append((width, costs[width] / wanted))
    width, ratio = min(nearest, default=(0, 0))
    if not 1 / _ABOUT <= ratio <= _ABOUT:
        return None
    [one] = make_references(recipe, splits.preprocessing.size, [network], {network: [width]})
    return f"{one.kind} of{_size(KINDS[network], one.recipe.supernet, width)}"


def _costs_of_ticket(recipe: Recipe, splits: Splits) -> dict[str, float]:
    """Return what a ticket will cost, by name of a budget; empty if only its search will tell."""
    if recipe.draws_to_budget:
        return recipe.budget.given
    if recipe.prune.ratio == 0 or last_search_epoch(recipe) > 0:
        return {}
    return {"macs": (1 - recipe.prune.ratio) * count(supernet_for(recipe, splits)).macs}


def nearest_widths(costs: Mapping[float, float], budgets: Sequence[float]) -> list[float]:
    """Return for every budget a width of its own whose cost is the nearest by ratio, from narrow to wide.

    Args:
        costs: Cost by width; at least as many as budgets.
        budgets: Budgets.
    """
    left, chosen = dict(costs), []
    for budget in budgets:
        width = min(left, key=lambda one: abs(math.log(left[one] / budget)))
        chosen.append(width)
        del left[width]
    return sorted(chosen)


def _fit(recipe: Recipe, sides: tuple[int, int], network: str) -> Setting:
    head, settings = find_task(recipe.task).head, recipe.supernet.settings
    if network != recipe.supernet.name:
        return Setting(head=head, sides=sides, own=None, widths=None)
    own = {name: value for name, value in settings.items() if name not in ("width", "widths")}
    return Setting(head=head, sides=sides, own=own, widths=settings.get("widths"))


def _reference(recipe: Recipe, supernet: SupernetSettings, kind: str, title: str, slug: str) -> Reference:
    recipe = dataclasses.replace(recipe, name=f"{recipe.name}-{slug}", supernet=supernet)
    return Reference(kind=kind, title=title, slug=slug, recipe=recipe)


def stretch_training(recipe: Recipe, factor: float) -> Recipe:
    """Return a recipe that trains for a multiple of its epochs, at least for one; its schedule is stretched."""
    epochs = max(1, round(recipe.epochs * factor))
    stretched = stretch_schedule(recipe.lr, epochs / recipe.epochs)
    every = max(1, round(recipe.evaluate_every * epochs / recipe.epochs))
    return dataclasses.replace(recipe, epochs=epochs, lr=stretched, evaluate_every=every)
