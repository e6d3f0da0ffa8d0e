"""Check that a budget can be met, and find the latency table that it needs."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ..config.recipe import Recipe
from ..cost.budget import Budget, format_cost, format_setting
from ..cost.latency_table import LatencyTable, TableSettings
from ..errors import UserError
from ..models import MobileSpec
from ..nas import Space

# Times the operations of a space.
MeasureTable = Callable[[MobileSpec, TableSettings, Callable[[str], None]], LatencyTable]


def find_table(
    recipe: Recipe, spec: MobileSpec, measure: MeasureTable | None, say: Callable[[str], None]
) -> LatencyTable | None:
    """The latency table of a search that begins, if it needs one: that of the recipe, or a new one.

    Args:
        recipe: Says what is limited.
        spec: The space.
        measure: Makes a new one.
        say: Tells what is going on.

    Raises:
        UserError: There is none, or it is of another space.
    """
    budget = recipe.budget
    if budget.latency_ms is None or budget.measured:
        return None
    if budget.table:
        table = LatencyTable.load(budget.table)
        table.check_serves(spec, budget.table)
        return table
    if measure is not None:
        table = measure(spec, TableSettings(runtime=budget.runtime, threads=budget.threads), say)
        say(f"half of {table.check['networks']} other networks are predicted within {table.check['median_error']:.1%}")
        return table
    raise UserError("budget.latency_ms needs budget.table: make it with supertickets latency-table")


def check_budget_reachable(budget: Budget, spec: MobileSpec, recipe: Recipe) -> None:
    """Refuses a target that no network of a space is likely to meet.

    Args:
        budget: The target.
        spec: The space.
        recipe: Says what the space is called, and whether its networks are timed.

    Raises:
        UserError: Networks of the space cost more, or less.
    """
    space = Space(spec.decisions())
    drawn = space.sample(8 if recipe.budget.measured else 200, torch.Generator().manual_seed(0))
    # The smallest and the largest come first; of times they need not be the least and the most.
    some = [spec.extreme(largest=False), spec.extreme(largest=True), *space.genotypes(drawn)]
    costs = [budget.cost(choices) for choices in some]
    low, high = min(costs), max(costs)
    if not low <= budget.target <= high:
        places = 3 if budget.name == "latency_ms" else 0
        nearest = math.ceil(low * 10**places) if budget.target < low else math.floor(high * 10**places)
        reach = f"{format_cost(budget.name, low)} to {format_cost(budget.name, high)}"
        raise UserError(
            f"budget.{budget.name} is {format_setting(budget.target)}, but networks of {recipe.supernet.name} have "
            f"{reach}; the nearest possible is {nearest / 10**places:.{places}f}, or set supernet.settings.width"
        )
