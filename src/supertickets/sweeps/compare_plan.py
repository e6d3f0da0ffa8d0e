"""The members of a comparison: tickets at several budgets, and the networks that one would train instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from ..config.recipe import Recipe
from ..cost import count
from ..cost.budget import format_cost, format_setting
from ..cost.width_costs import WidthCosts
from ..data import Splits
from ..deploy import measure_network
from ..deploy.runtimes import find_runtime
from ..errors import UserError
from ..models import Spec
from ..runs.api import draw, train
from ..runs.auto_settings import resolve_auto_settings
from ..runs.model_init import supernet_for
from ..runs.pretrained import load_prepared_splits
from ..runs.references import (
    Reference,
    costs_by_width,
    make_references,
    nearest_widths,
    stretch_training,
    usual_references,
)
from ..ticket import Ticket
from ..training.state import DeployableModel
from .comparison import EQUAL_TIME, REFERENCES, TICKETS

_AROUND = (0.5, 1.0, 2.0)  # budgets around one that was given, as its multiples
_BELOW = (0.125, 0.25, 0.5)  # shares of the supernet's cost, where the references cost more than it


@dataclass(frozen=True, kw_only=True)
class Member:
    """A network of a comparison.

    Attributes:
        title: Name for people to read.
        slug: Name of its run directories, before the seed.
        network: Name of its network, if that is the same one for all seeds, whose latency is measured once; else None.
        group: Members that are compared with others together.
        kind: Kind of network: a ticket, or one of the references.
        recipe: Recipe, but for the seed.
        begin: Function that makes its run of a recipe and a directory.
    """

    title: str
    slug: str
    network: str | None
    group: str
    kind: str
    recipe: Recipe
    begin: Callable[[Recipe, Path], Ticket]

    def seeded(self, seed: int) -> Recipe:
        """Return its recipe with another seed."""
        return dataclasses.replace(self.recipe, seed=seed)


@dataclass(frozen=True)
class Plan:
    """The members that can be planned before anything is trained.

    Attributes:
        tickets: Tickets, the smallest budget first.
        references: References that train for as many epochs.
        notes: Lines on what was chosen.
    """

    tickets: tuple[Member, ...]
    references: tuple[Member, ...]
    notes: tuple[str, ...]


def plan_comparison(recipe: Recipe, networks: Sequence[str] = (), factors: Sequence[float] = ()) -> Plan:
    """Plan a comparison.

    Tickets have three budgets: half, once and twice the one that is given; without one, the MACs of the first kind of
    reference at its widths; if the supernet has no more than those, an eighth, a quarter and half of its own.

    Args:
        recipe: Recipe of the tickets, with a budget or without.
        networks: Networks of the references; empty for the usual ones.
        factors: Budgets as multiples of the one that is given, instead of those.

    Raises:
        UserError: The recipe's tickets cannot be drawn to a budget, or a network is unknown.
    """
    if recipe.minutes is not None:
        raise UserError("compare trains tickets and references for as many epochs; give --epochs instead of --minutes")
    if factors and not recipe.budget.given:
        raise UserError("--factors are multiples of a budget; give one, e.g. --budget.macs 7e6")
    find_runtime(recipe.budget.runtime)  # in which the tickets are fast
    resolved, splits = _resolve(recipe)
    sides = splits.preprocessing.size
    networks = networks or usual_references(resolved, sides)
    made = make_references(resolved, sides, networks)
    specs = [supernet_for(reference.recipe, splits) for reference in made]
    supernet = supernet_for(resolved, splits)
    if recipe.budget.given:
        budgets, note = _scale_budget(recipe, supernet, sorted(set(factors or _AROUND)))
    else:
        budgets, note = _choose_budgets(supernet, _first_kind(made, specs))
    tickets = [_plan_ticket(recipe, budget) for budget in budgets]
    if recipe.budget.given:
        made = make_references(resolved, sides, networks, _widths_near(resolved, splits, networks, budgets))
    if not tickets[0].recipe.draws_to_budget:
        raise UserError(
            f"recipe {recipe.name} draws no tickets to a budget: it removes no units, and prunes none for the sparse "
            "runtime; set --search.interval, e.g. to 1, or take another recipe"
        )
    notes = (f"{len(tickets)} tickets and {len(made)} references: {note}",)
    return Plan(tuple(tickets), tuple(map(_plan_reference, made)), notes)


def plan_equal_time(references: Sequence[Member], seconds: Mapping[str, float], ticket_seconds: float) -> list[Member]:
    """Return references that train for as long as a ticket did.

    Args:
        references: References of the plan.
        seconds: Training seconds of each, by slug.
        ticket_seconds: Training seconds of a ticket.
    """
    return [
        dataclasses.replace(
            member,
            title=f"{member.title}, equal time",
            slug=f"{member.slug}-equal_time",
            group=EQUAL_TIME,
            recipe=stretch_training(member.recipe, ticket_seconds / seconds[member.slug]),
        )
        for member in references
    ]


def _resolve(recipe: Recipe) -> tuple[Recipe, Splits]:
    """Return the recipe with all that the data chooses, and the data."""
    recipe, splits = load_prepared_splits(recipe)
    resolved, _ = resolve_auto_settings(recipe, len(splits.train), splits.preprocessing.size[0])
    return dataclasses.replace(resolved, precision=recipe.precision), splits  # which is each network's own choice


def _first_kind(references: Sequence[Reference], specs: Sequence[Spec]) -> list[float]:
    """Return the MACs of the references of the first kind."""
    kind = references[0].kind
    return [count(spec).macs for one, spec in zip(references, specs, strict=True) if one.kind == kind]


def _scale_budget(recipe: Recipe, supernet: Spec, factors: Sequence[float]) -> tuple[list[dict[str, float]], str]:
    """Return multiples of the given budget, the smallest first, but for those that the supernet meets; and a note."""
    given, costs = recipe.budget.given, WidthCosts(supernet)
    most = {name: _whole_cost(recipe, supernet, costs, name) for name in given}
    every = {factor: {name: factor * value for name, value in given.items()} for factor in factors}
    binding = [factor for factor, one in every.items() if any(value < most[name] for name, value in one.items())]
    if not binding or (1 in factors and 1 not in binding):
        return [dict(given)], "the budget alone, which the supernet meets"  # for the draw to refuse
    note = f"{', '.join(f'{factor:g}' for factor in binding)} times the budget"
    if met := [factor for factor in factors if factor not in binding]:
        note += f" (the supernet has less than {met[0]:g} times as much)"
    return [every[factor] for factor in binding], note


def _choose_budgets(supernet: Spec, reference_macs: Sequence[float]) -> tuple[list[dict[str, float]], str]:
    """Return budgets where none is given, the smallest first, and where they come from."""
    most_macs = WidthCosts(supernet).measure("macs", {})
    if len(reference_macs) == len(_BELOW) and max(reference_macs) < most_macs:
        return [{"macs": macs} for macs in sorted(reference_macs)], "budgets are the MACs of the plain networks"
    shares = [{"macs": float(round(share * most_macs))} for share in _BELOW]
    return shares, "budgets are an eighth, a quarter and half of the supernet's MACs"


def _whole_cost(recipe: Recipe, supernet: Spec, costs: WidthCosts, name: str) -> float:
    """Return a cost of the supernet; its latency is measured."""
    if name == "latency_ms":
        return measure_network(DeployableModel(supernet, supernet.build().state_dict(), {}), recipe.budget)
    return costs.measure(name, {})


def _widths_near(
    recipe: Recipe, splits: Splits, networks: Sequence[str], budgets: Sequence[Mapping[str, float]]
) -> dict[str, list[float]]:
    """Return widths of the references of about the cost of each budget, and of twice the largest.

    The last is there because a ticket may take longer than a plain network of its cost; for kinds that have a choice.
    """
    name = next(iter(budgets[0]))
    wanted = [*(one[name] for one in budgets), 2 * budgets[-1][name]]
    by_network = {network: costs_by_width(recipe, splits, network, name) for network in networks}
    return {network: nearest_widths(costs, wanted) for network, costs in by_network.items() if costs}


def _plan_ticket(recipe: Recipe, budget: Mapping[str, float]) -> Member:
    named = "-".join(f"{name}-{format_setting(value)}" for name, value in budget.items())
    said = ", ".join(_short_cost(name, value) for name, value in budget.items())
    return Member(
        title=f"ticket {said}",
        slug=f"ticket-{named}",
        network=None,
        group=TICKETS,
        kind="ticket",
        recipe=dataclasses.replace(recipe, budget=dataclasses.replace(recipe.budget, **cast(Any, budget))),
        begin=partial(draw, measure=measure_network),
    )


def _plan_reference(reference: Reference) -> Member:
    return Member(
        title=reference.title,
        slug=reference.slug,
        network=reference.slug,
        group=REFERENCES,
        kind=reference.kind,
        recipe=reference.recipe,
        begin=train,
    )


def _short_cost(name: str, value: float) -> str:
    if name == "macs":
        return f"{value / 1e6:.3g} M MACs"
    return f"{value / 1e3:.3g} k parameters" if name == "params" else format_cost(name, value)
