"""What `fuzz.py` damages, and what reads it: a small valid example per parser, made here; nothing is stored."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import random
import struct
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from scipy.io import savemat

import fuzz_files
from fuzz_mutators import damage_bytes, damage_json, damage_safetensors, damage_yaml, disturb
from supertickets import Ticket
from supertickets.config.loading import load_recipe
from supertickets.config.recipe import DataSettings
from supertickets.config.shipped import read_shipped
from supertickets.cost.latency_table import LatencyTable
from supertickets.cost.operations import list_operations
from supertickets.data import Preprocessing
from supertickets.data.cifar import read_pickle
from supertickets.data.coco_detection_json import read_objects
from supertickets.data.coco_files import AnnotationFile
from supertickets.data.coco_keypoints_json import read_people
from supertickets.data.detection_layouts import read_boxed_parts
from supertickets.data.idx import read_idx
from supertickets.data.person_boxes import read_boxes, read_detections
from supertickets.data.preprocessing import open_image, stored_form, to_channels
from supertickets.data.segmentation_masks import stored_labels
from supertickets.data.shanghaitech_files import read_points
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

Source = random.Random


@dataclass(frozen=True)
class Parser:
    """A reader of files.

    Attributes:
        name: Its name.
        write: Function that writes the damaged example of a source of numbers into a folder; it returns its path.
        read: The reader.
        batch: Inputs of one process.
        bounded: Whether the process may have few addresses only; some libraries reserve many that they never use.
    """

    name: str
    write: Callable[[Source, Path], Path]
    read: Callable[[Path], object]
    batch: int = 5000
    bounded: bool = True


def file_parser(
    name: str, file: str, damage: Callable[[Source], bytes], read: Callable[[Path], object], batch: int = 5000
) -> Parser:
    """Return the parser of a single file."""

    def write(source: Source, folder: Path) -> Path:
        path = folder / file
        path.write_bytes(damage(source))
        return path

    return Parser(name, write, read, batch)


# Settings ------------------------------------------------------------------------------------------------------------


def recipes() -> Parser:
    """Return the parser of recipes."""
    examples = [yaml.safe_load(read_shipped(name)) for name in ("digits", "imagenet_search_90", "boxes", "masks")]
    return file_parser(
        "recipe", "a.yaml", lambda source: damage_yaml(source, source.choice(examples)), lambda p: load_recipe(str(p))
    )


def sweeps() -> Parser:
    """Return the parser of sweeps."""
    example = {
        **{"description": "a sweep", "recipe": "digits", "ratios": [0.8, 0.9], "seeds": [0, 1]},
        "settings": {"epochs": 2, "prune": {"interval": 1, "schedule": "interval"}},
        "methods": {"a": {"search": True}, "b": {"prune": "snip", "batches": 3, "retrain": 2}}
        | {"c": {"settings": {"prune": {"progressive": False}}}, "d": {"train": True}},
    }
    return file_parser("sweep", "a.yaml", lambda source: damage_yaml(source, example), read_sweep)


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

    return Parser("ticket", write, _use_ticket)


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

    return Parser("report", write, lambda path: write_report([path]), 500)


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


# Data ----------------------------------------------------------------------------------------------------------------

IDX = b"\0\0\x08\x03" + struct.pack(">III", 2, 3, 4) + bytes(range(24))
BATCH = {b"data": np.zeros((2, 8), np.uint8), b"labels": [0, 1], b"names": ["a", b"b"]}
IMAGE_FORMS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
PEOPLE: dict[str, Any] = {
    "images": [{"id": i, "file_name": f"{i}.png", "width": 60, "height": 40} for i in (1, 2)],
    "categories": [{"id": 1, "name": "thing", "keypoints": ["left_eye", "right_eye"], "skeleton": [[1, 2]]}],
    "annotations": [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [30, 5, 20, 20], "area": 400, "iscrowd": 0}
        | {"keypoints": [40, 9, 2, 35, 9, 1], "num_keypoints": 2}
        for i in (1, 2)
    ],
}
DETECTIONS = [{"image_id": i, "category_id": 1, "bbox": [30, 5, 20, 20], "score": 0.9} for i in (1, 2)]


def idx_files() -> Parser:
    """Return the parser of idx files, packed and not."""
    raws = (IDX, gzip.compress(IDX, mtime=0))

    def damage(source: Source) -> bytes:
        return damage_bytes(source, source.choice(raws)) if source.random() < 0.95 else source.randbytes(64)

    return file_parser("idx", "train-images-idx3-ubyte", damage, read_idx)


def pickles() -> Parser:
    """Return the parser of CIFAR's batches."""
    raws = [pickle.dumps(BATCH, protocol=protocol) for protocol in (0, 2, 4, 5)]

    def damage(source: Source) -> bytes:
        return damage_bytes(source, source.choice(raws)) if source.random() < 0.95 else source.randbytes(64)

    return file_parser("CIFAR pickles", "data_batch_1", damage, read_pickle)


def encode_image(form: str) -> bytes:
    """Return a small image, turned by EXIF data where its format has them."""
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x112] = 6
    how = {} if form in ("GIF", "BMP", "PPM", "JPEG2000") else {"exif": exif}
    Image.fromarray(np.arange(12 * 10 * 3, dtype=np.uint8).reshape(10, 12, 3)).save(buffer, form, **how)
    return buffer.getvalue()


def use_image(path: Path) -> None:
    """Read an image in every way in which images are read."""
    stored_form(path)
    to_channels(open_image(path, 8), 3)
    open_image(path, upright=False)


def images() -> Parser:
    """Return the parser of images and masks."""
    raws, mask = [encode_image(form) for form in IMAGE_FORMS], io.BytesIO()
    Image.fromarray(np.arange(120, dtype=np.uint8).reshape(10, 12)).save(mask, "PNG")
    readers = {"image": use_image, "mask": stored_labels}

    def write(source: Source, folder: Path) -> Path:
        name = source.choice(sorted(readers))
        path = folder / f"{name}.png"
        whole = mask.getvalue() if name == "mask" and source.random() < 0.7 else source.choice(raws)
        path.write_bytes(damage_bytes(source, whole))
        return path

    return Parser("images", write, lambda path: readers[path.stem](path))


def _write_images(folder: Path) -> None:
    for i in (1, 2):
        if not (folder / f"{i}.png").exists():
            Image.new("RGB", (60, 40)).save(folder / f"{i}.png")


def coco_files() -> Parser:
    """Return the parser of COCO's annotations and results: people, objects, boxes."""
    readers = (_read_people, _read_objects, _read_boxes, _read_detections)

    def write(source: Source, folder: Path) -> Path:
        _write_images(folder)
        reader = source.randrange(len(readers))
        path = folder / f"{reader}.json"
        path.write_bytes(damage_json(source, DETECTIONS if reader == 3 or source.random() < 0.05 else PEOPLE))
        return path

    return Parser("COCO JSON", write, lambda path: readers[int(path.stem)](path))


def _read_people(path: Path) -> None:
    read_people(AnnotationFile(path, (path.parent,)), [])


def _read_objects(path: Path) -> None:
    read_objects(AnnotationFile(path, (path.parent,)), [])


def _read_boxes(path: Path) -> None:
    read_boxes(path, [path.parent / f"{i}.png" for i in (1, 2)])


def _read_detections(path: Path) -> None:
    read_detections(path, {i: (path.parent / f"{i}.png", (60, 40)) for i in (1, 2)}, notes=[])


YOLO_WORDS = (
    *("0", "1", "2", "-1", "0.5", "0.25", "1e300", "nan", "inf", "a", "", "1e-9", "9" * 400, "\0", "0x1", "1_0", "٣"),
)
YOLO_LINES = (
    *("names: [a, b]", "names: {0: a, 1: b}", "names: 3", "names: {a: b}", "names: []", "names: &a [*a]"),
    *("nc: 2", "nc: x", "train: images", "train: [images]", "val: ../../..", "path: /", "val: images", "a: *b"),
    *("names: [no, 1]", "{" * 2000, "- a", "\0", "names: [[a], b]", "names: 0x_", "nc: " + "9" * 5000, "a: 2001-99-99"),
)


def yolo_folders() -> Parser:
    """Return the parser of folders of YOLO's layout."""

    def write(source: Source, folder: Path) -> Path:
        for name in ("images", "labels"):
            (folder / name).mkdir(exist_ok=True)
        _write_images(folder / "images")
        lines = [" ".join(source.choices(YOLO_WORDS, k=source.randrange(8))) for _ in range(source.randrange(4))]
        (folder / "labels" / "1.txt").write_text("\n".join(lines))
        (folder / "data.yaml").write_text("\n".join(source.choices(YOLO_LINES, k=source.randrange(4))))
        return folder

    def read(folder: Path) -> object:
        return read_boxed_parts(folder, DataSettings(source="coco_boxes", dir=str(folder)), [])

    return Parser("YOLO", write, read)


def matlab_files() -> Parser:
    """Return the parser of ShanghaiTech's points."""
    inside = np.empty((1, 1), [("location", object), ("number", object)])
    inside[0, 0] = (np.arange(20.0).reshape(10, 2), np.array([[10]]))
    cell = np.empty((1, 1), object)
    cell[0, 0] = inside
    raws = []
    for packed in (False, True):
        file = io.BytesIO()
        savemat(file, {"image_info": cell}, do_compression=packed)
        raws.append(file.getvalue())
    return file_parser("mat", "a.mat", lambda source: damage_bytes(source, source.choice(raws)), read_points)


PARSERS: Mapping[str, Callable[[], Parser]] = {
    **{"recipe": recipes, "sweep": sweeps, "ticket": tickets, "run.json": records, "report": reports},
    **{"latency": latencies, "safetensors": weights, "runtime": graphs, "idx": idx_files, "pickles": pickles},
    **{"images": images, "coco": coco_files, "yolo": yolo_folders, "mat": matlab_files},
}
