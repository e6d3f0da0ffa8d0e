"""Images per second of a recipe's input pipeline alone, beside those of its training step alone.

Example: python benchmarks/pipeline.py camvid --data.dir DIR --threads 1 --to benchmarks/results/pipeline.json
With --generated N the data are N generated samples of the full size, in the recipe's layout. Further flags are settings
of the recipe. What was measured of other recipes stays in the file.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

import supertickets as st
from commands import command
from generated import generate
from supertickets.cost.latency import device_name
from supertickets.data import Batches, load_splits
from supertickets.runs.auto_settings import resolve_auto_settings
from supertickets.runs.finalize import versions
from supertickets.runs.model_init import make_task, supernet_for
from supertickets.training import Reporter, RunDir, Session
from supertickets.training.runtime import open_runtime
from supertickets.training.state import initial_state
from supertickets.training.step import Stepper

_STEPS = 12
_SECONDS = 60  # that steps are timed for at the most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--generated", type=int, default=0)
    options, settings = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.generated:
            generate(options.recipe, Path(folder), options.generated)
            settings = [*settings, "--data.dir", folder]
        measure(options, settings)


def measure(options: argparse.Namespace, settings: list[str]) -> None:
    """Time loader and step, and add both to the file."""
    recipe = st.load_recipe(options.recipe, settings)
    with open_runtime(recipe.device, recipe.threads, recipe.deterministic) as runtime:
        splits = load_splits(recipe.data)
        recipe, _ = resolve_auto_settings(recipe, len(splits.train), splits.preprocessing.size[0])
        batches = Batches(splits, recipe.data, recipe.augment, recipe.seed)
        spec = supernet_for(recipe, splits)
        state = initial_state(spec, recipe, runtime.device)
        run, reporter = RunDir(Path("."), writes=False), Reporter(recipe.epochs, batches.steps_per_epoch, quiet=True)
        step = Stepper(Session(recipe, spec, batches, make_task(recipe, splits), runtime, run, reporter), state)
        state.module.train()

        loaded = batches.train(0)
        batch = next(loaded)  # workers are up
        begin = time.perf_counter()
        seen = sum(len(inputs) for inputs, _ in loaded)
        loader = seen / (time.perf_counter() - begin)

        times: list[float] = []
        while len(times) < 3 + _STEPS and sum(times) < _SECONDS:
            begin = time.perf_counter()
            step(batch, 0, 1)
            if runtime.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
        stepped = len(batch[0]) / statistics.median(times[3:] or times[-1:])

        result = json.loads(options.to.read_text()) if options.to.exists() else {}
        result[options.recipe] = {
            "command": command(),
            "device": torch.cuda.get_device_name() if runtime.device.type == "cuda" else device_name(),
            "threads": torch.get_num_threads(),
            "workers": recipe.data.workers,
            "batch": recipe.data.batch,
            "generated": options.generated,
            "versions": versions(),
            "loader_images_per_s": loader,
            "step_images_per_s": stepped,
            "loader / step": loader / stepped,
        }
        options.to.write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result[options.recipe], indent=1))


if __name__ == "__main__":
    main()
