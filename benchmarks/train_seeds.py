"""Train a recipe with several seeds and write the figure of its task, costs, training time and latency.

Example: python benchmarks/train_seeds.py camvid_fpn --to benchmarks/results/camvid_fpn.json --data.dir DIR --threads 1
Further flags are settings of the recipe. Runs that are finished are not repeated; the figure of a row is the one that
the run reports for the test split.
"""

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

import supertickets as st
from commands import command
from supertickets.cost.latency import device_name
from supertickets.tasks import find_task


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
        begun = time.process_time()
        st.load_or_run(out, partial(st.train, recipe))
        seconds = out / "cpu_seconds.json"
        if not seconds.exists():
            seconds.write_text(json.dumps(round(time.process_time() - begun, 1)))
        rows.append(
            row(out, seed, find_task(recipe.task).metric.name) | {"cpu_seconds": json.loads(seconds.read_text())}
        )
    tests = [one["test"] for one in rows]
    result = {
        "command": command(),
        "device": device_name(),
        "threads": recipe.threads or torch.get_num_threads(),
        "versions": st.load(out).about["versions"],
        "figure": find_task(recipe.task).metric.name,
        "test_mean": statistics.mean(tests),
        "test_std": statistics.stdev(tests) if len(tests) > 1 else None,
        "runs": rows,
    }
    options.to.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def row(out: Path, seed: int, figure: str) -> dict[str, Any]:
    """Return the results of one run."""
    result = json.loads((out / "result.json").read_text())
    return {
        "seed": seed,
        "validation": result["validation"][figure],
        "test": result["test"][figure],
        "params": result["params"],
        "macs": result["macs"],
        "image_passes": result["samples"],
        "training_seconds": result["seconds"],
    }


if __name__ == "__main__":
    main()
