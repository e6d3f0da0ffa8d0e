"""Whole runs on generated objects: trained, resumed, evaluated, shown as boxes, exported, searched, pruned."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.ops import box_iou

import supertickets as st
from cli_outcome import Cli, onnx_file, onnx_predict
from generate_objects import NAMES, image_with_boxes, market
from simulate_powercut import cut_at_step
from supertickets.config.recipe import flatten
from supertickets.cost import count
from supertickets.cost.latency_table import LatencyTable
from supertickets.deploy import export
from supertickets.models import MobileSpec
from supertickets.models.factory import create_spec
from supertickets.models.heads.anchors import anchors
from supertickets.runs.api import search, train
from supertickets.runs.derive import NO_SEARCH_NO_PRUNING, recipe_of
from supertickets.training import read_events

pytestmark = pytest.mark.long

# Sizes, epochs and widths alone, and a rate for small batches; all else is what the recipe says.
TOY = {
    **{"threads": 1, "epochs": 24, "evaluate_every": 12, "recalibrate_batches": 2, "optimizer.lr": 0.05},
    **{"data.size": 64, "data.batch": 16, "data.workers": 0, "data.validation": 0.1},
}
SEARCH = """
--epochs 2 --evaluate_every 2 --accumulate 2 --policy.images 4 --policy.lr 0.3 --recalibrate_batches 1
--supernet.name tunas_proxyless --data.limit 48
"""


def words(root: Path, *more: str) -> list[str]:
    toy = [word for name, value in TOY.items() for word in (f"--{name}", json.dumps(value))]
    return ["--data.dir", str(root), *toy, "--supernet.settings.width", "0.2", *more]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return market(tmp_path_factory.mktemp("market"), {"train2017": 120, "val2017": 24})


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run, the toy twin of the recipe; tests must not write into it."""
    out = tmp_path_factory.mktemp("objects") / "run"
    train(st.load_recipe("coco_boxes", [*NO_SEARCH_NO_PRUNING, *words(folder)]), out)
    return out


def test_objects_are_learned(run: Path) -> None:
    ticket = st.load(run)
    recipes = (st.load_recipe("coco_boxes"), recipe_of(ticket))
    written, used = (flatten(recipe.to_json()) for recipe in recipes)
    changed = {setting for setting, value in used.items() if value != written[setting]}
    stretched = {"search.rho", "prune.interval", "lr.warmup_epochs", "lr.decay_epochs", "lr.milestones"}
    assert changed - stretched == {*TOY, "data.dir", "supernet.settings"} - stretched
    result = json.loads((run / "result.json").read_text())
    assert {"loss", "map", "ap50", "ap75", "ap_m", "ar"} <= set(result["test"])
    assert result["test"]["ap50"] > 15  # nothing at the start
    epochs = [event for event in read_events(run / "events.jsonl") if event["event"] == "epoch"]
    assert epochs[-1]["train_loss"] < 0.7 * epochs[0]["train_loss"]
    assert ticket.classes == NAMES
    card = ticket.card()
    assert "| task | detection, 3 classes |" in card
    assert "pipeline_tag: object-detection" in card


def test_evaluate_finds_the_figure_of_the_run(cli: Cli, run: Path, folder: Path) -> None:
    metrics = json.loads(cli("evaluate", run, "--data", folder, "--json").out)
    assert metrics == pytest.approx(json.loads((run / "result.json").read_text())["test"])


def test_predict_finds_objects_and_draws_them(cli: Cli, run: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    hits = []
    for i in range(12):
        image_with_boxes(1000 + i)[0].save(tmp_path / "new" / f"{i:03}.png")
    rows = json.loads(cli("predict", run, tmp_path / "new", "--save", tmp_path / "out", "--json").out)
    for i, row in enumerate(rows):
        scores = [entry["score"] for entry in row["objects"]]
        assert len(scores) <= 100
        assert scores == sorted(scores, reverse=True)
        objects = np.array(image_with_boxes(1000 + i)[1])
        surest = torch.tensor([entry["box"] for entry in row["objects"][:5]], dtype=torch.float64)
        surest[:, 2:] += surest[:, :2]
        corners = torch.tensor(np.column_stack((objects[:, 1:3], objects[:, 1:3] + objects[:, 3:])))
        hits.append(float(box_iou(surest, corners).max()))
    assert np.median(hits) > 0.5
    with Image.open(tmp_path / "out" / "000.png") as drawn:
        assert drawn.size == (96, 64)
    plain = cli("predict", run, tmp_path / "new")
    assert plain.status == 0
    assert " x " in plain.out or "no object is clear" in plain.out


@pytest.fixture(scope="module")
def model(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file of the ticket."""
    return onnx_file(run, tmp_path_factory.mktemp("onnx"))


def test_the_exported_network_predicts_like_the_ticket(run: Path, model: Path, tmp_path: Path) -> None:
    ticket = st.load(run)
    metadata = {entry.key: json.loads(entry.value) for entry in onnx.load(model).metadata_props}
    assert metadata["classes"] == list(NAMES)
    count = ticket.module(torch.zeros(1, 3, 64, 64)).shape[1]
    assert np.array(metadata["anchors"]) == pytest.approx(anchors(count, torch.device("cpu")).numpy(), abs=1e-6)
    assert export(ticket, tmp_path / "model.pt2", "torch").parity < 1e-4


def test_the_example_script_finds_what_the_ticket_finds(run: Path, model: Path, tmp_path: Path) -> None:
    ticket = st.load(run)
    for i in range(4):
        image_with_boxes(3000 + i)[0].save(tmp_path / "image.png")
        wanted = [entry for entry in ticket.predict([tmp_path / "image.png"])[0] if entry[1] >= 0.3]
        entries = onnx_predict(model, tmp_path / "image.png").out.strip().split("\t")[1:]
        assert [text.split()[0] for text in entries] == [name for name, _, _ in wanted]
        numbers = np.array([text.split()[1:] for text in entries], float).reshape(-1, 5)
        assert numbers == pytest.approx(np.array([[s, *box] for _, s, box in wanted]).reshape(-1, 5), abs=0.02)


def test_a_stopped_run_goes_on_to_the_same_ticket(folder: Path, tmp_path: Path) -> None:
    short = ("--epochs", "2", "--evaluate_every", "2", "--data.limit", "48", "--checkpoint_seconds", "0")
    recipe = st.load_recipe("coco_boxes", [*NO_SEARCH_NO_PRUNING, *words(folder, *short)])
    train(recipe, tmp_path / "whole")
    with cut_at_step(1, 1):
        train(recipe, tmp_path / "resumed")
    st.resume(tmp_path / "resumed")
    whole, resumed = (load_file(tmp_path / run / "ticket" / "model.safetensors") for run in ("whole", "resumed"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.fixture(scope="module")
def searched(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a policy search; it learns nothing, but everything happens to it."""
    out = tmp_path_factory.mktemp("search") / "run"
    more = [*SEARCH.split(), "--supernet.settings.width", "0.1", "--budget.macs", "2e6"]
    search(st.load_recipe("coco_boxes", [*NO_SEARCH_NO_PRUNING, *words(folder), *more]), out)
    return out


def test_a_search_by_the_precision_of_boxes(searched: Path) -> None:
    ticket = st.load(searched)
    assert isinstance(ticket.spec, MobileSpec)
    assert (ticket.spec.head, ticket.spec.is_search_space()) == ("detection", False)
    assert ticket.about["search"]["cost"] == count(ticket.spec).macs
    assert "last.filters" not in ticket.about["search"]["choices"]
    epochs = [event for event in read_events(searched / "events.jsonl") if event["event"] == "epoch"]
    assert all(0 <= event["sampled_quality"] <= 1 for event in epochs)
    assert "map" in ticket.about["test"]


def test_the_searched_network_is_trained_alone(searched: Path, folder: Path, tmp_path: Path) -> None:
    more = ["--supernet.name", f"ticket:{searched}", "--epochs", "1", "--evaluate_every", "1", "--data.limit", "32"]
    plain = [word for word in words(folder) if word not in ("--supernet.settings.width", "0.2")]
    ticket = train(st.load_recipe("coco_boxes", [*NO_SEARCH_NO_PRUNING, *plain, *more]), tmp_path / "run")
    assert ticket.spec == dataclasses.replace(st.load(searched).spec, bn_momentum=0.03)  # type: ignore[type-var]


def test_a_search_measures_the_head(cli: Cli, tmp_path: Path) -> None:
    options = ("--size", "64", "64", "--classes", "3", "--head", "detection", "--width", "0.1")
    out = tmp_path / "table.json"
    assert (
        cli("latency-table", "tunas_proxyless", *options, "--repeats", "1", "--networks", "2", "--out", out).status == 0
    )
    table = LatencyTable.load(out)
    assert table.spec.head == "detection"
    [detector] = [name for name in table.ms if name.startswith("detector")]
    assert detector.endswith("at 4x4")
    space = create_spec("tunas_proxyless", width=0.1, image_size=(64, 64), num_classes=3)
    assert isinstance(space, MobileSpec)
    with pytest.raises(st.UserError, match=r"measured for another space.*another head \(classification\)"):
        table.check_serves(space, "it")


def test_a_draw_prunes_all_but_the_predictions(folder: Path, tmp_path: Path) -> None:
    more = [
        "--epochs",
        "2",
        "--evaluate_every",
        "2",
        "--data.limit",
        "32",
        "--prune.ratio",
        "0.5",
        "--prune.interval",
        "1",
        "--prune.progressive",
        "false",
        "--supernet.name",
        "mobilenet_v2",
    ]
    ticket = st.draw(st.load_recipe("coco_boxes", words(folder, *more)), tmp_path / "run")
    assert ticket.cost.sparsity == pytest.approx(0.5, abs=1e-3)
    assert any(name.startswith("detector.extra") for name in ticket.mask)
    assert not any(name.endswith("module_list.0.1.weight") for name in ticket.mask)


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("train coco_boxes --data {folder} --augment.mixup 0.2", "augment.mixup"),
        ("train coco_boxes --data {folder} --augment.rotate 10", "detection takes flip, jitter, scale"),
        ("train coco_boxes --data {folder} --distill.teacher ema", "distill.teacher"),
        ("train coco_boxes --data {folder} --data.boxes detected", "data.boxes is not for detection"),
        ("train coco_boxes --data {folder} --task pose", "set task to detection"),
        ("train coco_boxes --data {folder} --data.size [64,32]", "made square"),
        ("train coco_boxes --data {folder} --supernet.name hrnet_coco", "has a head for keypoints"),
        (
            "train coco_boxes --data {folder} --supernet.settings.head classification",
            "set supernet.settings.head to detection, or",
        ),
        ("train coco_boxes --data {folder} --supernet.name tunas_proxyless", "is a space of networks"),
        ("train coco_boxes --data {folder}/annotations", "give the folder of images and annotations"),
        ("train digits --task detection", "set task to classification"),
        ("predict {run} {folder}/val2017 --boxes {folder}/none.json", "none.json"),
    ],
)
def test_wrong_input_is_refused_in_one_line(
    cli: Cli, run: Path, folder: Path, tmp_path: Path, command: str, named: str
) -> None:
    size = ["--data.batch", "8", *(["--data.size", "64"] if "data.size" not in command else [])]
    end = [*size, "--out", str(tmp_path / "run")] if command.startswith("train") else []
    refused = cli(*command.format(folder=folder, run=run).split(), *end)
    assert (refused.status, len(refused.err.splitlines())) == (2, 1), refused.err
    assert named in refused.err
    assert not (tmp_path / "run" / "run.json").exists()
