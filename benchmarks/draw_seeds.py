"""Draw a recipe with several seeds and write what came out, with all that it depends on.

Example: python benchmarks/draw_seeds.py digits --seeds 0 1 2 --to benchmarks/results/digits_90.json --threads 2
Further flags are settings of the recipe. Runs that are finished are not repeated.
"""

import argparse
import json
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import torch

import supertickets as st
from commands import command
from supertickets.cost.latency import device_name
from supertickets.training import read_events


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options, settings = parser.parse_known_args()
    rows = []
    for seed in options.seeds:
        recipe = st.load_recipe(options.recipe, [*settings, "--seed", str(seed)])
        out = options.runs / f"{options.to.stem}-seed{seed}"
        st.load_or_run(out, partial(st.draw, recipe))
        rows.append(row(out, seed))
    result = {
        "command": command(),
        "device": device_name(),
        "threads": recipe.threads or torch.get_num_threads(),
        "versions": st.load(out).about["versions"],
        "test_top1_mean": statistics.mean(r["test_top1"] for r in rows),
        "test_top1_std": statistics.stdev(r["test_top1"] for r in rows) if len(rows) > 1 else None,
        "runs": rows,
    }
    options.to.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def row(out: Path, seed: int) -> dict[str, Any]:
    """Return the results of one run; what the search removed is counted before any mask."""
    ticket = st.load(out)
    result = json.loads((out / "result.json").read_text())
    shrinks = [r for r in read_events(out / "events.jsonl") if r["event"] == "shrink"]
    full = st.cost.count(ticket.spec.full())
    units = [(g.kind, len(g)) for g in ticket.spec.full().unit_groups()]
    removed = {kind: sum(r[f"removed_{kind}s"] for r in shrinks) for kind in ("channel", "token")}
    return {
        "seed": seed,
        "validation_top1": result["validation"]["top1"],
        "test_top1": result["test"]["top1"],
        "sparsity": result["sparsity"],
        "channels_removed": removed["channel"] / sum(n for kind, n in units if kind == "channel"),
        "tokens_removed": removed["token"],
        "macs_before_any_mask": ticket.cost.macs / full.macs,
        "params": result["params"],
        "nonzero_params": result["nonzero_params"],
        "macs": result["macs"],
        "masked_macs": result["masked_macs"],
        "image_passes": result["samples"],
        "training_seconds": result["seconds"],
    }


if __name__ == "__main__":
    main()
