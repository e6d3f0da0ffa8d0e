"""Time the sparse runtime beside onnxruntime and OpenVINO: ``python benchmarks/sparse_engine.py``.

Untrained networks, zeros drawn at random: unstructured, or in blocks of output channels that share an input channel and
a kernel position. All runtimes run the same weights, batch norms folded, batch 1, in turns of three calls, of which the
first does not count. ``auto`` is what `supertickets.runtime.load` does: the sparse runtime, or one of the others where
that is faster. With one thread the time is that of the process's processors, since machines are shared: medians. With
more it is real time, lower quartiles, and means little where other programs run.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from supertickets import Ticket
from supertickets.cost.latency import device_name
from supertickets.data import Preprocessing
from supertickets.deploy.exporter import TOLERANCE
from supertickets.deploy.onnx_graph import read_onnx
from supertickets.deploy.runtimes import DeployForms, OnnxRuntime, OpenVino
from supertickets.models import Spec
from supertickets.models.factory import create_spec
from supertickets.runtime import Engine
from supertickets.runtime.library import load_library
from supertickets.runtime.threads import usable_cores

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
    pyramid = {"image_size": (180, 240), "head": "segmentation", "neck": "fpn", "num_classes": 11}
    resnet8 = {"width": 32, "image_size": (48, 48), "num_classes": 40}
    networks: list[tuple[str, str, dict[str, Any]]] = [
        ("ResNet-8 width 32, 48 px", "resnet8", resnet8),
        ("ResNet-18, 96 px", "resnet18", {"image_size": (96, 96)}),
        ("ResNet-18, 224 px", "resnet18", {}),
        ("MobileNetV2, 96 px", "mobilenet_v2", {"image_size": (96, 96)}),
        ("MobileNetV2, 224 px", "mobilenet_v2", {}),
        ("ResNet-18 for segmentation with a pyramid, 180x240", "resnet18", pyramid),
    ]
    cases = [
        Case(name, supernet, settings, sparsity, block)
        for name, supernet, settings in networks
        for sparsity, block in ((0.0, 1), (0.5, 1), (0.85, 1), (0.85, 4), (0.9, 4))
    ]
    for name, supernet, size in (
        ("HRNet for digits", "hrnet_tiny", (8, 8)),
        ("HRNet for ImageNet", "hrnet_imagenet", (224, 224)),
        ("HRNet for COCO", "hrnet_coco", (256, 192)),
        ("HRNet for Cityscapes", "hrnet_cityscapes", (512, 1024)),
    ):
        settings = {"image_size": size, "transformer": False}
        cases.append(Case(f"{name}, half of the units, {size[0]}x{size[1]}", supernet, settings, 0.9, 1, 0.5))
    return cases


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
            # As large in sum as before: activations that vanish become numbers that processors are slow with.
            weights[name] = weights[name] * mask[name] / (1 - case.sparsity) ** 0.5
    how = Preprocessing(spec.in_channels, spec.image_size, (0.5,) * spec.in_channels, (0.25,) * spec.in_channels)
    return Ticket(spec, weights, mask, tuple(f"c{i}" for i in range(spec.num_classes)), how, {"recipe": {}})


def draw_mask(weight: Tensor, sparsity: float, block: int) -> Tensor:
    """Return a random mask (O, I, H, W) whose blocks of output channels stay or go together."""
    rows = -(-len(weight) // block)
    flags = torch.rand(rows, *weight.shape[1:]) >= sparsity
    return flags.repeat_interleave(block, 0)[: len(weight)]


def time_calls(calls: dict[str, Callable[[], object]], turns: int, threads: int) -> dict[str, float]:
    """Return the milliseconds of every call, in turns; see the top of this file."""
    clock, share = (time.process_time_ns, 0.5) if threads == 1 else (time.perf_counter_ns, 0.25)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            call()
            for _ in range(2):
                begin = clock()
                call()
                times[name].append(1e-6 * (clock() - begin))
    return {name: round(float(np.quantile(values, share)), 4) for name, values in times.items()}


def measure(case: Case, turns: int, threads: Sequence[int], folder: Path) -> dict[str, Any]:
    """Return the figures of a case."""
    ticket = make_ticket(case)
    forms = DeployForms(ticket, folder)
    images = torch.randn(1, *ticket.spec.input_shape).numpy()
    graph = read_onnx(onnx.load(str(forms.onnx)), ticket.spec.input_shape)
    row: dict[str, Any] = {"network": case.name, "sparsity": case.sparsity, "block": case.block}
    row |= {"masked_macs": ticket.cost.masked_macs, "macs": ticket.cost.macs}
    for count in threads:
        runs = {
            runtime.name: runtime.prepare(forms, count)
            for runtime in (OnnxRuntime(), OpenVino())
            if runtime.available()
        }
        runs["sparse"] = Engine(graph, {}, load_library(), threads=count)
        runs["auto"] = Engine(graph, {}, load_library(), threads=count, fallback="auto")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that another engine is faster
            outputs = {name: run(images) for name, run in runs.items()}
        largest = max(1.0, float(np.abs(outputs["sparse"]).max()))
        errors = {name: float(np.abs(out - outputs["sparse"]).max()) / largest for name, out in outputs.items()}
        if max(errors.values()) > TOLERANCE:
            raise SystemExit(f"{case.name}: outputs differ: {errors}")
        row[f"threads_{count}"] = time_calls({n: partial(run, images) for n, run in runs.items()}, turns, count)
    return row


def show(row: dict[str, Any], count: int) -> str:
    """Return a line of the table."""
    times = row[f"threads_{count}"]
    cells = "".join(f"{times.get(name, float('nan')):11.3f}" for name in ("onnxruntime", "openvino", "sparse", "auto"))
    ratios = (
        f"{times['onnxruntime'] / times['sparse']:6.2f}x {times.get('openvino', float('nan')) / times['sparse']:6.2f}x"
    )
    return f"{row['network']:44} {row['sparsity']:4.0%} {row['block']:3} {count:3} {cells} {ratios}"


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=15, help="turns per case (default: 15)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the names of networks to time")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file to write")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    about = {"command": shlex.join(["python", "benchmarks/sparse_engine.py", *sys.argv[1:]]), "device": device_name()}
    about |= {"cores": str(usable_cores()), "load": f"{os.getloadavg()[0]:.1f} programs wanted the cores at the start"}
    for runtime in (OnnxRuntime(), OpenVino()):
        about |= runtime.versions() if runtime.available() else {}
    rows: list[dict[str, Any]] = []
    print(f"{'network':44} zeros blk thr onnxruntime   openvino     sparse       auto  (ms; sparse against both)")
    for case in [case for case in list_cases() if any(word.lower() in case.name.lower() for word in options.only)]:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(case, options.turns, options.threads, Path(folder))
        rows.append(row)
        for count in options.threads:
            print(show(row, count), flush=True)
        options.out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
