"""Boxes beside torchvision (matching, loss, what is found) and beside pycocotools (figures), and by hand."""

from __future__ import annotations

import contextlib
import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torchvision.models.detection._utils import SSDMatcher
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from supertickets.data.detection import pad_boxes
from supertickets.models.heads.anchors import anchors
from supertickets.tasks import boxes
from supertickets.tasks.boxes import box_losses, box_metrics, decode_detections, match_anchors

CPU = torch.device("cpu")
ANCHORS = anchors(6 * (16 + 4 + 1 + 1 + 1 + 1), CPU)
KINDS = 3


def random_objects(seed: int, counts: tuple[int, ...] = (3, 1, 0, 5)) -> Tensor:
    """Small enough that negatives never run out."""
    random = np.random.default_rng(seed)
    made = []
    for count in counts:
        low = random.uniform(0, 0.6, (count, 2))
        kinds = random.integers(0, KINDS, (count, 1))
        made.append(np.hstack((kinds, low, low + random.uniform(0.1, 0.4, (count, 2)))).astype(np.float32))
    return pad_boxes(made)


def detector(**settings: Any) -> SSD:
    """Torchvision's, whose network is never called."""
    make = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    nothing = torch.nn.Identity()
    return SSD(nothing, make, (64, 64), KINDS + 1, head=nothing, **settings)


@pytest.mark.parametrize("seed", range(20))
def test_matching_is_that_of_torchvision(seed: int) -> None:
    objects = random_objects(seed)
    matches = match_anchors(objects, ANCHORS)
    for own, row in zip(matches, objects, strict=True):
        real = row[row[:, 0] >= 0]
        wanted = SSDMatcher(0.5)(box_iou(real[:, 1:], ANCHORS)) if len(real) else torch.full((len(ANCHORS),), -1)
        assert torch.equal(own, wanted)
    assert ((matches >= 0).sum(1)[[0, 1, 3]] > 0).all()


def test_matching_by_hand() -> None:
    """Two objects; the second overlaps no anchor by half, and takes its best one from the first."""
    some = torch.tensor([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.4], [0.5, 0.5, 1, 1.0], [0.9, 0.0, 1, 0.1]])
    objects = torch.tensor([[[1, 0, 0, 0.5, 0.5], [0, 0, 0, 0.2, 0.2], [-1, -1, -1, -1, -1]]])
    assert match_anchors(objects, some[[0, 2, 3]]).tolist() == [[1, -1, -1]]
    assert match_anchors(objects, some).tolist() == [
        [0, 1, -1, -1]
    ]  # IoU 0.2 with the second anchor, 0.16 with the first


def test_the_loss_by_hand() -> None:
    """One anchor answers, moved by a fifth of its width; of seven others the three worst count."""
    eight = torch.tensor([[i / 8, 0, (i + 1) / 8, 1.0] for i in range(8)])
    objects = torch.tensor([[[1, 0.025, 0, 0.15, 1.0]]])
    predictions = torch.zeros(1, 8, 4 + 4)
    predictions[0, 1:4, 0] = torch.tensor([-1.0, -2.0, -3.0])  # unsure that there is nothing
    losses, positives = box_losses(predictions, objects, eight)
    assert positives.tolist() == [1]
    place = 2.0 - 0.5  # 10 * 0.2, on the far side of the smooth L1
    kinds = math.log(4) + sum(math.log(1 + 3 * math.exp(far)) for far in (1, 2, 3))
    assert losses.tolist() == pytest.approx([place + kinds], rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_that_of_torchvision(seed: int) -> None:
    objects = random_objects(seed)
    torch.manual_seed(seed)
    predictions = torch.randn(4, len(ANCHORS), KINDS + 5, requires_grad=True)
    losses, positives = box_losses(predictions, objects, ANCHORS)
    ours = losses.sum() / positives.sum()
    real = [row[row[:, 0] >= 0] for row in objects]
    targets = [{"boxes": 64 * row[:, 1:], "labels": row[:, 0].long() + 1} for row in real]
    outputs = {"bbox_regression": predictions[..., -4:], "cls_logits": predictions[..., :-4]}
    parts = detector().compute_loss(targets, outputs, [64 * ANCHORS] * 4, list(match_anchors(objects, ANCHORS)))
    wanted = parts["bbox_regression"] + parts["classification"]
    torch.testing.assert_close(ours, wanted)
    gradients = [torch.autograd.grad(loss, predictions, retain_graph=True)[0] for loss in (ours, wanted)]
    torch.testing.assert_close(*gradients)


def test_a_image_without_objects_teaches_nothing() -> None:
    predictions = torch.randn(1, len(ANCHORS), KINDS + 5, requires_grad=True)
    losses, positives = box_losses(predictions, random_objects(0, (0,)), ANCHORS)
    losses.sum().backward()
    assert (losses.tolist(), positives.tolist()) == ([0], [0])
    assert predictions.grad is not None
    assert not predictions.grad.any()


@pytest.mark.parametrize("seed", range(5))
def test_detections_are_those_of_torchvision(seed: int) -> None:
    torch.manual_seed(seed)
    predictions = 2 * torch.randn(1, len(ANCHORS), KINDS + 5)
    settings = {"score_thresh": 0.001, "nms_thresh": 0.55, "topk_candidates": 300, "detections_per_img": boxes.MOST}
    outputs = {"bbox_regression": predictions[..., -4:], "cls_logits": predictions[..., :-4]}
    [wanted] = detector(**settings).postprocess_detections(outputs, [64 * ANCHORS], [(64, 64)])
    detections = decode_detections(predictions[0], ANCHORS)
    assert 20 < len(detections) <= boxes.MOST
    assert torch.equal(detections[:, 0].long() + 1, wanted["labels"])
    torch.testing.assert_close(detections[:, 1], wanted["scores"])
    torch.testing.assert_close(64 * detections[:, 2:], wanted["boxes"])


def test_a_diverged_network_finds_nothing() -> None:
    assert decode_detections(torch.full((len(ANCHORS), KINDS + 5), math.nan), ANCHORS).shape == (0, 6)
    predictions = torch.zeros(len(ANCHORS), KINDS + 5)
    predictions[0, -1] = math.nan
    detections = decode_detections(predictions, ANCHORS)
    assert len(detections) > 0
    assert detections.isfinite().all()


def made_up(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects of all sizes, crowds among them, and detections that are near, far, double or of another class."""
    random = np.random.default_rng(seed)
    annotations, detections = [], []
    for image in range(12):
        for _ in range(int(random.integers(0, 7))):
            side = random.choice([15, 60, 200])
            box = [*random.uniform(0, 200, 2), *(side * random.uniform(0.6, 1.4, 2))]
            kind, crowd = int(random.integers(4)), int(random.random() < 0.1)
            annotations.append(
                {"image_id": image, "category_id": kind, "bbox": box, "area": 0.7 * box[2] * box[3], "iscrowd": crowd}
            )
            for _ in range(int(random.integers(0, 4))):
                near = (np.array(box) + side * random.normal(0, 0.06, 4)).tolist()
                other = kind if random.random() < 0.8 else int(random.integers(4))
                entry = {"image_id": image, "category_id": other, "bbox": near, "score": float(random.random())}
                detections.append(entry)
    categories = [{"id": kind, "name": str(kind)} for kind in range(4)]
    return {"images": [{"id": i} for i in range(12)], "categories": categories, "annotations": annotations}, detections


@pytest.mark.parametrize("seed", range(6))
def test_figures_are_those_of_pycocotools(seed: int) -> None:
    truth, detections = made_up(seed)
    metrics = box_metrics(truth, detections)
    with contextlib.redirect_stdout(io.StringIO()):
        oracle = COCO()
        oracle.dataset = {
            **truth,
            "annotations": [{**entry, "id": number} for number, entry in enumerate(truth["annotations"], 1)],
        }
        oracle.createIndex()
        run = COCOeval(oracle, oracle.loadRes([dict(entry) for entry in detections]), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    wanted = 100 * run.stats[[0, 1, 2, 3, 4, 5, 8]]
    assert list(metrics) == ["map", "ap50", "ap75", "ap_s", "ap_m", "ap_l", "ar"]
    assert list(metrics.values()) == pytest.approx(wanted.tolist(), abs=1e-6)
    assert 5 < metrics["map"] < 95


def test_figures_of_nothing() -> None:
    truth, detections = made_up(0)
    assert box_metrics(truth, [])["map"] == 0
    empty = box_metrics({**truth, "annotations": []}, detections)
    assert all(math.isnan(value) for value in empty.values())
