"""Removal of search units while a network is trained: by the threshold of the paper, or along a path to a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from ..config.recipe import Recipe
from ..cost import WidthCosts, unit_macs, unit_params
from ..cost.width_costs import KB_PER_PARAMETER
from ..models import Spec
from ..nas import (
    IMPORTANCES,
    fold_constants,
    min_units,
    scale_magnitudes,
    select_to_cost,
    select_units,
    slice_tensors,
    width_rules,
)
from ..training import Session, TrainState, evaluate, restore_state
from .budget_limits import Limits, tightest_share
from .ranking import expected_zeros

Tensors = dict[str, Tensor]
Keep = Mapping[str, Tensor]
_UNIT_COSTS: Mapping[str, Callable[[Spec], Tensors]] = {
    "macs": unit_macs,
    "params": unit_params,
    "size_kb": lambda spec: {name: KB_PER_PARAMETER * params for name, params in unit_params(spec).items()},
}
_LEAST_PRICE = 1e-9  # of a unit, as a share of the budget


def choose_units(
    session: Session, state: TrainState, gates: Tensors, limits: Limits | None, *, is_last: bool = False
) -> Tensors:
    """Flag the units that stay.

    Args:
        session: What stays the same.
        state: The network.
        gates: Running means of the gates' squared gradients, by group; only for that importance.
        limits: What the network may cost, with the zeros that are expected of it; None without a budget, where the
            threshold decides (line 5).
        is_last: Whether no removal follows.
    """
    recipe = session.recipe
    groups = state.spec.unit_groups()
    rules = width_rules(groups, session.supernet, recipe.search.multiple or 1, recipe.search.group_floor)
    if limits is None:
        floor = min_units(session.supernet, recipe.search.floor)
        return select_units(_raw_importance(state, gates, recipe), recipe.search.threshold, floor, rules)
    importance = _raw_importance(state, gates, recipe)
    costs = WidthCosts(state.spec, expected_zeros(state, recipe))
    importance = IMPORTANCES[recipe.search.importance].compare(importance, _unit_prices(state.spec, limits))
    share = partial(tightest_share, costs.measure, limits)
    return select_to_cost(importance, rules, share, 1.0, is_last=is_last)


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
    if IMPORTANCES[recipe.search.importance].uses_gates:
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
