"""Tickets of scenes and of people: the features of one under the head of the other, and both pruned in one shot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

import supertickets as st
from cli_outcome import Cli
from generate_people import NAMES, crowd
from generate_streets import street
from supertickets.models import HRNet

pytestmark = pytest.mark.long

# Stem and stages of both supernets, so that features and head of two tickets fit together.
DRAWN = [
    *("--supernet.settings.channels", "[[8],[8,12]]", "--supernet.settings.blocks", "[[1],[1,1]]"),
    *("--supernet.settings.stem_channels", "[8,8]", "--supernet.settings.stem_strides", "[2,1]"),
    *("--supernet.settings.kernels", "[3,5]", "--supernet.settings.tokens", "3", "--supernet.settings.grid", "2"),
    *("--search.interval", "1", "--search.last_epoch", "2", "--search.warmup_epochs", "0"),
    *("--search.threshold", "0.8", "--search.floor", "0.6"),
    *("--prune.ratio", "0.5", "--prune.interval", "2", "--prune.progressive", "false", "--prune.layer_floor", "0.05"),
]
QUICK = ["--threads", "1", "--evaluate_every", "8", "--recalibrate_batches", "2", "--data.workers", "0"]
SCENES = [
    *(*QUICK, "--data.size", "[32,40]", "--data.shorter", "32", "--data.batch", "8", "--augment.resize", "[0.75,1.5]"),
    *("--data.class_names", '["sky","road","tree"]', "--data.ignore", "[255]", "--optimizer.lr", "0.02"),
]
PEOPLE = [
    *(*QUICK, "--data.size", "[32,24]", "--data.batch", "12", "--data.validation", "0.1"),
    *("--augment.jitter", "0", "--pose.sigma", "1.0", "--optimizer.lr", "0.01"),
]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crowd(tmp_path_factory.mktemp("crowd"), {"train2017": 80, "val2017": 16})


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on scenes; tests must not write into it."""
    root = tmp_path_factory.mktemp("scenes")
    words = ["--data.dir", str(street(root / "data", {"train": 24, "val": 4, "test": 6})), "--epochs", "3"]
    st.draw(st.load_recipe("camvid", [*words, *SCENES, *DRAWN]), root / "run")
    return root / "run"


@pytest.fixture(scope="module")
def posed(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on people; tests must not write into it."""
    out = tmp_path_factory.mktemp("people") / "run"
    st.draw(st.load_recipe("fashion_pose", ["--data.dir", str(people), "--epochs", "3", *PEOPLE, *DRAWN]), out)
    return out


def of_features(mask: Mapping[str, Tensor], wanted: bool = True) -> dict[str, Tensor]:
    return {name: flags for name, flags in mask.items() if HRNet.is_feature(name) == wanted}


def assert_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys() != set()
    assert all(torch.equal(flags, other[name]) for name, flags in one.items())


# Features ------------------------------------------------------------------------------------------------------------


def test_features_of_scenes_learn_joints_under_a_fresh_head(
    cli: Cli, painted: Path, people: Path, tmp_path: Path
) -> None:
    words = ("--data", people, "--epochs", "6", "--out", tmp_path / "run", *PEOPLE, "--json")
    outcome = cli("transfer", painted, "fashion_pose", *words)
    assert outcome.status == 0, outcome.err
    before, after = st.load(painted), st.load(tmp_path / "run")
    assert (after.spec.head, after.classes) == ("keypoints", NAMES)
    assert_equal(of_features(before.mask), of_features(after.mask))
    assert all(flags.all() for flags in of_features(after.mask, False).values())  # what is new stays dense
    assert all(not after.weights[name][~flags].any() for name, flags in after.mask.items())
    assert json.loads(outcome.out)["test"]["ap"] > 20
    history = "draw camvid (segmentation on masks), then transfer fashion_pose-from-camvid (pose on coco)"
    assert f"| history | {history} |" in after.card()


def test_features_of_scenes_learn_joints_under_a_head_of_people(
    cli: Cli, painted: Path, posed: Path, people: Path, tmp_path: Path
) -> None:
    words = ("--data", people, "--epochs", "1", "--out", tmp_path / "run", *PEOPLE, "--json")
    outcome = cli("transfer", painted, "fashion_pose", "--head", posed, *words)
    assert outcome.status == 0, outcome.err
    features, head, after = st.load(painted), st.load(posed), st.load(tmp_path / "run")
    assert_equal(of_features(features.mask), of_features(after.mask))
    assert_equal(of_features(head.mask, False), of_features(after.mask, False))
    assert all(not after.weights[name][~flags].any() for name, flags in after.mask.items())
    assert after.spec.units["head_transform"] == head.spec.units["head_transform"]
    assert {"ap", "ar"} <= set(json.loads(outcome.out)["test"])
    assert "| head | inherited from draw fashion_pose (" in after.card()


# Pruned in one shot --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["snip", "grasp"])
@pytest.mark.parametrize(("run", "figures"), [("painted", {"miou", "macc", "aacc"}), ("posed", {"ap", "ar"})])
def test_gradients_of_every_task_rank_its_weights(
    cli: Cli, request: pytest.FixtureRequest, tmp_path: Path, run: str, figures: set[str], criterion: str
) -> None:
    source: Path = request.getfixturevalue(run)
    words = ("--ratio", "0.8", "--batches", "2", "--prune.exempt_below", "0", "--out", tmp_path / "run", "--json")
    outcome = cli("prune", source, "--criterion", criterion, *words)
    assert outcome.status == 0, outcome.err
    before, after = st.load(source), st.load(tmp_path / "run")
    total = sum(flags.numel() for flags in after.mask.values())
    assert sum(int((~flags).sum()) for flags in after.mask.values()) == round(0.8 * total)
    for name, flags in after.mask.items():
        assert torch.equal(after.weights[name], before.weights[name] * flags)  # nothing is trained
        assert not (flags & ~before.mask[name]).any()  # what was pruned stays so
    assert {"loss", *figures} <= set(json.loads(outcome.out)["test"])
    assert (after.about["criterion"], after.about["batches"]) == (criterion, 2)
