"""The files that `fuzz.py` damages, and their readers: a small valid example per parser, made here, none stored."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import fuzz_files
from fuzz_data import (
    Parser,
    Source,
    coco_files,
    file_parser,
    idx_files,
    images,
    matlab_files,
    pickles,
    yolo_folders,
)
from fuzz_mutators import damage_json, damage_safetensors, damage_yaml, disturb
from supertickets import Ticket
from supertickets.config.loading import load_recipe
from supertickets.config.shipped import read_shipped
from supertickets.cost.latency_table import LatencyTable
from supertickets.cost.operations import list_operations
from supertickets.data import Preprocessing
from supertickets.models import Spec
from supertickets.models.factory import create_spec
from supertickets.models.tensor_file import save_tensors
from supertickets.models.weights_file import read_weights
from supertickets.report import write_report
from supertickets.runs.execution import read_record
from supertickets.runtime.engine import Engine
from supertickets.runtime.graph import load_graph
from supertickets.sweeps.sweep import read_sweep
from supertickets.training.run_dir import FORMAT_VERSION

_DEAR = 500  # inputs of one process, where each takes milliseconds

# Settings ------------------------------------------------------------------------------------------------------------


def recipes() -> Parser:
    """Return the parser of recipes."""
    examples = [yaml.safe_load(read_shipped(name)) for name in ("digits", "imagenet_search_90", "boxes", "masks")]
    return file_parser(
        *("recipe", "a.yaml", lambda source: damage_yaml(source, source.choice(examples))),
        *(lambda path: load_recipe(str(path)), _DEAR),
    )


def sweeps() -> Parser:
    """Return the parser of sweeps."""
    example = {
        **{"description": "a sweep", "recipe": "digits", "ratios": [0.8, 0.9], "seeds": [0, 1]},
        "settings": {"epochs": 2, "prune": {"interval": 1, "schedule": "interval"}},
        "methods": {"a": {"search": True}, "b": {"prune": "snip", "batches": 3, "retrain": 2}}
        | {"c": {"settings": {"prune": {"progressive": False}}}, "d": {"train": True}},
    }
    return file_parser("sweep", "a.yaml", lambda source: damage_yaml(source, example), read_sweep, _DEAR)


# Tickets and runs ----------------------------------------------------------------------------------------------------


def small_specs() -> list[Spec]:
    """Return a small network of every family."""
    resnet = {"widths": (4, 4, 4), "image_size": (8, 8), "num_classes": 3}
    hrnet: dict[str, Any] = {
        **{"in_channels": 2, "num_classes": 3, "channels": ((4, 6),), "blocks": ((1, 1),), "kernels": (3, 5)},
        **{"stem_channels": (4, 4), "expansion": 1, "tokens": 2, "grid": 2},
    }
    return [
        create_spec("resnet8", width=4, num_classes=3),
        create_spec("hrnet_tiny", head_channels=(6, 8), last_channels=12, **hrnet),
        create_spec("resnet38", attention="se", **resnet),
    ]


def small_ticket(spec: Spec) -> Ticket:
    """Return an untrained ticket with a mask."""
    module = spec.build()
    mask = {name: torch.ones_like(module.get_parameter(name), dtype=torch.bool) for name in module.maskable_weights()}
    grey = (0.5,) * spec.in_channels
    how = Preprocessing(spec.in_channels, spec.image_size, grey, grey)
    about = {
        "recipe": load_recipe("digits").to_json() | {"task": "classification"},
        **{"test": {"loss": 0.5, "top1": 90.0}, "validation": {"loss": 0.5, "top1": 91.0}, "versions": {"torch": "2"}},
        **{
            "command": "draw",
            "lineage": [{"command": "draw", "recipe": "digits", "task": "classification", "data": "x"}],
        },
    }
    return Ticket(spec, module.state_dict(), mask, tuple("abc"), how, about)


def tickets() -> Parser:
    """Return the parser of the folders of tickets."""
    examples = []
    for spec in small_specs():
        ticket = small_ticket(spec)
        files = {
            f"{name}.safetensors": tensor_bytes(tensors)
            for name, tensors in (("model", ticket.weights), ("mask", ticket.mask))
        }
        examples.append((ticket._config(), files))  # as `save_pretrained` writes it, which waits for the disk

    def write(source: Source, folder: Path) -> Path:
        config, files = source.choice(examples)
        files = dict(files)
        if source.random() < 0.4:
            name = source.choice(sorted(files))
            files[name] = damage_safetensors(source, files[name])
        config = {**config, "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}}
        if source.random() < 0.7:
            part = source.choice(("spec", "preprocessing", "about", "classes"))
            config = {**config, part: disturb(source, config[part])}
        text = damage_json(source, config, 2) if source.random() < 0.3 else json.dumps(config).encode()
        for name, content in {**files, "config.json": text}.items():
            (folder / name).write_bytes(content)
        return folder

    return Parser("ticket", write, _use_ticket, _DEAR)


def _use_ticket(folder: Path) -> None:
    ticket = Ticket.from_pretrained(folder)
    ticket.card()
    ticket.prepare(np.zeros((9, 8, 3), np.uint8))
    _ = ticket.module


def tensor_bytes(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return the file of some tensors."""
    with tempfile.TemporaryDirectory() as folder:
        save_tensors(Path(folder) / "a.safetensors", tensors, {"note": "x"})
        return (Path(folder) / "a.safetensors").read_bytes()


def weights() -> Parser:
    """Return the parser of files of weights."""
    kinds = (torch.float32, torch.float16, torch.int64, torch.bool, torch.bfloat16)
    raw = tensor_bytes({f"layer{i}.weight": torch.ones(2, 3).to(kind) for i, kind in enumerate(kinds)})
    return file_parser(
        *("safetensors", "a.safetensors", lambda source: damage_safetensors(source, raw)),
        lambda path: read_weights(path, "supernet.pretrained"),
    )


def run_files() -> dict[str, Any]:
    """Return the files of a finished run without a ticket, as plain values; of its log, the events."""
    metrics = {"loss": 0.5, "top1": 90.0}
    epoch = {"event": "epoch", "epoch": 1, "train_loss": 1.0, "units": 9, "masked_macs": 5, "sparsity": 0.5, **metrics}
    about = {
        **{"format_version": FORMAT_VERSION, "command": "draw", "recipe": load_recipe("digits").to_json()},
        **{"data": "d" * 64, "algorithm": {"name": "two_in_one"}, "supernet": small_specs()[0].to_json()},
        "metadata": {"lineage": [{"command": "draw", "recipe": "digits", "samples": 100}]},
        "versions": {"torch": "2"},
    }
    costs = dict.fromkeys(("params", "nonzero_params", "macs", "masked_macs", "paper_macs", "samples"), 1000)
    result = {"validation": metrics, "test": metrics, **costs, "sparsity": 0.5, "sparsity_all": 0.5, "seconds": 1.5}
    return {"run.json": about, "result.json": result, "events.jsonl": [epoch, {**epoch, "epoch": 2}]}


def _write_run(source: Source, folder: Path, whole: Mapping[str, Any], damaged: list[str]) -> Path:
    for name, value in whole.items():
        lines = value if name.endswith("l") else [value]
        texts = [damage_json(source, v, 2) if name in damaged else json.dumps(v).encode() for v in lines]
        (folder / name).write_bytes(b"\n".join(texts) + b"\n")
    return folder


def records() -> Parser:
    """Return the parser of ``run.json``, as resuming reads it."""
    whole = {"run.json": run_files()["run.json"]}
    return Parser(
        "run.json", lambda source, folder: _write_run(source, folder, whole, list(whole)), lambda p: read_record(p, ())
    )


def reports() -> Parser:
    """Return the parser of finished runs, as reports read them: record, result and log."""
    whole = run_files()

    def write(source: Source, folder: Path) -> Path:
        damaged = [source.choice(("run.json", "result.json", "result.json", "events.jsonl"))]
        (folder / "run").mkdir(exist_ok=True)
        return _write_run(source, folder / "run", whole, damaged)

    return Parser("report", write, lambda path: write_report([path]), _DEAR)


def latencies() -> Parser:
    """Return the parser of latency tables."""
    spec = create_spec("tunas_proxyless", image_size=(32, 32), num_classes=4)
    ms = {str(operation): 0.1 for operation in list_operations(spec)}
    table = LatencyTable(spec=spec, device="a", runtime="torch", threads=1, ms=ms, check={"mean": 0.1}).to_json()
    choices = {decision.name: decision.options[0] for decision in spec.decisions()}

    def read(path: Path) -> None:
        table = LatencyTable.load(path)
        table.check_serves(spec, str(path))
        table.predict(choices)

    return file_parser("latency", "a.json", lambda source: damage_json(source, table, 3), read, 1000)


def graphs() -> Parser:
    """Return the parser of the sparse runtime's files, in numpy; `fuzz_runtime.py` has the kernels."""

    def write(source: Source, folder: Path) -> Path:
        fuzz_files.write_case(source.randrange(2**31), folder / "a.tickets")
        return folder / "a.tickets"

    def read(path: Path) -> None:
        graph, about = load_graph(path)
        Engine(graph, about, None, threads=1, tune=False)

    return Parser("sparse runtime", write, read)


PARSERS: Mapping[str, Callable[[], Parser]] = {
    **{"recipe": recipes, "sweep": sweeps, "ticket": tickets, "run.json": records, "report": reports},
    **{"latency": latencies, "safetensors": weights, "runtime": graphs, "idx": idx_files, "pickles": pickles},
    **{"images": images, "coco": coco_files, "yolo": yolo_folders, "mat": matlab_files},
}
