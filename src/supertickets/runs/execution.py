"""Run an algorithm in a run directory: from its beginning, or from its last checkpoint."""

from __future__ import annotations

import dataclasses
from argparse import ArgumentError
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..algorithms import algorithm_from_json, algorithm_to_json
from ..config.loading import recipe_from_json
from ..config.recipe import Recipe
from ..config.validation import check_recipe
from ..errors import UserError
from ..models import Spec
from ..models.factory import spec_from_json
from ..plugins import check_trust, plugin_names, recipe_plugins
from ..ticket import Ticket
from ..training import Algorithm, RunDir, Session, TrainState, checkpoint, fit, initial_state, load_checkpoint
from ..training.algorithm import MeasureNetwork
from .derive import with_absolute_paths, with_data_dir
from .finalize import finalize_run, is_finished, versions
from .model_init import ModelInit, state_from_ticket
from .pretrained import load_pretrained
from .references import name_counterpart
from .session import open_session


def make_ticket(
    command: str,
    recipe: Recipe,
    out: str | Path,
    algorithm: Algorithm,
    init: ModelInit,
    metadata: Mapping[str, Any] | None = None,
) -> Ticket:
    """Begin a run that makes a ticket; see `begin_run`."""
    ticket = begin_run(command, recipe, out, algorithm, init, metadata)
    assert ticket is not None  # only a shared prefix has none
    return ticket


def begin_run(
    command: str,
    recipe: Recipe,
    out: str | Path,
    algorithm: Algorithm,
    init: ModelInit,
    metadata: Mapping[str, Any] | None = None,
) -> Ticket | None:
    """Begin a run, and do it.

    Args:
        command: Name of what the user asked for.
        recipe: The settings.
        out: Run directory.
        algorithm: The algorithm to run.
        init: Function that makes the network before the first step.
        metadata: Entries for the record of the run and of its ticket, besides the algorithm's own.
    """
    recipe = with_absolute_paths(recipe)  # a run goes on from any directory
    # Results are equal to the bit at a fixed number of threads, so that number belongs to the run.
    recipe = dataclasses.replace(check_recipe(recipe), threads=recipe.threads or torch.get_num_threads())
    algorithm.check(recipe)
    with open_session(recipe, Path(out), init) as (session, first):
        session.run.check_free()
        if isinstance(first, Ticket):
            state, weights = state_from_ticket(first, session), first.about.get("pretrained")
        else:
            session = dataclasses.replace(session, supernet=algorithm.supernet(session))
            state = initial_state(session.supernet, session.recipe, session.runtime.device)
            weights = load_pretrained(state, session) if session.recipe.supernet.pretrained else None
        state = algorithm.init(session, state)
        checkpoint(session, state, algorithm)  # before run.json, so that every run directory can be resumed
        instead = name_counterpart(session.recipe, session.batches.splits)
        about = {
            "command": command,
            "algorithm": algorithm_to_json(algorithm),
            "recipe": session.recipe.to_json(),
            "supernet": session.supernet.to_json(),
            "data": session.batches.splits.digest(),
            "metadata": {
                **(metadata or {}),
                **({"pretrained": weights} if weights else {}),
                **({"instead": instead} if instead else {}),
                **algorithm.metadata(session.recipe),
            },
            "versions": versions(session.supernet),
        }
        session.run.create(about)
        return _run(session, state, algorithm, about)


def with_measure(algorithm: Algorithm, measure: MeasureNetwork | None) -> Algorithm:
    """Return an algorithm that times networks by a function, if there is one."""
    if measure is not None:
        algorithm.use_measure(measure)
    return algorithm


@dataclass(frozen=True)
class RunRecord:
    """Content of ``run.json`` of a run that goes on.

    Attributes:
        algorithm: The algorithm.
        recipe: Its settings.
        supernet: Spec of the network that it began with.
        data: Hash of the data.
        about: All of it, as JSON.
    """

    algorithm: Algorithm
    recipe: Recipe
    supernet: Spec
    data: str
    about: Mapping[str, Any]


def read_record(folder: Path, trust: Iterable[str]) -> RunRecord:
    """Read the record of a run; nothing that it names is imported without trust.

    Args:
        folder: Run directory.
        trust: Modules that may be imported.

    Raises:
        UserError: The record is missing or damaged, another version wrote it, or it names code that is not trusted.
    """
    about = RunDir(folder).about()
    names = [*recipe_plugins(about.get("recipe") or {}), *plugin_names([about.get("algorithm"), about.get("supernet")])]
    check_trust(names, trust, f"run {folder}")
    try:
        return RunRecord(
            algorithm_from_json(about["algorithm"]),
            recipe_from_json(about["recipe"]),
            spec_from_json(about["supernet"]),
            about["data"],
            about,
        )
    except (ArgumentError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{folder}/run.json is damaged or of another version ({why}); begin anew, --out NEW") from None


def resume_run(
    out: str | Path, trust: Iterable[str], measure: MeasureNetwork | None = None, data_dir: str | None = None
) -> Ticket | None:
    """Go on with a run where its last checkpoint left it; see `api.resume`.

    Returns:
        The ticket; None of a shared prefix, which has none.
    """
    run = RunDir(Path(out))
    if is_finished(run):
        raise UserError(f"the run in {out} is already finished; its ticket is {run.ticket}")
    record = read_record(run.path, trust)
    algorithm = with_measure(record.algorithm, measure)
    recipe = with_data_dir(record.recipe, data_dir)
    with open_session(recipe, Path(out), lambda recipe, splits: record.supernet) as (session, _):
        if session.batches.splits.digest() != record.data:
            raise UserError(
                f"the data is not what {out} began with: samples were added, removed or exchanged; "
                "put them back, or begin anew with another --out"
            )
        algorithm.reopen(session)
        state = load_checkpoint(session.run.checkpoint, recipe, session.runtime.device, algorithm)
        session.run.truncate_log(state.position.log_size)
        if record.about.get("forked_at") == state.position.epoch:
            state = algorithm.init(session, state)
        session.reporter.say(f"resuming {out} at epoch {state.position.epoch + 1}, step {state.position.step}")
        return _run(session, state, algorithm, record.about)


def _run(session: Session, state: TrainState, algorithm: Algorithm, about: Mapping[str, Any]) -> Ticket | None:
    outcome = algorithm.finalize(session, fit(session, state, algorithm))
    if outcome is None:
        return None
    record = {"command": about["command"], **about["metadata"], **outcome.summary}
    return finalize_run(session, outcome.state, algorithm.deployable(outcome.state), record)
