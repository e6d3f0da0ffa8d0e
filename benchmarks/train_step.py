"""The cost of a two-in-one training step, beside a plain step, after a shrink, and beside the released code.

Example: python benchmarks/train_step.py --threads 2 --to benchmarks/results/train_step_cpu.json --released DIR

DIR is a checkout of the paper's released code, outside this repository; without it that part is left out. Everything
is timed in turn (A B A B ...), and medians and their ratios are written.
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.nn import functional as F

from released_step import released_step
from supertickets.config.loading import load_recipe
from supertickets.config.recipe import AugmentSettings, DataSettings, Recipe
from supertickets.cost.latency import device_name
from supertickets.data import Batches, InMemoryImages, Preprocessing, Splits
from supertickets.models import HRNetSpec
from supertickets.models.factory import create_spec
from supertickets.pruning import SparseState, magnitude_mask
from supertickets.tasks import Classification, Pose, Segmentation
from supertickets.training import Reporter, RunDir, Session
from supertickets.training.runtime import Runtime, open_runtime
from supertickets.training.state import initial_state
from supertickets.training.step import Stepper

Call = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--released", type=Path)
    parser.add_argument("--parts", nargs="+", default=["own", "loader", "released"])
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    with open_runtime(options.device, options.threads, deterministic=False) as runtime:
        result = json.loads(options.to.read_text()) if options.to.exists() else {}
        gpu = runtime.device.type == "cuda"
        result |= {
            "device": torch.cuda.get_device_name() if gpu else device_name(),
            "threads": options.threads,
            "torch": torch.__version__,
            "repeats": options.repeats,
        }
        if "own" in options.parts:
            result["own"] = {
                "hrnet_tiny, 32x32, batch 64": own(
                    create_spec("hrnet_tiny", image_size=(32, 32), in_channels=3), 64, runtime, options.repeats
                ),
                "hrnet_imagenet, 224x224, batch 8": own(
                    create_spec("hrnet_imagenet"), 8, runtime, max(5, options.repeats // 2)
                ),
            }
        if "loader" in options.parts:
            result["loader"] = loader()
        if "released" in options.parts and options.released is not None:
            result["released"] = {
                name: beside_released(name, options.released, runtime, options.repeats) for name in ("imagenet", "coco")
            }
        options.to.write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result, indent=1))


def recipe_for(name: str = "imagenet", **changes: object) -> Recipe:
    """Return the settings of a recipe, at the height of its penalty."""
    recipe = load_recipe(name, ["--search.warmup_epochs", "0"])
    return dataclasses.replace(recipe, **changes)  # type: ignore[arg-type]


def two_in_one(spec: HRNetSpec, supernet: HRNetSpec, batch: int, runtime: Runtime, recipe: Recipe) -> Call:
    """Make a full step, with a mask of 90% zeros."""
    state = initial_state(spec, recipe, runtime.device)
    named = state.parameters()
    weights = {name: named[name] for name in state.module.maskable_weights()}
    state.sparse = SparseState(magnitude_mask(weights, 0.9, recipe.prune), ratio=0.9)
    classes = tuple(map(str, range(spec.num_classes)))
    tasks = {
        "classification": Classification(classes, 0.1),
        "segmentation": Segmentation(classes),
        "keypoints": Pose(classes),
    }
    session = Session(
        recipe,
        supernet,
        SimpleNamespace(steps_per_epoch=1000),  # type: ignore[arg-type]
        tasks[spec.head],
        runtime,
        RunDir(Path("."), writes=False),
        Reporter(recipe.epochs, 1000, quiet=True),
    )
    stepper = Stepper(session, state)
    images, labels = inputs(spec, batch, runtime)
    state.module.train()
    return lambda: stepper((images, labels), 0, 1)


def plain(spec: HRNetSpec, batch: int, runtime: Runtime, recipe: Recipe) -> Call:
    """Make a step: forward, backward and the optimizer, of the same network, in the same memory format."""
    free = dataclasses.replace(recipe.optimizer, weight_decay=0.0)
    state = initial_state(spec, dataclasses.replace(recipe, optimizer=free, ema_decay=0.0), runtime.device)
    images, labels = inputs(spec, batch, runtime)
    images = images.contiguous(memory_format=torch.channels_last)
    state.module.train()

    def step() -> None:
        state.module.zero_grad(set_to_none=True)
        F.cross_entropy(state.module(images), labels, label_smoothing=0.1).backward()
        state.optimizer.step()

    return step


def inputs(spec: HRNetSpec, batch: int, runtime: Runtime) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, *spec.input_shape, generator=generator).to(runtime.device)
    if spec.head == "keypoints":  # x, y in shares of the input, all marked
        return images, torch.rand(batch, spec.num_classes, 3, generator=generator).to(runtime.device)
    shape = (batch, *spec.image_size) if spec.head == "segmentation" else (batch,)
    return images, torch.randint(0, spec.num_classes, shape, generator=generator).to(runtime.device)


def own(spec: HRNetSpec, batch: int, runtime: Runtime, repeats: int) -> dict[str, object]:
    """Time a plain step, a two-in-one step, and the latter on half of the units."""
    recipe = recipe_for()
    half = spec.keep({g.name: torch.arange(len(g)) % 2 == 0 for g in spec.unit_groups()})
    calls = {
        "plain": plain(spec, batch, runtime, recipe),
        "two_in_one": two_in_one(spec, spec, batch, runtime, recipe),
        "two_in_one_half_the_units": two_in_one(half, spec, batch, runtime, recipe),
    }
    times = interleaved(calls, repeats, runtime)
    return {
        "median_ms": {name: statistics.median(values) for name, values in times.items()},
        "two_in_one / plain": ratio(times["two_in_one"], times["plain"]),
        "half the units / all": ratio(times["two_in_one_half_the_units"], times["two_in_one"]),
    }


def loader() -> dict[str, float]:
    """Measure images per second of the input pipeline alone: 64x64 images in memory, cropped, flipped and coloured."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2048, 3, 64, 64), generator=generator, dtype=torch.uint8)
    data = InMemoryImages(images, torch.zeros(len(images), dtype=torch.int64))
    how = Preprocessing(3, (64, 64), (0.5,) * 3, (0.25,) * 3, "crop")
    speeds_by_workers = {}
    for workers in (1, 2):
        batches = Batches(
            Splits(data, data, data, ("0",), how),
            DataSettings(batch=64, workers=workers),
            AugmentSettings(crop=0.35, flip=True, jitter=0.2),
            seed=0,
        )
        speeds = []
        for epoch in range(3):
            loaded = batches.train(epoch)
            next(loaded)  # workers are up
            begin = time.perf_counter()
            seen = sum(len(labels) for _, labels in loaded)
            speeds.append(seen / (time.perf_counter() - begin))
        speeds_by_workers[f"images_per_s, {workers} workers"] = statistics.median(speeds)
    return speeds_by_workers


def beside_released(name: str, folder: Path, runtime: Runtime, repeats: int) -> dict[str, object]:
    """Time the released code's step and ours, of the same network without Transformer, batch 2 (a GPU takes 32)."""
    gpu = runtime.device.type == "cuda"
    batch = 32 if gpu else 2
    spec = create_spec(f"hrnet_{name}", transformer=False)
    calls = {
        "released": released_step(folder, spec, inputs(spec, batch, runtime), runtime.device),
        "ours": two_in_one(spec, spec, batch, runtime, recipe_for(name)),
    }
    if gpu:
        fast = recipe_for(name, precision="bf16", compile=True)
        calls["ours, bf16 + compile"] = two_in_one(spec, spec, batch, runtime, fast)
    times = interleaved(calls, repeats, runtime)
    return {
        "batch": batch,
        "images_per_s": {name: 1e3 * batch / statistics.median(values) for name, values in times.items()},
        **{
            f"{name} / released": ratio(times["released"], values)
            for name, values in times.items()
            if name != "released"
        },
    }


def interleaved(calls: dict[str, Call], repeats: int, runtime: Runtime) -> dict[str, list[float]]:
    """Return the milliseconds of each call, in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(3 + repeats):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if runtime.device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= 3:
                times[name].append(1e3 * (time.perf_counter() - begin))
    return times


def ratio(above: list[float], below: list[float]) -> float:
    """Return the median of the ratios of neighbouring measurements."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


if __name__ == "__main__":
    main()
