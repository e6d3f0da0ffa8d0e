"""Time the sparse runtime beside onnxruntime on whole networks with zeros: ``python benchmarks/sparse_engine.py``.

Untrained networks, zeros drawn at random: unstructured, or in blocks of output channels that share an input channel and
a kernel position. Both runtimes run the same weights, batch norms folded, one thread, batch 1. Time is that of the
thread's processor, since machines are shared: medians of turns in which every runtime has three calls; the first does
not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supertickets import Ticket
from supertickets.cost.latency import device_name
from supertickets.data import Preprocessing
from supertickets.deploy.exporter import export, onnx_runner
from supertickets.models import Spec
from supertickets.models.factory import create_spec
from supertickets.runtime import load

RESULTS = Path(__file__).parent / "results" / "sparse_engine.json"


@dataclass(frozen=True)
class Case:
    """A network, the share of its zeros, and the output channels per block of zeros."""

    name: str
    supernet: str
    settings: dict[str, Any]
    sparsity: float
    block: int = 1
    units: float = 1.0  # share of the search units that stay


def list_cases() -> list[Case]:
    """Return what is timed."""
    resnet8 = {"width": 32, "image_size": (48, 48), "num_classes": 40}
    networks: list[tuple[str, str, dict[str, Any]]] = [
        ("ResNet-8 width 32, 48 px", "resnet8", resnet8),
        ("ResNet-18, 96 px", "resnet18", {"image_size": (96, 96)}),
        ("ResNet-18, 224 px", "resnet18", {}),
        ("MobileNetV2, 224 px", "mobilenet_v2", {}),
    ]
    cases = [
        Case(name, supernet, settings, sparsity, block)
        for name, supernet, settings in networks
        for sparsity, block in ((0.0, 1), (0.85, 1), (0.85, 4), (0.85, 8), (0.9, 4))
    ]
    hrnet = {"image_size": (224, 224), "transformer": False}
    return cases + [
        Case("HRNet for ImageNet, half of the units, 224 px", "hrnet_imagenet", hrnet, sparsity, 1, 0.5)
        for sparsity in (0.8, 0.9, 0.95)
    ]


def make_ticket(case: Case) -> Ticket:
    """Return an untrained ticket with the zeros of a case; the first layer stays, and in blocks depthwise filters."""
    torch.manual_seed(0)
    spec: Spec = create_spec(case.supernet, **case.settings)
    if case.units < 1:
        keep = {group.name: torch.rand(len(group)) < case.units for group in spec.unit_groups()}
        spec = spec.keep(keep)
    module = spec.build()
    weights = module.state_dict()
    convolutions = [name for name in module.maskable_weights() if weights[name].ndim == 4]
    first = next(name for name, value in weights.items() if value.ndim == 4)
    mask = {}
    for name in convolutions:
        depthwise = weights[name].shape[1] == 1
        if case.sparsity and name != first and not (depthwise and case.block > 1):
            mask[name] = draw_mask(weights[name], case.sparsity, case.block)
            weights[name] = weights[name] * mask[name]
    how = Preprocessing(spec.in_channels, spec.image_size, (0.5,) * spec.in_channels, (0.25,) * spec.in_channels)
    return Ticket(spec, weights, mask, tuple(f"c{i}" for i in range(spec.num_classes)), how, {"recipe": {}})


def draw_mask(weight: Tensor, sparsity: float, block: int) -> Tensor:
    """Return a random mask (O, I, H, W) whose blocks of output channels stay or go together."""
    rows = -(-len(weight) // block)
    flags = torch.rand(rows, *weight.shape[1:]) >= sparsity
    return flags.repeat_interleave(block, 0)[: len(weight)]


def time_calls(calls: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Return the median milliseconds of the thread's processor per call, in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            call()
            for _ in range(2):
                begin = time.thread_time_ns()
                call()
                times[name].append(1e-6 * (time.thread_time_ns() - begin))
    return {name: statistics.median(values) for name, values in times.items()}


def measure(case: Case, turns: int, folder: Path) -> dict[str, Any]:
    """Return the figures of a case."""
    ticket = make_ticket(case)
    files = {kind: export(ticket, folder / f"net.{kind}", kind).path for kind in ("onnx", "sparse")}
    images = torch.randn(1, *ticket.spec.input_shape).numpy()
    begin = time.perf_counter()
    engine = load(files["sparse"])
    engine(images)
    ready = time.perf_counter() - begin
    dense = onnx_runner(files["onnx"], 1)
    times = time_calls({"onnxruntime": lambda: dense(images), "sparse": lambda: engine(images)}, turns)
    return {
        "network": case.name,
        "sparsity": case.sparsity,
        "block": case.block,
        "masked_macs": ticket.cost.masked_macs,
        "macs": ticket.cost.macs,
        "onnxruntime_ms": round(times["onnxruntime"], 4),
        "sparse_ms": round(times["sparse"], 4),
        "speedup": round(times["onnxruntime"] / times["sparse"], 2),
        "load_s": round(ready, 2),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=15, help="turns per case (default: 15)")
    parser.add_argument("--only", default="", help="part of the names of networks to time")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file to write")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    rows = []
    print(f"{'network':48} zeros  block  onnxruntime   sparse  faster")
    for case in [case for case in list_cases() if options.only.lower() in case.name.lower()]:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(case, options.turns, Path(folder))
        rows.append(row)
        times = f"{row['onnxruntime_ms']:8.3f} ms {row['sparse_ms']:7.3f} ms {row['speedup']:5.2f}x"
        print(f"{row['network']:48} {row['sparsity']:4.0%} {row['block']:6}  {times}", flush=True)
    import onnxruntime

    about = {"command": " ".join(["python", "benchmarks/sparse_engine.py", *sys.argv[1:]]), "device": device_name()}
    about |= {"threads": "1", "onnxruntime": onnxruntime.__version__}
    options.out.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
