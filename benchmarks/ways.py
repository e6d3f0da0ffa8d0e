"""The same supernet on the same data, trained in several ways: dense, searched only, and drawn at some sparsities.

Example: python benchmarks/ways.py tiny_imagenet --data.dir DIR --to benchmarks/results/tiny_imagenet_40.json
With --retrain N every drawn ticket is also trained for N more epochs. Further flags are settings of the recipe. Runs
that are finished are not repeated, so that parts (--ways dense 0.8) may be run side by side, and a last call with all
ways collects them.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch

import supertickets as st
from commands import command
from supertickets.cost.latency import device_name

_UNPRUNED = ("dense", "search")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--ways", nargs="+", default=["dense", "search", "0.8", "0.9"])
    parser.add_argument("--retrain", type=int, default=0)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options, settings = parser.parse_known_args()
    rows = []
    for way in options.ways:
        rows.append(row(way, run(way, options, settings)))
        if options.retrain and way not in _UNPRUNED:
            rows.append(row(f"{way} retrained", retrained(way, options)))
    last = st.load(options.runs / f"{options.to.stem}-{options.ways[-1]}")
    result = {
        "command": command(),
        "device": device_name(),
        "threads": last.about["recipe"]["threads"] or torch.get_num_threads(),
        "versions": last.about["versions"],
        "classes": len(last.classes),
        "seed": last.about["recipe"]["seed"],
        "ways": rows,
    }
    options.to.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def run(way: str, options: argparse.Namespace, settings: list[str]) -> Path:
    """Train in one way, unless that was done before."""
    out: Path = options.runs / f"{options.to.stem}-{way}"
    ratio = "0" if way in _UNPRUNED else way
    recipe = st.load_recipe(options.recipe, [*settings, "--prune.ratio", ratio])
    st.load_or_run(out, partial(st.train if way == "dense" else st.draw, recipe))
    return out


def retrained(way: str, options: argparse.Namespace) -> Path:
    """Train the ticket of one way further, unless that was done before."""
    out: Path = options.runs / f"{options.to.stem}-{way}-retrained"
    ticket = st.load(options.runs / f"{options.to.stem}-{way}")
    st.load_or_run(out, partial(st.retrain, ticket, st.retrain_recipe(ticket, options.retrain)))
    return out


def row(way: str, out: Path) -> dict[str, Any]:
    """Return the results of one way."""
    result = json.loads((out / "result.json").read_text())
    about = ("params", "nonzero_params", "sparsity", "macs", "masked_macs", "paper_macs", "samples", "seconds")
    return {
        "way": way,
        **{f"{split}_{name}": value for split in ("validation", "test") for name, value in result[split].items()},
        **{name: result[name] for name in about},
    }


if __name__ == "__main__":
    main()
