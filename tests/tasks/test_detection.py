"""Detection: the loss, a table that adds up over processes, COCO's figures of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder

from generate_objects import NAMES, market
from supertickets.config.recipe import AugmentSettings, DataSettings
from supertickets.data import Batches
from supertickets.data.detection import DetectionDataset, load_detection
from supertickets.models.heads.anchors import anchors
from supertickets.tasks import Detection, find_task, primary_metric
from supertickets.tasks.boxes import box_losses, match_anchors

CPU = torch.device("cpu")
TASK = Detection(NAMES)
COUNT = 6 * (16 + 4 + 1 + 1 + 1 + 1)


class Knows(nn.Module):
    """Answers the images of a split, one after the other, with their own boxes, moved by a share of their size."""

    def __init__(self, data: DetectionDataset, positions: list[int], moved: float = 0.0) -> None:
        super().__init__()
        self.data, self.positions, self.moved = data, positions, moved

    def forward(self, images: Tensor) -> Tensor:
        mine, self.positions = self.positions[: len(images)], self.positions[len(images) :]
        out = torch.zeros(len(images), COUNT, len(NAMES) + 5)
        out[..., 0] = 10
        for answer, i in zip(out, mine, strict=True):
            objects = torch.from_numpy(self.data.samples[i].boxes())
            [match] = match_anchors(objects[None], anchors(COUNT, CPU))
            own = objects[match.clamp_min(0)]
            width = own[:, 3:4] - own[:, 1:2]
            places = own[:, 1:] + self.moved * width * torch.tensor([1.0, 0, 1, 0])
            answer[:, -4:] = BoxCoder((10.0, 10.0, 5.0, 5.0)).encode_single(places, anchors(COUNT, CPU))
            answer[match >= 0, 0] = 0
            answer[match >= 0, 1 + own[match >= 0, 0].long()] = 20
        return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Batches:
    root = market(tmp_path_factory.mktemp("market"), {"train": 10, "val": 9})
    data = DataSettings(source="coco_boxes", dir=str(root), size=64)
    return Batches(load_detection(data), data, AugmentSettings(), 0)


def measured(made: Batches, moved: float = 0.0) -> Tensor:
    data = made.splits.test
    assert isinstance(data, DetectionDataset)
    mine = list(range(made.rank, len(data), made.world))
    return TASK.totals(Knows(data, mine, moved), made.evaluation(data), data, CPU)


def test_the_loss_is_divided_by_what_answers() -> None:
    torch.manual_seed(0)
    scores, target = torch.randn(2, COUNT, len(NAMES) + 5), torch.tensor([[[1, 0.1, 0.1, 0.6, 0.7]], [[-1.0] * 5]])
    losses, positives = box_losses(scores, target, anchors(COUNT, CPU))
    assert float(TASK.loss(scores, target)) == pytest.approx(float(losses.sum() / positives.sum()))
    assert float(TASK.loss(scores, target[1:].expand(2, -1, -1))) == 0


def test_a_network_that_knows_scores_everything(made: Batches) -> None:
    metrics = TASK.metrics(measured(made), made.splits.test)
    assert metrics["map"] == pytest.approx(100)
    assert metrics["ar"] == pytest.approx(100)
    assert metrics["loss"] < 1e-3
    metric = primary_metric(metrics)
    assert metric is not None
    assert (metric.display_name, metric.text(metrics)) == ("mAP", f"{metrics['map']:.2f}%")


def test_worse_boxes_score_less(made: Batches) -> None:
    figures = [TASK.metrics(measured(made, moved), made.splits.test) for moved in (0.0, 0.1, 0.2, 0.6)]
    assert [f["map"] for f in figures] == sorted((f["map"] for f in figures), reverse=True)
    assert figures[2]["ap50"] > 50 > figures[2]["ap75"]
    assert figures[3]["map"] < 5


def test_totals_add_up_over_processes(made: Batches) -> None:
    whole = measured(made, 0.1)
    world = 10  # more than there are images
    shares = [measured(dataclasses.replace(made, rank=rank, world=world), 0.1) for rank in range(world)]
    assert torch.equal(torch.stack(shares).sum(0), whole)


def test_images_that_nobody_looked_at_do_not_count(made: Batches) -> None:
    """As those of other networks in a search; without any object there is no figure."""
    totals = measured(made)
    totals[3:] = 0
    assert TASK.metrics(totals, made.splits.test)["map"] == pytest.approx(100)
    assert TASK.metrics(torch.zeros_like(totals), made.splits.test) == {"loss": 0}


def test_crowds_neither_count_nor_harm(made: Batches) -> None:
    totals, data = measured(made), made.splits.test
    assert isinstance(data, DetectionDataset)
    samples = []
    for one in data.samples:
        objects = one.objects.copy()
        objects[0, 6] = 1
        samples.append(dataclasses.replace(one, objects=objects))
    crowded = dataclasses.replace(data, samples=tuple(samples))
    assert TASK.metrics(totals, crowded)["map"] == pytest.approx(100)


class Sure(nn.Module):
    """Sees one object, everywhere."""

    def forward(self, images: Tensor) -> Tensor:
        out = torch.zeros(len(images), COUNT, len(NAMES) + 5)
        out[..., 0] = 20
        out[:, 5, :3] = torch.tensor([0.0, 0.0, 20.0])
        return out


def test_predictions_are_in_pixels_of_the_image(made: Batches) -> None:
    detections = TASK.predict(Sure(), made.splits.preprocessing, Image.new("RGB", (200, 100)))
    assert len(detections) == 1
    name, score, box = detections[0]
    assert (name, score) == ("sky", pytest.approx(1, abs=1e-6))
    left, top, right, low = (anchors(COUNT, CPU)[5].clamp(0, 1).numpy() * np.array([200, 100, 200, 100])).tolist()
    assert box == pytest.approx((left, top, right - left, low - top), abs=1e-4)


def test_the_task_of_a_head() -> None:
    task: Any = find_task("detection").from_recipe(NAMES, {})
    assert task == TASK
