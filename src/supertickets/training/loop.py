"""The one training loop. What differs between commands is passed in and happens at epoch boundaries."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..config.recipe import Recipe
from ..cost import count
from ..cost.budget import Budget
from ..data import Batches
from ..errors import UserError
from ..models import Spec
from ..tasks import Task
from .evaluate import average_statistics, evaluate, recalibrate
from .policy_step import PolicyStep, check_beta, search_record
from .reporter import Reporter
from .run_dir import RunDir
from .runtime import Runtime, digest
from .scheme_step import SchemeStep
from .state import TrainState, build_module, save_checkpoint
from .step import Stepper
from .teacher import Teacher


class Interrupted(Exception):
    """The user stopped the run (Ctrl-C); a checkpoint was written."""


@dataclass(frozen=True)
class Session:
    """All that stays the same during a run.

    Attributes:
        recipe: The settings.
        supernet: The network that the run began with.
        batches: The data.
        task: What is learned.
        runtime: Where it happens.
        run: Where it is written.
        reporter: Where it is shown.
        teacher: A trained network to learn from; the running average is made anew in every epoch instead.
        budget: What the network that a policy search finds may cost.
        connects: Whether every step has random connection schemes.
    """

    recipe: Recipe
    supernet: Spec
    batches: Batches
    task: Task
    runtime: Runtime
    run: RunDir
    reporter: Reporter
    teacher: Teacher | None = None
    budget: Budget | None = None
    connects: bool = False


EpochEnd = Callable[[Session, TrainState, int], TrainState]


def fit(session: Session, state: TrainState, at_epoch_end: EpochEnd, until: int | None = None) -> TrainState:
    """Trains until the recipe's last epoch, or an earlier one.

    Args:
        session: What stays the same.
        state: Where to go on.
        at_epoch_end: Called with the session, the state and the number of the epoch (from 1) before the evaluation;
            returns the state to go on with.
        until: The last epoch of this training, if it is not the recipe's.

    Raises:
        Interrupted: The user pressed Ctrl-C; the run can be resumed.
        UserError: The loss is not a number any more.
    """
    recipe = session.recipe
    with _stop_requests(session.runtime) as stop:
        while state.position.epoch < (until or recipe.epochs):
            number = state.position.epoch + 1
            train_loss = _train_epoch(session, state, stop)
            if not math.isfinite(train_loss):
                raise UserError(
                    f"the loss is {train_loss} in epoch {number}: training diverged; lower optimizer.lr "
                    f"(now {recipe.optimizer.lr:g}) or set optimizer.clip_norm to 1, with another --out"
                )
            average_statistics(state.module, session.runtime)
            state = at_epoch_end(session, state, number)
            record = _epoch_record(session, state, number, train_loss)
            session.run.append(record)
            session.reporter.epoch(number, record)
            state.position = replace(state.position, epoch=number, step=0, loss_sum=0.0)
            _check_ranks(session, state)
            checkpoint(session, state)
    return state


def checkpoint(session: Session, state: TrainState) -> None:
    """Makes the state durable (first process only)."""
    state.position = replace(state.position, log_size=session.run.log_size())
    if session.runtime.is_main:
        save_checkpoint(session.run.checkpoint, state)


def build_eval_model(session: Session, state: TrainState, number: int) -> nn.Module:
    """The network that is judged: what the training has come to in a fresh module, recalibrated."""
    outcome = state.deployable()
    module = build_module(outcome.spec, session.recipe, session.runtime.device)
    module.load_state_dict(outcome.weights)
    used = recalibrate(module, session.batches.calibration(number, session.recipe.recalibrate_batches), session.runtime)
    session.run.append({"event": "recalibrate", "epoch": number, "network": "evaluated", "batches": used})
    return module.eval()


def _train_epoch(session: Session, state: TrainState, stop: threading.Event) -> float:
    """Takes the steps that are left of the epoch; returns its mean loss."""
    recipe, runtime, steps = session.recipe, session.runtime, session.batches.steps_per_epoch
    stepper = Stepper(recipe, state, session.supernet, session.task, runtime, steps, session.teacher)
    budget = session.budget
    take: Callable[..., Tensor] = stepper
    if budget is not None:
        take = PolicyStep(stepper, session.batches, session.task, budget)
    elif session.connects:
        take = SchemeStep(stepper, recipe.connect.probability)
    epoch = state.position.epoch
    # The loss stays on the device; it is read once per epoch or checkpoint, so that no step waits for it.
    loss_sum = torch.tensor(state.position.loss_sum, dtype=torch.float64, device=runtime.device)
    clock, saved = time.perf_counter(), time.perf_counter()
    state.module.train()
    for step, batch in enumerate(session.batches.train(epoch, state.position.step), start=state.position.step):
        loss_sum += take(batch, epoch, step)
        now = time.perf_counter()
        state.position = replace(
            state.position,
            step=step + 1,
            total_steps=state.position.total_steps + 1,
            samples=state.position.samples + recipe.data.batch,
            seconds=state.position.seconds + now - clock,
        )
        clock = now
        session.reporter.step(epoch, step + 1)
        # Between epochs only, if there are several processes: within one each has BN statistics of its own.
        due = runtime.world == 1 and now - saved > recipe.checkpoint_seconds
        if stop.is_set() or due:
            state.position = replace(state.position, loss_sum=float(loss_sum))
            checkpoint(session, state)
            saved = now
        if stop.is_set():
            raise Interrupted
    mean = runtime.sum(loss_sum) / runtime.world / steps
    return float(mean)


def _epoch_record(session: Session, state: TrainState, number: int, train_loss: float) -> dict[str, Any]:
    recipe = session.recipe
    outcome = state.deployable()
    cost = count(outcome.spec, mask=outcome.mask)
    groups = outcome.spec.unit_groups()
    record: dict[str, Any] = {
        "event": "epoch",
        "epoch": number,
        "train_loss": train_loss,
        "units": sum(len(group) for group in groups),
        "channels": sum(len(group) for group in groups if group.kind == "channel"),
        "tokens": sum(len(group) for group in groups if group.kind == "token"),
        **cost.to_json(),
        "samples": state.position.samples,
        "seconds": round(state.position.seconds, 3),
    }
    if state.policy is not None and session.budget is not None:
        steps = session.batches.steps_per_epoch
        judged = [row for rows in session.runtime.from_all(state.judged) for row in rows]
        record |= search_record(state.policy, judged, session.budget, recipe, number * steps, recipe.epochs * steps)
        state.judged = []
        if (warning := check_beta(record, recipe)) is not None:
            session.reporter.say(f"warning: epoch {number}: {warning}")
    if number % recipe.evaluate_every == 0 or number == recipe.epochs:
        module = build_eval_model(session, state, number)
        data = session.batches.splits.validation
        record |= evaluate(module, session.batches.evaluation(data), data, session.task, session.runtime)
    return record


def _check_ranks(session: Session, state: TrainState) -> None:
    """Logs the hash of everything; stops if processes differ."""
    tensors = ((f"{room}|{name}", t) for room, values in state.tensors().items() for name, t in values.items())
    found = digest(tensors)
    session.runtime.check_equal(found, f"states after epoch {state.position.epoch}")
    session.run.append({"event": "digest", "epoch": state.position.epoch, "sha256": found})


@contextlib.contextmanager
def _stop_requests(runtime: Runtime) -> Iterator[threading.Event]:
    """Turns the first Ctrl-C into a request that is honoured at the next step; a second one acts at once.

    With several processes a Ctrl-C ends them as usual: one cannot leave the others inside an all-reduce, and the
    checkpoint of the last epoch is there.
    """
    stop = threading.Event()
    if runtime.world > 1 or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = signal.getsignal(signal.SIGINT)

    def request(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)
