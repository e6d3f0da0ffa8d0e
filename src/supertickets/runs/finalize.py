"""Build, evaluate and save the ticket at the end of a run."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy
import torch

from .. import __version__
from ..models import Spec
from ..storage import checksums, read_json, write_json
from ..ticket import Ticket
from ..training import RunDir, Session, TrainState, build_eval_model, evaluate
from ..training.state import DeployableModel


def finalize_run(session: Session, state: TrainState, model: DeployableModel, record: Mapping[str, Any]) -> Ticket:
    """Build and save the ticket (line 16): final weights, recalibrated, and evaluated once on the test split.

    Args:
        session: What stays the same.
        state: The network in training, after the last epoch.
        model: The network to save.
        record: Entries for the ticket's record: the command, metadata of the run, summary of the algorithm.
    """
    recipe = session.recipe
    module = build_eval_model(session, model, recipe.epochs)
    splits = session.batches.splits
    scores = {
        name: evaluate(module, session.batches.evaluation(data), data, session.task, session.runtime)
        for name, data in (("validation", splits.validation), ("test", splits.test))
    }
    about: dict[str, Any] = {
        "recipe": recipe.to_json(),
        "data": splits.digest(),
        **record,
        **scores,
        "samples": state.position.samples,
        "steps": state.position.total_steps,
        "processes": session.runtime.world,
        "versions": versions(model.spec),
    }
    weights = {name: value.cpu() for name, value in module.state_dict().items()}
    mask = {name: flags.cpu() for name, flags in model.mask.items()}
    ticket = Ticket(model.spec, weights, mask, splits.classes, splits.preprocessing, about, splits.limbs)
    if session.runtime.is_main:
        ticket.save_pretrained(session.run.ticket)
        seconds = round(state.position.seconds, 3)
        session.run.log_size()  # what was logged behind the last checkpoint is on the disk too
        trained = {"samples": about["samples"], "seconds": seconds}
        files = {"sha256": checksums(session.run.ticket)}
        write_json(session.run.result, {**scores, **ticket.cost.to_json(), **trained, **files})
    session.runtime.barrier()
    return ticket


def is_finished(run: RunDir) -> bool:
    """Return whether a run's result is there and its ticket is as it was saved; damaged ones are made again."""
    try:
        result = read_json(run.result)
        saved = result.get("sha256", {})  # runs of older versions and shared prefixes have none
        files = checksums(run.ticket) if saved else {}
    except (OSError, ValueError, AttributeError):
        return False
    return all(files.get(name) == sha256 for name, sha256 in saved.items())


def versions(spec: Spec | None = None) -> dict[str, str]:
    """Return the versions that a result depends on; that of a library's network also on the library."""
    known = {
        "supertickets": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
    return known | {package: version(package) for package in (spec.packages if spec else ())}
