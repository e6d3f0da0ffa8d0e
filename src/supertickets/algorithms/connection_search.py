"""Connection search (EAN, LTH4SA): pre-training of the network that all schemes share, then the choice of a scheme.

Algorithm 1 of LTH4SA; the other ways to choose a scheme are its rivals of Table I.
"""

from __future__ import annotations

import csv
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from ..config.search_settings import ConnectBy
from ..data import Batch
from ..data.randomness import mix_seed
from ..models import ResNet, ResNetSpec, require_resnet
from ..nas import (
    SearchStep,
    enas_settings,
    evaluate_schemes,
    every_scheme,
    genetic_search,
    keep_largest,
    module_scores,
    periodic_scheme,
    policy_search,
    random_search,
    search_by_ratio,
)
from ..storage import replace_file
from ..ticket import Ticket
from ..training import Algorithm, Interrupted, Outcome, Session, TrainState
from ..training.algorithm import NetworkStep, Step
from ..training.state import build_module
from .darts_search import darts_search
from .scheme_evaluator import SchemeEvaluator

SCHEMES_FILE = "schemes.csv"  # in the run's directory: what the search saw
SHARED_DIR = "shared"  # in the run's directory: the network of all schemes, as a ticket


class ConnectionSearch(Algorithm):
    """The search for the connection scheme of a ResNet with attention modules.

    Args:
        is_trained: Whether the run begins with the trained network of another search, and searches it again.
    """

    name = "connection_search"

    def __init__(self, is_trained: bool = False) -> None:
        self.is_trained = is_trained

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments that make it again."""
        return {"is_trained": self.is_trained}

    def init(self, session: Session, state: TrainState) -> TrainState:
        """Leave out the pre-training of a network that is trained already."""
        if self.is_trained:
            state.position = replace(state.position, epoch=session.recipe.epochs)
        return state

    def make_step(self, session: Session, state: TrainState, take: NetworkStep) -> Step:
        """Return a step with random connection schemes, one for every part of a batch (Algorithm 1)."""
        recipe, rank, names = session.recipe, session.runtime.rank, _block_names(require_resnet(state.spec))

        def step_with_schemes(batch: Batch, epoch: int, step: int) -> Tensor:
            generator = torch.Generator().manual_seed(mix_seed(recipe.seed, epoch, step, rank, 7))
            flags = torch.rand(session.parts, len(names), generator=generator) < recipe.connect.probability
            loss: Tensor = take(batch, epoch, step, [dict(zip(names, row, strict=True)) for row in flags.tolist()])
            return loss

        return step_with_schemes

    def finalize(self, session: Session, state: TrainState) -> Outcome:
        """Find a connection scheme.

        Nothing is trained, so that a scheme is evaluated once, on the validation split.

        Returns:
            The network of the scheme with the highest reward, with the shared weights; and the candidates.
        """
        try:
            return _search_connections(session, state)
        except KeyboardInterrupt as stop:
            raise Interrupted(getattr(stop, "number", signal.SIGINT)) from None


def _search_connections(session: Session, state: TrainState) -> Outcome:
    spec, settings = require_resnet(state.spec), session.recipe.connect
    names = _block_names(spec)
    module = cast(ResNet, build_module(spec, session.recipe, session.runtime.device).eval())
    module.load_state_dict(state.module.state_dict())
    if session.runtime.is_main:
        _shared_network_ticket(session, module, state.position.samples).save_pretrained(session.run.path / SHARED_DIR)
    steps = judge_schemes(session, module)
    best = rank_schemes(steps)
    rows = [
        {"scheme": spec.select(dict(zip(names, scheme, strict=True))).scheme, "reward": reward, "quality": quality}
        for scheme, (reward, quality) in list(best.items())[: settings.candidates]
    ]
    if session.runtime.is_main:
        write_scheme_log(session.run.path / SCHEMES_FILE, spec, names, steps)
    session.run.append({"event": "connect", "schemes": len(best), "steps": len(steps), "scheme": rows[0]["scheme"]})
    session.reporter.say(f"judged {len(best):,} connection schemes; the best is {rows[0]['scheme']}")
    best_spec = spec.select(dict(zip(names, next(iter(best)), strict=True)))
    summary = {"by": settings.by, **rows[0], "judged": len(best), "candidates": rows}
    return Outcome(_extract_scheme(session, state, best_spec), {"connection_search": summary})


def judge_schemes(session: Session, module: ResNet) -> list[SearchStep]:
    """Run the search, and return its steps in order.

    Args:
        session: Its recipe's ``connect`` names the way to search, its validation split evaluates schemes.
        module: The network of all schemes, in eval mode.

    Raises:
        UserError: Modules cannot be ranked.
    """
    return _SEARCHES[session.recipe.connect.by](session, SchemeEvaluator(session, module))


def _by_policy(session: Session, judge: SchemeEvaluator) -> list[SearchStep]:
    return policy_search(len(judge.names), judge, session.recipe.connect, session.recipe.seed)


def _by_enas(session: Session, judge: SchemeEvaluator) -> list[SearchStep]:
    return policy_search(len(judge.names), judge, enas_settings(session.recipe.connect), session.recipe.seed)


def _by_darts(session: Session, judge: SchemeEvaluator) -> list[SearchStep]:
    return darts_search(session, judge.module, judge)


def _by_generations(session: Session, judge: SchemeEvaluator) -> list[SearchStep]:
    return genetic_search(len(judge.names), judge, session.recipe.connect, session.recipe.seed)


def _by_chance(session: Session, judge: SchemeEvaluator) -> list[SearchStep]:
    return random_search(len(judge.names), judge, session.recipe.connect, session.recipe.seed)


def _by_period(session: Session, judge: SchemeEvaluator) -> list[SearchStep]:
    settings = session.recipe.connect
    return [evaluate_schemes(periodic_scheme(len(judge.names), settings.period), judge, settings)]


def _by_all(session: Session, judge: SchemeEvaluator) -> list[SearchStep]:
    judge.evaluate_all()
    return [evaluate_schemes(every_scheme(len(judge.names)), judge, session.recipe.connect)]


def _by_ratios(session: Session, judge: SchemeEvaluator) -> list[SearchStep]:
    return search_by_ratio(len(judge.names), judge, session.recipe.connect, session.recipe.seed)


def _by_weights(session: Session, judge: SchemeEvaluator, score: Literal["l1", "median"]) -> list[SearchStep]:
    settings = session.recipe.connect
    modules = [dict(judge.module.attention_of(name).named_parameters()) for name in judge.names]
    scheme = keep_largest(module_scores(modules, score), settings.probability)
    return [evaluate_schemes(scheme[None], judge, settings)]


_SEARCHES: Mapping[ConnectBy, Callable[[Session, SchemeEvaluator], list[SearchStep]]] = {
    "policy": _by_policy,
    "enas": _by_enas,
    "darts": _by_darts,
    "genetic": _by_generations,
    "random": _by_chance,
    "every": _by_period,
    "all": _by_all,
    "ratios": _by_ratios,
    "l1": partial(_by_weights, score="l1"),
    "median": partial(_by_weights, score="median"),
}


def rank_schemes(steps: list[SearchStep]) -> dict[tuple[bool, ...], tuple[float, float]]:
    """Return schemes by their reward without curiosity, the highest first; of equals the sparser first.

    Returns:
        Reward and quality of every scheme.
    """
    seen: dict[tuple[bool, ...], tuple[float, float]] = {}
    for step in steps:
        figures = zip(step.reward.tolist(), step.quality.tolist(), strict=True)
        seen |= dict(zip(map(tuple, step.schemes.tolist()), figures, strict=True))
    return dict(sorted(seen.items(), key=lambda item: (-item[1][0], sum(item[0]), item[0])))


def write_scheme_log(path: Path, spec: ResNetSpec, names: list[str], steps: list[SearchStep]) -> None:
    """Write the steps of a search as CSV: a row per scheme; no probability where no controller sampled it."""
    with replace_file(path) as scratch, scratch.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "scheme", "quality", "reward", "bonus", "probability"])
        for number, step in enumerate(steps, start=1):
            values = (step.schemes.tolist(), step.quality.tolist(), step.reward.tolist(), step.bonus.tolist())
            for flags, *figures in zip(*values, strict=True):
                scheme = spec.select(dict(zip(names, flags, strict=True))).scheme
                writer.writerow([number, scheme, *figures, step.probability])


def _shared_network_ticket(session: Session, module: ResNet, samples: int) -> Ticket:
    """Return the network of all schemes, for other searches to begin with."""
    splits, recipe = session.batches.splits, session.recipe
    weights = {name: value.cpu() for name, value in module.state_dict().items()}
    about = {"command": "search", "recipe": recipe.to_json(), "data": splits.digest(), "samples": samples}
    return Ticket(module.spec, weights, {}, splits.classes, splits.preprocessing, about)


def _extract_scheme(session: Session, state: TrainState, spec: ResNetSpec) -> TrainState:
    """Return the network of a scheme, without the modules that it does not connect."""
    weights: Mapping[str, Tensor] = state.module.state_dict()
    module = build_module(spec, session.recipe, session.runtime.device)
    module.load_state_dict({name: weights[name] for name in module.state_dict()})
    return replace(state, spec=spec, module=module)


def _block_names(spec: ResNetSpec) -> list[str]:
    return [decision.name for decision in spec.decisions()]
