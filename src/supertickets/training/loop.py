"""The one training loop. An `Algorithm` is passed in and called at the boundaries of steps and epochs."""

from __future__ import annotations

import math
import time
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
from .runtime import digest
from .state import DeployableModel, TrainState, all_tensors, build_module, load_checkpoint, save_checkpoint
from .step import Stepper
from .stop_requests import StopRequest, stop_requests


def fit(session: Session, state: TrainState, algorithm: Algorithm) -> TrainState:
    """Train until the algorithm's last epoch.

    Args:
        session: What stays the same.
        state: The network to go on with.
        algorithm: Object that makes the steps and changes the network behind epochs.

    Returns:
        The state after the last epoch.

    Raises:
        Interrupted: A signal asked to stop (Ctrl-C); the run can be resumed.
        UserError: The loss is not a number any more, also at the lower rates of ``divergence_retries``.
    """
    recipe, position = session.recipe, state.position
    done = position.epoch * session.batches.steps_per_epoch + position.step
    session.reporter.begin(done, algorithm.last_epoch(recipe))
    with stop_requests(session.runtime) as stop:
        while state.position.epoch < algorithm.last_epoch(recipe):
            number = state.position.epoch + 1
            try:
                train_loss = _train_epoch(session, state, algorithm, stop)
            except _Diverged as error:
                state = _go_back(session, state, algorithm, error)
                continue
            average_statistics(state.module, session.runtime)
            state = algorithm.on_epoch_end(session, state, number)
            record = _epoch_record(session, state, algorithm, train_loss)
            session.run.append(record)
            session.reporter.epoch(number, record, algorithm.progress(record))
            state.position = replace(state.position, epoch=number, step=0, loss_sum=0.0)
            _check_ranks(session, state, algorithm)
            checkpoint(session, state, algorithm)
    return state


class _Diverged(Exception):
    """The loss or the weights are not finite any more.

    Attributes:
        loss: The loss.
        epoch: Number of the epoch, from 1.
    """

    def __init__(self, loss: float, epoch: int) -> None:
        super().__init__(f"the loss is {loss} in epoch {epoch}")
        self.loss, self.epoch = loss, epoch


def _check_finite(session: Session, state: TrainState, loss: float) -> None:
    """Check loss, weights and BN statistics on all processes, so that no checkpoint holds what cannot be trained.

    Raises:
        _Diverged: One of them is not finite.
    """
    statistics = {name: value for name, value in state.module.named_buffers() if "running_" in name}
    tensors = [value for value in (state.parameters() | statistics).values() if value.numel()]
    finite = [torch.isfinite(value).all() for value in tensors]
    is_finite = math.isfinite(loss) and bool(torch.stack(finite).all())
    if session.runtime.sum(torch.tensor(float(not is_finite), device=session.runtime.device)):
        raise _Diverged(loss, state.position.epoch + 1)


def _go_back(session: Session, state: TrainState, algorithm: Algorithm, error: _Diverged) -> TrainState:
    """Return the state of the last checkpoint, to be trained at half the learning rate.

    Raises:
        UserError: It has gone back as often as ``divergence_retries`` allows.
    """
    recipe, retries = session.recipe, state.position.retries + 1
    if retries > recipe.divergence_retries:
        rate = recipe.optimizer.lr * 0.5**state.position.retries
        raise UserError(
            f"{error}: training diverged, also at a learning rate of {rate:g}; lower optimizer.lr "
            f"(now {recipe.optimizer.lr:g}) or set optimizer.clip_norm to 1, with another --out"
        )
    algorithm.reopen(session)
    state = load_checkpoint(session.run.checkpoint, recipe, session.runtime.device, algorithm)
    session.runtime.barrier()  # all have read it before it is replaced
    state.position = replace(state.position, retries=retries)
    session.run.truncate_log(state.position.log_size)
    session.run.append({"event": "diverged", "epoch": error.epoch, "loss": str(error.loss), "lr_factor": 0.5**retries})
    session.reporter.say(
        f"{error}: back to the checkpoint at epoch {state.position.epoch + 1}, step {state.position.step}, with the "
        f"learning rate times {0.5**retries:g}"
    )
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


def _train_epoch(session: Session, state: TrainState, algorithm: Algorithm, stop: StopRequest) -> float:
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
        if stop.number is not None or due:
            state.position = replace(state.position, loss_sum=float(loss_sum))
            _check_finite(session, state, state.position.loss_sum)
            checkpoint(session, state, algorithm)
            saved = now
        stop.raise_if_made()
    mean = float(runtime.sum(loss_sum) / runtime.world / steps)
    _check_finite(session, state, mean)
    return mean


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
