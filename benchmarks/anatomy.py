"""Measure where the points of a ticket go: architecture, search and pruning, on embedded two-digit numbers.

    python benchmarks/anatomy.py run [--seeds 0 1 2] [--rows ROW ...] [--epochs 20]
    python benchmarks/anatomy.py show

The paper's kind of ticket (an HRNet that is searched and pruned) and that of the recipe `numbers` (a plain ResNet,
pruned along one path), each built up step by step: dense, searched, pruned; and each way with both schedules of prunes.
Data, augmentation, batch and epochs are the same. Every epoch is evaluated on validation. ``run`` adds to the results
what is not there yet; the time is that of one image on one thread, in the runtime in which a network is the fastest.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import supertickets as st
from removal_path import cost_auc
from supertickets.deploy import BenchSettings, bench

RESULTS = Path(__file__).parent / "results" / "anatomy.json"
_COMMON = ("--data.source", "numbers", "--threads", "1", "--evaluate_every", "1")
_DENSE = ("--search.interval", "0", "--search.rho", "0", "--search.last_epoch", "null", "--prune.ratio", "0")
_SEARCHED = ("--prune.ratio", "0")
# By name: the recipe and what is changed in it.
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "HRNet, dense": ("digits", _DENSE),
    "HRNet, searched": ("digits", _SEARCHED),
    "HRNet, searched, 90% every 3rd epoch (the paper's schedule)": ("digits", ("--prune.schedule", "interval")),
    "HRNet, searched, 90% along a path": ("digits", ()),
    "ResNet-8 width 40, dense": ("numbers", (*_DENSE, "--supernet.init", "family")),
    "ResNet-8 width 40, 85% every 3rd epoch (the paper's schedule)": (
        "numbers",
        ("--prune.schedule", "interval", "--prune.interval", "3"),
    ),
    "ResNet-8 width 40, 85% along a path": ("numbers", ()),
    "ResNet-8 width 18, dense": (
        "numbers",
        (*_DENSE, "--supernet.init", "family", "--supernet.settings.width", "18"),
    ),
}


def run_row(name: str, seed: int, epochs: int) -> dict[str, Any]:
    """Return the figures of a run as JSON."""
    recipe_name, words = ROWS[name]
    recipe = st.load_recipe(recipe_name, [*_COMMON, "--epochs", str(epochs), *words, "--seed", str(seed)])
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        ticket = (st.train if words[: len(_DENSE)] == _DENSE else st.draw)(recipe, run)
        events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    seconds = time.process_time() - begin
    passed = [event for event in events if event["event"] == "epoch"]
    measured = bench({"ticket": ticket}, BenchSettings(runtimes=("onnxruntime", "sparse")))
    latencies = measured.runs[0].latencies
    milliseconds = {kind: round(latencies[f"ticket/{kind}"].median_ms, 4) for kind in measured.runtimes}
    return {
        "row": name,
        "seed": seed,
        "epochs": epochs,
        "test_top1": round(ticket.about["test"]["top1"], 2),
        "validation_top1": round(ticket.about["validation"]["top1"], 2),
        "losses": [round(event["train_loss"], 3) for event in passed],
        "sparsities": [round(event["sparsity"], 3) for event in passed],
        "validations": [round(event["top1"], 2) for event in passed],
        "macs": ticket.cost.macs,
        "masked_macs": ticket.cost.masked_macs,
        "cost_auc": cost_auc(ticket.spec) if name.startswith("HRNet, searched") else None,
        "ms": milliseconds,
        "device": measured.device,
        "cpu_seconds": round(seconds),
    }


def table(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a line per row that was run: means over its seeds, and the deepest fall of validation between epochs."""
    lines = []
    for name in ROWS:
        runs = [run for run in results if run["row"] == name]
        if runs:
            test = [run["test_top1"] for run in runs]
            lines.append(
                {
                    "row": name,
                    "test": test,
                    "mean": round(statistics.mean(test), 1),
                    "deepest_fall": max(map(deepest_fall, (run["validations"] for run in runs))),
                    "masked_macs": round(statistics.mean(run["masked_macs"] for run in runs)),
                    "ms": round(statistics.median(min(run["ms"].values()) for run in runs), 4),
                    "cost_auc": [run["cost_auc"] for run in runs],
                    "cpu_seconds": round(statistics.mean(run["cpu_seconds"] for run in runs)),
                }
            )
    return lines


def deepest_fall(values: Sequence[float]) -> float:
    """Return by how many points an accuracy fell from one epoch to the next, at most."""
    return round(max((before - after for before, after in itertools.pairwise(values)), default=0.0), 1)


def main() -> None:
    """Run or show rows; results are kept in one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "show"))
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=tuple(ROWS), metavar="ROW")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file that is read and written")
    options = parser.parse_args()
    results = json.loads(options.out.read_text()) if options.out.exists() else []
    if options.what == "run":
        there = {(run["row"], run["seed"]) for run in results}
        for seed in options.seeds:
            for name in (name for name in options.rows if (name, seed) not in there):
                results.append(run_row(name, seed, options.epochs))
                options.out.write_text(json.dumps(results, indent=1) + "\n")
                print(name, seed, results[-1]["test_top1"], results[-1]["cpu_seconds"], "s", flush=True)
    print(*map(json.dumps, table(results)), sep="\n")


if __name__ == "__main__":
    main()
