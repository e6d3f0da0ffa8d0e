"""Human pose: heatmaps and back, similarity, and COCO's metrics against pycocotools."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supertickets import UserError
from supertickets.data.geometry import mirror_joints, to_unit_square
from supertickets.data.joints import COCO_NAMES, COCO_SIGMAS
from supertickets.data.mirror_names import pair_joints
from supertickets.tasks import heatmaps as kp

SAMPLES = Path(__file__).resolve().parents[2] / "../shared/data"
FLIP = pair_joints(COCO_NAMES)


# Heatmaps ------------------------------------------------------------------------------------------------------------


def drawn(joints_K3: np.ndarray[Any, Any], hw: tuple[int, int], sigma: float = 2.0) -> tuple[Any, Any]:
    """Maps and weights of one image that is four times as large as its maps."""
    shares = torch.from_numpy(to_unit_square(joints_K3, (4 * hw[0], 4 * hw[1])))
    maps, weights = kp.heatmaps(shares[None], hw, sigma)
    return maps[0].numpy(), weights[0].numpy()


def test_a_gaussian_by_hand() -> None:
    # Column 21.5 of the input is the middle of cell 5 (columns 20 to 23).
    maps, weights = drawn(np.array([[21.5, 13.5, 2]]), (16, 12))
    assert maps.dtype == weights.dtype == np.float32
    assert maps.shape == (1, 16, 12)
    assert maps[0, 3, 5] == 1
    assert maps[0, 3, 6] == maps[0, 3, 4] == maps[0, 4, 5] == pytest.approx(math.exp(-1 / 8))
    assert maps[0, 5, 8] == pytest.approx(math.exp(-(4 + 9) / 8))
    assert maps[0, 9, 11] == pytest.approx(math.exp(-72 / 8))
    assert maps[0, 10, 5] == 0
    assert weights.tolist() == [1]


@pytest.mark.parametrize(
    ("joint", "weight"),
    [
        ((10, 10, 0), 0),
        ((10, 10, 1), 1),
        ((-22.5, 10, 2), 1),
        ((-22.6, 10, 2), 0),
        ((10, 85.6, 2), 0),
        ((10, 85, 2), 1),
    ],
)
def test_weights(joint: tuple[float, float, float], weight: int) -> None:
    maps, weights = drawn(np.array([joint]), (16, 12))  # the input has 64 x 48 pixels, a Gaussian reaches 24
    assert weights.tolist() == [weight]
    assert maps.any() == bool(weight)


@settings(deadline=None)
@given(st.floats(0, 47), st.floats(0, 63), st.sampled_from([1.5, 2.0, 3.0]))
def test_decoded_joints_are_near_those_drawn(x: float, y: float, sigma: float) -> None:
    maps, _ = drawn(np.array([[(x + 0.5) * 4 - 0.5, (y + 0.5) * 4 - 0.5, 2]]), (64, 48), sigma)
    joints, score = kp.decode(torch.from_numpy(maps)[None])
    assert joints.shape == (1, 1, 2)
    error = (joints[0, 0] - torch.tensor([x, y])).abs()
    assert float(error.max()) <= 0.5 + 1e-4
    if 0.5 < x < 46.5 and 0.5 < y < 62.5:
        assert float(error.max()) <= 0.25 + 1e-3
    assert 0.85 < float(score[0, 0]) <= 1


def test_decoding_by_hand() -> None:
    maps = torch.zeros(2, 3, 4, 5)
    maps[0, 0, 1, 2], maps[0, 0, 1, 3], maps[0, 0, 0, 2] = 0.9, 0.5, 0.1  # right and up
    maps[0, 1, 2, 1] = 0.4  # equal neighbours
    maps[0, 2, 3, 0], maps[0, 2, 2, 0], maps[0, 2, 3, 1] = 0.3, 0.2, 0.2  # a corner has one neighbour only
    maps[1] = -maps[0] - 1
    maps[1, 1, 1, 3] = -0.5
    xy, score = kp.decode(maps)
    assert xy[0].tolist() == [[2.25, 0.75], [1, 2], [0, 3]]
    assert score[0].tolist() == pytest.approx([0.9, 0.4, 0.3])
    assert xy[1, 1].tolist() == [3, 1]
    assert float(score[1, 1]) == -0.5
    half, _ = kp.decode(maps.to(torch.bfloat16))
    assert half.dtype == torch.float32
    assert torch.equal(half[0], xy[0])


def test_decoding_equals_a_loop() -> None:
    maps = torch.rand(3, 4, 7, 6, generator=torch.Generator().manual_seed(0))
    xy, score = kp.decode(maps)
    for b, k in np.ndindex(3, 4):
        one = maps[b, k].numpy()
        y, x = np.unravel_index(one.argmax(), one.shape)
        dx = np.sign(one[y, x + 1] - one[y, x - 1]) / 4 if 0 < x < 5 else 0
        dy = np.sign(one[y + 1, x] - one[y - 1, x]) / 4 if 0 < y < 6 else 0
        assert xy[b, k].tolist() == [x + dx, y + dy]
        assert float(score[b, k]) == one.max()


def random_joints(seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    generator = np.random.default_rng(seed)
    return np.column_stack(
        (generator.uniform(-5, 197, 17), generator.uniform(-5, 261, 17), generator.integers(0, 3, 17))
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_maps_of_a_mirrored_image_flip_back_to_those_of_the_image(seed: int) -> None:
    """The convention leaves no shift between the two."""
    joints = random_joints(seed)
    maps, weights = drawn(joints, (64, 48))
    mirrored_maps, mirrored_weights = drawn(mirror_joints(joints, 192, FLIP), (64, 48))
    back = kp.flip_back(torch.from_numpy(mirrored_maps)[None], FLIP)[0].numpy()
    assert np.abs(back - maps).max() < 1e-5
    assert mirrored_weights[list(FLIP)].tolist() == weights.tolist()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_flipping_twice_changes_nothing(seed: int) -> None:
    maps = torch.rand(2, 17, 5, 4, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(kp.flip_back(kp.flip_back(maps, FLIP), FLIP), maps)
    joints = random_joints(seed)
    before = joints.copy()
    twice = mirror_joints(mirror_joints(joints, 192, FLIP), 192, FLIP)
    assert twice == pytest.approx(joints)
    assert np.array_equal(joints, before)


def test_flipping_back_by_hand() -> None:
    maps = torch.arange(9.0).reshape(1, 3, 1, 3)
    assert kp.flip_back(maps, (0, 2, 1)).flatten().tolist() == [2, 1, 0, 8, 7, 6, 5, 4, 3]


# Poses ---------------------------------------------------------------------------------------------------------------


def test_similarity_by_hand() -> None:
    joints = np.array([[10, 10, 2], [20, 10, 1], [0, 0, 0.0]])
    others = np.array([[[10, 10], [20, 10], [99, 99]], [[13, 14], [20, 10], [0, 0.0]]])
    similarity = kp.oks(joints, others, 100.0, (0.1, 0.2, 0.1))
    # Joint 0 is 5 pixels off: 25 / (2 * 100 * 0.2^2).
    assert similarity == pytest.approx([1, (1 + math.exp(-25 / 8)) / 2])
    each = kp.oks(joints, others, np.array([100.0, 400.0]), (0.1, 0.2, 0.1))
    assert each == pytest.approx([1, (1 + math.exp(-25 / 32)) / 2])
    assert kp.oks(joints * [1, 1, 0], others, 100.0, (0.1, 0.2, 0.1)).tolist() == [0, 0]


def test_nearly_equal_poses_are_left_out() -> None:
    pose = np.random.default_rng(0).uniform(0, 100, (17, 2))
    people = np.stack([pose + 0.5, pose, pose + 300, pose + 8])
    scores, areas = np.array([0.5, 0.9, 0.4, 0.7]), np.full(4, 3000.0)
    assert kp.oks_nms(people, scores, areas, COCO_SIGMAS) == [1, 3, 2]
    assert kp.oks_nms(people, scores, areas, COCO_SIGMAS, threshold=0.1) == [1, 2]
    assert kp.oks_nms(people, scores, areas, COCO_SIGMAS, threshold=1) == [1, 3, 0, 2]
    assert kp.oks_nms(people[:0], scores[:0], areas[:0], COCO_SIGMAS) == []
    # Equal scores: the first stays.
    assert kp.oks_nms(people[:2], np.ones(2), areas[:2], COCO_SIGMAS) == [0]


def test_scores_of_people() -> None:
    scores = kp.pose_scores(np.array([1, 0.5, 0.9]), np.array([[0.8, 0.4, 0.2], [0.9, 0.1, 0], [0.1, 0.2, 0]]))
    assert scores == pytest.approx([0.6, 0.45, 0])


# Metrics -------------------------------------------------------------------------------------------------------------


def oracle(truth: dict[str, Any], results: list[dict[str, Any]]) -> dict[str, float]:
    """Return the metrics that pycocotools computes."""
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    reference = COCO()
    reference.dataset = copy.deepcopy(truth)
    reference.createIndex()
    run = COCOeval(reference, reference.loadRes(copy.deepcopy(results)), "keypoints")
    run.evaluate()
    run.accumulate()
    run.summarize()
    return dict(zip(("ap", "ap50", "ap75", "ap_m", "ap_l", "ar"), (100 * run.stats).tolist(), strict=False))


def assert_equal_metrics(truth: dict[str, Any], results: list[dict[str, Any]]) -> dict[str, float]:
    wanted = oracle(truth, results)
    metrics = kp.pose_metrics(truth, results, COCO_SIGMAS)
    assert list(metrics) == list(wanted)
    for name, value in wanted.items():
        assert metrics[name] == pytest.approx(value if value >= 0 else math.nan, abs=1e-6, nan_ok=True)
    return metrics


def samples(name: str) -> dict[str, Any]:
    path = SAMPLES / name
    if not path.is_file():
        pytest.skip(f"{name} is not here")
    truth: dict[str, Any] = json.loads(path.read_text())
    return truth


def perturbed(truth: dict[str, Any], seed: int, spread: float = 0.08) -> list[dict[str, Any]]:
    """Results: moved joints, some people twice, some missed, some where nobody is."""
    generator = np.random.default_rng(seed)
    results = []
    for person in truth["annotations"]:
        x, y, width, height = person["bbox"]
        for _ in range(generator.choice([0, 1, 1, 1, 2])):
            joints = np.array(person["keypoints"], np.float64).reshape(-1, 3)
            blank = joints[:, 2] == 0
            joints[blank, :2] = generator.uniform((x, y), (x + width, y + height), (blank.sum(), 2))
            joints[:, :2] += generator.normal(0, spread * generator.uniform() * math.sqrt(person["area"]), (17, 2))
            score = float(generator.integers(1, 9) / 8)  # with ties
            results.append(result(person["image_id"], joints, score))
    for image in truth["images"][::3]:
        results.append(result(image["id"], generator.uniform(0, 300, (17, 3)), float(generator.uniform())))
    return results


def result(image_id: int, joints: np.ndarray[Any, np.dtype[np.float64]], score: float) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": 1, "keypoints": joints.reshape(-1).tolist(), "score": score}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "name",
    [
        "coco_pose_samples/coco/test_coco.json",
        "coco_mini/annotations/person_keypoints_val2017.json",  # with images of nobody, crowds, unmarked people
        "coco_mini/annotations/person_keypoints_train2017.json",
    ],
)
def test_metrics_equal_those_of_pycocotools(name: str, seed: int, capfd: pytest.CaptureFixture[str]) -> None:
    truth = samples(name)
    before = copy.deepcopy(truth)
    results = perturbed(truth, seed)
    given_results = copy.deepcopy(results)
    metrics = assert_equal_metrics(truth, results)
    assert 5 < metrics["ap"] < 95
    assert truth == before
    assert results == given_results
    capfd.readouterr()
    kp.pose_metrics(truth, results, COCO_SIGMAS)
    assert capfd.readouterr() == ("", "")


def generated(people: list[dict[str, Any]], images: int = 3) -> dict[str, Any]:
    """A data set with people at given places."""
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO_NAMES)}]
    return {"images": [{"id": i} for i in range(1, images + 1)], "categories": categories, "annotations": people}


def someone(number: int, image_id: int, side: float, **changes: Any) -> dict[str, Any]:
    """A person in a square of this side, all joints marked."""
    joints = np.random.default_rng(number).uniform(0, side, (17, 3))
    joints[:, 2] = 2
    entry = {"id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0, "num_keypoints": 17}
    return {
        **entry,
        "keypoints": joints.reshape(-1).tolist(),
        "bbox": [0.0, 0.0, side, side],
        "area": side**2 / 2,
        **changes,
    }


UNMARKED = {"num_keypoints": 0, "keypoints": [0.0] * 51}


@pytest.mark.parametrize(
    "people",
    [
        [someone(1, 1, 200)],
        [someone(1, 1, 200), someone(2, 1, 80), someone(3, 3, 40)],
        [someone(1, 1, 200), someone(2, 1, 150, iscrowd=1), someone(3, 2, 90, **UNMARKED)],
        [someone(1, 1, 200, **UNMARKED)],
        [someone(1, 2, 300, iscrowd=1, **UNMARKED), someone(2, 2, 300)],
        [],
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_odd_data_sets_equal_pycocotools(people: list[dict[str, Any]], seed: int) -> None:
    truth = generated(people)
    assert_equal_metrics(truth, perturbed(truth, seed, 0.2))


def test_perfect_results_and_none() -> None:
    truth = generated([someone(1, 1, 200), someone(2, 2, 100)])
    exact = [result(a["image_id"], np.array(a["keypoints"]), 0.5) for a in truth["annotations"]]
    everything = dict.fromkeys(("ap", "ap50", "ap75", "ap_m", "ap_l", "ar"), 100.0)
    assert kp.pose_metrics(truth, exact, COCO_SIGMAS) == pytest.approx(everything)
    assert kp.pose_metrics(truth, [], COCO_SIGMAS) == dict.fromkeys(everything, 0.0)
    broken = [{**exact[0], "score": math.nan}, result(2, np.full(51, math.inf), 0.5)]
    assert kp.pose_metrics(truth, broken, COCO_SIGMAS) == dict.fromkeys(everything, 0.0)


def test_nothing_to_find_is_not_a_number() -> None:
    nobody = kp.pose_metrics(generated([]), [], COCO_SIGMAS)
    assert all(math.isnan(value) for value in nobody.values())
    large = kp.pose_metrics(generated([someone(1, 1, 300)]), [], COCO_SIGMAS)
    assert math.isnan(large["ap_m"])
    assert large["ap"] == large["ap_l"] == 0


def test_ids_from_zero_and_gaps_do_not_matter() -> None:
    """pycocotools takes an id of 0 for no match, and needs the fields that may be absent."""
    truth = generated([someone(1, 1, 200), someone(2, 2, 200)])
    results = perturbed(truth, 1)
    wanted = kp.pose_metrics(truth, results, COCO_SIGMAS)
    for number, annotation in enumerate(truth["annotations"]):
        annotation["id"] = number
        del annotation["iscrowd"], annotation["num_keypoints"]
    truth["annotations"].append({"id": 2, "image_id": 3, "category_id": 1, "bbox": [0, 0, 9, 9]})
    assert kp.pose_metrics(truth, results, COCO_SIGMAS) == pytest.approx(wanted, nan_ok=True)


def test_other_sigmas_are_used() -> None:
    truth = generated([someone(1, 1, 200)])
    truth["categories"][0]["keypoints"] = ["a", "b"]
    truth["annotations"][0]["keypoints"] = [10.0, 10, 2, 90, 90, 2]
    moved = [{"image_id": 1, "category_id": 1, "keypoints": [15.0, 10, 1, 95, 90, 1], "score": 1.0}]
    assert kp.pose_metrics(truth, moved, (1.0, 1.0))["ap"] == pytest.approx(100)
    assert kp.pose_metrics(truth, moved, (0.01, 0.01))["ap"] == 0


def test_results_of_unknown_images_are_refused() -> None:
    with pytest.raises(UserError, match="image 9") as error:
        kp.pose_metrics(generated([someone(1, 1, 200)]), [result(9, np.zeros(51), 1)], COCO_SIGMAS)
    assert "\n" not in str(error.value)
