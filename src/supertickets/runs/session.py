"""Set up a training session: directory, data, network, task and teacher."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from ..config.recipe import Recipe
from ..config.schedule import check_schedule
from ..data import Batches, Splits, load_splits
from ..errors import UserError
from ..models import Spec
from ..tasks import Segmentation, Task
from ..tasks.segmentation import balanced_weights, pixel_shares
from ..ticket import Ticket
from ..training import Reporter, RunDir, Runtime, Session
from ..training.runtime import start, stop
from ..training.teacher import FixedTeacher, Teacher, fixed_teacher
from .auto_settings import resolve_auto_settings
from .model_init import ModelInit, check_classes, make_task


@contextlib.contextmanager
def open_session(recipe: Recipe, out: Path, beginning: ModelInit) -> Iterator[tuple[Session, Spec | Ticket]]:
    """Yields the session of a run directory, which is locked meanwhile, and what the run begins with."""
    runtime = start(recipe.device, recipe.threads, recipe.deterministic)
    try:
        splits = load_splits(recipe.data)
        recipe, said = resolve_auto_settings(recipe, len(splits.train), splits.preprocessing.size[0])
        check_schedule(recipe)
        check_batches(recipe, splits, runtime)
        with RunDir(out, writes=runtime.is_main) as run:
            first = beginning(recipe, splits)
            supernet = first.spec if isinstance(first, Ticket) else first
            batches = Batches(splits, recipe.data, recipe.augment, recipe.seed, runtime.rank, runtime.world)
            with Reporter(recipe.epochs, batches.steps_per_epoch, quiet=not runtime.is_main) as reporter:
                for line in (*splits.notes, *said):
                    reporter.say(line)
                task = with_class_weights(make_task(recipe, splits), recipe, splits)
                teacher = teacher_for(recipe, splits, runtime)
                yield Session(recipe, supernet, batches, task, runtime, run, reporter, teacher), first
    finally:
        stop()


def with_class_weights(task: Task, recipe: Recipe, splits: Splits) -> Task:
    """The task with weights of classes, if the recipe balances them."""
    if not isinstance(task, Segmentation) or not recipe.segmentation.balance:
        return task
    shares = pixel_shares(splits.train, splits.preprocessing, len(splits.classes))
    return dataclasses.replace(task, weights=balanced_weights(shares, recipe.segmentation.balance))


def teacher_for(recipe: Recipe, splits: Splits, runtime: Runtime) -> Teacher | None:
    """The trained network that the recipe wants to learn from."""
    name = recipe.distill.teacher
    if name is None or name == "ema":
        return None
    if ":" in name and not Path(name).exists():
        return fixed_teacher(recipe.distill, splits.classes, splits.preprocessing, runtime.device)
    ticket = Ticket.from_pretrained(name)
    check_classes(f"the teacher {name}", ticket, splits)
    return FixedTeacher(ticket.module, splits.preprocessing, ticket.preprocessing, runtime.device)


def check_batches(recipe: Recipe, splits: Splits, runtime: Runtime) -> None:
    batch, train = recipe.data.batch, len(splits.train)
    if batch > train or batch < 2:
        raise UserError(
            f"data.batch is {batch} but the training split has {train} samples; "
            f"the nearest possible is {min(max(batch, 2), train)}"
        )
    parts = runtime.world * recipe.accumulate
    if batch % parts or batch // parts < 2:
        nearest_batch = max(2, round(batch / parts)) * parts
        raise UserError(
            f"data.batch {batch} cannot be shared by {runtime.world} processes in {recipe.accumulate} parts each; "
            f"the nearest possible is {nearest_batch}"
        )
