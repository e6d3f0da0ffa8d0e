"""Choose the epochs of a training that shall take some minutes, by the time of its first steps."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Generator

from ..config.recipe import Recipe
from ..config.schedule import check_schedule
from ..config.stretch import stretch_recipe
from ..data import Batch
from ..models import Spec
from ..training import Session, initial_state
from ..training.remaining_time import format_duration
from ..training.step import Stepper

_EPOCHS = (4, 300)  # fewest and most
_WARMUP, _STEPS = 2, 8  # steps that do not count, and that do
_TRAINING = 0.85  # share of the time that steps get; the rest is for prunes, evaluation, measurements


def fit_minutes(session: Session, spec: Spec) -> tuple[Recipe, list[str]]:
    """Return the recipe with as many epochs as fit into ``minutes``, and a line on them; without, as it is.

    Args:
        session: The settings, the data and the task; nothing of it changes.
        spec: The network before anything is removed, which is the slowest.

    Raises:
        UserError: The schedule cannot work with so few epochs.
    """
    recipe, minutes = session.recipe, session.recipe.minutes
    if minutes is None:
        return recipe, []
    steps = session.batches.steps_per_epoch
    seconds = session.runtime.from_main(time_step(session, spec))
    fitting = int(_TRAINING * 60 * minutes / (seconds * steps))
    epochs = min(max(fitting, _EPOCHS[0]), _EPOCHS[1])
    stretched = dataclasses.replace(stretch_recipe(recipe, epochs), minutes=None)
    check_schedule(stretched)
    whole = format_duration(seconds * steps * epochs / _TRAINING)
    line = f"chosen: {epochs} epochs of {steps} steps, about {whole} at {seconds:.3g} s a step (--minutes, --epochs)"
    if fitting < epochs:
        line += f"; fewer than {_EPOCHS[0]} would teach little: take smaller images or a smaller network for less"
    return stretched, [line]


def time_step(session: Session, spec: Spec) -> float:
    """Return the seconds of a training step with its data, of a network that is thrown away."""
    state = initial_state(spec, session.recipe, session.runtime.device)
    step = Stepper(session, state)
    state.module.train()
    begun = time.perf_counter()
    number = 0
    with contextlib.closing(_batches(session)) as batches:
        for number, batch in enumerate(batches):
            if number == _WARMUP:
                begun = time.perf_counter()
            if number == _WARMUP + _STEPS:
                break
            float(step(batch, 0, number))
    return (time.perf_counter() - begun) / max(number - _WARMUP, 1)


def _batches(session: Session) -> Generator[Batch, None, None]:
    yield from session.batches.train(0)
