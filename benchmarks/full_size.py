"""One two-in-one step of every full-size recipe at its resolution, on generated pixels: cost, time and peak memory.

Example: python benchmarks/full_size.py --batch 2 --threads 2 --to benchmarks/results/full_size.json
Every recipe has a process of its own, so that the peak is its own; on a CPU it is that of the whole process, which
depends on how the allocator packs, by gigabytes; the peak of the tensors alone does not. Recipes that are measured
already are not repeated. With --released DIR, a checkout of the paper's released code outside this
repository, its step of the same network without Transformer is measured beside.

The hours are arithmetic, not a measurement: three passes over the full supernet per sample (forward, and backward
twice as long) at a rate that is assumed; the search makes it smaller.
"""

import argparse
import itertools
import json
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

import torch

from commands import command
from released_step import released_step
from supertickets.analysis.description import TERA_FLOPS, Description
from supertickets.config.loading import load_recipe
from supertickets.cost import count
from supertickets.cost.latency import device_name
from supertickets.data import published_samples, published_shape
from supertickets.models.factory import create_spec
from supertickets.runs.finalize import versions
from supertickets.training.runtime import open_runtime
from train_step import Call, inputs, two_in_one

_RECIPES = ("imagenet", "cityscapes", "ade20k", "coco")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=list(_RECIPES))
    parser.add_argument("--transformer", nargs="+", choices=["on", "off"], default=["on", "off"])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--released", type=Path)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    result = json.loads(options.to.read_text()) if options.to.exists() else {"recipes": {}}
    gpu = torch.device(options.device).type == "cuda"
    result |= {
        "command": command(),
        "device": torch.cuda.get_device_name() if gpu else device_name(),
        "threads": options.threads,
        "versions": versions(),
        "batch": options.batch,
        "assumed_tera_flops": TERA_FLOPS,
    }
    ways = [*options.transformer, *(["released"] if options.released else [])]
    for recipe, way in itertools.product(options.recipes, ways):
        name = f"{recipe}, {'released code' if way == 'released' else f'Transformer {way}'}"
        if name not in result["recipes"]:
            with multiprocessing.get_context("spawn").Pool(1) as process:
                result["recipes"][name] = process.apply(measured, (recipe, way, options))
        options.to.write_text(json.dumps(result, indent=1) + "\n")
        print(name, json.dumps(result["recipes"][name], indent=1), flush=True)


def measured(name: str, way: str, options: argparse.Namespace) -> dict[str, Any]:
    """Take two steps of a recipe, the second of which is timed."""
    recipe = load_recipe(name, ["--search.warmup_epochs", "0"])
    spec = create_spec(recipe.supernet.name, transformer=way == "on", **published_shape(recipe.data))
    with open_runtime(options.device, options.threads, deterministic=False) as runtime:
        if way == "released":
            step = released_step(options.released, spec, inputs(spec, options.batch, runtime), runtime.device)
        else:
            step = two_in_one(spec, spec, options.batch, runtime, recipe)
        before = _peak(runtime.device)
        for _ in range(2):
            begin = time.perf_counter()
            step()
            peak = _peak(runtime.device)  # waits for a GPU
            seconds = time.perf_counter() - begin
        tensors = _peak_of_tensors(step)
        samples = published_samples(name, recipe.data)
        described = Description(spec, {}, count(spec), recipe.epochs, samples)
        return {
            "input": list(spec.input_shape),
            "macs": described.cost.macs,
            "seconds": seconds,
            "peak_gb": peak / 1e9,
            "peak_of_a_steps_tensors_gb": tensors / 1e9,
            "peak_gb_before_the_steps": before / 1e9,
            "accumulate_for_the_recipes_batch": -(-recipe.data.batch // options.batch),
            "gpu_hours_at_the_assumed_rate": described.gpu_hours,
        }


def _peak_of_tensors(step: Call) -> int:
    """Return the most bytes that a step holds beyond what was there before."""
    with torch.profiler.profile(profile_memory=True) as profile:
        step()
    events = profile.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return max(itertools.accumulate(nbytes for _, nbytes in changes), default=0)


def _peak(device: torch.device) -> int:
    """Return the most bytes held so far."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
