"""A ResNet that was searched for connections, on other data: cells counted, streets segmented (LTH4SA).

Example: python benchmarks/connection_transfer.py --data TINY_IMAGENET --cells MBM_CELLS --streets CAMVID
    --to benchmarks/results/connection_transfer.json
On Tiny-ImageNet a search finds a scheme of ResNet38 with one module per stage (Share-EAN). That network, the one with
all connections (Full-Share) and the plain one are trained there alone; each gets a fresh head and is trained on the
other data by the recipes mbm_cells and camvid, shortened. Runs that are finished are not repeated.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import supertickets as st
from commands import command
from supertickets.cost.latency import device_name
from supertickets.runs.api import load_or_run, search, transfer
from supertickets.runs.derive import NO_SEARCH_NO_PRUNING, transfer_recipe
from supertickets.runs.finalize import versions
from ticket_times import time_tickets

RECIPE = Path(__file__).with_name("attention_tiny.yaml")
SEARCH = ["--epochs", "20", "--data.validation", "0.065", "--connect.steps", "100"]
SHARED = ["--supernet.settings.sharing", "stage"]
TARGETS = {
    "mbm_cells": ["--epochs", "30", "--evaluate_every", "30"],
    "camvid": ["--epochs", "5", "--evaluate_every", "5", "--data.size", "[90,120]"],
}
USUAL = ["--threads", "1", "--precision", "bf16", "--ema_decay", "0"]
REPEATS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cells", type=Path, required=True)
    parser.add_argument("--streets", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/connection-transfer"))
    parser.add_argument("--networks", nargs="+", help="some of plain, full and found; default: all")
    parser.add_argument("--to", type=Path)
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    options = parser.parse_args()
    words = ["--data.dir", str(options.data), "--threads", "1"]
    searched = load_or_run(options.runs / "search", lambda out: search(load([*words, *SHARED, *SEARCH]), out))
    networks = {
        "plain": ["--supernet.settings.scheme", "0000|0000|0000"],
        "full": SHARED,
        "found": [*SHARED, "--supernet.settings.scheme", searched.about["connection_search"]["scheme"]],
    }
    rows, tickets = [], {}
    for name in options.networks or networks:
        source = load_or_run(options.runs / name, partial(train_one, [*words, *networks[name]]))
        row: dict[str, Any] = {"name": name, "scheme": getattr(source.spec, "scheme", ""), "params": source.cost.params}
        row["tiny_imagenet"] = source.about["test"]
        for target in options.targets:
            data = {"mbm_cells": options.cells, "camvid": options.streets}[target]
            recipe = transfer_recipe(source, target, ["--data.dir", str(data), *USUAL, *TARGETS[target]])
            ticket = load_or_run(options.runs / f"{name}-{target}", partial(transfer, source, recipe))
            row[target] = {**ticket.about["test"], "macs": ticket.cost.macs}
            tickets[f"{name} {target}"] = ticket
        rows.append(row)
        print(row, flush=True)
    if options.to is None:
        return
    taken = time_tickets(tickets, REPEATS)
    for row in rows:
        for target in options.targets:
            row[target]["ms"] = taken[f"{row['name']} {target}"].median_ms
    text = command()
    for path, name in ((options.data, "DIR"), (options.cells, "MBM_CELLS"), (options.streets, "CAMVID")):
        text = text.replace(str(path), name)
    result = {"command": text, "device": device_name(), "threads": 1, "versions": versions(), "rows": rows}
    options.to.write_text(json.dumps(result, indent=1) + "\n")


def load(words: list[str]) -> st.Recipe:
    return st.load_recipe(str(RECIPE), [*NO_SEARCH_NO_PRUNING, *words])


def train_one(words: list[str], out: Path) -> st.Ticket:
    """Train a network by the recipe, alone."""
    return st.train(load(words), out)


if __name__ == "__main__":
    main()
