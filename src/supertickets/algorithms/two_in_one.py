"""Two-in-one training: Algorithm 1 of SuperTickets, to be read beside the paper.

Lines 1-3 (epochs of training) are `training.fit`; what follows an epoch is `TwoInOne.on_epoch_end`; when what happens
is `schedule.events`; line 16 (the ticket) is `runs.finalize`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..config.lr_schedule import lr_factor
from ..config.recipe import Recipe
from ..config.schedule import Prune, Reactivate, Recalibrate, Shrink, events, last_search_epoch
from ..nas import expected_shrinkage, fold_constants, min_units, select_units, slice_tensors, unit_weights
from ..pruning import SparseState, check_criterion, empty_layers, restore, store_pruned
from ..training import Algorithm, Session, TrainState, evaluate, recalibrate, restore_state
from ..training.optimizers import FIRST_MOMENTS, SECOND_MOMENTS, optimizer_tensors
from .ranking import check_prune_ratio, choose_mask

Tensors = dict[str, Tensor]


class TwoInOne(Algorithm):
    """Two-in-one training: search and pruning while the weights are trained."""

    name = "two_in_one"

    def check(self, recipe: Recipe) -> None:
        """Check that the criterion can work with the settings."""
        if recipe.prune.ratio:
            check_criterion(recipe.prune)

    def init(self, session: Session, state: TrainState) -> TrainState:
        """Check that the ratio can be met exactly, and warn if the search cannot remove anything."""
        if session.recipe.prune.ratio:
            check_prune_ratio(state, session.recipe)
        if warning := search_warning(session):
            session.reporter.say(warning)
        return state

    def on_epoch_end(self, session: Session, state: TrainState, epoch: int) -> TrainState:
        """Do what follows the training of an epoch: lines 4-14.

        Args:
            session: What stays the same during the run.
            state: The network after the epoch.
            epoch: t, from 1.
        """
        for event in events(epoch, session.recipe):
            match event:
                case Shrink():
                    state = remove_units(session, state, epoch)
                case Reactivate():
                    reactivate_weights(session, state, epoch)
                case Prune(ratio):
                    prune_weights(session, state, epoch, ratio)
                case Recalibrate():
                    batches = session.batches.calibration(epoch, session.recipe.recalibrate_batches)
                    used = recalibrate(state.module, batches, session.runtime)
                    session.run.append({"event": "recalibrate", "epoch": epoch, "network": "training", "batches": used})
        return state


def remove_units(session: Session, state: TrainState, epoch: int) -> TrainState:
    """Remove search units whose importance factor is at most the threshold (line 5), by rebuilding.

    The importance factor is the BN scale; with averaged weights, the larger of a unit's two scales.
    """
    search = session.recipe.search
    groups = state.spec.unit_groups()
    keep = select_units(
        {group.name: _importance(state, group.scale) for group in groups},
        search.threshold,
        min_units(session.supernet, search.floor),
    )
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


def shrink(session: Session, state: TrainState, keep: Tensors) -> TrainState:
    """Rebuild a network in training with only the flagged units: weights, averages, moments, masks, stored values."""
    groups = state.spec.unit_groups()
    spec = state.spec.keep(keep)
    with torch.device("meta"):
        names = list(spec.build().state_dict())
    tensors = state.tensors()
    tensors["weights"] |= fold_constants(tensors["weights"], groups, keep)
    tensors = {group: slice_tensors(values, groups, keep, names) for group, values in tensors.items()}
    return restore_state(session.recipe, session.runtime.device, state.meta() | {"spec": spec.to_json()}, tensors)


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


def search_warning(session: Session) -> str | None:
    """Return a warning if the penalty is too weak for any unit to reach the threshold before the search ends."""
    recipe, steps = session.recipe, session.batches.steps_per_epoch
    end = last_search_epoch(recipe)
    if not end or not recipe.search.rho or not recipe.supernet.has_units:
        return None
    total = recipe.epochs * steps
    lrs = [recipe.optimizer.lr * lr_factor(step, total, steps, recipe.lr) for step in range(end * steps)]
    if recipe.optimizer.name in ("adam", "adamw") and recipe.search.penalty == "subgradient":
        farthest = sum(lrs)  # Adam moves a scale by at most about lr per step, whatever pulls at it
    else:
        momentum = recipe.optimizer.momentum if recipe.optimizer.name == "sgd" else 0.0
        weights = unit_weights(session.supernet, session.supernet)
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


def _importance(state: TrainState, scale: str) -> Tensor:
    raw = state.module.get_parameter(scale).detach().abs()
    return raw if state.ema is None else torch.maximum(raw, state.ema.tensors[scale].abs())


def _validation_loss(session: Session, state: TrainState) -> float:
    """Return the loss of the network in training, in eval mode, with its BN statistics as they are."""
    data = session.batches.splits.validation
    return evaluate(state.module, session.batches.evaluation(data), data, session.task, session.runtime)["loss"]
