"""Draw to many budgets, and tell how near the tickets come to them.

    python benchmarks/budget_draws.py DATA [--seeds 2] [--out FILE] [--runs FOLDER]

DATA holds the folders ``mnist_idx`` and ``tiny_imagenet_40``; the digits are embedded. The trainings are short (2,000
images, 5 epochs): what counts here is the cost, not the accuracy. Three kinds of budget, one per data set, five values
each over a 20-fold range; for latencies the width of the network follows the budget. Latencies are measured again in a
process of its own. Runs that are there are not repeated.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import supertickets as st
from commands import command
from supertickets.cost import MaskCosts
from supertickets.cost.latency import device_name
from supertickets.deploy import measure_network
from supertickets.training.state import DeployableModel

_COMMON = [
    *("--supernet.name", "resnet8", "--supernet.init", "small", "--search.interval", "0", "--search.rho", "0"),
    *("--search.last_epoch", "null", "--prune.schedule", "cubic", "--prune.pattern", "block:4", "--prune.steps", "5"),
    *("--prune.normalise", "rms", "--prune.stem", "false", "--prune.layer_floor", "0", "--prune.exempt_below", "0"),
    *("--budget.runtime", "sparse", "--epochs", "5", "--evaluate_every", "5", "--threads", "1", "--data.workers", "0"),
    *("--ema_decay", "0", "--recalibrate_batches", "2"),
]
# Kind of budget -> recipe, folder below DATA, settings, and the five budgets.
_KINDS: dict[str, tuple[str, str | None, list[str], list[float]]] = {
    "macs": ("digits", None, ["--supernet.settings.width", "32"], [1e5, 2e5, 5e5, 1e6, 2e6]),
    "params": (
        *("mnist", "mnist_idx"),
        ["--supernet.settings.width", "32", "--supernet.settings.stem_stride", "2", "--data.limit", "2000"],
        [1e4, 2e4, 5e4, 1e5, 2e5],
    ),
    "latency_ms": (
        *("tiny_imagenet", "tiny_imagenet_40"),
        ["--supernet.fit", "true", "--data.size", "48", "--data.limit", "2000"],
        [0.03, 0.06, 0.15, 0.3, 0.6],
    ),
}


def draw(kind: str, budget: float, seed: int, data: Path, folder: Path) -> st.Ticket:
    """Return the ticket of a budget, drawn now if it is not there."""
    recipe, where, words, _ = _KINDS[kind]
    place = ["--data.dir", str(data / where)] if where else []
    settings = [*_COMMON, *words, *place, f"--budget.{kind}", f"{budget:g}", "--seed", str(seed)]
    loaded = st.load_recipe(recipe, settings)
    out = folder / f"{kind}-{budget:g}-{seed}"
    return st.load_or_run(out, lambda path: st.draw(loaded, path, measure_network), measure=measure_network)


def measure_again(folder: Path) -> float:
    """Return the latency of a ticket's folder, measured anew."""
    ticket = st.load(folder)
    recipe = st.load_recipe("digits", ["--budget.runtime", "sparse", "--budget.macs", "1", "--prune.schedule", "cubic"])
    return measure_network(DeployableModel(ticket.spec, dict(ticket.weights), dict(ticket.mask)), recipe.budget)


def reached(kind: str, ticket: st.Ticket) -> float:
    """Return the cost of a ticket that its budget limits."""
    if kind == "latency_ms":
        return float(ticket.about["budget"]["measured_ms"])
    return MaskCosts(ticket.spec).measure(kind, ticket.mask)


def main() -> None:
    """Draw all, print a line each, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/budget_draws"))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for kind, (_, _, _, budgets) in _KINDS.items():
        for budget in budgets:
            for seed in range(options.seeds):
                ticket = draw(kind, budget, seed, options.data, options.runs)
                distance = 100 * (reached(kind, ticket) / budget - 1)
                row = {"kind": kind, "budget": budget, "seed": seed, "percent_off": round(distance, 2)}
                if kind == "latency_ms":
                    folder = options.runs / f"{kind}-{budget:g}-{seed}/ticket"
                    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as other:
                        again = other.submit(measure_again, folder).result()
                    row["again_percent_off"] = round(100 * (again / budget - 1), 2)
                rows.append(row)
                print(json.dumps(row), flush=True)
    off = [row["percent_off"] for row in rows]
    print(
        f"{sum(-2 < value <= 0 for value in off)} of {len(off)} within (-2 %, 0], median {statistics.median(off):.2f} %"
    )
    if options.out is not None:
        about = {"command": command(), "device": device_name(), "threads": 1}
        options.out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
