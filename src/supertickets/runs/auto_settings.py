"""Choose the settings that a recipe leaves to the data: epochs, batch, intervals, penalty (docs/short-runs.md)."""

from __future__ import annotations

import dataclasses
import math

from ..config.lr_schedule import lr_factor
from ..config.recipe import Recipe
from ..config.schedule import check_schedule, last_search_epoch
from ..config.stretch import stretch_recipe
from ..data.sources import find_source
from ..device import channel_block
from ..errors import UserError
from ..nas import IMPORTANCES, auto_lr, expected_shrinkage
from .auto_network import fit_network

_STEPS = 3000  # of a training whose length nobody gave
_EPOCHS = (20, 120)  # its shortest and longest
_MEANT_FOR = 30  # epochs that the intervals of a recipe without epochs are written for


def resolve_auto_settings(recipe: Recipe, samples: int, side: int) -> tuple[Recipe, list[str]]:
    """Choose ``epochs`` 0, ``search.rho`` null and ``data.size`` null of folders; without them nothing changes.

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
    recipe, chosen = fit_network(recipe, side)
    notes += chosen
    if recipe.epochs == 0:
        recipe, steps = _with_epochs(recipe, samples)
        check_schedule(recipe)  # of given epochs the schedule has been checked with the recipe
        batch = recipe.data.batch
        notes.append(f"chosen: {recipe.epochs} epochs of {steps} steps, batch {batch} (--epochs, --data.batch)")
    if not recipe.supernet.has_units:
        recipe = dataclasses.replace(recipe, search=dataclasses.replace(recipe.search, rho=0.0))
        if last_search_epoch(recipe):
            notes.append(f"{recipe.supernet.name} has no search units: only weights are pruned")
    if recipe.search.multiple is None:
        multiple = channel_block()
        recipe = dataclasses.replace(recipe, search=dataclasses.replace(recipe.search, multiple=multiple))
        notes.append(f"chosen: widths in multiples of {multiple} channels, this CPU's (--search.multiple)")
    if recipe.removes_to_budget:  # the budget says how much goes, so that nothing has to pull
        rho = recipe.search.rho if IMPORTANCES[recipe.search.importance].uses_penalty else 0.0
        recipe = dataclasses.replace(recipe, search=dataclasses.replace(recipe.search, rho=rho, last_epoch=None))
    if recipe.search.rho is None:
        rho = _rho(recipe, max(1, samples // recipe.data.batch))
        recipe = dataclasses.replace(recipe, search=dataclasses.replace(recipe.search, rho=rho))
        notes.append(f"chosen: penalty {rho:.3g} (--search.target_shrinkage or --search.rho; more removes more)")
    if recipe.budget.given and not recipe.draws_to_budget and recipe.policy.lr is None:
        steps = recipe.epochs * max(1, samples // recipe.data.batch)
        lr = auto_lr(steps, recipe.policy)
        if not lr:
            raise UserError(
                f"in {steps} steps the controller has none to learn in (policy.delay {recipe.policy.delay:g}); "
                "set more epochs"
            )
        recipe = dataclasses.replace(recipe, policy=dataclasses.replace(recipe.policy, lr=lr))
        notes.append(f"chosen: learning rate {lr:.3g} of the policy (--policy.lr)")
    return recipe, notes


def _with_epochs(recipe: Recipe, samples: int) -> tuple[Recipe, int]:
    """Return the recipe with a length, and intervals stretched to it; and the steps per epoch."""
    batch = _batch(recipe.data.batch, samples)
    steps = max(1, samples // batch)
    epochs = min(max(round(_STEPS / steps), _EPOCHS[0]), _EPOCHS[1])
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, batch=batch))
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
