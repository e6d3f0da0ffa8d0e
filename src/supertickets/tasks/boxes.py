"""Boxes: matches of anchors and objects, SSD's loss, the boxes of a prediction, COCO's figures.

Shapes: B batch, A anchors, M objects of an image, K classes. Boxes are x1, y1, x2, y2 in shares of the image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, box_iou

MOST = 100  # boxes of an image; COCO counts no more of a class
_SAME = 0.5  # IoU from which on an anchor answers for an object
_NEGATIVES = 3  # anchors of nothing that count in the loss, for one of an object
_LEAST, _CANDIDATES, _OVERLAP = 0.001, 300, 0.55  # torchvision's for SSDLite: score, boxes of a class, IoU of two boxes
_CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))
_FIGURES = {"map": 0, "ap50": 1, "ap75": 2, "ap_s": 3, "ap_m": 4, "ap_l": 5, "ar": 8}  # places among COCO's


def match_anchors(objects_BM5: Tensor, anchors_A4: Tensor) -> Tensor:
    """Return the object that every anchor answers for, int64 (B, A), or -1.

    It is the one that it overlaps most, if by half. The anchor that an object overlaps most answers for it in any case,
    for the last of several. Torchvision's `SSDMatcher` finds the same for one image after the other; here nothing
    waits for the device.

    Args:
        objects_BM5: Class and box; rows of -1 are none.
        anchors_A4: Boxes.
    """
    batch, most = objects_BM5.shape[:2]
    is_object_BM = objects_BM5[..., 0] >= 0
    overlap_BMA = box_iou(objects_BM5[..., 1:].flatten(0, 1), anchors_A4).view(batch, most, -1)
    overlap_BMA = overlap_BMA.masked_fill(~is_object_BM[..., None], -1)
    largest_BA, object_BA = overlap_BMA.max(1)
    matched_BA = object_BA.masked_fill(largest_BA < _SAME, -1)
    numbers_BM = torch.arange(most, device=matched_BA.device).expand(batch, -1).masked_fill(~is_object_BM, -1)
    best_BM = overlap_BMA.max(2).indices
    certain_BA = torch.full_like(matched_BA, -1).scatter_reduce(1, best_BM, numbers_BM, "amax")
    return torch.where(certain_BA >= 0, certain_BA, matched_BA)


def box_losses(predictions_BAP: Tensor, objects_BM5: Tensor, anchors_A4: Tensor) -> tuple[Tensor, Tensor]:
    """Return SSD's loss of every image (Liu et al., 2016, Sec. 2.2), not divided yet by what it returns beside it.

    Smooth L1 of the places of anchors that answer for an object; cross-entropy of these and of the worst three times as
    many others.

    Args:
        predictions_BAP: Output of `models.mobile.ssdlite.SSDLite`.
        objects_BM5: Objects, as for `match_anchors`.
        anchors_A4: Boxes.

    Returns:
        Losses, and the numbers of anchors that answer for an object, both (B,).
    """
    scores, codes = predictions_BAP[..., :-4], predictions_BAP[..., -4:]
    match_BA = match_anchors(objects_BM5, anchors_A4)
    is_object_BA = match_BA >= 0
    own_BA5 = objects_BM5.gather(1, match_BA.clamp_min(0)[..., None].expand(-1, -1, 5))
    boxes_BA4 = torch.where(is_object_BA[..., None], own_BA5[..., 1:], anchors_A4)
    wanted = _CODER.encode_single(boxes_BA4.flatten(0, 1), anchors_A4.repeat(len(codes), 1)).view_as(codes)
    places_BA = F.smooth_l1_loss(codes, wanted, reduction="none").sum(-1)
    labels_BA = torch.where(is_object_BA, own_BA5[..., 0].long() + 1, 0)
    kinds_BA = F.cross_entropy(scores.transpose(1, 2), labels_BA, reduction="none")
    positives_B = is_object_BA.sum(1)
    rank_BA = kinds_BA.masked_fill(is_object_BA, -math.inf).argsort(1, descending=True).argsort(1)
    is_counted_BA = is_object_BA | (rank_BA < _NEGATIVES * positives_B[:, None])
    losses_BA = torch.where(is_object_BA, places_BA, 0) + torch.where(is_counted_BA, kinds_BA, 0)
    return losses_BA.sum(1), positives_B


def decode_detections(predictions_AP: Tensor, anchors_A4: Tensor) -> Tensor:
    """Return the boxes of one image, best first: class, score and box, of shape (N, 6), at most `MOST`.

    Of two boxes of a class that are nearly the same the better one stays.
    """
    boxes_A4 = _CODER.decode_single(predictions_AP[:, -4:], anchors_A4).clamp(0, 1)
    scores_AK = predictions_AP[:, :-4].softmax(-1)[:, 1:]
    best, anchor = scores_AK.topk(min(_CANDIDATES, len(scores_AK)), dim=0)
    kinds = torch.arange(scores_AK.shape[1], device=best.device).expand_as(best)
    is_good = (best > _LEAST) & boxes_A4.isfinite().all(1)[anchor]
    scores, classes, boxes = best[is_good], kinds[is_good], boxes_A4[anchor[is_good]]
    kept = batched_nms(boxes, scores, classes, _OVERLAP)[:MOST]
    return torch.cat((classes[kept, None], scores[kept, None], boxes[kept]), 1)


def box_metrics(ground_truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return COCO's average precision and recall of boxes, in percent.

    Args:
        ground_truth: Content of a COCO JSON for instances, areas and crowds included; stays as it is. Crowds are
            ignored, as COCO does.
        detections: COCO's results: ``image_id``, ``category_id``, ``bbox`` and ``score``.

    Returns:
        ``map``, ``ap50``, ``ap75``, ``ap_s``, ``ap_m`` and ``ap_l`` (objects of up to 32, up to 96 and of more pixels,
        squared), ``ar`` (of 100 boxes). A figure that no object counts for is not a
            number.
    """
    # Here, since only evaluation needs it.
    from faster_coco_eval import COCO, COCOeval_faster

    objects = [{**entry, "id": number} for number, entry in enumerate(ground_truth["annotations"], 1)]
    truth = COCO({**ground_truth, "annotations": objects})
    results = truth.loadRes([dict(entry) for entry in detections])
    run = COCOeval_faster(truth, results, "bbox", print_function=_silent)
    run.run()
    values = np.where(run.all_stats < 0, np.nan, 100 * run.all_stats).tolist()
    return {name: values[place] for name, place in _FIGURES.items()}


def _silent(*_: object) -> None:
    """Print nothing."""
