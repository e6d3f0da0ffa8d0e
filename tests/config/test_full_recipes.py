"""Toy twins of the full recipes, drawn from beginning to end on generated data in the layouts that they read."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

import supertickets as st
from generate_crowds import crowds
from generate_people import SEVENTEEN, crowd
from generate_streets import published
from supertickets.config.recipe import flatten
from supertickets.data import load_splits
from supertickets.models import MobileSpec, ResNetSpec
from supertickets.runs.api import search
from supertickets.runs.session import check_batches
from supertickets.training import Runtime, Session, read_events

pytestmark = pytest.mark.long

# What moves with the number of epochs where a test does not say it.
STRETCHED = {
    *("lr.warmup_epochs", "lr.milestones", "lr.decay_epochs"),
    *("search.last_epoch", "search.interval", "search.warmup_epochs", "prune.interval"),
}
# Sizes, epochs, intervals and widths alone; all else is what the recipes say.
TOY = {
    **{"threads": 1, "epochs": 9, "evaluate_every": 9},
    **{"data.batch": 8, "data.workers": 0},
    **{"search.interval": 3, "search.warmup_epochs": 2.0, "prune.interval": 1},
}
NARROW = {
    "stem_channels": [8, 8],
    "channels": [[6], [6, 8], [6, 8, 10]],
    "blocks": [[1], [1, 1], [1, 1, 1]],
    **{"expansion": 1, "last_channels": 12, "tokens": 4, "grid": 2},
}
TWINS = {
    "cityscapes": {"data.size": [32, 64], "data.shorter": 48},
    "ade20k": {"data.size": [32, 32], "data.shorter": 40},
    "coco": {"data.size": [64, 48], "lr.milestones": [7, 8]},
}
_SLOW = pytest.mark.slow
OUTPUTS = {"cityscapes": 19, "ade20k": 150, "coco": 17}


def generated(root: Path, name: str) -> Path:
    if name == "coco":
        return crowd(root, {"train2017": 26, "val2017": 4}, SEVENTEEN)
    train, val = ("train", "val") if name == "cityscapes" else ("training", "validation")
    return published(root, name, {train: 18, val: 3}, height=48, width=96 if name == "cityscapes" else 64)


@pytest.mark.parametrize("name", [pytest.param(name, marks=_SLOW) if name == "ade20k" else name for name in TWINS])
def test_a_full_recipe_is_drawn_to_its_end(name: str, tmp_path: Path) -> None:
    toy = TOY | TWINS[name]
    words = [word for setting, value in toy.items() for word in (f"--{setting}", json.dumps(value))]
    words += [word for part, value in NARROW.items() for word in (f"--supernet.settings.{part}", json.dumps(value))]
    recipe = st.load_recipe(name, ["--data.dir", str(generated(tmp_path / "data", name)), *words])
    ticket = st.draw(recipe, tmp_path / "run")

    # What was drawn is the recipe, but for what this test says.
    written, used = (flatten(r) for r in (st.load_recipe(name).to_json(), ticket.about["recipe"]))
    changed = {setting for setting, value in used.items() if value != written[setting]}
    assert changed - STRETCHED == {*toy, "data.dir", "supernet.settings"} - STRETCHED

    total = sum(flags.numel() for flags in ticket.mask.values())
    assert sum(int((~flags).sum()) for flags in ticket.mask.values()) == round(recipe.prune.ratio * total)
    assert ticket.spec.num_classes == len(ticket.classes) == OUTPUTS[name]
    events = list(read_events(tmp_path / "run" / "events.jsonl"))
    assert [event["epoch"] for event in events if event["event"] == "shrink"] == [3, 6, 9]
    assert [event["ratio"] for event in events if event["event"] == "prune"] == [*(t / 10 for t in range(1, 10))]
    epochs = [event for event in events if event["event"] == "epoch"]
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    for part in ("validation", "test"):
        assert {"loss", *(("ap", "ap50", "ar") if name == "coco" else ("miou", "macc", "aacc"))} <= set(result[part])
        assert all(0 <= value < 100.1 for value in result[part].values())


def test_the_recipe_of_voc_is_trained_to_its_end(tmp_path: Path) -> None:
    name, part = "voc_resnet50", {"widths": [8, 8, 8, 8]}
    written = st.load_recipe(name)
    toy: dict[str, Any] = {
        **{"threads": 1, "epochs": 4, "evaluate_every": 4, "recalibrate_batches": 2},
        **{"data.batch": 8, "data.workers": 0, "data.size": [32, 32], "data.shorter": 32},
        "supernet.settings": {**written.supernet.settings, **part},
    }
    root = published(tmp_path / "data", "voc", {"train": 18, "val": 3}, height=40, width=56)
    words = [word for setting, value in toy.items() for word in (f"--{setting}", json.dumps(value))]
    ticket = st.train(st.load_recipe(name, ["--data.dir", str(root), *words]), tmp_path / "run")

    before, used = (flatten(r) for r in (written.to_json(), ticket.about["recipe"]))
    changed = {setting for setting, value in used.items() if value != before[setting]}
    assert changed - STRETCHED == {*toy, "data.dir"} - STRETCHED
    assert isinstance(ticket.spec, ResNetSpec)
    assert (ticket.spec.attention, ticket.spec.sharing, ticket.spec.coarsest_stride) == ("se", "stage", 8)
    assert ticket.spec.num_classes == 21
    epochs = [event for event in read_events(tmp_path / "run" / "events.jsonl") if event["event"] == "epoch"]
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]
    assert 0 < ticket.about["test"]["miou"] <= 100


# Images in class folders, of 8 colours; nothing is learned, but it is the same search and the same training.
SMALL = {
    **{"threads": 1, "epochs": 8, "evaluate_every": 8, "recalibrate_batches": 1},
    **{"data.size": 32, "data.batch": 16, "data.workers": 0, "data.validation": 0.25},
    **{"accumulate": 4, "optimizer.lr": 0.01, "lr.warmup_epochs": 0.2},
    "supernet.settings": {"width": 0.25, "strides": [1, 1, 2, 2, 1, 2, 1]},
}
BUDGET = {"policy.images": 4, "policy.lr": 0.1, "budget.macs": 2e6}


def colours(root: Path) -> Path:
    """64 training and 8 validation images, one plain colour per class with some noise."""
    generator = np.random.default_rng(0)
    for part, number in (("train", 8), ("val", 1)):
        for label in range(8):
            folder = root / part / f"colour{label}"
            folder.mkdir(parents=True)
            for i in range(number):
                plain = np.array([label & 1, label >> 1 & 1, label >> 2 & 1]) * 200
                pixels = plain + generator.integers(0, 55, (40, 36, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.mark.parametrize("epochs", [90, pytest.param(360, marks=_SLOW)])
@pytest.mark.parametrize("what", [pytest.param("search", marks=_SLOW), "train"])
def test_a_recipe_of_imagenet_runs_to_its_end(what: str, epochs: int, tmp_path: Path) -> None:
    name = f"imagenet_{what}_{epochs}"
    written = st.load_recipe(name)
    assert (written.epochs, written.data.batch // written.accumulate) == (epochs, 128)
    toy = SMALL | {"supernet.settings": {**written.supernet.settings, **SMALL["supernet.settings"]}}
    toy |= BUDGET if what == "search" else {}
    words = [word for setting, value in toy.items() for word in (f"--{setting}", json.dumps(value))]
    recipe = st.load_recipe(name, ["--data.dir", str(colours(tmp_path / "data")), *words])
    ticket = (search if what == "search" else st.train)(recipe, tmp_path / "run")

    before, used = (flatten(r) for r in (written.to_json(), ticket.about["recipe"]))
    changed = {setting for setting, value in used.items() if value != before[setting]}
    assert changed - STRETCHED == {*toy, "data.dir"} - STRETCHED
    assert isinstance(ticket.spec, MobileSpec)
    assert not ticket.spec.is_search_space()
    assert (ticket.spec.num_classes, ticket.spec.dropout) == (8, 0.25 if epochs == 360 else 0.0)
    records = [event for event in read_events(tmp_path / "run" / "events.jsonl") if event["event"] == "epoch"]
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    if what == "search":
        assert ticket.about["search"]["cost"] == ticket.cost.macs
        assert records[-1]["entropy"] < records[0]["entropy"]
        assert records[-1]["sampled_networks"] == 3 * 4  # batches of an epoch, and parts of each


# ResNets with attention, trained alone and searched; the networks are the recipes', with narrower stages.
RESNETS: dict[str, dict[str, Any]] = {
    "cifar100_resnet38": {"widths": [4, 4, 8], "ratio": 4},
    "cifar100_resnet164": {"widths": [4, 4, 4], "ratio": 4},
    "imagenet_resnet50": {"widths": [8, 8, 16, 16], "ratio": 4},
}
BLOCKS = {"cifar100_resnet38": (4, 4, 4), "cifar100_resnet164": (18, 18, 18), "imagenet_resnet50": (3, 4, 6, 3)}


def hundred(folder: Path) -> Path:
    """CIFAR-100's Python version with images of one plain colour per class with some noise."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"fine{i}" for i in range(100)]}, protocol=2))
    colours = generator.integers(0, 200, (100, 3, 1))
    for name, count in (("train", 5), ("test", 1)):
        labels = [*range(100)] * count
        plain = np.repeat(colours[labels], 1024, axis=2) + generator.integers(0, 55, (100 * count, 3, 1024))
        values = {"fine_labels": labels, "data": plain.reshape(-1, 3072).astype(np.uint8)}
        (folder / name).write_bytes(pickle.dumps(values, protocol=2))
    return folder


@pytest.mark.parametrize("what", ["search", "train"])
@pytest.mark.parametrize("name", RESNETS)
def test_a_recipe_of_attention_runs_to_its_end(name: str, what: str, tmp_path: Path) -> None:
    written = st.load_recipe(name)
    toy: dict[str, Any] = {
        **{"threads": 1, "epochs": 3, "evaluate_every": 3, "data.workers": 0, "data.batch": 16},
        "supernet.settings": {**written.supernet.settings, **RESNETS[name]},
    }
    if name == "imagenet_resnet50":  # few images, cropped hard: six epochs, or 0.1 of learning rate, may learn nothing
        toy |= {"data.size": 32, "data.validation": 0.25, "epochs": 18, "evaluate_every": 18, "optimizer.lr": 0.02}
    else:
        toy |= {"data.limit": 64}
    if what == "search":
        toy |= {"connect.steps": 2}
    words = [word for setting, value in toy.items() for word in (f"--{setting}", json.dumps(value))]
    made = colours if name == "imagenet_resnet50" else hundred
    recipe = st.load_recipe(name, ["--data.dir", str(made(tmp_path / "data")), *words])
    ticket = (search if what == "search" else st.train)(recipe, tmp_path / "run")

    before, used = (flatten(r) for r in (written.to_json(), ticket.about["recipe"]))
    changed = {setting for setting, value in used.items() if value != before[setting]}
    assert changed - STRETCHED == {*toy, "data.dir"} - STRETCHED
    assert isinstance(ticket.spec, ResNetSpec)
    assert (ticket.spec.blocks, ticket.spec.attention) == (BLOCKS[name], "se")
    assert ticket.spec.sharing == ("stage" if name == "imagenet_resnet50" else "none")
    assert all(ticket.spec.connected) == (what == "train")
    events = list(read_events(tmp_path / "run" / "events.jsonl"))
    losses = [event["train_loss"] for event in events if event["event"] == "epoch"]
    assert losses[-1] < losses[0]
    assert [event["steps"] for event in events if event["event"] == "connect"] == ([2] if what == "search" else [])


# Dots on dark ground; the network is the recipe's, a sixteenth as wide.
CROWDS = {
    **{"threads": 1, "epochs": 6, "evaluate_every": 6, "recalibrate_batches": 1, "optimizer.lr": 0.01},
    **{"data.size": [40, 40], "data.batch": 4, "data.workers": 0, "data.sigma": 2.0, "lr.warmup_epochs": 0.0},
    "supernet.settings": {"head": "density", "attention": "se", "sharing": "stage", "widths": [4, 8, 16, 32]},
}


@pytest.mark.parametrize(("part", "parts"), [("a", (270, 30, 182)), ("b", (360, 40, 316))])
def test_crowds_are_split_as_the_paper_splits_them(part: str, parts: tuple[int, ...], tmp_path: Path) -> None:
    train, validation, test = parts
    root = crowds(tmp_path, {"train": train + validation, "test": test}, height=8, width=12)
    splits = load_splits(st.load_recipe(f"shanghaitech_{part}", ["--data.dir", str(root)]).data)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == parts


@pytest.mark.parametrize("part", ["a", "b"])
def test_a_recipe_of_crowds_runs_to_its_end(part: str, tmp_path: Path) -> None:
    written = st.load_recipe(f"shanghaitech_{part}")
    assert written.supernet.settings == {n: v for n, v in CROWDS["supernet.settings"].items() if n != "widths"}  # type: ignore[attr-defined]
    crowds(tmp_path / "data" / f"part_{part.upper()}", {"train": 30, "test": 4})
    words = [word for setting, value in CROWDS.items() for word in (f"--{setting}", json.dumps(value))]
    recipe = st.load_recipe(f"shanghaitech_{part}", ["--data.dir", str(tmp_path / "data"), *words])
    ticket = st.train(recipe, tmp_path / "run")

    before, used = (flatten(r) for r in (written.to_json(), ticket.about["recipe"]))
    changed = {setting for setting, value in used.items() if value != before[setting]}
    assert changed - STRETCHED == {*CROWDS, "data.dir"} - STRETCHED
    assert (ticket.spec.head, ticket.classes) == ("density", ("density",))
    records = [event for event in read_events(tmp_path / "run" / "events.jsonl") if event["event"] == "epoch"]
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    for split in ("validation", "test"):
        assert set(result[split]) == {"loss", "mae", "rmse", "count"}
        assert 0 < result[split]["mae"] <= result[split]["rmse"]


@pytest.mark.parametrize("name", [f"imagenet_{what}_{epochs}" for what in ("search", "train") for epochs in (90, 360)])
@pytest.mark.parametrize("world", [1, 8, 32])
def test_a_recipe_of_imagenet_means_the_same_on_any_number_of_processes(name: str, world: int) -> None:
    """32 networks, or parts, of 128 images each, in every step."""
    recipe, runtime = st.load_recipe(name), Runtime(torch.device("cpu"), 0, world)
    session: Any = Session(recipe, *cast(Any, [None] * 3), runtime, *cast(Any, [None] * 2))
    assert session.parts * world == 32
    assert recipe.data.batch // world // session.parts == 128
    check_batches(recipe, cast(Any, SimpleNamespace(train=range(1_200_000))), runtime)


def test_processes_that_cannot_share_the_parts_are_refused() -> None:
    recipe = st.load_recipe("imagenet_search_360")
    splits = cast(Any, SimpleNamespace(train=range(1_200_000)))
    for world, nearest in ((3, 33), (64, 64)):
        with pytest.raises(st.UserError, match=f"accumulate 32 cannot be shared by {world} .* is {nearest}$"):
            check_batches(recipe, splits, Runtime(torch.device("cpu"), 0, world))
