"""Runs from beginning to end: build the recipe, choose the algorithm, run it; take up interrupted runs again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..algorithms import algorithm_to_json
from ..algorithms.connection_search import SHARED_DIR, ConnectionSearch
from ..algorithms.one_shot import OneShotPruning
from ..algorithms.plain_training import PlainTraining
from ..algorithms.policy_search import MeasureTable, PolicySearch
from ..algorithms.shared_prefix import SharedPrefix
from ..algorithms.transfer import check_transfer, join_specs, join_tickets
from ..algorithms.two_in_one import TwoInOne
from ..config.loading import recipe_from_json
from ..config.recipe import Recipe
from ..data import Splits
from ..errors import UserError
from ..plugins import recipe_trust
from ..storage import read_json, replace_file
from ..ticket import Ticket, check_data, load
from ..training import RunDir, show_progress
from ..training.algorithm import MeasureNetwork
from .derive import check_budget_given, fixed_network, lineage, recipe_of, reject_budget
from .execution import begin_run, make_ticket, resume_run, with_measure
from .finalize import is_finished
from .model_init import (
    connection_supernet,
    fitted_spec,
    init_from_search,
    init_from_ticket,
    make_task,
    searches_connections,
    space_for,
    supernet_for,
)


def draw(
    recipe: Recipe, out: str | Path | None = None, measure: MeasureNetwork | None = None, *, verbose: bool = False
) -> Ticket:
    """Draw a ticket by two-in-one training.

    Args:
        recipe: The settings.
        out: Run directory; default ``runs/<recipe name>``.
        measure: Function that times networks, for a budget of latency (`deploy.measure_network`).
        verbose: Whether to show progress on standard error; the logger "supertickets" has it anyway.

    Raises:
        UserError: A setting, the data or the directory cannot work.
        Interrupted: Ctrl-C; `resume` goes on.
    """
    with show_progress(verbose):
        return make_ticket("draw", recipe, out or recipe.run_dir, with_measure(TwoInOne(), measure), supernet_for)


def search(
    recipe: Recipe,
    out: str | Path | None = None,
    measure: MeasureTable | None = None,
    shared: str | Path | None = None,
    *,
    verbose: bool = False,
) -> Ticket:
    """Search a space by a policy, to a budget; the ticket is the most probable network, with the shared weights.

    Of a ResNet with attention modules it searches the connection scheme with the highest reward instead (`connect`).

    Args:
        recipe: The settings; ``supernet.name`` is a space, ``budget`` limits one cost; or it is a ResNet.
        out: Run directory; default ``runs/<recipe name>``.
        measure: Function that makes a latency table where the budget needs one and the recipe names none
            (`deploy.measure_latency_table`).
        shared: Run directory of another search for connections, whose trained network is searched again.
        verbose: Whether to show progress on standard error; the logger "supertickets" has it anyway.

    Raises:
        UserError: A setting, the data or the directory cannot work.
        Interrupted: Ctrl-C; `resume` goes on.
    """
    out = out or recipe.run_dir
    if searches_connections(recipe):
        with show_progress(verbose):
            return _search_connections(recipe, out, shared)
    if shared is not None:
        raise UserError(f"--shared is for searches for attention connections, and {recipe.supernet.name} is a space")
    check_budget_given(recipe)
    recipe = dataclasses.replace(fixed_network(recipe), budget=recipe.budget)
    with show_progress(verbose):
        return make_ticket("search", recipe, out, PolicySearch(measure), space_for)


def _search_connections(recipe: Recipe, out: str | Path, shared: str | Path | None) -> Ticket:
    reject_budget(recipe, "a search for connections")
    if recipe.compile:
        raise UserError("compile cannot serve a search, where every step has another network; set it to false")
    recipe = dataclasses.replace(fixed_network(recipe), ema_decay=0.0)  # what is judged is what is shared
    if shared is None:
        return make_ticket("search", recipe, out, ConnectionSearch(), connection_supernet)
    source = Path(shared) / SHARED_DIR
    metadata = {}
    if source.is_dir():
        before = (read_json(Path(shared) / "run.json").get("metadata") or {}).get("lineage", ())
        metadata = {"lineage": [*before, *lineage(load(source, recipe_trust(recipe.to_json())))]}
    return make_ticket("search", recipe, out, ConnectionSearch(is_trained=True), init_from_search(source), metadata)


def train(recipe: Recipe, out: str | Path | None = None, *, verbose: bool = False) -> Ticket:
    """Train the recipe's network as it is: no search, no pruning (the dense supernet).

    Args:
        verbose: Whether to show progress on standard error; the logger "supertickets" has it anyway.
    """
    reject_budget(recipe, "train")
    out = out or f"{recipe.run_dir}-dense"
    with show_progress(verbose):
        return make_ticket("train", fixed_network(recipe), out, PlainTraining(), supernet_for)


def retrain(ticket: Ticket, recipe: Recipe, out: str | Path, *, verbose: bool = False) -> Ticket:
    """Train a ticket further: architecture and mask stay, the schedule begins anew.

    Args:
        ticket: The ticket to start from.
        recipe: The settings, e.g. from `derive.retrain_recipe`.
        out: Run directory.
        verbose: Whether to show progress on standard error; the logger "supertickets" has it anyway.
    """
    reject_budget(recipe, "retrain")
    metadata = {"lineage": lineage(ticket)}
    with show_progress(verbose):
        return make_ticket("retrain", recipe, out, PlainTraining(), init_from_ticket(ticket), metadata)


def transfer(
    ticket: Ticket, recipe: Recipe, out: str | Path | None = None, head: Ticket | None = None, *, verbose: bool = False
) -> Ticket:
    """Train the features of a ticket on other data; architecture and mask stay (Sec. 3.3).

    Within a task only the classifier is new. For another task the head is fresh and dense, or that of a ticket of the
    target, which brings its own mask and classifier (supernets alone).

    Args:
        ticket: Ticket that gives the features: stem and stages of a supernet; stem, blocks and attention modules of a
            ResNet.
        recipe: The settings of the target, e.g. from `derive.transfer_recipe`; its search and pruning are left out.
        out: Run directory; default ``runs/<recipe name>``.
        head: Ticket that gives the head and the classifier.
        verbose: Whether to show progress on standard error; the logger "supertickets" has it anyway.

    Raises:
        UserError: The features cannot serve the target, or the head does not fit them.
    """
    reject_budget(recipe, "transfer")
    check_transfer(ticket, head, recipe)
    if head is not None:
        origin: dict[str, Any] = {"kind": "inherited", "lineage": lineage(head)}
    else:
        origin = {"kind": "kept" if recipe_of(ticket).task == recipe.task else "fresh"}

    def joined(recipe: Recipe, splits: Splits) -> Ticket:
        make = join_specs(ticket, head, recipe, make_task(recipe, splits).head, splits.preprocessing)
        if head is not None:
            check_data("the head's ticket", head, splits)
        full = fitted_spec(make, recipe, splits)
        return join_tickets(full, ticket, head, splits.classes, splits.preprocessing, recipe.seed)

    out, metadata = out or recipe.run_dir, {"lineage": lineage(ticket), "head": origin}
    with show_progress(verbose):
        return make_ticket("transfer", fixed_network(recipe), out, PlainTraining(), joined, metadata)


def prune(ticket: Ticket, recipe: Recipe, out: str | Path, *, verbose: bool = False) -> Ticket:
    """Prune a finished network in one shot: search-then-prune, if the ticket was searched only.

    Exactly ``prune.ratio`` of the maskable weights are zero afterwards; BN statistics are measured anew, nothing is
    trained. `retrain` goes on from there.

    Args:
        ticket: The ticket to prune.
        recipe: The settings, e.g. from `prune_recipe`; ``prune`` says by which criterion and in how many rounds.
        out: Run directory.
        verbose: Whether to show progress on standard error; the logger "supertickets" has it anyway.
    """
    reject_budget(recipe, "prune")
    with show_progress(verbose):
        return make_ticket(
            "prune", recipe, out, OneShotPruning(), init_from_ticket(ticket), {"lineage": lineage(ticket)}
        )


def train_shared_prefix(recipe: Recipe, out: str | Path, until: int, trust: Iterable[str] = ()) -> None:
    """Draw no farther than some epoch: the part that several draws have in common, to be done once.

    Args:
        recipe: The settings of any of them.
        out: Run directory; the run is taken up again if it was interrupted.
        until: The last epoch that they have in common (`schedule.pruning_timeline`).
        trust: Modules that the run may import when it is taken up again.
    """
    if RunDir(Path(out)).is_unfinished():
        resume_run(out, trust)
    else:
        begin_run("shared_prefix", recipe, out, SharedPrefix(until), supernet_for)


def fork_run(source: str | Path, recipe: Recipe, out: str | Path, until: int | None = None) -> None:
    """Begin a draw where a shared prefix ends; `resume` goes on. All but ``prune`` must be the prefix's settings.

    Args:
        source: Directory of the shared prefix.
        recipe: The settings of the draw.
        out: Run directory.
        until: The last epoch if this is a shared prefix again; `train_shared_prefix` goes on then.
    """
    with RunDir(Path(out)) as run:
        run.check_free()
        about = json.loads((Path(source) / "run.json").read_text())
        shared = recipe_from_json(about["recipe"])
        # What was chosen by the data was chosen for the prefix: the same, since pruning has no say in it.
        recipe = dataclasses.replace(shared, name=recipe.name, description=recipe.description, prune=recipe.prune)
        for name in ("events.jsonl", "checkpoint.safetensors"):
            with replace_file(run.path / name) as scratch:
                shutil.copyfile(Path(source) / name, scratch)
        algorithm = TwoInOne() if until is None else SharedPrefix(until)
        command = "draw" if until is None else "shared_prefix"
        metadata = about["metadata"] | algorithm.metadata(recipe)
        # The prefix checks no ratio: that of a draw is checked where it goes on.
        forked = {"forked_at": json.loads((Path(source) / "result.json").read_text())["until"]}
        own = forked | {"command": command, "algorithm": algorithm_to_json(algorithm), "metadata": metadata}
        run.create(about | own | {"recipe": recipe.to_json()})


def resume(
    out: str | Path,
    trust: Iterable[str] = (),
    measure: MeasureNetwork | None = None,
    data_dir: str | None = None,
    *,
    verbose: bool = False,
) -> Ticket:
    """Go on with an interrupted run where its last checkpoint left it.

    A finished run whose ticket is damaged makes it again.

    Args:
        out: Run directory.
        trust: Modules of user code that the run may import: ``package.module``, or a package with all that is in it.
        measure: Function that times networks, for a budget of latency (`deploy.measure_network`).
        data_dir: Folder with the data set, if it has moved.
        verbose: Whether to show progress on standard error; the logger "supertickets" has it anyway.

    Raises:
        UserError: There is no such run, it is in use, or it is finished; or it names code that is not trusted.
    """
    with show_progress(verbose):
        ticket = resume_run(out, trust, measure, data_dir)
    if ticket is None:
        raise UserError(f"{out} is the shared prefix of a sweep, which has no ticket; its draws go on by themselves")
    return ticket


def load_or_run(
    out: str | Path,
    begin: Callable[[Path], Ticket],
    trust: Iterable[str] = (),
    measure: MeasureNetwork | None = None,
    data_dir: str | None = None,
    *,
    verbose: bool = False,
) -> Ticket:
    """Return the ticket of a run that is done, or go on with it, or begin it: a script started again repeats nothing.

    Args:
        out: Run directory.
        begin: Function that makes the run, if there is none.
        trust: Modules that the run may import when it is taken up again.
        measure: Function that times networks when it is taken up again.
        data_dir: Folder with the data set, if it has moved when it is taken up again.
        verbose: Whether to show progress on standard error; the logger "supertickets" has it anyway.

    Raises:
        UserError: As `resume` and what begins the run.
    """
    run = RunDir(Path(out))
    if is_finished(run):
        return load(run.ticket, trust)
    with show_progress(verbose):
        return resume(out, trust, measure, data_dir) if run.is_begun() else begin(run.path)
