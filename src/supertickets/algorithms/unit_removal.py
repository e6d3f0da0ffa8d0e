"""Removal of search units while a network is trained: by the threshold of the paper, or along a path to a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from ..config.recipe import Recipe
from ..cost import WidthCosts, unit_macs, unit_params
from ..cost.budget import format_cost, format_setting
from ..cost.width_costs import KB_PER_PARAMETER
from ..errors import UserError
from ..models import Spec
from ..nas import (
    fold_constants,
    min_units,
    rank_within_groups,
    scale_magnitudes,
    select_to_cost,
    select_units,
    slice_tensors,
    width_rules,
)
from ..training import Session, TrainState, evaluate, restore_state

Tensors = dict[str, Tensor]
Keep = Mapping[str, Tensor]
_UNIT_COSTS: Mapping[str, Callable[[Spec], Tensors]] = {
    "macs": unit_macs,
    "params": unit_params,
    "size_kb": lambda spec: {name: KB_PER_PARAMETER * params for name, params in unit_params(spec).items()},
}
_LEAST_PRICE = 1e-9  # of a unit, as a share of the budget


def choose_units(session: Session, state: TrainState, gates: Tensors, progress: float | None) -> Tensors:
    """Flag the units that stay.

    Args:
        session: What stays the same.
        state: The network.
        gates: Running means of the gates' squared gradients, by group; only for that importance.
        progress: Share of the way to the budget; None without one, where the threshold decides (line 5).
    """
    recipe = session.recipe
    groups = state.spec.unit_groups()
    rules = width_rules(groups, session.supernet, recipe.search.multiple or 1, recipe.search.group_floor)
    if progress is None:
        floor = min_units(session.supernet, recipe.search.floor)
        return select_units(_raw_importance(state, gates, recipe), recipe.search.threshold, floor, rules)
    importance = _raw_importance(state, gates, recipe)
    costs, whole = WidthCosts(state.spec), WidthCosts(session.supernet)
    limits = {
        name: path_cost(whole.measure(name, {}), budget, progress) for name, budget in recipe.budget.given.items()
    }
    if recipe.search.importance == "gate":
        prices = _unit_prices(state.spec, limits)
        importance = {name: value / prices[name].to(value) for name, value in importance.items()}
    else:
        importance = rank_within_groups(importance)
    share = partial(_tightest, costs, limits)
    return select_to_cost(importance, rules, share, 1.0, is_last=progress == 1)


def path_cost(start: float, budget: float, progress: float) -> float:
    """Return the cost on the way from a supernet to a budget: B + (C - B) (1 - u)^3, fast at first.

    Args:
        start: Cost of the supernet, C.
        budget: The budget, B.
        progress: Share of the way, u, from 0 to 1.
    """
    return budget + (start - budget) * (1 - progress) ** 3


def remove_units(session: Session, state: TrainState, epoch: int, keep: Keep) -> TrainState:
    """Remove the units that are not flagged, by rebuilding, and log what the loss loses by it.

    Args:
        session: What stays the same.
        state: The network.
        epoch: Number of the epoch, for the log.
        keep: Group name -> flags of the units that stay.
    """
    groups = state.spec.unit_groups()
    removed = {kind: sum(int((~keep[g.name]).sum()) for g in groups if g.kind == kind) for kind in ("channel", "token")}
    record = {
        "event": "shrink",
        "epoch": epoch,
        "removed_channels": removed["channel"],
        "removed_tokens": removed["token"],
    }
    if not any(removed.values()):
        session.run.append(record)
        return state
    before = _validation_loss(session, state)
    state = shrink(session, state, keep)
    session.run.append(record | {"loss_before": before, "loss_after": _validation_loss(session, state)})
    return state


def shrink(session: Session, state: TrainState, keep: Keep) -> TrainState:
    """Rebuild a network in training with only the flagged units: weights, averages, moments, masks, stored values."""
    groups = state.spec.unit_groups()
    spec = state.spec.keep(keep)
    with torch.device("meta"):
        names = list(spec.build().state_dict())
    tensors = state.tensors()
    tensors["weights"] |= fold_constants(tensors["weights"], groups, keep)
    tensors = {group: slice_tensors(values, groups, keep, names) for group, values in tensors.items()}
    return restore_state(session.recipe, session.runtime.device, state.meta() | {"spec": spec.to_json()}, tensors)


def check_budget(recipe: Recipe) -> None:
    """Check that a budget is one that units can be removed to, and that there is one where the importance needs it.

    Raises:
        UserError: It is not, or the search is switched off.
    """
    if recipe.search.importance == "gate" and recipe.search.interval and not recipe.budget.given:
        raise UserError("search.importance=gate ranks units for a budget; give budget.macs, for example")
    for name in recipe.budget.given:
        if name not in _UNIT_COSTS:
            raise UserError(f"draw takes no budget.{name}; give budget.macs, budget.params or budget.size_kb")
        if not recipe.search.interval:
            raise UserError(f"budget.{name} needs a search that removes units; set search.interval to 1")


def check_reachable(session: Session, state: TrainState) -> None:
    """Check that the network can be brought to the budget.

    Raises:
        UserError: It has no units, costs no more than the budget, or cannot be made so small; names what can be met.
    """
    recipe = session.recipe
    groups, given = state.spec.unit_groups(), recipe.budget.given
    if not groups:
        raise UserError(f"budget.{next(iter(given))} needs search units, and {state.spec} has none; leave it out")
    costs = WidthCosts(state.spec)
    most = {name: costs.measure(name, {}) for name in given}
    if all(budget >= most[name] for name, budget in given.items()):
        name, budget = next(iter(given.items()))
        raise UserError(
            f"budget.{name}={format_setting(budget)} leaves nothing to remove: {state.spec} has "
            f"{format_cost(name, most[name])}; take a larger network, or a smaller budget"
        )
    rules = width_rules(groups, session.supernet, recipe.search.multiple or 1, recipe.search.group_floor)
    equal = {group.name: torch.ones(len(group)) for group in groups}
    for name, budget in given.items():
        least = costs.measure(name, select_to_cost(equal, rules, partial(costs.measure, name), 0))
        if budget < least:
            raise UserError(
                f"budget.{name}={format_setting(budget)} cannot be met: the smallest network has "
                f"{format_cost(name, least)}; set budget.{name} to {format_setting(least)}, or lower "
                "search.group_floor or search.multiple"
            )


def _tightest(costs: WidthCosts, limits: Mapping[str, float], keep: Keep) -> float:
    """Return the largest of the costs of what is left, each as a share of its limit."""
    return max(costs.measure(name, keep) / limit for name, limit in limits.items())


def _unit_prices(spec: Spec, limits: Mapping[str, float]) -> Tensors:
    """Return what each unit costs: the sum of its shares of all limits."""
    prices = {group.name: torch.full((len(group),), _LEAST_PRICE, dtype=torch.float64) for group in spec.unit_groups()}
    for name, limit in limits.items():
        for group, costs in _UNIT_COSTS[name](spec).items():
            prices[group] += costs / limit
    return prices


def _raw_importance(state: TrainState, gates: Tensors, recipe: Recipe) -> Tensors:
    """Return the importance of units as it was measured, on the CPU.

    The importance factor is the BN scale; with averaged weights, the larger of a unit's two scales.
    """
    groups = state.spec.unit_groups()
    if recipe.search.importance == "gate":
        return {group.name: gates[group.name].cpu() for group in groups}
    named = state.parameters()
    importance = {}
    for group in groups:
        if not group.scales:  # nothing says how important its units are
            importance[group.name] = torch.full((len(group),), torch.inf)
            continue
        value = scale_magnitudes(group, named)
        if state.ema is not None:
            value = torch.maximum(value, scale_magnitudes(group, state.ema.tensors))
        importance[group.name] = value.cpu()
    return importance


def _validation_loss(session: Session, state: TrainState) -> float:
    """Return the loss of the network in training, in eval mode, with its BN statistics as they are."""
    data = session.batches.splits.validation
    return evaluate(state.module, session.batches.evaluation(data), data, session.task, session.runtime)["loss"]
