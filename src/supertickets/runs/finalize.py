"""What a run comes to: the ticket, measured, and what it tells of itself."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy
import torch

from .. import __version__
from ..models import LibrarySpec, Spec
from ..ticket import Ticket
from ..training import Session, TrainState, build_eval_model, evaluate, write_json


def finalize_run(command: str, session: Session, state: TrainState, made: Mapping[str, Any]) -> Ticket:
    """The ticket (line 16): final weights, recalibrated, and measured once on the test split."""
    recipe = session.recipe
    module = build_eval_model(session, state, recipe.epochs)
    splits = session.batches.splits
    scores = {
        name: evaluate(module, session.batches.evaluation(data), data, session.task, session.runtime)
        for name, data in (("validation", splits.validation), ("test", splits.test))
    }
    outcome = state.deployable()
    about: dict[str, Any] = {
        "command": command,
        "recipe": recipe.to_json(),
        "data": splits.digest(),
        **made,
        **search_summary(session, state),
        **scores,
        "samples": state.position.samples,
        "steps": state.position.total_steps,
        "processes": session.runtime.world,
        "versions": versions(outcome.spec),
    }
    weights = {name: value.cpu() for name, value in module.state_dict().items()}
    mask = {name: flags.cpu() for name, flags in outcome.mask.items()}
    ticket = Ticket(outcome.spec, weights, mask, splits.classes, splits.preprocessing, about, splits.limbs)
    if session.runtime.is_main:
        ticket.save_pretrained(session.run.ticket)
        seconds = round(state.position.seconds, 3)
        write_json(
            session.run.result, {**scores, **ticket.cost.to_json(), "samples": about["samples"], "seconds": seconds}
        )
    session.runtime.barrier()
    return ticket


def search_summary(session: Session, state: TrainState) -> dict[str, Any]:
    """What a policy search decided, as the ticket tells it."""
    if state.policy is None or session.budget is None:
        return {}
    best = state.policy.best()
    found = {
        "budget": session.budget.name,
        "target": session.budget.target,
        "cost": session.budget.cost(best),
        "choices": {**session.recipe.supernet.settings.get("choices", {}), **best},
        "indices": state.policy.most_probable(),
    }
    return {"search": found}


def versions(spec: Spec | None = None) -> dict[str, str]:
    """What a result depends on; that of a known network also on the library that makes it."""
    found = {
        "supertickets": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
    return found | ({spec.library: version(spec.library)} if isinstance(spec, LibrarySpec) else {})
