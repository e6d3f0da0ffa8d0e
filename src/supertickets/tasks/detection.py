"""Object detection: SSD's loss; COCO's mean average precision over the predicted boxes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..config.task_settings import TASK_RULES
from ..data.detection import DetectionDataset, pad_boxes
from ..data.geometry import Box
from ..data.preprocessing import Preprocessing
from ..data.samples import Samples
from ..data.segmentation_classes import class_colors
from ..models.heads.anchors import anchors
from .base import Task
from .boxes import MOST, box_losses, box_metrics, decode_detections
from .drawing import draw_boxes
from .metric import Metric

_SHOWN = 0.3  # score from which on an object is shown


@dataclass(frozen=True)
class Detection(Task):
    """The task of finding objects.

    Attributes:
        classes: Names, in the order of the network's outputs behind that for nothing.
    """

    name: ClassVar[str] = "detection"
    head: ClassVar[Literal["detection"]] = "detection"
    rules = TASK_RULES["detection"]
    metric = Metric("map", "mAP")
    hub_tag = "object-detection"

    def loss(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return SSD's loss, divided by the number of anchors that answer for an object.

        Args:
            scores: Output of the network, (B, A, 1 + K + 4).
            target: Objects (B, M, 5): class and x1, y1, x2, y2 in shares of the input; rows of -1 are none.
        """
        losses, positives = box_losses(scores, target, anchors(scores.shape[1], scores.device))
        return losses.sum() / positives.sum().clamp_min(1)

    @torch.no_grad()
    def totals(
        self, module: nn.Module, batches: Iterable[tuple[Tensor, Any]], data: Samples, device: torch.device
    ) -> Tensor:
        """Return a row per image of the split; those that another process looks at are zero.

        Columns: 1 for an image that was looked at, its loss, the number of anchors that it is divided by, and class,
        score and place in shares of every predicted box; a score of 0 is none.
        """
        assert isinstance(data, DetectionDataset)
        table = torch.zeros(len(data), 3 + 6 * MOST, dtype=torch.float64, device=device)
        for images, positions in batches:
            if not len(images):
                continue
            predictions = module(images.to(device)).float()
            boxes = anchors(predictions.shape[1], device)
            objects = pad_boxes([data.samples[i].boxes() for i in positions.tolist()]).to(device)
            losses, positives = box_losses(predictions, objects, boxes)
            table[positions.to(device), :3] = torch.stack((torch.ones_like(losses), losses, positives), 1).double()
            for i, own in zip(positions.tolist(), predictions, strict=True):
                row = decode_detections(own, boxes).flatten().double()
                table[i, 3 : 3 + len(row)] = row
        return table

    def metrics(self, totals: Tensor, data: Samples) -> dict[str, float]:
        """Return ``loss``, and in percent ``map``, ``ap50``, ``ap75``, ``ap_s``, ``ap_m``, ``ap_l`` and ``ar``.

        Figures that no object counts for are left out. Images that nobody looked at do not count.
        """
        assert isinstance(data, DetectionDataset)
        table = totals.cpu().numpy()
        looked = np.flatnonzero(table[:, 0]).tolist()
        truth: dict[str, list[dict[str, Any]]] = {
            "images": [{"id": i} for i in looked],
            "categories": [{"id": kind, "name": name} for kind, name in enumerate(self.classes)],
            "annotations": [],
        }
        detections = []
        for i in looked:
            for kind, *box, area, crowd in data.samples[i].objects.tolist():
                known = {"image_id": i, "category_id": int(kind), "bbox": box, "area": area, "iscrowd": int(crowd)}
                truth["annotations"].append(known)
            for kind, score, box in _in_pixels(table[i, 3:].reshape(-1, 6), data.samples[i].size):
                detections.append({"image_id": i, "category_id": kind, "bbox": list(box), "score": score})
        loss = {"loss": float(table[:, 1].sum() / max(table[:, 2].sum(), 1))}
        figures = box_metrics(truth, detections)
        return loss | {name: value for name, value in figures.items() if not np.isnan(value)}

    @torch.no_grad()
    def predict(
        self, module: nn.Module, prepare: Preprocessing, image: Image.Image, *, device: torch.device | str = "cpu"
    ) -> list[tuple[str, float, Box]]:
        """Return class, score and box of objects, the best first, 100 at most.

        Boxes are x, y of the upper left corner, width and height, in pixels of the image.
        """
        predictions = module(prepare(prepare.pixels(image)[None]).to(device))[0]
        rows = decode_detections(predictions, anchors(len(predictions), predictions.device))
        return [(self.classes[kind], score, box) for kind, score, box in _in_pixels(rows.cpu().numpy(), image.size)]

    def describe(self, prediction: Any) -> dict[str, Any]:
        """Return every object with its class, score and box in pixels."""
        return {"objects": [{"name": name, "score": score, "box": list(box)} for name, score, box in prediction]}

    def text_lines(self, description: Mapping[str, Any]) -> list[str]:
        """Return a line for every object that is clear."""
        text = "{name} {score:.0%} at ({0:.0f}, {1:.0f}), {2:.0f} x {3:.0f}"
        shown = [entry for entry in description["objects"] if entry["score"] >= _SHOWN]
        return [text.format(*entry["box"], **entry) for entry in shown] or ["no object is clear"]

    def draw(self, image: Image.Image, prediction: Any) -> Image.Image:
        """Return the image with the boxes of the objects that are clear."""
        colors = dict(zip(self.classes, class_colors(self.classes), strict=True))
        return draw_boxes(image, [entry for entry in prediction if entry[1] >= _SHOWN], colors)

    def export_metadata(self, scores: Tensor) -> dict[str, Any]:
        """Return the ``anchors`` that the predictions are relative to."""
        boxes = anchors(scores.shape[1], scores.device)
        return {"anchors": boxes.double().numpy().round(6).tolist()}


def _in_pixels(rows_N6: Any, size: tuple[int, int]) -> list[tuple[int, float, Box]]:
    """Return class, score and box in pixels of the boxes that have a score."""
    made = []
    for kind, score, left, top, right, low in rows_N6[rows_N6[:, 1] > 0].tolist():
        box = (left * size[0], top * size[1], (right - left) * size[0], (low - top) * size[1])
        made.append((int(kind), score, box))
    return made
