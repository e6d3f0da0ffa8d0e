"""Two-in-one training: Algorithm 1 of SuperTickets, to be read beside the paper.

Lines 1-3 (epochs of training) are `training.fit`; what follows an epoch is `TwoInOne.on_epoch_end`; when what happens
is `schedule.events`; line 16 (the ticket) is `runs.finalize`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..config.lr_schedule import lr_factor
from ..config.recipe import Recipe
from ..config.schedule import (
    Prune,
    Reactivate,
    Recalibrate,
    Shrink,
    cubic_ratio,
    events,
    last_search_epoch,
    late_prune_warning,
    mask_progress,
)
from ..data import Batch
from ..models import Spec
from ..models.traced import trace_spec
from ..nas import IMPORTANCES, expected_shrinkage, gate_gradients, unit_weights
from ..pruning import SparseState, check_criterion, empty_layers, mask_sparsity, restore, store_pruned
from ..training import Algorithm, Session, TrainState, recalibrate
from ..training.algorithm import MeasureNetwork, NetworkStep, Outcome, Step
from ..training.optimizers import FIRST_MOMENTS, SECOND_MOMENTS, optimizer_tensors
from .budget_checks import check_budget, check_reachable
from .budget_path import BudgetPath
from .ranking import check_prune_ratio, choose_mask
from .unit_removal import remove_units

Tensors = dict[str, Tensor]
_GATE_MOMENTUM = 0.98  # of the running means, per step


class TwoInOne(Algorithm):
    """Two-in-one training: search and pruning while the weights are trained."""

    name = "two_in_one"

    def __init__(self) -> None:
        self.gates: Tensors = {}  # running means of the gates' squared gradients, by group
        self.budget = BudgetPath()

    def use_measure(self, measure: MeasureNetwork) -> None:
        """Take a function that times networks, for a budget of latency."""
        self.budget.latency.measure = measure

    def check(self, recipe: Recipe) -> None:
        """Check that the criterion can work with the settings, and that the budget is one that units are removed to."""
        if recipe.prune.ratio:
            check_criterion(recipe.prune)
        check_budget(recipe)
        self.budget.check(recipe)

    def supernet(self, session: Session) -> Spec:
        """Return the network with its search units: those that its family declares, or else those that are traced."""
        network, name = session.supernet, session.recipe.supernet.name
        if network.unit_groups() or not last_search_epoch(session.recipe):
            return network
        spec, left_out = trace_spec(network)
        groups = spec.unit_groups()
        units = f"{sum(map(len, groups)):,} search units in {len(groups)} groups"
        session.reporter.say(f"{name} has {units}" if groups else f"{name} has no search units: only weights go")
        reasons = {group.name: group.reason for group in left_out}
        session.run.append({"event": "trace", "epoch": 0, "groups": len(groups), "left_out": reasons})
        return spec

    def init(self, session: Session, state: TrainState) -> TrainState:
        """Check that ratio and budget can be met, and warn of a search or a prune that cannot work."""
        if session.recipe.prune.ratio:
            check_prune_ratio(state, session.recipe)
        if session.recipe.draws_to_budget:
            check_reachable(session.recipe, session.supernet, state)
            self.budget.begin(session, state)
        for warning in (search_warning(session), late_prune_warning(session.recipe, session.total_steps)):
            if warning:
                session.reporter.say(warning)
        return state

    def make_step(self, session: Session, state: TrainState, take: NetworkStep) -> Step:
        """Return a step with the prunes of the cubic path in front, if the recipe has one."""
        prune = session.recipe.prune
        if not prune.ratio or prune.schedule != "cubic":
            return take

        def prune_and_take(batch: Batch, epoch: int, step: int) -> Tensor:
            done = epoch * session.batches.steps_per_epoch + step
            if done % prune.steps == 0 and self._prune_on_path(session, state, epoch + 1, done / session.total_steps):
                take.remask()
            return take(batch, epoch, step)

        return prune_and_take

    def _prune_on_path(self, session: Session, state: TrainState, epoch: int, done: float) -> bool:
        """Prune as far as the path wants, and return whether anything was pruned."""
        if session.recipe.prunes_to_budget:
            progress = mask_progress(done, session.recipe)
            if mask := self.budget.choose_mask(session, state, epoch, progress):
                disable_weights(session, state, epoch, mask, mask_sparsity(mask))
            return bool(mask)
        ratio = cubic_ratio(done, session.recipe.prune)
        if is_due := ratio > state.sparse.ratio:
            prune_weights(session, state, epoch, ratio)
        return is_due

    def on_gradients(self, session: Session, state: TrainState) -> None:
        """Follow the gradients of the gates while there are units to remove by them."""
        recipe = session.recipe
        if IMPORTANCES[recipe.search.importance].uses_gates and state.position.epoch < last_search_epoch(recipe):
            now = gate_gradients(state.spec.unit_groups(), state.parameters())
            self.gates = {name: _decay(self.gates.get(name), value) for name, value in now.items()}

    def tensors(self) -> Tensors:
        """Return the running means of the gates' gradients."""
        return self.gates

    def to_json(self) -> dict[str, Any]:
        """Return how far the way to the budget is."""
        return self.budget.to_json()

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """Take back the running means, and the way to the budget."""
        self.gates = dict(tensors)
        self.budget.restore(data)

    def finalize(self, session: Session, state: TrainState) -> Outcome | None:
        """Return the network, and what it costs of its budget."""
        if session.recipe.draws_to_budget and (warning := self.budget.missed(session, state)):
            session.reporter.say(warning)
        return Outcome(state, self.budget.summary(session))

    def on_epoch_end(self, session: Session, state: TrainState, epoch: int) -> TrainState:
        """Do what follows the training of an epoch: lines 4-14.

        Args:
            session: What stays the same during the run.
            state: The network after the epoch.
            epoch: t, from 1.
        """
        for event in events(epoch, session.recipe):
            match event:
                case Shrink(progress):
                    keep = self.budget.choose_units(session, state, self.gates, progress)
                    self.gates = {name: value[keep[name].to(value.device)] for name, value in self.gates.items()}
                    state = remove_units(session, state, epoch, keep)
                case Reactivate():
                    reactivate_weights(session, state, epoch)
                case Prune(None):
                    if mask := self.budget.choose_mask(session, state, epoch, 1.0):
                        disable_weights(session, state, epoch, mask, mask_sparsity(mask))
                case Prune(float(ratio)):
                    prune_weights(session, state, epoch, ratio)
                case Recalibrate():
                    batches = session.batches.calibration(epoch, session.recipe.recalibrate_batches)
                    used = recalibrate(state.module, batches, session.runtime)
                    session.run.append({"event": "recalibrate", "epoch": epoch, "network": "training", "batches": used})
        return state


def prune_weights(session: Session, state: TrainState, epoch: int, ratio: float) -> None:
    """Prune to a ratio (line 12), by magnitude or another criterion.

    A pruned weight is zero until it is reactivated. Its magnitude is the lowest there is; other criteria may score it
    higher, so that it goes first by its flag.
    """
    alive = {} if check_criterion(session.recipe.prune).uses_magnitudes else state.sparse.mask
    disable_weights(session, state, epoch, choose_mask(session, state, epoch, ratio, alive), ratio)


@torch.no_grad()
def disable_weights(session: Session, state: TrainState, epoch: int, mask: Tensors, ratio: float) -> None:
    """Set what a mask prunes to zero, and store it (line 13)."""
    named = state.parameters()
    weights = {name: named[name] for name in mask}
    moments = optimizer_tensors(state.optimizer, state.module)
    seconds = {k: v for k, v in moments.items() if k.split("/")[0] in SECOND_MOMENTS and k.split("/")[1] in mask}
    state.sparse = store_pruned(state.sparse, mask, weights | seconds, ratio)
    for name, flags in mask.items():
        weights[name].mul_(flags)
        for kind in FIRST_MOMENTS:
            if (moment := moments.get(f"{kind}/{name}")) is not None:
                moment.mul_(flags)
    record = {"event": "prune", "epoch": epoch, "ratio": ratio, "sparsity": state.sparse.sparsity}
    if empty := empty_layers(mask):
        record["empty_layers"] = empty
        session.reporter.say(
            f"warning: epoch {epoch}: {len(empty)} layers have no weight left after pruning to {ratio:.0%} "
            f"({', '.join(empty[:3])}{', ...' if len(empty) > 3 else ''}); see prune.layer_floor"
        )
    session.run.append(record)


@torch.no_grad()
def reactivate_weights(session: Session, state: TrainState, epoch: int) -> None:
    """Let pruned weights train again (line 8), from their stored value or from zero."""
    if not state.sparse.mask:
        return
    named = state.parameters()
    moments = optimizer_tensors(state.optimizer, state.module)
    for name, value in restore(state.sparse, named | moments).items():
        if "/" in name:
            moments[name].copy_(value)
        elif session.recipe.prune.restore == "stored":
            named[name].copy_(value)
    state.sparse = SparseState()  # every weight trains again
    session.run.append({"event": "reactivate", "epoch": epoch, "restore": session.recipe.prune.restore})


def _decay(mean: Tensor | None, value: Tensor) -> Tensor:
    if mean is None:
        return value * (1 - _GATE_MOMENTUM)
    return mean.to(value.device).lerp(value, 1 - _GATE_MOMENTUM)  # a resumed one comes from the CPU


def search_warning(session: Session) -> str | None:
    """Return a warning if the penalty is too weak for any unit to reach the threshold before the search ends."""
    recipe, steps = session.recipe, session.batches.steps_per_epoch
    end = last_search_epoch(recipe)
    if not end or not recipe.search.rho or recipe.draws_to_budget or not session.supernet.unit_groups():
        return None
    total = recipe.epochs * steps
    lrs = [recipe.optimizer.lr * lr_factor(step, total, steps, recipe.lr) for step in range(end * steps)]
    if recipe.optimizer.name in ("adam", "adamw") and recipe.search.penalty == "subgradient":
        farthest = sum(lrs)  # Adam moves a scale by at most about lr per step, whatever pulls at it
    else:
        momentum = recipe.optimizer.momentum if recipe.optimizer.name == "sgd" else 0.0
        weights = unit_weights(session.supernet, session.supernet, recipe.search.penalty_exponent)
        farthest = expected_shrinkage(lrs, steps, recipe.search, momentum) * max(
            float(p.max()) for p in weights.values()
        )
    if farthest >= 1 - recipe.search.threshold:
        return None
    factor = 3 / max(farthest, 1e-12)
    return (
        f"warning: the penalty can move a scale by {farthest:.2g} at most before the search ends, so no unit can fall "
        f"from 1 to search.threshold {recipe.search.threshold:g}; "
        f"try search.rho {recipe.search.rho * factor:.1g} or more epochs"
    )
