"""Set up a training session: directory, data, network, task and teacher."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..config.recipe import Recipe
from ..config.validation import check_task_settings
from ..cost import count
from ..data import Batches, Splits
from ..data.sources import find_source
from ..errors import UserError
from ..models import Spec
from ..plugins import recipe_trust
from ..tasks import find_task
from ..ticket import Ticket, check_classes
from ..training import Reporter, RunDir, Runtime, Session, is_progress_shown
from ..training.runtime import open_runtime
from ..training.teacher import FixedTeacher, Teacher, fixed_teacher
from .auto_settings import resolve_auto_settings
from .model_init import ModelInit, make_task
from .pretrained import load_prepared_splits
from .references import tell_counterpart
from .training_length import EpochTime, affordable_side, fit_minutes, time_epoch


@dataclass(frozen=True)
class _Inputs:
    """A recipe whose open settings are chosen by its data.

    Attributes:
        recipe: The settings.
        splits: The data.
        notes: Lines on what was chosen.
    """

    recipe: Recipe
    splits: Splits
    notes: Sequence[str]


@contextlib.contextmanager
def open_session(recipe: Recipe, out: Path, init: ModelInit) -> Iterator[tuple[Session, Spec | Ticket]]:
    """Open the session of a run directory, which is locked meanwhile.

    Args:
        recipe: The settings; those that it leaves to the data are chosen here.
        out: Run directory.
        init: Function that makes the network before the first step.

    Yields:
        The session, and that network.

    Raises:
        UserError: A setting, the data or the directory cannot work.
    """
    with open_runtime(recipe.device, recipe.threads, recipe.deterministic) as runtime:
        check_task_settings(recipe, find_task(recipe.task).rules)
        inputs = _read_inputs(recipe, runtime)
        with RunDir(out, writes=runtime.is_main) as run:
            session, first = _prepare(inputs, runtime, run, init)
            settled, length = inputs.recipe, list[str]()
            if recipe.minutes is not None:
                run.check_free()  # before anything takes time
                epoch = runtime.from_main(time_epoch(session))
                if smaller := _affordable_side(recipe, session, epoch, init):
                    inputs = _read_inputs(_with_side(recipe, smaller[0]), runtime)
                    session, first = _prepare(inputs, runtime, run, init)
                    epoch = runtime.from_main(time_epoch(session))
                    length.append(smaller[1])
                settled, line = fit_minutes(session.recipe, epoch, session.batches.steps_per_epoch)
                length.append(line)
            steps, quiet, verbose = session.batches.steps_per_epoch, not runtime.is_main, is_progress_shown()
            metric, instead = find_task(recipe.task).metric, tell_counterpart(inputs.recipe, inputs.splits)
            with Reporter(settled.epochs, steps, quiet=quiet, verbose=verbose, metric=metric) as reporter:
                for line in (*inputs.splits.notes, *inputs.notes, *instead, *length):
                    reporter.say(line)
                yield replace(session, recipe=settled, reporter=reporter), first


def _read_inputs(recipe: Recipe, runtime: Runtime) -> _Inputs:
    """Read the data, and choose by it what the recipe leaves open."""
    recipe, splits = load_prepared_splits(recipe)
    recipe, notes = resolve_auto_settings(recipe, len(splits.train), splits.preprocessing.size[0])
    check_batches(recipe, splits, runtime)
    return _Inputs(recipe, splits, notes)


def _prepare(inputs: _Inputs, runtime: Runtime, run: RunDir, init: ModelInit) -> tuple[Session, Spec | Ticket]:
    """Return a session that reports nothing yet, and the network before the first step."""
    recipe, splits = inputs.recipe, inputs.splits
    first = init(recipe, splits)
    supernet = first.spec if isinstance(first, Ticket) else first
    batches = Batches(splits, recipe.data, recipe.augment, recipe.seed, runtime.rank, runtime.world)
    silent = Reporter(recipe.epochs, batches.steps_per_epoch, quiet=True)
    task = make_task(recipe, splits).fit(splits.train, splits.preprocessing)
    teacher = teacher_for(recipe, splits, runtime)
    return Session(recipe, supernet, batches, task, runtime, run, silent, teacher), first


def _affordable_side(recipe: Recipe, session: Session, epoch: EpochTime, init: ModelInit) -> tuple[int, str] | None:
    """Return `affordable_side`, if the recipe leaves the size of images open."""
    if recipe.data.size is not None or not find_source(recipe.data.source).chooses_size:
        return None
    splits = session.batches.splits

    def macs(side: int) -> float:
        smaller = replace(splits.preprocessing, size=(side, side))
        try:
            fitted, _ = resolve_auto_settings(_with_side(recipe, side), len(splits.train), side)
            network = init(fitted, replace(splits, preprocessing=smaller))
        except UserError:  # the network does not take such images
            return math.inf
        return count(network.spec if isinstance(network, Ticket) else network).macs

    return affordable_side(session, epoch, macs)


def _with_side(recipe: Recipe, side: int) -> Recipe:
    return replace(recipe, data=replace(recipe.data, size=side))


def teacher_for(recipe: Recipe, splits: Splits, runtime: Runtime) -> Teacher | None:
    """Return the trained network that the recipe wants to learn from."""
    name = recipe.distill.teacher
    if name is None or name == "ema":
        return None
    if ":" in name and not Path(name).exists():
        return fixed_teacher(recipe.distill, splits.classes, splits.preprocessing, runtime.device)
    ticket = Ticket.from_pretrained(name, recipe_trust(recipe.to_json()))
    check_classes(f"the teacher {name}", ticket, splits)
    return FixedTeacher(ticket.module, splits.preprocessing, ticket.preprocessing, runtime.device)


def check_batches(recipe: Recipe, splits: Splits, runtime: Runtime) -> None:
    """Check that the training split fills a batch, and that processes and parts can share it.

    Raises:
        UserError: They cannot; names the nearest batch that they can.
    """
    batch, train = recipe.data.batch, len(splits.train)
    if batch > train or batch < 2:
        raise UserError(
            f"data.batch is {batch} but the training split has {train} samples; "
            f"the nearest possible is {min(max(batch, 2), train)}"
        )
    if recipe.accumulate > 1 and recipe.accumulate % runtime.world:
        shared = max(1, round(recipe.accumulate / runtime.world)) * runtime.world
        raise UserError(
            f"accumulate {recipe.accumulate} cannot be shared by {runtime.world} processes; "
            f"the nearest possible is {shared}"
        )
    parts = max(runtime.world, recipe.accumulate)
    if batch % parts or batch // parts < 2:
        nearest_batch = max(2, round(batch / parts)) * parts
        raise UserError(
            f"data.batch {batch} cannot be shared by {runtime.world} processes in {parts // runtime.world} parts each; "
            f"the nearest possible is {nearest_batch}"
        )
