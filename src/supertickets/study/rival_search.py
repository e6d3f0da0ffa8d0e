"""What a policy search is compared with: networks around the same cost, each trained alone, the best on validation.

Random search draws them all (TuNAS, Sec. 3.2); regularised evolution changes the best of those that it has trained.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..data import load_splits
from ..errors import UserError
from ..opening import Measure, budget_of, keep_table, space_for
from ..recipe import Recipe
from ..restate import check_target, one_network
from ..runs import resume, train
from ..search import Space, Window, evolve, random_networks
from ..supernets import MobileSpec
from ..tasks import headline
from ..ticket import Ticket, load
from ..training import RunDir, write_json

By = Literal["random", "evolution"]


def rival_search(
    recipe: Recipe,
    out: Path,
    by: By,
    networks: int,
    tolerance: float = 0.02,
    measure: Measure | None = None,
    say: Callable[[str], None] = print,
) -> Ticket:
    """Trains networks of a space whose cost lies around the target; called again, it goes on.

    Args:
        recipe: Every network is trained by it from fresh weights; ``supernet.name`` is a space, ``budget`` the target.
        out: Directory; a run per network, ``networks.csv``, and ``ticket`` of the best on the validation split.
        by: How networks are chosen.
        networks: How many are trained.
        tolerance: Largest distance from the target, as a share of it.
        measure: Makes a latency table where the budget needs one and the recipe names none.
        say: Tells what is going on.

    Raises:
        UserError: A setting cannot work, or the space has too few networks so close to the target.
    """
    check_target(recipe)
    if networks < 1:
        raise UserError(f"--networks is {networks}; the nearest possible is 1")
    if not 0 < tolerance < 1:
        raise UserError(f"--tolerance is {tolerance:g}; it is a share of the target, e.g. 0.02")
    spec = space_for(recipe, load_splits(recipe.data))
    assert isinstance(spec, MobileSpec)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "latency.json").exists():
        keep_table(recipe, spec, out, measure, say)
    budget, space, rows = budget_of(recipe, spec, out), Space(spec.decisions()), list[dict[str, Any]]()

    def cost(indices: Tensor) -> Tensor:
        return torch.tensor([budget.cost(choices) for choices in space.genotypes(indices)])

    def quality(indices: Tensor) -> Tensor:
        for choices in space.genotypes(indices):
            name = hashlib.sha256(json.dumps(choices).encode()).hexdigest()[:12]
            say(f"network {len(rows) + 1} of {networks}: {name}, {budget.name} {budget.cost(choices):.4g}")
            ticket = _trained(one_network(recipe, choices), out / name)
            scores = [headline(ticket.about[split]) for split in ("validation", "test")]
            called = {s: value[1] for s, value in zip(("validation", "test"), scores, strict=True) if value}
            rows.append({"network": name, "cost": budget.cost(choices), **called, "samples": ticket.about["samples"]})
        return torch.tensor([row["validation"] for row in rows[-len(indices) :]])

    window = Window((1 - tolerance) * budget.target, (1 + tolerance) * budget.target)
    generator = torch.Generator().manual_seed(recipe.seed)
    if by == "random":
        quality(random_networks(space, cost, window, networks, generator))
    else:
        evolve(space, quality, cost, window, networks, generator, population=max(2, networks // 4), tournament=2)
    best = max(rows, key=lambda row: row["validation"])
    with (out / "networks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    shutil.rmtree(out / "ticket", ignore_errors=True)
    shutil.copytree(out / best["network"] / "ticket", out / "ticket")
    passes = {row["network"]: row["samples"] for row in rows}  # evolution may come back to a network
    write_json(out / "result.json", {"by": by, **best, "samples": sum(passes.values())})
    return load(out / "ticket")


def _trained(recipe: Recipe, out: Path) -> Ticket:
    """The ticket of a run that is done, is gone on with, or begins."""
    run = RunDir(out)
    if run.result.exists():
        return load(run.ticket)
    return resume(out) if run.is_unfinished() else train(recipe, out)
