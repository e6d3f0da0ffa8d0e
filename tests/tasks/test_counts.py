"""Counting: density maps sum to counts, the loss, the errors of counts, what is predicted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image
from scipy.stats import norm
from torch import Tensor, nn

from supertickets.data import Preprocessing
from supertickets.tasks import Counting, find_task, primary_metric
from supertickets.tasks.counting import density_maps

TASK = Counting(("density",))
NONE = [-1.0] * 4


class Says(nn.Module):
    """Answers with a map of one cell that holds the mean of the image."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3), keepdim=True)


def test_a_map_is_the_integral_of_a_gaussian() -> None:
    """By hand: a point at the common corner of four cells, and one whose left half the border cuts off."""
    maps = density_maps(torch.tensor([[[0.5, 0.5, 0.1, 0.2]]]), (2, 2))
    assert maps.shape == (1, 1, 2, 2)
    assert maps.flatten().tolist() == pytest.approx([0.25] * 4)
    (row,) = density_maps(torch.tensor([[[0.0, 0.5, 0.25, 9.0]]]), (1, 4))[0, 0].tolist()
    cuts = norm.cdf([0, 1, 2, 3, 4])
    assert row == pytest.approx(((cuts[1:] - cuts[:-1]) / (cuts[4] - 0.5)).tolist(), abs=1e-6)


@given(
    points=some.lists(
        some.tuples(some.floats(0, 1), some.floats(0, 1), some.floats(0.002, 0.5), some.floats(0.002, 0.5)), max_size=9
    ),
    height=some.integers(1, 30),
    width=some.integers(1, 30),
)
def test_the_sum_of_a_map_is_the_count(points: list[Any], height: int, width: int) -> None:
    maps = density_maps(torch.tensor([[*map(list, points), NONE, NONE]]), (height, width))
    assert float(maps.sum()) == pytest.approx(len(points), abs=1e-4)
    assert float(maps.min()) >= 0


def test_maps_have_their_mass_where_points_are() -> None:
    points = torch.tensor([[[0.125, 0.75, 0.02, 0.02], NONE], [NONE, NONE]])
    maps = density_maps(points, (4, 8))
    assert maps[0, 0].flatten().topk(4).indices.sort().values.tolist() == [16, 17, 24, 25]  # around column 1, row 3
    assert not maps[1].any()


def test_flipped_points_give_flipped_maps() -> None:
    points = torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 1, 0.1, 0.1])
    mirrored = torch.cat((1 - points[..., :1], points[..., 1:]), -1)
    assert torch.allclose(density_maps(mirrored, (6, 10)), density_maps(points, (6, 10)).flip(-1), atol=1e-6)


def test_the_loss_is_the_mean_square_of_scaled_maps() -> None:
    target = torch.tensor([[[0.5, 0.5, 0.1, 0.1]], [NONE]])
    # A quarter in each of four cells, times 8, is 2; of the empty image 0.
    scores = torch.tensor([[[[2.0, 2], [2, 5]]], [[[0.0, 0], [0, -1]]]])
    assert Counting(("density",), 8.0).loss(scores, target).item() == pytest.approx((9 + 1) / 8)
    # The means of the errors are 3 / 4 and -1 / 4.
    weighted = Counting(("density",), 8.0, 2.0).loss(scores, target).item()
    assert weighted == pytest.approx((9 + 1) / 8 + 2 * (9 + 1) / 16 / 2)
    scores.requires_grad_()
    TASK.loss(scores, target).backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()


def test_errors_of_counts_by_hand() -> None:
    """Counts 3, 0 and 2; said are 1, 2 and 2: errors -2, 2 and 0."""
    counts = [1.0, 2.0, 2.0]
    points = [torch.tensor([[0.5, 0.5, 0.1, 0.1]] * n).reshape(-1, 4) for n in (3, 0, 2)]
    batches = [(torch.full((1, 3, 8, 8), TASK.scale * say), [some]) for say, some in zip(counts, points, strict=True)]
    nothing: Any = None
    halves = [TASK.totals(Says(), part, nothing, torch.device("cpu")) for part in (batches[:1], batches[1:])]
    metrics = TASK.metrics(halves[0] + halves[1], nothing)
    assert metrics["mae"] == pytest.approx(4 / 3)
    assert metrics["rmse"] == pytest.approx(math.sqrt(8 / 3))
    assert metrics["count"] == pytest.approx(5 / 3)
    assert metrics["loss"] == pytest.approx((200**2 + 200**2) / 3)


def test_the_mean_error_is_shown_first_and_less_is_better() -> None:
    scores = {"loss": 1.0, "mae": 12.5, "rmse": 20.0, "count": 50.0}
    metric = primary_metric(scores)
    assert metric is not None
    assert (metric.display_name, metric.text(scores), metric.unit, metric.sign) == ("MAE", "12.50", "", -1)
    assert metric.quality(scores) == pytest.approx(0.75)
    assert metric.quality({"mae": 90.0, "count": 50.0}) == 0
    top1 = primary_metric({"top1": 80.0})
    assert top1 is not None
    assert (top1.text({"top1": 80.0}), top1.unit, top1.sign, top1.quality({"top1": 80.0})) == ("80.00%", ", %", 1, 0.8)


def test_a_prediction_is_a_density_of_any_image() -> None:
    prepare = Preprocessing(3, (8, 8), (0.0,) * 3, (1.0,) * 3, "shorter")
    density = Counting(("density",), 0.5).predict(Says(), prepare, Image.new("RGB", (30, 20), (255, 255, 255)))
    assert density.dtype == np.float32
    assert density.tolist() == [[2.0]]


def test_a_ticket_knows_its_scale() -> None:
    assert find_task("counting").from_recipe(("density",), {"counting": {"scale": 7.0}}) == Counting(("density",), 7.0)
