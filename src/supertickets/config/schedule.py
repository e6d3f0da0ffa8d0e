"""The schedule of a training, as a pure function of the epoch (Algorithm 1 of SuperTickets and its variants)."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from ..errors import UserError
from .recipe import PruneSettings, Recipe


@dataclass(frozen=True)
class Shrink:
    """Remove search units: those at or below the threshold (line 5), or down to the path towards a budget.

    Attributes:
        progress: Share of the way to the budget, from above 0 to 1; None without a budget.
    """

    progress: float | None = None


@dataclass(frozen=True)
class Reactivate:
    """Let pruned weights train again (line 8)."""


@dataclass(frozen=True)
class Prune:
    """Prune to a sparsity of ``ratio`` by magnitude (lines 11-13); None for what a budget asks for."""

    ratio: float | None


@dataclass(frozen=True)
class Recalibrate:
    """Measure BN statistics anew (line 6), once after all that an epoch changed."""


_BEHIND = 0.1  # of the training
_STEP = 0.1  # of a progressive prune

Event = Shrink | Reactivate | Prune | Recalibrate


def events(epoch: int, recipe: Recipe) -> list[Event]:
    """List what happens after an epoch.

    Args:
        epoch: t, counted from 1.
        recipe: Settings; reads ``epochs``, ``search`` and ``prune``, and whether the network has units.

    Returns:
        Events in their order. After the last epoch the ratio is exactly p and nothing is reactivated.
    """
    prune = recipe.prune
    last = epoch == recipe.epochs
    search_due = is_search_epoch(epoch, recipe)
    prune_due = prune.ratio > 0 and prune.schedule == "interval" and epoch % prune.interval == 0
    if search_due and prune.on_conflict == "search_only":
        prune_due = False
    due: list[Event] = []
    if search_due:
        if recipe.removes_to_budget:
            due.append(Shrink(path_progress(epoch, recipe)))
        elif recipe.supernet.has_units:
            due.append(Shrink())
        if prune.ratio > 0 and prune.schedule == "interval" and prune.reactivate == "search" and not last:
            due.append(Reactivate())
    if last and prune.ratio > 0:
        due.append(Prune(None if recipe.prunes_to_budget else prune.ratio))
    elif prune_due:
        due.append(Prune(ratio_at(epoch, prune)))
        if prune.reactivate == "prune" and _search_goes_on(epoch, recipe):
            due.append(Reactivate())
    if due:
        due.append(Recalibrate())
    return due


def is_search_epoch(epoch: int, recipe: Recipe) -> bool:
    """Return whether t mod t_s = 0 (line 4) and the search is not over."""
    search = recipe.search
    if recipe.removes_to_budget and path_progress(epoch, recipe) <= 0:
        return False
    return search.interval > 0 and epoch % search.interval == 0 and _search_goes_on(epoch, recipe)


def path_progress(epoch: int, recipe: Recipe) -> float:
    """Return the share of the way to a budget after an epoch: 0 or less before it begins, 1 when it is reached.

    It ends at ``search.end``, or with the last removal of the run if none follows that.
    """
    search = recipe.search
    end = min(search.end, recipe.epochs // search.interval * search.interval / recipe.epochs)
    return min(1.0, (epoch / recipe.epochs - search.begin) / (end - search.begin)) if end > search.begin else 0.0


def last_search_epoch(recipe: Recipe) -> int:
    """Return the last epoch that removes units; 0 if there is none."""
    due = [t for t in range(1, recipe.epochs + 1) if is_search_epoch(t, recipe)]
    return due[-1] if due else 0


def ratio_at(epoch: int, prune: PruneSettings) -> float:
    """Return the sparsity of the prune after an epoch: min(p, 10% * floor(t / t_p)), or p (line 11)."""
    if not prune.progressive:
        return prune.ratio
    return min(prune.ratio, (epoch // prune.interval) / 10)


def cubic_ratio(done: float, prune: PruneSettings) -> float:
    """Return the sparsity on a cubic path: p (1 - (1 - u)^3), u from 0 to 1 (Zhu and Gupta, 2017, Eq. 1).

    Args:
        done: Share of the training that is done.
        prune: Settings; reads ``ratio``, ``begin`` and ``end``.
    """
    return prune.ratio * (1 - (1 - _share(done, prune.begin, prune.end)) ** 3)


def mask_progress(done: float, recipe: Recipe) -> float:
    """Return the share of the way of a mask to a budget, which ends some time behind the last removal of units.

    A unit takes its weights along, and none of those that are gone already come back for it.

    Args:
        done: Share of the training that is done.
        recipe: Settings; reads ``epochs``, ``search`` and ``prune``.
    """
    return _share(done, recipe.prune.begin, _mask_end(recipe))


def _mask_end(recipe: Recipe) -> float:
    """Return the share of the training at which the cubic path ends."""
    if not (recipe.prunes_to_budget and recipe.removes_to_budget):
        return recipe.prune.end
    return max(recipe.prune.end, last_search_epoch(recipe) / recipe.epochs + _BEHIND)


def _share(value: float, begin: float, end: float) -> float:
    return min(max((value - begin) / (end - begin), 0.0), 1.0)


def pruning_timeline(recipe: Recipe) -> list[tuple[object, ...]]:
    """Return what pruning does after each epoch, as values that are equal if and only if it does the same.

    Recipes that differ in ``prune`` alone train alike up to the epoch before the first in which these differ, since
    nothing else reads those settings: they can share that part of a training.
    """
    prune, timeline, is_pruned = recipe.prune, [], False
    how = dataclasses.replace(prune, ratio=0.0, interval=1, progressive=False, reactivate="none", restore="stored")
    for epoch in range(1, recipe.epochs + 1):
        steps: list[object] = []
        if prune.ratio and prune.schedule == "cubic" and epoch > prune.begin * recipe.epochs:
            steps.append(prune)
        for event in events(epoch, recipe):
            match event:
                case Prune():
                    steps += [event, how]
                    is_pruned = True
                case Reactivate():
                    steps += [event, prune.restore] if is_pruned else []  # else there is nothing to bring back
                case _:
                    steps.append(event)
        timeline.append(tuple(steps))
    return timeline


def check_schedule(recipe: Recipe) -> None:
    """Check that a schedule can work; ranges of single settings are checked with the recipe.

    Raises:
        UserError: The search ends behind the run, or its epochs cannot reach the ratio; names what is possible.
    """
    search, prune = recipe.search, recipe.prune
    if recipe.epochs == 0:
        return  # what follows depends on the epochs that will be chosen
    if recipe.removes_to_budget:
        if not (search.begin < search.end and last_search_epoch(recipe)):
            raise UserError(
                f"search.begin={search.begin:g} to search.end={search.end:g} of {recipe.epochs} epochs holds no "
                f"removal every {search.interval} epochs; set search.interval to 1, or search.begin below search.end"
            )
    elif search.interval and search.last_epoch is not None and search.last_epoch > recipe.epochs:
        raise UserError(
            f"search.last_epoch={search.last_epoch} lies behind the run's {recipe.epochs} epochs; "
            f"use a value of at most {recipe.epochs}, or null for the whole run."
        )
    if prune.schedule == "cubic" and not prune.begin < prune.end:
        raise UserError(f"prune.begin={prune.begin:g} is not before prune.end={prune.end:g}; set it below")
    if prune.ratio and prune.progressive and prune.schedule == "interval":
        needed = prune.interval * math.ceil(round(prune.ratio * 10, 9))
        if recipe.epochs < needed:
            most = recipe.epochs // math.ceil(round(prune.ratio * 10, 9))
            faster = f", or prune.interval to {most}" if most else ""
            raise UserError(
                f"{recipe.epochs} epochs cannot reach prune.ratio={prune.ratio:g}: at 10% per {prune.interval} epochs "
                f"the fewest are {needed}; set epochs to {needed}{faster}, or prune.progressive to false."
            )


def plan_lines(recipe: Recipe) -> list[tuple[int, list[Event]]]:
    """Return all epochs in which something happens, with what happens."""
    return [(t, due) for t in range(1, recipe.epochs + 1) if (due := events(t, recipe))]


def late_prune_warning(recipe: Recipe, total_steps: int | None = None) -> str | None:
    """Return a warning if much is pruned after the last epoch, since no training follows that could mend it.

    Args:
        recipe: The settings.
        total_steps: Steps of the training; None where they are not known, as before the data are read.
    """
    prune = recipe.prune
    if not prune.ratio or (prune.schedule == "cubic" and total_steps is None):
        return None
    if prune.schedule == "cubic":
        assert total_steps is not None
        last = (total_steps - 1) // prune.steps * prune.steps / total_steps  # the share that is done at the last prune
        way = mask_progress(last, recipe) if recipe.prunes_to_budget else _share(last, prune.begin, prune.end)
        reached = prune.ratio * (1 - (1 - way) ** 3)  # to a budget about so
        lower = f"prune.steps ({prune.steps} of {total_steps} steps) lower"
    else:
        *before, _ = (event.ratio or 0.0 for _, row in plan_lines(recipe) for event in row if isinstance(event, Prune))
        reached = max(before, default=0.0)
        lower = f"prune.schedule to cubic, or prune.interval ({prune.interval} of {recipe.epochs} epochs) lower"
    if prune.ratio - reached <= _STEP + 1e-9:  # the paper's way may end with such a step
        return None
    jump = f"from {reached:.0%} to {format_percent(prune.ratio)}"
    return f"warning: the sparsity goes {jump} after the last epoch, and no training follows; set {lower}"


def path_line(recipe: Recipe, is_share: bool = False) -> str | None:
    """Return what happens between epochs on the cubic path, for people to read; None without one.

    Args:
        recipe: The settings.
        is_share: Whether the path has shares of the training, since the number of epochs is not known.
    """
    prune = recipe.prune
    if not prune.ratio or prune.schedule != "cubic":
        return None
    end = _mask_end(recipe) if recipe.prunes_to_budget else prune.end
    first, last = f"epoch {prune.begin * recipe.epochs:.3g}", f"{end * recipe.epochs:.3g}"
    if is_share:
        first, last = f"{prune.begin:.0%}", f"{end:.0%} of the training"
    aim = "the budget" if recipe.prunes_to_budget else format_percent(prune.ratio)
    return f"from {first} to {last}: prune along a cubic path to {aim}, every {prune.steps} steps"


def format_percent(share: float) -> str:
    """Return a share as people read it, with all of its digits: "97.5%"."""
    return f"{100 * share:.6g}%"


def _search_goes_on(epoch: int, recipe: Recipe) -> bool:
    search = recipe.search
    if recipe.removes_to_budget:  # up to the first removal that reaches it
        return epoch - search.interval < search.end * recipe.epochs
    return search.last_epoch is None or epoch <= search.last_epoch
