"""The one training loop. An `Algorithm` is passed in and called at the boundaries of steps and epochs."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from ..cost import count
from ..errors import UserError
from .algorithm import Algorithm, Session
from .batch_norm import average_statistics, recalibrate
from .evaluate import evaluate
from .runtime import Runtime, digest
from .state import DeployableModel, TrainState, all_tensors, build_module, save_checkpoint
from .step import Stepper


class Interrupted(Exception):
    """The user stopped the run (Ctrl-C); a checkpoint was written."""


def fit(session: Session, state: TrainState, algorithm: Algorithm) -> TrainState:
    """Train until the algorithm's last epoch.

    Args:
        session: What stays the same.
        state: The network to go on with.
        algorithm: Object that makes the steps and changes the network behind epochs.

    Returns:
        The state after the last epoch.

    Raises:
        Interrupted: The user pressed Ctrl-C; the run can be resumed.
        UserError: The loss is not a number any more.
    """
    recipe, position = session.recipe, state.position
    done = position.epoch * session.batches.steps_per_epoch + position.step
    session.reporter.begin(done, algorithm.last_epoch(recipe))
    with _stop_requests(session.runtime) as stop:
        while state.position.epoch < algorithm.last_epoch(recipe):
            number = state.position.epoch + 1
            train_loss = _train_epoch(session, state, algorithm, stop)
            if not math.isfinite(train_loss):
                raise UserError(
                    f"the loss is {train_loss} in epoch {number}: training diverged; lower optimizer.lr "
                    f"(now {recipe.optimizer.lr:g}) or set optimizer.clip_norm to 1, with another --out"
                )
            average_statistics(state.module, session.runtime)
            state = algorithm.on_epoch_end(session, state, number)
            record = _epoch_record(session, state, algorithm, train_loss)
            session.run.append(record)
            session.reporter.epoch(number, record, algorithm.progress(record))
            state.position = replace(state.position, epoch=number, step=0, loss_sum=0.0)
            _check_ranks(session, state, algorithm)
            checkpoint(session, state, algorithm)
    return state


def checkpoint(session: Session, state: TrainState, algorithm: Algorithm) -> None:
    """Make the state durable (first process only)."""
    state.position = replace(state.position, log_size=session.run.log_size())
    if session.runtime.is_main:
        save_checkpoint(session.run.checkpoint, state, algorithm)


def build_eval_model(session: Session, model: DeployableModel, number: int) -> nn.Module:
    """Build the network that is evaluated, as a fresh module, and measure its BN statistics.

    Args:
        session: What stays the same.
        model: Architecture and weights.
        number: Epoch that the log shows.
    """
    module = build_module(model.spec, session.recipe, session.runtime.device)
    module.load_state_dict(model.weights)
    used = recalibrate(module, session.batches.calibration(number, session.recipe.recalibrate_batches), session.runtime)
    session.run.append({"event": "recalibrate", "epoch": number, "network": "evaluated", "batches": used})
    return module.eval()


def _train_epoch(session: Session, state: TrainState, algorithm: Algorithm, stop: threading.Event) -> float:
    """Take the steps that are left of the epoch, and return its mean loss."""
    recipe, runtime, steps = session.recipe, session.runtime, session.batches.steps_per_epoch
    observe = partial(algorithm.on_gradients, session, state)
    take = algorithm.make_step(session, state, Stepper(session, state, observe))
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
            checkpoint(session, state, algorithm)
            saved = now
        if stop.is_set():
            raise Interrupted
    mean = runtime.sum(loss_sum) / runtime.world / steps
    return float(mean)


def _epoch_record(session: Session, state: TrainState, algorithm: Algorithm, train_loss: float) -> dict[str, Any]:
    recipe, number = session.recipe, state.position.epoch + 1
    outcome = algorithm.deployable(state)
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
        **algorithm.epoch_record(session, number),
    }
    if number % recipe.evaluate_every == 0 or number == recipe.epochs:
        module = build_eval_model(session, outcome, number)
        data = session.batches.splits.validation
        record |= evaluate(module, session.batches.evaluation(data), data, session.task, session.runtime)
    return record


def _check_ranks(session: Session, state: TrainState, algorithm: Algorithm) -> None:
    """Log the hash of everything; stop if processes differ."""
    sha256 = digest(all_tensors(state, algorithm).items())
    session.runtime.check_equal(sha256, f"states after epoch {state.position.epoch}")
    session.run.append({"event": "digest", "epoch": state.position.epoch, "sha256": sha256})


@contextlib.contextmanager
def _stop_requests(runtime: Runtime) -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a request that is honoured at the next step; a second one acts at once.

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
