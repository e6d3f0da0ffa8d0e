"""The search for a connection scheme, behind the pre-training of the network that all schemes share (LTH4SA)."""

from __future__ import annotations

import contextlib
import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .data import Batch
from .search import Step, explore
from .supernets import ResNetSpec
from .tasks import headline
from .training import Session, TrainState, digest, evaluate, recalibrate
from .training.evaluate import BatchNorm
from .training.policy_step import Chosen
from .training.state import build_module

SCHEMES = "schemes.csv"  # in the run's directory: what the controller saw


def connect(session: Session, state: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """Finds a connection scheme by the policy.

    Nothing is trained, so that a scheme is judged once, on the validation split.

    Args:
        session: What stays the same.
        state: After the pre-training.

    Returns:
        The network of the scheme with the highest reward, with the shared weights; and what the ticket tells of it.
    """
    spec, settings = state.spec, session.recipe.connect
    assert isinstance(spec, ResNetSpec)
    names = [decision.name for decision in spec.decisions()]
    judged = _Judge(session, _shared(session, state), names)
    steps = explore(len(names), judged, settings, session.recipe.seed)
    best = ranked(steps)
    rows = [
        {"scheme": spec.narrow(dict(zip(names, scheme, strict=True))).scheme, "reward": reward, "quality": quality}
        for scheme, (reward, quality) in list(best.items())[: settings.candidates]
    ]
    if session.runtime.is_main:
        write_steps(session.run.path / SCHEMES, spec, names, steps)
    session.run.append({"event": "connect", "schemes": len(best), "steps": settings.steps, "found": rows[0]["scheme"]})
    session.reporter.say(f"judged {len(best):,} connection schemes; the best is {rows[0]['scheme']}")
    found = spec.narrow(dict(zip(names, next(iter(best)), strict=True)))
    told = {"connected": {**rows[0], "judged": len(best), "candidates": rows}}
    return _cut(session, state, found), told


def ranked(steps: list[Step]) -> dict[tuple[bool, ...], tuple[float, float]]:
    """Schemes by their reward without curiosity, the highest first: reward and quality; of equals the sparser first."""
    seen: dict[tuple[bool, ...], tuple[float, float]] = {}
    for step in steps:
        figures = zip(step.reward.tolist(), step.quality.tolist(), strict=True)
        seen |= dict(zip(map(tuple, step.schemes.tolist()), figures, strict=True))
    return dict(sorted(seen.items(), key=lambda item: (-item[1][0], sum(item[0]), item[0])))


def write_steps(path: Path, spec: ResNetSpec, names: list[str], steps: list[Step]) -> None:
    """Writes what the controller saw as CSV: a row per sampled scheme."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "scheme", "quality", "reward", "bonus", "probability"])
        for number, step in enumerate(steps, start=1):
            values = (step.schemes.tolist(), step.quality.tolist(), step.reward.tolist(), step.bonus.tolist())
            for flags, *figures in zip(*values, strict=True):
                scheme = spec.narrow(dict(zip(names, flags, strict=True))).scheme
                writer.writerow([number, scheme, *figures, step.probability])


class _Judge:
    """Quality of schemes with the shared weights, each asked for once."""

    def __init__(self, session: Session, module: nn.Module, names: list[str]) -> None:
        self.session, self.module, self.names = session, module, names
        self.known: dict[tuple[bool, ...], float] = {}
        self.steps = 0
        data = session.batches.splits.validation
        pixels = len(data) * math.prod(session.batches.splits.preprocessing.size) * 3
        self.kept: list[Batch] | None = None
        if 4 * pixels < 1e9 * session.recipe.data.keep_gb:  # prepared once
            self.kept = list(session.batches.evaluation(data))

    def __call__(self, schemes: Tensor) -> Tensor:
        session, settings = self.session, self.session.recipe.connect
        session.runtime.check_equal(digest([("schemes", schemes)]), "sampled schemes")
        found = torch.tensor([self._quality(tuple(row)) for row in schemes.tolist()], dtype=torch.float64)
        self.steps += 1
        if self.steps % max(1, settings.steps // 10) == 0:
            best = max(self.known.values())
            session.reporter.say(
                f"step {self.steps:,} of {settings.steps:,}: {len(self.known):,} schemes judged, the best at {best:.2%}"
            )
        return found

    def _quality(self, flags: tuple[bool, ...]) -> float:
        if flags not in self.known:
            session, recipe = self.session, self.session.recipe
            network = Chosen(self.module, dict(zip(self.names, flags, strict=True)))  # type: ignore[arg-type]
            if recipe.connect.statistics == "recalibrated":
                recalibrate(network, session.batches.calibration(0, recipe.recalibrate_batches), session.runtime)
            data = session.batches.splits.validation
            with batch_statistics(self.module) if recipe.connect.statistics == "batch" else contextlib.nullcontext():
                batches = session.batches.evaluation(data) if self.kept is None else self.kept
                scores = evaluate(network, batches, data, session.task, session.runtime)
            metric = headline(scores)
            self.known[flags] = metric.quality(scores) if metric else 0.0
        return self.known[flags]


@contextlib.contextmanager
def batch_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norms use the statistics of their batch meanwhile, also in evaluations; their running ones stay."""
    norms = [m for m in module.modules() if isinstance(m, BatchNorm)]
    running = [(norm.running_mean, norm.running_var) for norm in norms]
    for norm in norms:
        norm.running_mean = norm.running_var = None
    try:
        yield
    finally:
        for norm, (mean, variance) in zip(norms, running, strict=True):
            norm.running_mean, norm.running_var = mean, variance


def _shared(session: Session, state: TrainState) -> nn.Module:
    """The network of all schemes; with averaged weights, if there are any, but where statistics are not theirs."""
    module = build_module(state.spec, session.recipe, session.runtime.device)
    own = session.recipe.connect.statistics == "running"
    module.load_state_dict(state.module.state_dict() if own else state.outcome().weights)
    return module.eval()


def _cut(session: Session, state: TrainState, spec: ResNetSpec) -> TrainState:
    """The network of a scheme; what it has not is gone."""
    weights: Mapping[str, Tensor] = state.outcome().weights
    module = build_module(spec, session.recipe, session.runtime.device)
    module.load_state_dict({name: weights[name] for name in module.state_dict()})
    return replace(state, spec=spec, module=module, ema=None)
