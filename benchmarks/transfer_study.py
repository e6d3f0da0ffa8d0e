"""Transfer tickets to a target and compare them with search-then-prune there and with training from scratch.

Per ratio and seed: `transfer NAME` (the features of that source's ticket on the target) and `scratch NAME` (the same
architecture, mask and schedule from fresh weights) for every source; `mag` and `grad` (the target searched only, then
pruned in one shot); `mag_retrained` and `grad_retrained` (trained further after that). `searched` is the target before
any pruning. Every finished cell is written at once and not repeated.

Example: python benchmarks/transfer_study.py camvid --sources tiny=runs/tiny_{percent} --head runs/camvid_{percent}
    --ratios 0.8 0.9 --seeds 0 --retrain-epochs 30 --to benchmarks/results/to_camvid.json --data.dir DIR
Further flags are settings of the target's recipe; those of pruning say what is exempt in search-then-prune.
"""

import argparse
import dataclasses
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import supertickets as st
from commands import command
from supertickets.cost.latency import device_name
from supertickets.runs.finalize import versions
from supertickets.tasks import primary_metric

CRITERIA = {"mag": "magnitude", "grad": "snip"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="of the target")
    parser.add_argument("--sources", nargs="+", required=True, help="NAME=tickets; {percent} stands for the ratio")
    parser.add_argument("--head", help="tickets of the target that give the head ({percent}), or own: mag_retrained")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.8, 0.9, 0.95, 0.98])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--retrain-epochs", type=int, default=50)
    parser.add_argument("--retrained", nargs="*", default=list(CRITERIA), help="what is also trained further")
    parser.add_argument("--batches", type=int, default=10, help="training batches that grad looks at")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options, words = parser.parse_known_args()
    exempt, settings = parted(words)
    cells = json.loads(options.to.read_text())["cells"] if options.to.exists() else []
    for seed in options.seeds:
        study = Study(options, (*settings, "--seed", str(seed)), tuple(exempt), seed, cells)
        study.cell("searched", 0.0, study.searched)
        for ratio in options.ratios:
            study.search_then_prune(ratio)
            for source in options.sources:
                study.transfers(ratio, *source.split("=", 1))
    print(options.to.read_text())


@dataclass(frozen=True)
class Study:
    """The cells of one seed.

    Attributes:
        options: Of the command line.
        settings: Words for the target's recipe.
        exempt: Words on pruning in one shot.
        seed: Of all runs on the target.
        cells: What is done, of all seeds.
    """

    options: argparse.Namespace
    settings: tuple[str, ...]
    exempt: tuple[str, ...]
    seed: int
    cells: list[dict[str, Any]]

    def cell(self, method: str, ratio: float, run: Callable[[Path], st.Ticket]) -> None:
        """Do a cell unless it is there, and write all of them."""
        if any((c["method"], c["ratio"], c["seed"]) == (method, ratio, self.seed) for c in self.cells):
            return
        ticket = st.load_or_run(self.at(method, ratio), run)
        self.cells.append({"method": method, "ratio": ratio, "seed": self.seed, **row(ticket)})
        write(self.options.to, self.cells)

    def at(self, method: str, ratio: float) -> Path:
        """Return the directory of a run."""
        runs: Path = self.options.runs
        name = f"{self.options.to.stem}-{method.replace(' ', '-')}"
        return runs / (f"{name}-{100 * ratio:g}-seed{self.seed}" if ratio else f"{name}-seed{self.seed}")

    def recipe(self) -> st.Recipe:
        """Return the target's recipe; nothing is pruned while training."""
        return st.load_recipe(self.options.recipe, ["--prune.ratio", "0", *self.settings])

    def searched(self, out: Path) -> st.Ticket:
        """Search the target only, with the recipe's own schedule."""
        return st.draw(self.recipe(), out)

    def search_then_prune(self, ratio: float) -> None:
        """Return the cells of search-then-prune."""
        for method, criterion in CRITERIA.items():

            def pruned(out: Path, criterion: str = criterion) -> st.Ticket:
                ticket = st.load_or_run(self.at("searched", 0.0), self.searched)
                words = ["--prune.batches", str(self.options.batches), *self.exempt]
                return st.prune(ticket, st.prune_recipe(ticket, ratio, criterion, words), out)

            def retrained(out: Path, method: str = method) -> st.Ticket:
                ticket = st.load(self.at(method, ratio))
                return st.retrain(ticket, st.retrain_recipe(ticket, self.options.retrain_epochs), out)

            self.cell(method, ratio, pruned)
            if method in self.options.retrained:
                self.cell(f"{method}_retrained", ratio, retrained)

    def transfers(self, ratio: float, name: str, pattern: str) -> None:
        """Return the cells of one source."""
        features = ticket_at(pattern, ratio)
        head = None
        if self.options.head is not None:
            own = str(self.at("mag_retrained", ratio))
            head = ticket_at(own if self.options.head == "own" else self.options.head, ratio)

        def moved(out: Path, features: st.Ticket = features, head: st.Ticket | None = head) -> st.Ticket:
            return st.transfer(features, self.recipe(), out, head)

        def scratch(out: Path) -> st.Ticket:
            return moved(out, fresh(features, self.seed), None if head is None else fresh(head, self.seed + 1))

        self.cell(f"transfer {name}", ratio, moved)
        self.cell(f"scratch {name}", ratio, scratch)


def parted(words: list[str]) -> tuple[list[str], list[str]]:
    """Separate words on pruning from the other settings."""
    parts: tuple[list[str], list[str]] = ([], [])
    queue = list(words)
    while queue:
        word = queue.pop(0)
        room = parts[0] if word.startswith("--prune.") else parts[1]
        room.append(word)
        if "=" not in word and queue:
            room.append(queue.pop(0))
    return parts


def ticket_at(pattern: str, ratio: float) -> st.Ticket:
    return st.load(pattern.replace("{percent}", f"{100 * ratio:g}"))


def fresh(ticket: st.Ticket, seed: int) -> st.Ticket:
    """Return the ticket's architecture and mask with weights before any training."""
    torch.manual_seed(seed)
    weights = dict(ticket.spec.build().state_dict())
    weights |= {name: weights[name] * flags for name, flags in ticket.mask.items()}
    return dataclasses.replace(ticket, weights=weights)


def row(ticket: st.Ticket) -> dict[str, Any]:
    """Return the results of a cell; its sparsity is that of the whole network, a fresh head included."""
    metric, cost = primary_metric(ticket.about["test"]), ticket.cost
    assert metric is not None
    return {
        "metric": metric.display_name,
        "test": ticket.about["test"][metric.name],
        "validation": ticket.about["validation"][metric.name],
        "sparsity": cost.sparsity,
        "params": cost.params,
        "nonzero_params": cost.nonzero_params,
        "macs": cost.macs,
        "masked_macs": cost.masked_macs,
        "paper_macs": cost.paper_macs,
        "image_passes": ticket.about["samples"],
        "epochs": ticket.about["recipe"]["epochs"] if ticket.about["samples"] else 0,
    }


def write(path: Path, cells: list[dict[str, Any]]) -> None:
    """Write all cells so far, and the mean of the test metric over seeds; the file is the old or the new one, whole."""
    groups: dict[str, list[float]] = {}
    for c in cells:
        groups.setdefault(f"{c['method']} at {c['ratio']:g}", []).append(c["test"])
    result = {
        "command": command(),
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "test_mean": {name: statistics.mean(values) for name, values in groups.items()},
        "cells": cells,
    }
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(result, indent=1) + "\n")
    scratch.replace(path)


if __name__ == "__main__":
    main()
