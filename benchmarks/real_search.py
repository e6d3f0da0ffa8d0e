"""Policy searches on real images to a latency of this device, with and without warm-up, beside random search.

Example: python benchmarks/real_search.py --data DIR --latency-ms 5 --seeds 0 1 2 --networks 15
    --to benchmarks/results/real_search.json
Every network that is found is trained alone by the same recipe (tunas_tiny.yaml) from one seed, as are those of the
random search; mobilenet_v2 of the same width is the reference. Latencies of all are measured at the end, in turn. Runs
that are finished are not repeated: parts (--parts search --seeds 0) may run side by side, and a last call collects
them. The latency table is measured first, once, on a machine that should be quiet.
"""

import argparse
import csv
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import supertickets as st
from commands import command
from supertickets.cost.latency import device_name
from supertickets.data import load_splits
from supertickets.deploy import measure_latency_table
from supertickets.models import Spec
from supertickets.runs.api import load_or_run, search
from supertickets.runs.baseline_search import BaselineSettings, baseline_search
from supertickets.runs.derive import NO_SEARCH_NO_PRUNING
from supertickets.runs.finalize import versions
from supertickets.runs.model_init import space_for
from ticket_times import time_tickets

RECIPE = Path(__file__).with_name("tunas_tiny.yaml")
WAYS = {"search": [], "search without warm-up": ["--policy.op_warmup", "false", "--policy.filter_warmup", "false"]}
PARTS = (*WAYS, "random", "reference")
REPEATS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--latency-ms", type=float, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seeds-without", type=int, nargs="+", help="of searches without warm-up; default: --seeds")
    parser.add_argument("--networks", type=int, default=15)
    parser.add_argument("--runs", type=Path, default=Path("runs/real-search"))
    parser.add_argument("--to", type=Path, required=True)
    options, settings = parser.parse_known_args()
    words = ["--data.dir", str(options.data), "--threads", "1", *settings]
    table = options.runs / "latency.json"
    if not table.exists():
        options.runs.mkdir(parents=True, exist_ok=True)
        measure_latency_table(space(words)).save(table)
    budget = ["--budget.latency_ms", str(options.latency_ms), "--budget.table", str(table)]
    rows, networks = [], {}
    seeds = dict(zip(WAYS, (options.seeds, options.seeds_without or options.seeds), strict=True))
    for part in options.parts:
        for seed in seeds.get(part, [0]):
            name = f"{part.replace(' ', '-')}-{seed}"
            out = options.runs / name
            if part in WAYS:
                ticket, row = searched(out, [*words, "--seed", str(seed), *WAYS[part], *budget], words)
            elif part == "random":
                ticket, row = random(out, [*words, *budget], options.networks)
            else:
                ticket = run(out, st.train, [*words, "--supernet.name", "mobilenet_v2"])
                row = {"samples": ticket.about["samples"]}
            networks[name] = ticket
            scores = {split: ticket.about[split]["top1"] for split in ("validation", "test")}
            rows.append({"name": name, "part": part, **row, **scores, "macs": ticket.cost.macs})
            print(name, scores, row.get("cost"), flush=True)
    taken = time_tickets(networks, REPEATS)
    for row in rows:
        row["measured_ms"] = taken[row["name"]].median_ms
        row["undisturbed_ms"] = taken[row["name"]].low_ms
    result = {
        "command": command().replace(str(options.data), "DIR"),
        "device": device_name(),
        "threads": 1,
        "versions": versions(),
        "target_ms": options.latency_ms,
        "table": json.loads(table.read_text())["check"],
        "summary": {part: summary([row for row in rows if row["part"] == part]) for part in options.parts},
        "rows": rows,
    }
    options.to.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["summary"], indent=1))


def space(words: list[str]) -> Spec:
    """Return the space as it is for the data."""
    recipe = st.load_recipe(str(RECIPE), [*NO_SEARCH_NO_PRUNING, *words])
    return space_for(recipe, load_splits(recipe.data))


def searched(out: Path, words: list[str], plain: list[str]) -> tuple[st.Ticket, dict[str, Any]]:
    """Search by a policy, and train the network alone."""
    supernet = run(out, search, words)
    ticket = run(out.with_name(f"{out.name}-alone"), st.train, [*plain, "--supernet.name", f"ticket:{out}"])
    shared = {"shared_validation": supernet.about["validation"]["top1"], "epochs": course(out)}
    return ticket, {
        **supernet.about["search"],
        **shared,
        "samples": supernet.about["samples"] + ticket.about["samples"],
    }


def random(out: Path, words: list[str], networks: int) -> tuple[st.Ticket, dict[str, Any]]:
    """Train some random networks and return the best at the target; the first of them is a random network."""
    recipe = st.load_recipe(str(RECIPE), [*NO_SEARCH_NO_PRUNING, *words])
    ticket = baseline_search(recipe, out, BaselineSettings("random", networks))
    with (out / "networks.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items() if key != "network"} for row in csv.DictReader(file)]
    return ticket, {"networks": rows, "samples": sum(row["samples"] for row in rows)}


def run(out: Path, begin: Callable[[st.Recipe, Path], st.Ticket], words: list[str]) -> st.Ticket:
    """Return the ticket of a run by the recipe."""
    return load_or_run(out, lambda out: begin(st.load_recipe(str(RECIPE), [*NO_SEARCH_NO_PRUNING, *words]), out))


def course(out: Path) -> dict[str, list[float]]:
    """Return the diagnostics over epochs."""
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    epochs = [event for event in events if event["event"] == "epoch"]
    keys = ("entropy", "mean_probability", "expected_cost", "cost", "sampled_quality", "slope")
    return {key: [round(epoch[key], 4) for epoch in epochs] for key in keys}


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return means and deviations over seeds."""
    figures = {}
    for key in ("validation", "test", "measured_ms", "undisturbed_ms", "macs", "samples"):
        values = [row[key] for row in rows]
        figures[key] = statistics.mean(values)
        if len(values) > 1:
            figures[f"{key}_deviation"] = statistics.stdev(values)
    return figures


if __name__ == "__main__":
    main()
