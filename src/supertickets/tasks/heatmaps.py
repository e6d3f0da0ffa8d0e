"""Human pose: heatmaps of joints and back, similarity of poses, COCO's metrics.

Points are (x, y) in pixels or cells whose centres have whole numbers, as in `data.regions`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.coco_keypoints_json import AREA_OF_BOX
from ..data.geometry import Floats, Values
from ..errors import UserError

_CUT = 3  # deviations after which a Gaussian is zero


# Heatmaps ------------------------------------------------------------------------------------------------------------


def heatmaps(joints_BK3: Tensor, hw: tuple[int, int], sigma: float = 2.0) -> tuple[Tensor, Tensor]:
    """Return the maps to learn: per joint a Gaussian of height 1 around the joint itself, not the nearest cell.

    Args:
        joints_BK3: x, y in shares of the input's width and height (`data.geometry.to_unit_square`), and v (above 0:
            marked).
        hw: Height and width of the maps.
        sigma: Deviation in cells; the Gaussian is zero where x or y is more than 3 of them away.

    Returns:
        Maps of shape (B, K, H, W), and weights of shape (B, K): 0 for joints that are unmarked or whose Gaussian does
        not touch the map (these maps are zero), else 1.
    """
    rows_BKH, columns_BKW = (_bell(joints_BK3[..., 1 - i, None] * n - 0.5, n, sigma) for i, n in enumerate(hw))
    weights_BK = (joints_BK3[..., 2] > 0) & columns_BKW.any(-1) & rows_BKH.any(-1)
    columns_BKW = columns_BKW * weights_BK[..., None]
    return rows_BKH[..., :, None] * columns_BKW[..., None, :], weights_BK.to(torch.float32)


def decode(maps_BKHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the place of every map's largest value, a quarter of a cell towards the larger of its two neighbours.

    Returns:
        x, y in cells of shape (B, K, 2), and the largest values of shape (B, K); both float32. At the border there is
        no second neighbour, so the place is the cell itself.
    """
    height, width = maps_BKHW.shape[-2:]
    flat_BKN = maps_BKHW.flatten(2).float()
    score_BK, index_BK = flat_BKN.max(-1)
    places = []
    for place, step, count in ((index_BK % width, 1, width), (index_BK // width, width, height)):
        inner = (place > 0) & (place < count - 1)
        away = step * inner.long()
        after, before = (flat_BKN.gather(2, (index_BK + sign * away)[..., None])[..., 0] for sign in (1, -1))
        places.append(place + 0.25 * (after - before).sign())
    return torch.stack(places, -1), score_BK


def flip_back(maps_BKHW: Tensor, flip: Sequence[int]) -> Tensor:
    """Return maps of a mirrored image as maps of the image.

    Args:
        maps_BKHW: Output of the network for the mirrored image.
        flip: Index of the mirror image of every joint.
    """
    order = torch.tensor(tuple(flip), device=maps_BKHW.device)
    return maps_BKHW.index_select(1, order).flip(-1)


# Poses ---------------------------------------------------------------------------------------------------------------


def oks(joints_K3: Values, others_NK2: Values, areas: float | Values, sigmas: Sequence[float]) -> Floats:
    """Return the object keypoint similarity of one pose with others: 1 for equal ones, near 0 for distant ones.

    Args:
        joints_K3: x, y and v; joints of v = 0 do not count. Without any that counts, the similarity is 0.
        others_NK2: x, y; more columns are ignored.
        areas: Area of the person, in pixels, or one for each other pose.
        sigmas: Deviation of every joint, as in `Joints`.
    """
    distance_NK = np.square(others_NK2[..., :2] - joints_K3[:, :2], dtype=np.float64).sum(-1)
    scale_N1 = 2 * (np.asarray(areas, np.float64) + np.spacing(1)).reshape(-1, 1)
    similar_NK = np.exp(-distance_NK / np.square(2 * np.asarray(sigmas)) / scale_N1)
    counts_K = joints_K3[:, 2] > 0
    return similar_NK @ counts_K / max(int(counts_K.sum()), 1)


def oks_nms(
    people_NK2: Values, scores_N: Values, areas_N: Values, sigmas: Sequence[float], threshold: float = 0.9
) -> list[int]:
    """Leave out poses that are nearly equal to a better one.

    Args:
        people_NK2: x, y of the joints of all people in one image; more columns are ignored.
        scores_N: Scores of the people.
        areas_N: Areas of the people, in pixels; two poses are compared at the mean of theirs.
        sigmas: Deviation of every joint, as in `Joints`.
        threshold: Poses more similar than this are taken for the same person.

    Returns:
        Indices of those that stay, the best first.
    """
    kept: list[int] = []
    left = np.argsort(-scores_N, kind="stable")
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        joints_K3 = np.insert(people_NK2[best, :, :2].astype(np.float64), 2, 1, axis=1)
        areas = (areas_N[best] + areas_N[left]) / 2
        left = left[oks(joints_K3, people_NK2[left], areas, sigmas) <= threshold]
    return kept


def pose_scores(box_scores_N: Values, joint_scores_NK: Values, above: float = 0.2) -> Floats:
    """Return people's scores: the box's, times the mean over joints that score above a limit (0 without any)."""
    good_NK = joint_scores_NK > above
    total_N = np.where(good_NK, joint_scores_NK, 0).sum(1, dtype=np.float64)
    return box_scores_N * total_N / np.maximum(good_NK.sum(1), 1)


def pose_metrics(
    ground_truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], sigmas: Sequence[float]
) -> dict[str, float]:
    """Return COCO's average precision and recall, in percent.

    Args:
        ground_truth: Content of a COCO JSON for keypoints; stays as it is. Crowds and people without joints are
            ignored, as COCO does.
        detections: COCO's results: ``image_id``, ``category_id``, ``keypoints`` (3 K numbers) and ``score``. Those with
            numbers that are not finite, as of a diverged network, count as missed.
        sigmas: Deviation of every joint, as in `Joints`.

    Returns:
        ``ap``, ``ap50``, ``ap75``, ``ap_m`` and ``ap_l`` (people of 32 to 96 and of more pixels, squared), ``ar``. A
        figure that no person counts for is not a number.

    Raises:
        UserError: A detection is of an image that the ground truth lacks.
    """
    # Here, since only evaluation needs it.
    from faster_coco_eval import COCO, COCOeval_faster

    images = [{"id": image["id"]} for image in ground_truth["images"]]
    strange = {entry["image_id"] for entry in detections} - {image["id"] for image in images}
    if strange:
        raise UserError(
            f"detections are of image {min(strange)}, which the ground truth lacks; give what belongs to it"
        )
    people = []
    for number, person in enumerate(ground_truth["annotations"], 1):
        # Gaps are filled as the reader does; the evaluation takes an id of 0 for "no match".
        marked = sum(v > 0 for v in person.get("keypoints", [])[2::3])
        area = AREA_OF_BOX * person["bbox"][2] * person["bbox"][3]
        filled = {"iscrowd": 0, "keypoints": [], "num_keypoints": marked, "area": area}
        people.append({**filled, **person, "id": number})
    finite = [
        dict(entry) for entry in detections if math.isfinite(entry["score"]) and np.isfinite(entry["keypoints"]).all()
    ]
    truth = COCO({"images": images, "categories": list(ground_truth["categories"]), "annotations": people})
    run = COCOeval_faster(
        truth, truth.loadRes(finite), "keypoints", print_function=_silent, kpt_oks_sigmas=list(sigmas)
    )
    run.params.catIds = sorted(truth.getCatIds())
    run.run()
    values = np.where(run.all_stats < 0, np.nan, 100 * run.all_stats).tolist()
    return dict(zip(("ap", "ap50", "ap75", "ap_m", "ap_l", "ar"), values, strict=False))


def _bell(middle: Tensor, count: int, sigma: float) -> Tensor:
    """Return a Gaussian of height 1 over the cells 0, 1 ... in the last dimension, cut off."""
    away = torch.arange(count, device=middle.device) - middle
    return torch.exp(-(away / sigma).square() / 2) * (away.abs() <= _CUT * sigma)


def _silent(*_: object) -> None:
    """Print nothing."""
