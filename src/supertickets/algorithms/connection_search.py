"""The search for a connection scheme, behind the pre-training of the network that all schemes share (LTH4SA)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..models import ResNet, ResNetSpec
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
from ..ticket import Ticket
from ..training import Session, TrainState
from ..training.state import build_module
from .darts_search import darts_search
from .scheme_evaluator import SchemeEvaluator

SCHEMES_FILE = "schemes.csv"  # in the run's directory: what the search saw
SHARED_DIR = "shared"  # in the run's directory: the network of all schemes, as a ticket


def search_connections(session: Session, state: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """Finds a connection scheme.

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
    module = build_module(spec, session.recipe, session.runtime.device).eval()
    assert isinstance(module, ResNet)
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
    found = spec.select(dict(zip(names, next(iter(best)), strict=True)))
    told = {"connection_search": {"by": settings.by, **rows[0], "judged": len(best), "candidates": rows}}
    return _extract_scheme(session, state, found), told


def judge_schemes(session: Session, module: ResNet) -> list[SearchStep]:
    """What a search saw, in order.

    Args:
        session: Its recipe's ``connect`` says how schemes are found, its validation split judges them.
        module: The network of all schemes, in eval mode.

    Raises:
        UserError: Modules cannot be ranked.
    """
    settings, seed = session.recipe.connect, session.recipe.seed
    judge, blocks = SchemeEvaluator(session, module), len(module.spec.decisions())
    match settings.by:
        case "policy":
            return policy_search(blocks, judge, settings, seed)
        case "enas":
            return policy_search(blocks, judge, enas_settings(settings), seed)
        case "darts":
            return darts_search(session, module, judge)
        case "genetic":
            return genetic_search(blocks, judge, settings, seed)
        case "random":
            return random_search(blocks, judge, settings, seed)
        case "every":
            return [evaluate_schemes(periodic_scheme(blocks, settings.period), judge, settings)]
        case "all":
            judge.evaluate_all()
            return [evaluate_schemes(every_scheme(blocks), judge, settings)]
        case "ratios":
            return search_by_ratio(blocks, judge, settings, seed)
        case "l1" | "median":
            modules = [
                dict(module.attention_of(decision.name).named_parameters()) for decision in module.spec.decisions()
            ]
            scheme = keep_largest(module_scores(modules, settings.by), settings.probability)
            return [evaluate_schemes(scheme[None], judge, settings)]


def rank_schemes(steps: list[SearchStep]) -> dict[tuple[bool, ...], tuple[float, float]]:
    """Schemes by their reward without curiosity, the highest first: reward and quality; of equals the sparser first."""
    seen: dict[tuple[bool, ...], tuple[float, float]] = {}
    for step in steps:
        figures = zip(step.reward.tolist(), step.quality.tolist(), strict=True)
        seen |= dict(zip(map(tuple, step.schemes.tolist()), figures, strict=True))
    return dict(sorted(seen.items(), key=lambda item: (-item[1][0], sum(item[0]), item[0])))


def write_scheme_log(path: Path, spec: ResNetSpec, names: list[str], steps: list[SearchStep]) -> None:
    """Writes what the search saw as CSV: a row per scheme; no probability where no controller sampled it."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "scheme", "quality", "reward", "bonus", "probability"])
        for number, step in enumerate(steps, start=1):
            values = (step.schemes.tolist(), step.quality.tolist(), step.reward.tolist(), step.bonus.tolist())
            for flags, *figures in zip(*values, strict=True):
                scheme = spec.select(dict(zip(names, flags, strict=True))).scheme
                writer.writerow([number, scheme, *figures, step.probability])


def _shared_network_ticket(session: Session, module: ResNet, samples: int) -> Ticket:
    """The network of all schemes, for other searches to begin with."""
    splits, recipe = session.batches.splits, session.recipe
    weights = {name: value.cpu() for name, value in module.state_dict().items()}
    about = {"command": "search", "recipe": recipe.to_json(), "data": splits.digest(), "samples": samples}
    return Ticket(module.spec, weights, {}, splits.classes, splits.preprocessing, about)


def _extract_scheme(session: Session, state: TrainState, spec: ResNetSpec) -> TrainState:
    """The network of a scheme; what it has not is gone."""
    weights: Mapping[str, Tensor] = state.module.state_dict()
    module = build_module(spec, session.recipe, session.runtime.device)
    module.load_state_dict({name: weights[name] for name in module.state_dict()})
    return replace(state, spec=spec, module=module)
