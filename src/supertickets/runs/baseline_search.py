"""Baselines of a policy search: networks around the same cost, each trained alone, the best on validation.

Random search draws them all (TuNAS, Sec. 3.2); regularised evolution changes the best of those that it has trained.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..algorithms.policy_search import LATENCY_FILE, MeasureTable, check_budget_reachable, find_latency_table
from ..config.recipe import Recipe
from ..cost.budget import format_cost, make_budget
from ..errors import UserError
from ..models import MobileSpec
from ..nas import CostRange, Evolution, Space, evolve, random_networks
from ..plugins import recipe_trust
from ..storage import replace_file, replace_folder, write_json
from ..ticket import Ticket, load
from ..training import RunDir
from .api import load_or_run, train
from .derive import check_budget_given, subnet_recipe
from .model_init import space_for
from .pretrained import load_prepared_splits

By = Literal["random", "evolution"]
_RECORD = "search.json"  # what a directory was begun with
_TRIES = 50_000  # random networks until enough are so close to the target


@dataclass(frozen=True)
class BaselineSettings:
    """The networks that a baseline trains.

    Attributes:
        by: Way to choose networks.
        networks: Number of networks.
        tolerance: Largest distance of their cost from the target, as a share of it.
    """

    by: By = "random"
    networks: int = 20
    tolerance: float = 0.02


def baseline_search(
    recipe: Recipe,
    out: Path,
    settings: BaselineSettings,
    measure: MeasureTable | None = None,
    say: Callable[[str], None] = print,
) -> Ticket:
    """Train networks of a space whose cost lies around the target; called again, it goes on.

    Args:
        recipe: Every network is trained by it from fresh weights; ``supernet.name`` is a space, ``budget`` the target.
        out: Directory; a run per network, ``networks.csv``, and ``ticket`` of the best on the validation split.
        settings: Way to choose networks, their number and their distance from the target.
        measure: Function that makes a latency table where the budget needs one and the recipe names none.
        say: Function that shows a line.

    Raises:
        UserError: A setting cannot work, or the space has too few networks so close to the target.
    """
    by, networks, tolerance = dataclasses.astuple(settings)
    if by not in get_args(By):
        raise UserError(f"--by {by} is for connections of a ResNet; a space is searched by policy, random or evolution")
    check_budget_given(recipe)
    if networks < 1:
        raise UserError(f"--networks is {networks}; the nearest possible is 1")
    if not 0 < tolerance < 1:
        raise UserError(f"--tolerance is {tolerance:g}; it is a share of the target, e.g. 0.02")
    if recipe.budget.measured:
        raise UserError("budget.measured finds another figure every time; leave it out, for a table")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(f"--by {by} trains one network after the other; start it without torchrun")
    recipe, splits = load_prepared_splits(recipe)
    spec = space_for(recipe, splits)
    about = {
        **dataclasses.asdict(settings),
        "recipe": recipe.to_json(),
        "data": splits.digest(),
    }
    with RunDir(out) as run:
        _resume_or_start(run, json.loads(json.dumps(about)))
        table = find_latency_table(recipe, spec, measure, say) if not (out / LATENCY_FILE).exists() else None
        if table is not None:
            table.save(out / LATENCY_FILE)
        return _search(recipe, spec, run, about, say)


def _resume_or_start(run: RunDir, about: dict[str, Any]) -> None:
    """Begin a search in a directory, or goes on with the same one."""
    record = run.path / _RECORD
    if not record.exists():
        run.check_free()
        write_json(record, about)
    elif json.loads(record.read_text()) != about:
        raise UserError(f"{run.path} holds a search with other settings or data; choose another --out")


def _search(recipe: Recipe, spec: MobileSpec, run: RunDir, about: dict[str, Any], say: Callable[[str], None]) -> Ticket:
    out, networks, tolerance = run.path, about["networks"], about["tolerance"]
    budget, space, rows = (
        make_budget(recipe.budget, spec, out / LATENCY_FILE),
        Space(spec.decisions()),
        list[dict[str, Any]](),
    )
    qualities = list[float]()
    check_budget_reachable(budget, spec, recipe)

    def cost(indices: Tensor) -> Tensor:
        return torch.tensor([budget.cost(choices) for choices in space.genotypes(indices)])

    def quality(indices: Tensor) -> Tensor:
        for choices in space.genotypes(indices):
            name = hashlib.sha256(json.dumps(choices).encode()).hexdigest()[:12]
            say(f"network {len(rows) + 1} of {networks}: {name}, {format_cost(budget.name, budget.cost(choices))}")
            begin = partial(train, subnet_recipe(recipe, choices))
            ticket = load_or_run(out / name, begin, recipe_trust(recipe.to_json()))
            scores = {split: ticket.about[split] for split in ("validation", "test")}
            metric = ticket.task.metric
            metrics = {split: row[metric.name] for split, row in scores.items() if metric.name in row}
            rows.append({"network": name, "cost": budget.cost(choices), **metrics, "samples": ticket.about["samples"]})
            qualities.append(metric.quality(scores["validation"]) if "validation" in metrics else 0.0)
        return torch.tensor(qualities[-len(indices) :])

    window = CostRange((1 - tolerance) * budget.target, (1 + tolerance) * budget.target)
    generator = torch.Generator().manual_seed(recipe.seed)
    if about["by"] == "random":
        quality(random_networks(space, cost, window, networks, generator, _TRIES))
    else:
        size = Evolution(networks, population=max(2, networks // 4), tournament=2)
        evolve(space, quality, cost, window, size, generator)
    best = rows[max(range(len(rows)), key=qualities.__getitem__)]
    with replace_file(out / "networks.csv") as scratch, scratch.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with replace_folder(out / "ticket") as scratch:
        shutil.copytree(out / best["network"] / "ticket", scratch, dirs_exist_ok=True)
    passes = {row["network"]: row["samples"] for row in rows}  # evolution may come back to a network
    write_json(out / "result.json", {"by": about["by"], **best, "samples": sum(passes.values())})
    return load(out / "ticket", recipe_trust(recipe.to_json()))
