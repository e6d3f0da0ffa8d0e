"""Checks that a budget of two-in-one training can be met, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from ..config.recipe import PruneSettings, Recipe
from ..cost import MaskCosts, WidthCosts
from ..cost.budget import format_cost, format_setting
from ..errors import UserError
from ..models import Spec, list_spaces
from ..nas import IMPORTANCES, WidthRule, select_to_cost, width_rules
from ..pruning import protected_weights
from ..training import TrainState
from .ranking import maskable

MOST_ZEROS = 0.99  # share of the weights that a budget may take


def check_budget(recipe: Recipe) -> None:
    """Check that budget and settings of search and pruning go together.

    Raises:
        UserError: They do not; names what to set.
    """
    given = recipe.budget.given
    importance = recipe.search.importance
    if IMPORTANCES[importance].uses_gates and recipe.search.interval and not given:
        raise UserError(f"search.importance={importance} ranks units for a budget; give budget.macs, for example")
    if not given:
        return
    name = next(iter(given))
    if recipe.supernet.name in list_spaces() and not recipe.supernet.settings.get("choices"):
        raise UserError(
            f"supernet.name {recipe.supernet.name} is a space of networks: supertickets search meets budgets"
        )
    if recipe.budget.runtime == "sparse":
        if not recipe.prune.ratio:
            raise UserError(f"budget.{name} for budget.runtime=sparse is met by zeros; set prune.ratio to 0.9")
        if recipe.prune.schedule != "cubic":
            raise UserError(f"budget.{name} for budget.runtime=sparse needs a path; set prune.schedule to cubic")
        if recipe.prune.scope == "group":
            raise UserError(f"budget.{name} needs as many zeros as it asks for; set prune.scope to global, not group")
    elif not recipe.search.interval:
        raise UserError(
            f"budget.{name} for budget.runtime={recipe.budget.runtime} needs a search that removes units; set "
            "search.interval to 1, and prune.ratio to 0, since zeros save no time there"
        )


def check_reachable(recipe: Recipe, supernet: Spec, state: TrainState) -> None:
    """Check that the network can be brought to the budget; a latency is checked by `check_latency`.

    Args:
        recipe: The settings.
        supernet: The network that the run begins with.
        state: The network now.

    Raises:
        UserError: It has no units, costs no more than the budget, or cannot be made so small; names what can be met.
    """
    spec = state.spec
    given = {name: value for name, value in recipe.budget.given.items() if name != "latency_ms"}
    if not recipe.prunes_to_budget and not spec.unit_groups():
        raise UserError(
            f"budget.{next(iter(recipe.budget.given))} needs search units, and {spec} has none; leave it out"
        )
    whole = WidthCosts(spec)
    most = {name: whole.measure(name, {}) for name in given}
    # A latency, which is measured later, may be the tighter one.
    if given and recipe.budget.latency_ms is None and slack_budgets(recipe, spec) == set(given):
        name, budget = next(iter(given.items()))
        raise UserError(
            f"budget.{name}={format_setting(budget)} leaves nothing to remove: {spec} has "
            f"{format_cost(name, most[name])}; set budget.{name} below {format_setting(most[name])}, or take a larger "
            "network, e.g. by supernet.settings.width"
        )
    for name, budget in given.items():
        least = smallest_cost(recipe, supernet, state, name)
        if budget < least:
            raise UserError(
                f"budget.{name}={format_setting(budget)} cannot be met: the smallest network has "
                f"{format_cost(name, least)}; set budget.{name} to {format_setting(least, up=True)}, or "
                + _smaller(recipe)
            )


def slack_budgets(recipe: Recipe, spec: Spec) -> set[str]:
    """Return the budgets, but for latency, that a network meets as it is."""
    whole = WidthCosts(spec)
    given = {name: value for name, value in recipe.budget.given.items() if name != "latency_ms"}
    return {name for name, value in given.items() if value >= whole.measure(name, {})}


def check_latency(recipe: Recipe, spec: Spec, fastest: float, slowest: float) -> None:
    """Check that a latency lies between those of the smallest and the largest network that can be made.

    It may be longer where another budget is the tighter one.

    Args:
        recipe: The settings, with a budget of latency.
        spec: The largest network.
        fastest: Latency of the smallest network, in ms.
        slowest: That of the largest.

    Raises:
        UserError: It does not; names the nearest that can be met.
    """
    budget_ms = recipe.budget.given["latency_ms"]
    if budget_ms < fastest:
        raise UserError(
            f"budget.latency_ms={format_setting(budget_ms)} cannot be met: the smallest network takes "
            f"{format_cost('latency_ms', fastest)} on this device; set budget.latency_ms to "
            f"{format_setting(1.05 * fastest)}, or take a smaller network or smaller images"
        )
    if budget_ms >= slowest and slack_budgets(recipe, spec) == recipe.budget.given.keys() - {"latency_ms"}:
        raise UserError(
            f"budget.latency_ms={format_setting(budget_ms)} leaves nothing to remove: {spec} takes "
            f"{format_cost('latency_ms', slowest)}; take a larger network, or a smaller budget"
        )


def _smaller(recipe: Recipe) -> str:
    """Return what would make the smallest network smaller."""
    if recipe.prunes_to_budget and (recipe.prune.layer_floor or recipe.prune.exempt_below):
        return "lower prune.layer_floor or prune.exempt_below"
    if recipe.search.interval and (recipe.search.group_floor or (recipe.search.multiple or 1) > 1):
        return "lower search.group_floor or search.multiple"
    return "take a narrower network (supernet.settings, supernet.name) or smaller images (data.size)"


def smallest_cost(recipe: Recipe, supernet: Spec, state: TrainState, name: str) -> float:
    """Return the least cost that can be reached by removing units and, where the runtime skips zeros, weights."""
    spec = state.spec
    measure = partial(WidthCosts(spec).measure, name)
    keep = narrowest(spec, supernet, recipe, measure, 0)
    if not recipe.prunes_to_budget:
        return measure(keep)
    with torch.device("meta"):
        small = spec.keep(keep).build()
    names = set(maskable(state, recipe))
    mask = {key: _mostly_zero(p.shape, recipe.prune) for key, p in small.named_parameters() if key in names}
    return MaskCosts(small.spec).measure(name, mask)


def narrowest(
    spec: Spec, supernet: Spec, recipe: Recipe, cost: Callable[[dict[str, torch.Tensor]], float], target: float
) -> dict[str, torch.Tensor]:
    """Flag the units of a network of some cost in which all units are equally important.

    Args:
        spec: The network.
        supernet: The network that the run began with.
        recipe: The settings; reads floors and multiples of widths.
        cost: Function of the flags.
        target: The cost to reach.
    """
    if not recipe.search.interval:
        return {group.name: torch.ones(len(group), dtype=torch.bool) for group in spec.unit_groups()}
    rules: dict[str, WidthRule] = width_rules(
        spec.unit_groups(), supernet, recipe.search.multiple or 1, recipe.search.group_floor
    )
    equal = {group.name: torch.ones(len(group)) for group in spec.unit_groups()}
    return select_to_cost(equal, rules, cost, target)  # type: ignore[arg-type]


def _mostly_zero(shape: torch.Size, settings: PruneSettings) -> torch.Tensor:
    """Flag as few weights of a layer as a budget may leave, and all that floors and exemptions protect."""
    size = torch.zeros(shape, device="cpu")
    flags = protected_weights(size, settings, torch.ones(shape, dtype=torch.bool, device="cpu")).flatten()
    flags[: max(1, round((1 - MOST_ZEROS) * shape.numel()))] = True
    return flags.view(shape)
