"""Pose estimation: loss, a table that adds up over processes, COCO's figures of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from generate_people import NAMES, crowd
from supertickets.config.recipe import AugmentSettings, DataSettings
from supertickets.data import Batches
from supertickets.data.coco_keypoints import PersonDataset, load_coco_keypoints
from supertickets.data.joints import COCO_SIGMAS
from supertickets.tasks import Pose
from supertickets.tasks.heatmaps import flip_back, heatmaps, pose_metrics

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
CPU = torch.device("cpu")
TASK = Pose(NAMES, 1.0)


class Knows(nn.Module):
    """Answers a batch with the maps of its joints, and the batch after it, the mirrored one, with theirs."""

    def __init__(self, flip: tuple[int, ...] | None, sigma: float = 1.0) -> None:
        super().__init__()
        self.flip, self.sigma = flip, sigma
        self.joints = torch.zeros(0)
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        maps, _ = heatmaps(self.joints, (images.shape[2] // 4, images.shape[3] // 4), self.sigma)
        return maps if self.flip is None or self.calls % 2 else flip_back(maps, self.flip)


def measured(data: PersonDataset, batches: Batches, task: Pose, knows: Knows) -> Tensor:
    def labelled_batches() -> Any:
        for images, regions in batches.evaluation(data):
            knows.joints = regions.joints
            yield images, regions

    return task.totals(knows, labelled_batches(), data, CPU)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crowd(tmp_path_factory.mktemp("crowd"), {"train": 12, "val": 7}, height=160, width=160)


def batches(root: Path, **more: Any) -> Batches:
    data = DataSettings(source="coco", dir=str(root), size=(96, 72), **more)
    return Batches(load_coco_keypoints(data), data, AugmentSettings(), 0)


def test_loss_by_hand() -> None:
    # The middle of cell (1, 2) of 4 x 6, twice; the second joint is not marked.
    joints = torch.tensor([[[2.5 / 6, 1.5 / 4, 2], [0.5, 0.5, 0]]])
    maps = torch.zeros(1, 2, 4, 6)
    maps[0, 0, 1, 2] = 0.5
    maps[0, 1] = 9
    rows, columns = np.mgrid[0:4, 0:6]
    bell = np.exp(-((rows - 1) ** 2 + (columns - 2) ** 2) / 2) * ((abs(rows - 1) <= 3) & (abs(columns - 2) <= 3))
    wanted = ((maps[0, 0].numpy() - bell) ** 2).sum() / 2 / (2 * 4 * 6)
    assert float(TASK.loss(maps, joints)) == pytest.approx(wanted, rel=1e-5)
    assert float(TASK.loss(maps, joints * torch.tensor([1, 1, 0]))) == 0


@pytest.mark.parametrize("flip_test", [True, False])
def test_a_network_that_knows_scores_everything(root: Path, flip_test: bool) -> None:
    made = batches(root)
    data = made.splits.test
    assert isinstance(data, PersonDataset)
    task = dataclasses.replace(TASK, flip_test=flip_test)
    knows = Knows(data.joints.flip if flip_test else None)
    totals = measured(data, made, task, knows)
    assert knows.calls == (2 if flip_test else 1)
    metrics = task.metrics(totals, data)
    assert metrics["loss"] == pytest.approx(0, abs=1e-12)
    assert (metrics["ap50"], metrics["ar"] > 90) == (pytest.approx(100), True)
    # A quarter of a cell is one pixel of the input.
    xy, marks = totals[:, 3:].reshape(7, 5, 3)[..., :2].numpy(), np.stack([p.joints[:, :2] for p in data.samples])
    widths = np.array([p.box[2] for p in data.samples])
    assert np.abs(xy - marks).max() <= 1.1 * max(widths) / 72 / 0.8 * 1.5


def test_worse_joints_score_less(root: Path) -> None:
    made = batches(root)
    data = made.splits.test
    assert isinstance(data, PersonDataset)
    totals = measured(data, made, dataclasses.replace(TASK, flip_test=False), Knows(None))
    good = TASK.metrics(totals, data)["ap"]
    moved = totals.clone()
    moved[:3, 3::3] += 25  # x of all joints of three people
    assert 40 < TASK.metrics(moved, data)["ap"] < good * 5 / 7 + 1


def test_totals_add_up_over_processes(root: Path) -> None:
    made = batches(root)
    data = made.splits.test
    assert isinstance(data, PersonDataset)
    whole = measured(data, made, TASK, Knows(data.joints.flip))
    world = 9  # more than there are people
    shares = [
        measured(data, dataclasses.replace(made, rank=rank, world=world), TASK, Knows(data.joints.flip))
        for rank in range(world)
    ]
    assert torch.equal(torch.stack(shares).sum(0), whole)


def test_images_that_nobody_could_read_do_not_count(root: Path) -> None:
    made = batches(root)
    data = made.splits.test
    assert isinstance(data, PersonDataset)
    totals = measured(data, made, TASK, Knows(data.joints.flip))
    totals[2] = 0
    assert TASK.metrics(totals, data)["ap50"] == pytest.approx(100)
    assert not TASK.metrics(torch.zeros_like(totals), data).get("ap", 0)


def test_one_person_detected_twice_counts_once(root: Path, tmp_path: Path) -> None:
    truth = json.loads((root / "annotations" / "person_keypoints_val.json").read_text())
    entries = [
        {"image_id": a["image_id"], "category_id": 1, "bbox": a["bbox"], "score": score}
        for a in truth["annotations"]
        for score in (0.4, 0.9)
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    made = batches(root, boxes=str(tmp_path / "boxes.json"))
    data, true = made.splits.test, batches(root).splits.test
    assert isinstance(data, PersonDataset)
    assert isinstance(true, PersonDataset)
    totals = torch.zeros(14, 3 + 15, dtype=torch.float64)
    totals[:, 0] = 1
    totals[:, 3:] = torch.from_numpy(np.stack([p.joints for p in true.samples])).repeat_interleave(2, 0).flatten(1)
    metrics = TASK.metrics(totals, data)
    assert metrics["ap"] == pytest.approx(100)
    assert "loss" not in metrics


@pytest.mark.parametrize("name", ["coco_mini", "fashion_pose_coco"])
def test_figures_equal_those_of_the_whole_file(name: str) -> None:
    """Crowds, people without joints and images without people are where COCO has them."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not here")
    made = batches(SHARED / name)
    data = made.splits.test
    assert isinstance(data, PersonDataset)
    random = np.random.default_rng(0)
    totals = np.ones((len(data), 3 + 51))
    results = []
    for row, someone in zip(totals, data.samples, strict=True):
        pose = someone.joints + random.normal(0, 0.03 * np.sqrt(someone.area), (17, 3)) * [1, 1, 0]
        pose[:, 2] = random.uniform(0.3, 1)
        row[3:] = pose.reshape(-1)
        results.append((someone.image_id, pose))
    raw = json.loads((SHARED / name / "annotations" / "person_keypoints_val2017.json").read_text())
    wanted = pose_metrics(
        raw,
        [
            {"image_id": i, "category_id": 1, "keypoints": pose.reshape(-1).tolist(), "score": pose[:, 2].mean()}
            for i, pose in results
        ],
        COCO_SIGMAS,
    )
    metrics = Pose(made.splits.classes).metrics(torch.from_numpy(totals), data)
    assert 20 < metrics["ap"] < 95
    for key, value in wanted.items():
        assert metrics.get(key, np.nan) == pytest.approx(value, abs=1e-6, nan_ok=True)
