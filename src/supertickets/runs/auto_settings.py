"""Choose the settings that a recipe leaves to the data: epochs, batch, intervals, penalty (docs/short-runs.md)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from ..config.lr_schedule import lr_factor
from ..config.recipe import Recipe
from ..config.schedule import check_schedule, last_search_epoch
from ..config.stretch import stretch_recipe
from ..data.sources import find_source
from ..device import channel_block, computes_in_bf16, find_device
from ..errors import UserError
from ..nas import IMPORTANCES, auto_lr, expected_shrinkage
from .auto_network import fit_network, scale_widths

_STEPS, _SMALL_IMAGE_STEPS = 3000, 6000  # of a training whose length nobody gave; small images cost little
_SMALL_IMAGE = 64  # pixels of a side
_EPOCHS = (20, 120)  # its shortest and longest
_MEANT_FOR = 30  # epochs that the intervals of a recipe without epochs are written for
Choice = tuple[Recipe, list[str]]  # the recipe, and a line on each choice


def resolve_auto_settings(recipe: Recipe, samples: int, side: int) -> tuple[Recipe, list[str]]:
    """Choose ``epochs`` 0, ``search.rho`` null, ``data.size`` null of folders and what shall fit; else nothing changes.

    Args:
        recipe: The settings.
        samples: Number of training samples.
        side: Side of the images as they were read, in pixels.

    Returns:
        The recipe, and a line on each choice.

    Raises:
        UserError: The schedule cannot work with what was chosen.
    """
    notes = []
    if find_source(recipe.data.source).chooses_size and recipe.data.size is None:
        recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, size=side))
    for fit in (fit_network, scale_widths):
        recipe, chosen = fit(recipe, side)
        notes += chosen
    recipe, fitted = _fit_batch(recipe, samples)
    if recipe.epochs == 0:
        recipe, steps = _with_epochs(recipe, samples, side)
        check_schedule(recipe)  # of given epochs the schedule has been checked with the recipe
        batch = recipe.data.batch
        length = f"{recipe.epochs} epochs of {steps} steps, batch {batch} (--epochs, --data.batch)"
        notes += [f"chosen: {length}"] if recipe.minutes is None else fitted
    else:
        notes += fitted
    for choose in (_choose_precision, _choose_search, _choose_multiple, _choose_penalty, _choose_policy_lr):
        recipe, chosen = choose(recipe, samples)
        notes += chosen
    return recipe, notes


def _fit_batch(recipe: Recipe, samples: int) -> Choice:
    """Take a smaller batch where there are few samples, if the recipe wants that."""
    if not (recipe.epochs == 0 if recipe.data.fit_batch is None else recipe.data.fit_batch):
        return recipe, []
    batch = _batch(recipe.data.batch, samples)
    fitted = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, batch=batch, fit_batch=False))
    return fitted, [f"chosen: batch {batch}, {max(1, samples // batch)} steps an epoch (--data.batch)"]


def _choose_precision(recipe: Recipe, samples: int) -> Choice:
    """Choose ``precision`` "auto" by network and device."""
    if recipe.precision != "auto":
        return recipe, []
    is_faster = recipe.supernet.family.gains_by_bf16 and computes_in_bf16(find_device(recipe.device))
    chosen = dataclasses.replace(recipe, precision="bf16" if is_faster else "fp32")
    return chosen, ["chosen: training in bfloat16, which this device computes in (--precision)"] if is_faster else []


def _choose_search(recipe: Recipe, samples: int) -> Choice:
    """Switch the penalty off where no units are removed."""
    if recipe.supernet.has_units or recipe.removes_to_budget:
        return recipe, []
    note = f"{recipe.supernet.name} was searched before: only weights are pruned; a budget removes units again"
    return _with_search(recipe, rho=0.0), [note] if last_search_epoch(recipe) else []


def _choose_multiple(recipe: Recipe, samples: int) -> Choice:
    """Choose ``search.multiple`` null by what dense runtimes compute in."""
    if recipe.search.multiple is not None:
        return recipe, []
    multiple = channel_block()
    note = f"chosen: widths in multiples of {multiple} channels, this CPU's (--search.multiple)"
    return _with_search(recipe, multiple=multiple), [note]


def _choose_penalty(recipe: Recipe, samples: int) -> Choice:
    """Choose ``search.rho`` null by the length of the search; none where a budget says how much goes."""
    if recipe.removes_to_budget:
        rho = recipe.search.rho if IMPORTANCES[recipe.search.importance].uses_penalty else 0.0
        recipe = _with_search(recipe, rho=rho, last_epoch=None)
    if recipe.search.rho is not None:
        return recipe, []
    rho = _rho(recipe, max(1, samples // recipe.data.batch))
    note = f"chosen: penalty {rho:.3g} (--search.target_shrinkage or --search.rho; more removes more)"
    return _with_search(recipe, rho=rho), [note]


def _choose_policy_lr(recipe: Recipe, samples: int) -> Choice:
    """Choose ``policy.lr`` null of a policy search by its number of steps."""
    if not recipe.budget.given or recipe.draws_to_budget or recipe.policy.lr is not None:
        return recipe, []
    steps = recipe.epochs * max(1, samples // recipe.data.batch)
    lr = auto_lr(steps, recipe.policy)
    if not lr:
        raise UserError(
            f"in {steps} steps the controller has none to learn in (policy.delay {recipe.policy.delay:g}); "
            "set more epochs"
        )
    recipe = dataclasses.replace(recipe, policy=dataclasses.replace(recipe.policy, lr=lr))
    return recipe, [f"chosen: learning rate {lr:.3g} of the policy (--policy.lr)"]


def _with_search(recipe: Recipe, **changes: Any) -> Recipe:
    return dataclasses.replace(recipe, search=dataclasses.replace(recipe.search, **changes))


def _with_epochs(recipe: Recipe, samples: int, side: int) -> tuple[Recipe, int]:
    """Return the recipe with a length, and intervals stretched to it; and the steps per epoch."""
    steps = max(1, samples // recipe.data.batch)
    wanted = _SMALL_IMAGE_STEPS if side <= _SMALL_IMAGE else _STEPS
    epochs = min(max(round(wanted / steps), _EPOCHS[0]), _EPOCHS[1])
    return stretch_recipe(recipe, epochs, _MEANT_FOR), steps


def _batch(most: int, samples: int) -> int:
    """Return a batch of at most ``most`` with ten steps per epoch, if there are samples for batches of 8."""
    fitting = 2 ** int(math.log2(max(samples / 10, 1)))
    return min(most, samples, max(fitting, 8))


def _rho(recipe: Recipe, steps: int) -> float:
    end = last_search_epoch(recipe)
    total = recipe.epochs * steps
    lrs = [recipe.optimizer.lr * lr_factor(step, total, steps, recipe.lr) for step in range(end * steps)]
    momentum = recipe.optimizer.momentum if recipe.optimizer.name == "sgd" else 0.0
    unit = expected_shrinkage(lrs, steps, dataclasses.replace(recipe.search, rho=1.0), momentum)
    return recipe.search.target_shrinkage / unit if unit else 0.0
