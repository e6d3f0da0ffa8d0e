"""Runs from beginning to end: open a session, train, emit the ticket; and take up again what was interrupted."""

from __future__ import annotations

import dataclasses
import json
import shutil
from argparse import ArgumentError
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from ..algorithms.connection_search import SHARED_DIR, search_connections
from ..algorithms.one_shot import prune_once
from ..algorithms.ranking import check_prune_ratio
from ..algorithms.transfer import check_transfer, join_specs, join_tickets
from ..algorithms.two_in_one import search_warning, two_in_one
from ..config.loading import recipe_from_json
from ..config.recipe import Recipe
from ..config.schedule import check_schedule
from ..config.validation import check_recipe
from ..cost.budget import make_budget
from ..data import Splits
from ..errors import UserError
from ..models import MobileSpec, ResNetSpec
from ..models.factory import spec_from_json
from ..nas import find_reward
from ..pruning import check_criterion
from ..ticket import Ticket, check_data, load
from ..training import (
    Interrupted,
    RunDir,
    Session,
    TrainState,
    checkpoint,
    fit,
    initial_state,
    load_checkpoint,
    policy_of,
    write_json,
)
from .budget import MeasureTable, check_budget_reachable, find_table
from .derive import check_budget_given, fixed_network, lineage, recipe_of, reject_budget
from .finalize import finalize_run, versions
from .model_init import (
    LATENCY_FILE,
    ModelInit,
    connection_supernet,
    fitted_spec,
    init_from_search,
    init_from_ticket,
    make_task,
    searches_connections,
    space_for,
    state_from_ticket,
    supernet_for,
)
from .session import open_session

Command = Literal["draw", "search", "train", "retrain", "transfer", "prune", "trunk"]


def draw(recipe: Recipe, out: str | Path | None = None) -> Ticket:
    """Draws a ticket by two-in-one training.

    Args:
        recipe: The settings.
        out: Run directory; default ``runs/<recipe name>``.

    Raises:
        UserError: A setting, the data or the directory cannot work.
        Interrupted: Ctrl-C; `resume` goes on.
    """
    check_schedule(recipe)
    reject_budget(recipe, "draw")
    if recipe.prune.ratio:
        check_criterion(recipe.prune)
    return _ticket(_begin("draw", recipe, out or f"runs/{recipe.name}", supernet_for))


def search(
    recipe: Recipe,
    out: str | Path | None = None,
    measure: MeasureTable | None = None,
    shared: str | Path | None = None,
) -> Ticket:
    """Searches a space by a policy, to a budget; the ticket is the most probable network, with the shared weights.

    Of a ResNet with attention modules it searches the connection scheme with the highest reward instead (`connect`).

    Args:
        recipe: The settings; ``supernet.name`` is a space, ``budget`` limits one cost; or it is a ResNet.
        out: Run directory; default ``runs/<recipe name>``.
        measure: Makes a latency table where the budget needs one and the recipe names none
            (`deploy.measure_latency_table`).
        shared: Run directory of another search for connections, whose trained network is searched again.

    Raises:
        UserError: A setting, the data or the directory cannot work.
        Interrupted: Ctrl-C; `resume` goes on.
    """
    if searches_connections(recipe):
        reject_budget(recipe, "a search for connections")
        if recipe.compile:
            raise UserError("compile cannot serve a search, where every step has another network; set it to false")
        recipe = dataclasses.replace(fixed_network(recipe), ema_decay=0.0)  # what is judged is what is shared
        out = out or f"runs/{recipe.name}"
        if shared is None:
            return _ticket(_begin("search", recipe, out, connection_supernet))
        source = Path(shared) / SHARED_DIR
        made = {"lineage": lineage(load(source))} if source.is_dir() else {}
        return _ticket(_begin("search", recipe, out, init_from_search(source), made))
    check_budget_given(recipe)
    find_reward(recipe.policy.reward)
    recipe = dataclasses.replace(fixed_network(recipe), budget=recipe.budget)
    return _ticket(_begin("search", recipe, out or f"runs/{recipe.name}", space_for, measure=measure))


def train(recipe: Recipe, out: str | Path | None = None) -> Ticket:
    """Trains the recipe's network as it is: no search, no pruning (the dense supernet)."""
    reject_budget(recipe, "train")
    return _ticket(_begin("train", fixed_network(recipe), out or f"runs/{recipe.name}-dense", supernet_for))


def retrain(ticket: Ticket, recipe: Recipe, out: str | Path) -> Ticket:
    """Trains a ticket further: architecture and mask stay, the schedule begins anew.

    Args:
        ticket: Where to start.
        recipe: The settings, e.g. from `restate.retrain_recipe`.
        out: Run directory.
    """
    return _ticket(_begin("retrain", recipe, out, init_from_ticket(ticket), {"lineage": lineage(ticket)}))


def transfer(ticket: Ticket, recipe: Recipe, out: str | Path | None = None, head: Ticket | None = None) -> Ticket:
    """Trains the features of a ticket on other data; architecture and mask stay (Sec. 3.3).

    Within a task only the classifier is new. For another task the head is fresh and dense, or that of a ticket of the
    target, which brings its own mask and classifier (supernets alone).

    Args:
        ticket: Gives the features: stem and stages of a supernet; stem, blocks and attention modules of a ResNet.
        recipe: The settings of the target, e.g. from `restate.transfer_recipe`; its search and pruning are left out.
        out: Run directory; default ``runs/<recipe name>``.
        head: Gives the head and the classifier.

    Raises:
        UserError: The features cannot serve the target, or the head does not fit them.
    """
    check_transfer(ticket, head, recipe)
    if head is not None:
        whose: dict[str, Any] = {"kind": "inherited", "lineage": lineage(head)}
    else:
        whose = {"kind": "kept" if recipe_of(ticket).task == recipe.task else "fresh"}

    def beginning(recipe: Recipe, splits: Splits) -> Ticket:
        make = join_specs(ticket, head, recipe, make_task(recipe, splits).head, splits.preprocessing)
        if head is not None:
            check_data("the head's ticket", head, splits)
        full = fitted_spec(make, recipe, splits)
        return join_tickets(full, ticket, head, splits.classes, splits.preprocessing, recipe.seed)

    made = {"lineage": lineage(ticket), "head": whose}
    return _ticket(_begin("transfer", fixed_network(recipe), out or f"runs/{recipe.name}", beginning, made))


def prune(ticket: Ticket, recipe: Recipe, out: str | Path) -> Ticket:
    """Prunes a finished network in one shot: search-then-prune, if the ticket was searched only.

    Exactly ``prune.ratio`` of the maskable weights are zero afterwards; BN statistics are measured anew, nothing is
    trained. `retrain` goes on from there.

    Args:
        ticket: What to prune.
        recipe: The settings, e.g. from `prune_recipe`; ``prune`` says by which criterion and in how many rounds.
        out: Run directory.
    """
    settings = check_recipe(recipe).prune
    criterion = check_criterion(settings)
    made: dict[str, Any] = {"lineage": lineage(ticket), "criterion": criterion.name}
    if criterion.needs_data:
        made["batches"] = settings.batches
    rounds = settings.rounds or criterion.default_rounds
    if rounds > 1:
        made["rounds"] = rounds
    return _ticket(_begin("prune", recipe, out, init_from_ticket(ticket), made))


def train_shared_prefix(recipe: Recipe, out: str | Path, until: int) -> None:
    """Draws no farther than some epoch: what several draws have in common, to be done once.

    Args:
        recipe: Of any of them.
        out: Run directory; the run is taken up again if it was interrupted.
        until: The last epoch that they have in common (`schedule.course`).
    """
    check_schedule(recipe)
    if RunDir(Path(out)).is_unfinished():
        _resume(out)
    else:
        _begin("trunk", recipe, out, supernet_for, {"until": until})


def fork_run(source: str | Path, recipe: Recipe, out: str | Path, until: int | None = None) -> None:
    """Begins a draw where a trunk ends; `resume` goes on. All but ``prune`` must be the trunk's settings.

    Args:
        source: Directory of the trunk.
        recipe: The settings of the draw.
        out: Run directory.
        until: The last epoch if this is a trunk again; `trunk` goes on then.
    """
    with RunDir(Path(out)) as run:
        run.check_free()
        about = json.loads((Path(source) / "run.json").read_text())
        shared = recipe_from_json(about["recipe"])
        # What was chosen by the data was chosen for the trunk: the same, since pruning has no say in it.
        recipe = dataclasses.replace(shared, name=recipe.name, description=recipe.description, prune=recipe.prune)
        for name in ("events.jsonl", "checkpoint.safetensors"):
            shutil.copyfile(Path(source) / name, run.path / name)
        made = (
            {"command": "draw", "metadata": {}} if until is None else {"command": "trunk", "metadata": {"until": until}}
        )
        run.create(about | made | {"recipe": recipe.to_json()})


def resume(out: str | Path) -> Ticket:
    """Goes on with an interrupted run where its last checkpoint left it.

    Raises:
        UserError: There is no such run, it is in use, or it is finished.
    """
    ticket = _resume(out)
    if ticket is None:
        raise UserError(f"{out} is the trunk of a sweep, which has no ticket; its branches go on by themselves")
    return ticket


def load_or_run(out: str | Path, begin: Callable[[Path], Ticket]) -> Ticket:
    """The ticket of a run that is done, or is gone on with, or begins: a script that is started again repeats nothing.

    Args:
        out: Run directory.
        begin: Makes the run, if there is none.

    Raises:
        UserError: As `resume` and what begins the run.
    """
    run = RunDir(Path(out))
    if run.result.exists():
        return load(run.ticket)
    return resume(out) if run.is_unfinished() else begin(run.path)


def _ticket(made: Ticket | None) -> Ticket:
    assert made is not None  # only a trunk has none
    return made


def _resume(out: str | Path) -> Ticket | None:
    about = RunDir(Path(out)).about()
    try:
        command, recipe, data = about["command"], recipe_from_json(about["recipe"]), about["data"]
        supernet, made = spec_from_json(about["supernet"]), about["metadata"]
    except (ArgumentError, AttributeError, KeyError, TypeError, ValueError, UserError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{out}/run.json is damaged or of another version ({why}); begin anew, --out NEW") from None
    with open_session(recipe, Path(out), lambda recipe, splits: supernet) as (session, _):
        if session.batches.splits.digest() != data:
            raise UserError(
                f"the data is not what {out} began with: samples were added, removed or exchanged; "
                "put them back, or begin anew with another --out"
            )
        state = load_checkpoint(session.run.checkpoint, recipe, session.runtime.device)
        if command == "search" and isinstance(supernet, MobileSpec):
            budget = make_budget(recipe.budget, supernet, session.run.path / LATENCY_FILE)
            session = dataclasses.replace(session, budget=budget)
        session.run.truncate_log(state.position.log_size)
        session.reporter.resume(state.position.epoch)
        session.reporter.say(f"resuming {out} at epoch {state.position.epoch + 1}, step {state.position.step}")
        return _finish(command, session, state, made)


def _begin(
    command: Command,
    recipe: Recipe,
    out: str | Path,
    beginning: ModelInit,
    made: Mapping[str, Any] | None = None,
    measure: MeasureTable | None = None,
) -> Ticket | None:
    """Begins a run.

    Args:
        command: What it does.
        recipe: The settings.
        out: Run directory.
        beginning: The network before the first step.
        made: What the ticket tells besides, under these names.
        measure: Makes a latency table, should it be needed.
    """
    made = made or {}
    # Results are equal to the bit at a fixed number of threads, so that number belongs to the run.
    recipe = dataclasses.replace(check_recipe(recipe), threads=recipe.threads or torch.get_num_threads())
    with open_session(recipe, Path(out), beginning) as (session, first):
        recipe = session.recipe
        session.run.check_free()
        if isinstance(first, Ticket):
            state = state_from_ticket(first, session)
            if command == "search":  # what is shared has been trained
                state.position = dataclasses.replace(state.position, epoch=recipe.epochs)
        else:
            state = initial_state(first, recipe, session.runtime.device)
        if command == "search" and isinstance(state.spec, MobileSpec):
            session, state.policy = _with_budget(session, measure), policy_of(state.spec, recipe)
        if command in ("draw", "prune") and recipe.prune.ratio:
            check_prune_ratio(state, recipe)
        if command == "draw" and (warning := search_warning(session)):
            session.reporter.say(warning)
        checkpoint(session, state)  # before run.json, so that every run directory can be resumed
        about = {
            "command": command,
            "recipe": recipe.to_json(),
            "supernet": session.supernet.to_json(),
            "data": session.batches.splits.digest(),
            "metadata": made,
            "versions": versions(session.supernet),
        }
        session.run.create(about)
        return _finish(command, session, state, made)


def _finish(command: Command, session: Session, state: TrainState, made: Mapping[str, Any]) -> Ticket | None:
    if command == "prune":
        prune_once(session, state)
    elif command == "trunk":
        fit(session, state, two_in_one, made["until"])
        if session.runtime.is_main:
            write_json(session.run.result, {"until": made["until"]})
        return None
    else:
        session = dataclasses.replace(session, connects=command == "search" and isinstance(state.spec, ResNetSpec))
        state = fit(session, state, two_in_one if command == "draw" else (lambda session, state, epoch: state))
        if session.connects:
            try:
                state, found = search_connections(session, state)
            except KeyboardInterrupt:
                raise Interrupted from None
            made = {**made, **found}
    return finalize_run(command, session, state, made)


def _with_budget(session: Session, measure: MeasureTable | None) -> Session:
    """The session of a search that begins."""
    recipe, space, out = session.recipe, session.supernet, session.run.path
    assert isinstance(space, MobileSpec)
    if session.runtime.world > 1 and recipe.budget.latency_ms is not None and recipe.budget.table is None:
        raise UserError("several processes cannot measure latencies; make a table first (supertickets latency-table)")
    table = find_table(recipe, space, measure, session.reporter.say)
    if table is not None and session.runtime.is_main:
        table.save(out / LATENCY_FILE)
    session.runtime.barrier()
    budget = make_budget(recipe.budget, space, out / LATENCY_FILE)
    check_budget_reachable(budget, space, recipe)
    return dataclasses.replace(session, budget=budget)
