"""Compare widths: the same for all layers, and those that a removal to the same MACs leaves, on Tiny-ImageNet.

    python benchmarks/removal_path.py DATA [--seeds 3] [--epochs 16] [--out FILE] [--runs FOLDER]

A plain ResNet-8 of width 16 is trained from fresh weights; one of width 32 loses units while it trains, until it has
no more MACs than that. Same images (48 pixels), augmentation, epochs and optimizer. Runs that are there already go on
where they stopped. Every row has the mean over the seeds, the paired difference to the first row, and the latency of
its first ticket in onnxruntime, one thread, all rows interleaved; and how well a unit's cost alone tells its removal.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import supertickets as st
from supertickets.cost import unit_macs
from supertickets.deploy import BenchSettings, bench
from supertickets.models import Spec

_COMMON = [
    *("--supernet.name", "resnet8", "--supernet.settings.stem_stride", "2", "--data.size", "48"),
    *("--ema_decay", "0", "--optimizer.nesterov", "true", "--optimizer.clip_norm", "5", "--optimizer.lr", "0.1"),
    *("--optimizer.weight_decay", "1e-4", "--label_smoothing", "0.1", "--lr.shape", "cosine"),
    *("--lr.warmup_epochs", "1", "--threads", "1", "--data.workers", "0", "--evaluate_every", "100"),
    *("--prune.ratio", "0", "--search.interval", "1", "--search.last_epoch", "null"),
]
_REPEATS = 300  # of the timing
_PENALISED = ["--search.importance", "penalised", "--search.penalty", "proximal", "--search.rho", "null"]
_WIDE = ["--supernet.settings.width", "32", "--search.group_floor", "0.125"]
# Name of a row -> overrides; the budget is the cost of the first one.
ROWS: dict[str, list[str]] = {
    "width 16, fresh": ["--supernet.settings.width", "16"],
    "width 32 to the budget, scale": [*_WIDE, "--search.importance", "scale"],
    "width 32 to the budget, scale under a penalty by MACs": [*_WIDE, *_PENALISED],
    "width 32 to the budget, scale under a penalty by the root of MACs": [
        *(*_WIDE, *_PENALISED),
        *("--search.penalty_exponent", "0.5"),
    ],
    "width 32 to the budget, gate": [*_WIDE, "--search.importance", "gate"],
    "width 32 to the budget, gate, multiples of 16": [*_WIDE, "--search.importance", "gate", "--search.multiple", "16"],
}


def run_row(name: str, data: str, seed: int, epochs: int, budget: int | None, folder: Path) -> st.Ticket:
    """Return the ticket of a row, made now if it is not there."""
    words = ["--data.dir", data, *_COMMON, *ROWS[name], "--seed", str(seed), "--epochs", str(epochs)]
    out = folder / f"{name.replace(', ', '-').replace(' ', '_')}-{seed}"
    if budget is None:
        recipe = st.load_recipe("tiny_imagenet", words)
        return st.load_or_run(out, lambda path: st.train(recipe, path))
    recipe = st.load_recipe("tiny_imagenet", [*words, "--budget.macs", str(budget)])
    return st.load_or_run(out, lambda path: st.draw(recipe, path))


def cost_auc(kept: Spec) -> float | None:
    """Return how well a unit's MACs alone tell that it was removed; 0.5 is not at all.

    It is the share of pairs of a removed and a kept unit in which the removed one costs more. Those of a group cost the
    same, a pair of equals counts half.

    Args:
        kept: The network that is left.
    """
    whole = kept.full()
    macs, left = unit_macs(whole), {group.name: len(group) for group in kept.unit_groups()}
    counts = [(float(macs[g.name][0]), len(g) - left[g.name], left[g.name]) for g in whole.unit_groups()]
    wins = sum(
        gone * stays * (1.0 if cost > other else 0.5 if cost == other else 0.0)
        for cost, gone, _ in counts
        for other, _, stays in counts
    )
    pairs = sum(gone for _, gone, _ in counts) * sum(stays for _, _, stays in counts)
    return round(wins / pairs, 2) if pairs else None


def row_figures(name: str, tickets: list[st.Ticket], seconds: list[float], first: list[float]) -> dict[str, Any]:
    """Return the figures of a row as JSON.

    Args:
        name: Name of the row.
        tickets: Tickets, one per seed.
        seconds: Training seconds of each.
        first: Test accuracies of the first row.
    """
    test = [ticket.about["test"]["top1"] for ticket in tickets]
    paired = [own - other for own, other in zip(test, first or test, strict=True)]
    spread = statistics.stdev(paired) if len(paired) > 1 else 0.0
    return {
        "network": name,
        "test_top1": [round(value, 2) for value in test],
        "validation_top1": [round(ticket.about["validation"]["top1"], 2) for ticket in tickets],
        "mean": round(statistics.mean(test), 2),
        "difference": round(statistics.mean(paired), 2),
        "difference_stdev": round(spread, 2),
        "macs": [ticket.cost.macs for ticket in tickets],
        "params": [ticket.cost.params for ticket in tickets],
        "widths": [[len(group) for group in ticket.spec.unit_groups()] for ticket in tickets],
        "cost_auc": [cost_auc(ticket.spec) for ticket in tickets],
        "seconds": [round(value) for value in seconds],
    }


def main() -> None:
    """Run all rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/removal_path"))
    options = parser.parse_args()
    table: list[dict[str, Any]] = []
    timed: dict[str, st.Ticket] = {}
    first: list[float] = []
    budget: int | None = None
    for name in ROWS:
        tickets = [
            run_row(name, options.data, seed, options.epochs, budget, options.runs) for seed in range(options.seeds)
        ]
        folders = sorted(options.runs.glob(f"{name.replace(', ', '-').replace(' ', '_')}-[0-9]*"))
        seconds = [json.loads((folder / "result.json").read_text())["seconds"] for folder in folders]
        table.append(row_figures(name, tickets, seconds, first))
        first = first or [ticket.about["test"]["top1"] for ticket in tickets]
        budget = budget or tickets[0].cost.macs
        print(json.dumps(table[-1]), flush=True)
        timed[name] = tickets[0]
    results = bench(timed, BenchSettings(repeats=_REPEATS, runtimes=("onnxruntime",)))
    measured = results.runs[0]
    for row in table:
        row["onnxruntime_ms"] = round(measured.latencies[f"{row['network']}/onnxruntime"].median_ms, 4)
        print(row["network"], row["onnxruntime_ms"], "ms")
    if options.out is not None:
        about = {"epochs": options.epochs, "device": results.device, "threads": measured.threads}
        options.out.write_text(json.dumps({**about, "rows": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
