"""Choose epochs, and smaller images, for a training that shall take some minutes, by the time of its first steps."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from ..config.recipe import Recipe
from ..config.schedule import check_schedule
from ..config.stretch import stretch_recipe
from ..data import Batch
from ..training import Session, initial_state
from ..training.batch_norm import recalibrate
from ..training.remaining_time import format_duration
from ..training.step import Stepper

_EPOCHS = (4, 300)  # fewest and most
_FEW, _FEW_STEPS = 10, 1000  # epochs and steps that images of their own size are worth
_SMALLEST = 32  # pixels of a side that images are made to
_WARMUP, _STEPS = 2, 8  # steps that do not count, and that do
_BATCHES = 4  # batches by which an evaluation is timed
_TRAINING = 0.85  # share of the time that epochs get; the rest is for prunes and measurements
_EVALUATION = 0.1  # share of an epoch's steps that evaluations may take


@dataclass(frozen=True)
class EpochTime:
    """Time that the parts of an epoch take.

    Attributes:
        training: Seconds of its steps, and of the start of what loads its images.
        evaluation: Seconds of an evaluation, with the statistics of batch norms that are measured for it.
    """

    training: float
    evaluation: float = 0.0

    def evaluate_every(self, wanted: int) -> int:
        """Return the epochs between two evaluations: as wanted, or so many that they take a tenth of the time."""
        return max(wanted, math.ceil(self.evaluation / (_EVALUATION * self.training)))

    def mean(self, evaluate_every: int) -> float:
        """Return the seconds of an epoch and its share of an evaluation."""
        return self.training + self.evaluation / self.evaluate_every(evaluate_every)


def affordable_side(session: Session, epoch: EpochTime, macs: Callable[[int], float]) -> tuple[int, str] | None:
    """Return the side of smaller images and a line on it, if ``minutes`` hold few epochs of these; else None.

    It is the largest, a multiple of 8, of which they hold 10, and 1,000 steps, by the MACs of the networks that fit; or
    the one of which they hold the most.

    Args:
        session: The settings, the data and the task; nothing of it changes.
        epoch: Time of an epoch.
        macs: Function from a side in pixels to the MACs of the network for images of this side; inf if it takes none.
    """
    epochs = _fitting(session.recipe, epoch)
    if epochs >= (enough := enough_epochs(session.batches.steps_per_epoch)):
        return None
    side = session.batches.splits.preprocessing.size[0]
    least = macs(side)
    best, allowed = side, least * epochs / enough
    for smaller in range(side // 8 * 8, _SMALLEST - 1, -8):
        if (cost := macs(smaller)) < least:
            best, least = smaller, cost
        if least <= allowed:
            break
    if best == side:
        return None
    why = f"--minutes {session.recipe.minutes:g} holds {epochs:.2g} epochs of {side} pixels"
    return best, f"chosen: images of {best} pixels, since {why} (--data.size)"


def enough_epochs(steps: int) -> float:
    """Return the epochs of so many steps below which smaller images, of which more are seen, teach more."""
    return min(max(_FEW, _FEW_STEPS / steps), _EPOCHS[1])


def fit_minutes(recipe: Recipe, epoch: EpochTime, steps: int) -> tuple[Recipe, str]:
    """Return the recipe with as many epochs as fit into ``minutes``, and a line on them.

    Args:
        recipe: The settings.
        epoch: Time of an epoch.
        steps: Steps of an epoch.

    Raises:
        UserError: The schedule cannot work with so few epochs.
    """
    fitting = int(min(_fitting(recipe, epoch), _EPOCHS[1]))
    epochs = max(fitting, _EPOCHS[0])
    rarer = dataclasses.replace(recipe, minutes=None, evaluate_every=epoch.evaluate_every(recipe.evaluate_every))
    stretched = stretch_recipe(rarer, epochs)
    check_schedule(stretched)
    whole = format_duration(epoch.mean(recipe.evaluate_every) * epochs / _TRAINING)
    pace = f"{epoch.training / steps:.3g} s a step"
    line = f"chosen: {epochs} epochs of {steps} steps, about {whole} at {pace} (--minutes, --epochs)"
    if rarer.evaluate_every > recipe.evaluate_every:
        line += f"; an evaluation every {rarer.evaluate_every} epochs, since each takes {epoch.evaluation:.2g} s"
    if fitting < epochs:
        line += f"; fewer than {_EPOCHS[0]} would teach little: take smaller images or a smaller network for less"
    return stretched, line


def _fitting(recipe: Recipe, epoch: EpochTime) -> float:
    """Return the epochs that ``minutes`` hold."""
    return _TRAINING * 60 * (recipe.minutes or 0.0) / epoch.mean(recipe.evaluate_every)


def time_epoch(session: Session) -> EpochTime:
    """Return the time of an epoch by that of a few steps and batches of a network that is thrown away, data included.

    It is the network before anything is removed, which is the slowest.
    """
    state = initial_state(session.supernet, session.recipe, session.runtime.device)
    step = Stepper(session, state)
    state.module.train()
    stamps, start = [time.perf_counter()], 0.0
    with contextlib.closing(_batches(session)) as batches:
        for number, batch in enumerate(itertools.islice(batches, _WARMUP + _STEPS)):
            if number == 0:
                start = time.perf_counter() - stamps[0]
            float(step(batch, 0, number))
            stamps.append(time.perf_counter())
    done = len(stamps) - 1
    warm = min(_WARMUP, done - 1)
    pace = (stamps[-1] - stamps[warm]) / (done - warm)
    return EpochTime(start + pace * session.batches.steps_per_epoch, _time_evaluation(session, state.module))


def _batches(session: Session) -> Generator[Batch, None, None]:
    yield from session.batches.train(0)


def _time_evaluation(session: Session, module: nn.Module) -> float:
    """Return the seconds of an evaluation on the validation split by those of its first batches."""
    batches, count, data = session.batches, session.recipe.recalibrate_batches, session.batches.splits.validation
    begun = time.perf_counter()
    used = recalibrate(module, itertools.islice(batches.calibration(0, count), _BATCHES), session.runtime)
    measured = time.perf_counter() - begun
    seen = 0

    def first() -> Iterator[Batch]:
        nonlocal seen
        for batch in itertools.islice(batches.evaluation(data), _BATCHES):
            seen += len(batch[0])
            yield batch

    begun = time.perf_counter()
    with torch.no_grad():
        session.task.totals(module.eval(), first(), data, session.runtime.device)
    own = len(data) / session.runtime.world
    scored = (time.perf_counter() - begun) * own / max(seen, 1)
    return measured * (count / used if used == _BATCHES else 1) + scored
