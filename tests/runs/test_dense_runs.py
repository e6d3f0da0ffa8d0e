"""Runs of every task behind networks without units of their own: drawn, cut off and resumed, exported, transferred."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import supertickets as st
from cli_outcome import Cli, onnx_file
from generate_crowds import crowds
from generate_objects import market
from generate_people import crowd
from generate_streets import street
from simulate_powercut import cut_at_step
from supertickets.data import Preprocessing
from supertickets.deploy import export
from supertickets.models.factory import create_spec
from supertickets.tasks import find_task

pytestmark = pytest.mark.long

COMMON = shlex.split(
    "--threads 1 --epochs 2 --evaluate_every 2 --recalibrate_batches 1 --data.batch 4 --data.workers 0 "
    "--checkpoint_seconds 0 --search.interval 0 --search.last_epoch null --prune.ratio 0.5 --prune.interval 1 "
    "--prune.progressive false --prune.layer_floor 0 --optimizer.lr 0.005"
)
Make = Callable[[Path], Path]
# Recipe, its images, and the settings that make it small.
TASKS: dict[str, tuple[str, Make, str]] = {
    "segmentation": (
        "camvid",
        lambda root: street(root, {"train": 8, "val": 2, "test": 2}),
        '--data.size [32,40] --data.shorter 32 --data.class_names ["sky","road","tree"] --data.ignore [255]',
    ),
    "pose": (
        "fashion_pose",
        lambda root: crowd(root, {"train2017": 12, "val2017": 4}),
        "--data.size [32,24] --data.validation 0.2 --pose.sigma 1",
    ),
    "counting": (
        "mbm_cells",
        lambda root: crowds(root, {"train": 10, "test": 2}),
        "--data.size [32,32] --data.sigma 2 --data.validation 0.2",
    ),
    "detection": (
        "coco_boxes",
        lambda root: market(root, {"train2017": 12, "val2017": 4}),
        "--data.size 64 --data.validation 0.2 --augment.scale 0",
    ),
}
NETWORKS = {
    "plain": "--supernet.name resnet8 --supernet.settings.widths [4,6,8] --supernet.settings.head_width 8",
    "timm": "--supernet.name timm:test_efficientnet --supernet.settings.head_width 8",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that returns the generated images of a task."""
    made: dict[str, Path] = {}

    def make(task: str) -> Path:
        if task not in made:
            made[task] = TASKS[task][1](tmp_path_factory.mktemp(task))
        return made[task]

    return make


def recipe_of(task: str, network: str, data: Path) -> st.Recipe:
    name, _, small = TASKS[task]
    if network == "timm":
        pytest.importorskip("timm")
    words = [*COMMON, *small.split(), *NETWORKS[network].split()]
    return st.load_recipe(name, ["--data.dir", str(data), *words])


@pytest.mark.parametrize("network", list(NETWORKS))
@pytest.mark.parametrize("task", list(TASKS))
def test_a_run_is_resumed_to_the_same_ticket_and_exported(
    folder: Callable[[str], Path], tmp_path: Path, task: str, network: str
) -> None:
    """Cut off in the second epoch, with a mask; the exported file agrees with the ticket."""
    recipe = recipe_of(task, network, folder(task))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    ticket = st.draw(recipe, whole)
    assert ticket.cost.sparsity == pytest.approx(0.5, abs=1e-2)
    assert ticket.spec.head == st.load(whole).task.head
    with cut_at_step(1, 1):
        st.draw(recipe, cut)
    st.resume(cut)
    for name in ("model.safetensors", "mask.safetensors", "config.json"):
        assert (cut / "ticket" / name).read_bytes() == (whole / "ticket" / name).read_bytes()
    onnx_file(whole, tmp_path)  # which compares outputs


def make_network(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    """Make a network for class scores: its maps are found in its graph of operations."""
    layers = [nn.Conv2d(in_channels, 4, 3, 4, 1), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))


def test_a_network_of_ones_own_is_drawn_too(folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Its graphs for training and for inference survive checkpoints, an export, and a load."""
    name = f"--supernet.name {__name__}:make_network --supernet.settings.neck lraspp --supernet.settings.head_width 4"
    words = [*COMMON, *TASKS["segmentation"][2].split(), *name.split(), "--epochs", "1"]
    made = st.draw(st.load_recipe("camvid", ["--data.dir", str(folder("segmentation")), *words]), tmp_path / "run")
    ticket = st.load(tmp_path / "run", trust=(__name__,))
    assert export(ticket, tmp_path / "model.onnx").parity < 1e-4
    images = torch.zeros(1, 3, 32, 40)
    assert torch.equal(ticket.module(images), made.module(images))
    assert not any(name.startswith("network.7.") for name in ticket.weights)  # its classifier


def test_features_move_from_one_task_to_another(cli: Cli, folder: Callable[[str], Path], tmp_path: Path) -> None:
    st.draw(recipe_of("segmentation", "plain", folder("segmentation")), tmp_path / "streets")
    words = ["--epochs", "1", "--threads", "1", "--data.batch", "4", "--recalibrate_batches", "1"]
    words += ["--out", tmp_path / "cells", "--data", folder("counting"), *TASKS["counting"][2].split()]
    outcome = cli("transfer", tmp_path / "streets", "mbm_cells", *words)
    assert outcome.status == 0, outcome.err
    before, after = st.load(tmp_path / "streets").spec.to_json(), st.load(tmp_path / "cells").spec.to_json()
    assert before["head"] == "segmentation"
    assert after == before | {"head": "density", "num_classes": 1, "image_size": after["image_size"]}


def test_a_head_for_another_task_is_refused(cli: Cli, folder: Callable[[str], Path], tmp_path: Path) -> None:
    words = [*COMMON, *TASKS["segmentation"][2].split(), "--supernet.name", "resnet8"]
    words += ["--supernet.settings.head", "keypoints"]
    outcome = cli("draw", "camvid", "--data", folder("segmentation"), "--out", tmp_path / "run", *words)
    assert outcome.status == 2
    assert "has a head for keypoints, the data is for segmentation; set supernet.settings.head to" in outcome.err


def test_sizes_that_a_network_ties_are_told_at_an_export(tmp_path: Path) -> None:
    """Average pooling that rounds up holds only for some sizes; for images of one size the file is written."""
    pytest.importorskip("timm")
    task = find_task("segmentation")
    spec = create_spec("timm:test_resnet", head=task.head, num_classes=2, image_size=(64, 64), head_width=4)
    network, prepare = spec.build(), Preprocessing(3, (64, 64), (0.5,) * 3, (0.5,) * 3)
    ticket = st.Ticket(spec, network.state_dict(), {}, ("a", "b"), prepare, {"recipe": {"task": "segmentation"}})
    with pytest.raises(st.UserError, match=r"cannot be exported for images of any size .*; give --fixed"):
        export(ticket, tmp_path / "model.onnx")
    assert export(ticket, tmp_path / "model.onnx", fixed=True).parity < 1e-4
