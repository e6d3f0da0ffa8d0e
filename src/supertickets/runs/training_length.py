"""Choose epochs, and smaller images, for a training that shall take some minutes, by the time of its first steps."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator

from ..config.recipe import Recipe
from ..config.schedule import check_schedule
from ..config.stretch import stretch_recipe
from ..data import Batch
from ..training import Session, initial_state
from ..training.remaining_time import format_duration
from ..training.step import Stepper

_EPOCHS = (4, 300)  # fewest and most
_FEW, _FEW_STEPS = 10, 1000  # epochs and steps that images of their own size are worth
_SMALLEST = 32  # pixels of a side that images are made to
_WARMUP, _STEPS = 2, 8  # steps that do not count, and that do
_TRAINING = 0.85  # share of the time that steps get; the rest is for prunes, evaluation, measurements


def affordable_side(session: Session, seconds: float, macs: Callable[[int], int]) -> tuple[int, str] | None:
    """Return the side of smaller images and a line on it, if ``minutes`` hold few epochs of these; else None.

    It is the largest, a multiple of 8, of which they hold 10, and 1,000 steps, by the MACs of the networks that fit; or
    the one of which they hold the most.

    Args:
        session: The settings, the data and the task; nothing of it changes.
        seconds: Time of a step.
        macs: Function from a side to the MACs of the network for images of this side, in pixels.
    """
    epochs = _fitting(session, seconds)
    if epochs >= (enough := enough_epochs(session.batches.steps_per_epoch)):
        return None
    side = session.batches.splits.preprocessing.size[0]
    costs = {one: macs(one) for one in range(side // 8 * 8, _SMALLEST - 1, -8)}
    allowed = macs(side) * epochs / enough
    best = next(
        (one for one, cost in costs.items() if cost <= allowed), min(costs, key=costs.__getitem__, default=side)
    )
    if best == side:
        return None
    why = f"--minutes {session.recipe.minutes:g} holds {epochs:.2g} epochs of {side} pixels"
    return best, f"chosen: images of {best} pixels, since {why} (--data.size)"


def enough_epochs(steps: int) -> float:
    """Return the epochs of so many steps below which smaller images, of which more are seen, teach more."""
    return min(max(_FEW, _FEW_STEPS / steps), _EPOCHS[1])


def fit_minutes(session: Session, seconds: float) -> tuple[Recipe, str]:
    """Return the recipe with as many epochs as fit into ``minutes``, and a line on them.

    Args:
        session: The settings, the data and the task; nothing of it changes.
        seconds: Time of a step.

    Raises:
        UserError: The schedule cannot work with so few epochs.
    """
    fitting, steps = int(_fitting(session, seconds)), session.batches.steps_per_epoch
    epochs = min(max(fitting, _EPOCHS[0]), _EPOCHS[1])
    stretched = dataclasses.replace(stretch_recipe(session.recipe, epochs), minutes=None)
    check_schedule(stretched)
    whole = format_duration(seconds * steps * epochs / _TRAINING)
    line = f"chosen: {epochs} epochs of {steps} steps, about {whole} at {seconds:.3g} s a step (--minutes, --epochs)"
    if fitting < epochs:
        line += f"; fewer than {_EPOCHS[0]} would teach little: take smaller images or a smaller network for less"
    return stretched, line


def _fitting(session: Session, seconds: float) -> float:
    """Return the epochs that ``minutes`` hold."""
    minutes = session.recipe.minutes or 0.0
    return _TRAINING * 60 * minutes / (seconds * session.batches.steps_per_epoch)


def time_step(session: Session) -> float:
    """Return the seconds of a training step with its data, of a network that is thrown away.

    It is the network before anything is removed, which is the slowest. Its share of what begins anew in every epoch,
    the loading of training and validation images, is included.
    """
    state = initial_state(session.supernet, session.recipe, session.runtime.device)
    step = Stepper(session, state)
    state.module.train()
    first = begun = time.perf_counter()
    number, start = 0, 0.0
    with contextlib.closing(_batches(session)) as batches:
        for number, batch in enumerate(batches):
            if number == 0:
                start = time.perf_counter() - first
            if number == _WARMUP:
                begun = time.perf_counter()
            if number == _WARMUP + _STEPS:
                break
            float(step(batch, 0, number))
    starts = start * (1 + 1 / session.recipe.evaluate_every)
    return (time.perf_counter() - begun) / max(number - _WARMUP, 1) + starts / session.batches.steps_per_epoch


def _batches(session: Session) -> Generator[Batch, None, None]:
    yield from session.batches.train(0)
