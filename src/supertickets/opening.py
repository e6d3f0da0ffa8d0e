"""What a run begins with: its directory, data, network, task and teacher, and whether they fit each other."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from .cost import count
from .data import Batches, Splits, load_splits
from .errors import UserError
from .recipe import Recipe
from .schedule import check_schedule
from .settle import settle
from .supernets import HRNetSpec, MobileSpec, Spec, create_spec
from .tasks import Segmentation, Task, task_of_head
from .tasks.segmentation import balanced, pixel_shares
from .ticket import Ticket
from .training import Reporter, RunDir, Runtime, Session, TrainState, initial_state
from .training.runtime import start, stop
from .training.teacher import FixedTeacher, Teacher, fixed_teacher

# What a run begins with, given its recipe and its data: a full supernet, or a network with weights and mask.
Beginning = Callable[[Recipe, Splits], Spec | Ticket]
_INSTEAD = {"in_channels": "", "image_size": " and set data.size", "num_classes": ""}


@contextlib.contextmanager
def open_session(recipe: Recipe, out: Path, beginning: Beginning) -> Iterator[tuple[Session, Spec | Ticket]]:
    """Yields the session of a run directory, which is locked meanwhile, and what the run begins with."""
    runtime = start(recipe.device, recipe.threads, recipe.deterministic)
    try:
        splits = load_splits(recipe.data)
        recipe, said = settle(recipe, len(splits.train), splits.preprocessing.size[0])
        check_schedule(recipe)
        check_batches(recipe, splits, runtime)
        with RunDir(out, writes=runtime.is_main) as run:
            first = beginning(recipe, splits)
            supernet = first.spec if isinstance(first, Ticket) else first
            batches = Batches(splits, recipe.data, recipe.augment, recipe.seed, runtime.rank, runtime.world)
            with Reporter(recipe.epochs, batches.steps_per_epoch, quiet=not runtime.is_main) as reporter:
                for line in (*splits.notes, *said):
                    reporter.say(line)
                task = weighted(make_task(recipe, splits), recipe, splits)
                teacher = teacher_for(recipe, splits, runtime)
                yield Session(recipe, supernet, batches, task, runtime, run, reporter, teacher), first
    finally:
        stop()


def supernet_for(recipe: Recipe, splits: Splits) -> Spec:
    """The full supernet, fitted to the data: channels, size and classes."""
    shape = splits.preprocessing
    fitted = {"in_channels": shape.channels, "image_size": shape.size, "num_classes": len(splits.classes)}
    settings = recipe.supernet.settings
    for name, value in fitted.items():
        if name in settings:
            raise UserError(f"supernet.settings.{name} follows from the data ({value}); leave it out{_INSTEAD[name]}")
    try:
        spec = create_spec(recipe.supernet.name, transformer=recipe.supernet.transformer, **settings, **fitted)
        if isinstance(spec, MobileSpec) and spec.is_open():
            name = recipe.supernet.name
            raise UserError(f"supernet.name {name} is a space of networks; take one of its networks, e.g. mobilenet_v2")
        count(spec)
    except (TypeError, ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"the settings supernet.settings {settings} make no network ({why})") from None
    if spec.head != (wanted := make_task(recipe, splits).head):
        other = f"set supernet.settings.head to {wanted}, or " if isinstance(spec, HRNetSpec) else ""
        raise UserError(
            f"supernet.name {recipe.supernet.name} has a head for {spec.head}, the data is for {wanted}; "
            f"{other}take another supernet"
        )
    return spec


def make_task(recipe: Recipe, splits: Splits) -> Task:
    """What the recipe learns, with the names that the data has."""
    return task_of_head("keypoints" if recipe.task == "pose" else recipe.task, splits.classes, recipe.to_json())


def weighted(task: Task, recipe: Recipe, splits: Splits) -> Task:
    """The task with weights of classes, if the recipe balances them."""
    if not isinstance(task, Segmentation) or not recipe.segmentation.balance:
        return task
    shares = pixel_shares(splits.train, splits.preprocessing, len(splits.classes))
    return dataclasses.replace(task, weights=balanced(shares, recipe.segmentation.balance))


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


def as_it_is(ticket: Ticket) -> Beginning:
    """A run that begins with a ticket, on data of the kind that it was made with."""

    def beginning(recipe: Recipe, splits: Splits) -> Ticket:
        check_data("the ticket", ticket, splits)
        if ticket.preprocessing.size != splits.preprocessing.size:
            size = ticket.spec.image_size
            raise UserError("the ticket's size of pictures is {} x {}, set data.size to it".format(*size))
        return ticket

    return beginning


def state_of(ticket: Ticket, session: Session) -> TrainState:
    """A ticket as the beginning of a training."""
    state = initial_state(ticket.spec, session.recipe, session.runtime.device)
    state.module.load_state_dict(dict(ticket.weights))
    if state.ema is not None:
        for name, value in state.ema.tensors.items():
            value.copy_(ticket.weights[name])
    mask = {name: flags.to(session.runtime.device) for name, flags in ticket.mask.items()}
    state.sparse = dataclasses.replace(state.sparse, mask=mask, ratio=ticket.cost.sparsity)
    return state


def check_data(who: str, ticket: Ticket, splits: Splits) -> None:
    """Refuses data that a ticket cannot serve; warns if it is not what the ticket was made with."""
    check_classes(who, ticket, splits)
    if ticket.about.get("data") not in (None, splits.digest()):
        warnings.warn(
            f"the data is not what {who} was made with, so that pictures it has learned from may be in the test split",
            stacklevel=3,
        )


def check_classes(who: str, ticket: Ticket, splits: Splits) -> None:
    classes, channels = splits.classes, splits.preprocessing.channels
    if ticket.spec.in_channels != channels:
        raise UserError(f"{who} takes pictures of {ticket.spec.in_channels} channels, the data has {channels}")
    if len(ticket.classes) != len(classes):
        raise UserError(f"{who} knows {len(ticket.classes)} classes, the data has {len(classes)}")
    for known, found in zip(ticket.classes, classes, strict=True):
        if known != found:
            raise UserError(
                f"{who} knows a class '{known}' where the data has '{found}'; give the data it was drawn on"
            )


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
