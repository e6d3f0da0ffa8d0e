"""Classification: loss, metrics and predictions against computations of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from supertickets.data import InMemoryImages, Preprocessing
from supertickets.tasks import Classification

NAMES = tuple("abcdefg")

NONE = InMemoryImages(torch.empty(0, 1, 1, 1), torch.empty(0))  # the samples, which this task does not look at


@pytest.fixture
def scored() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(53, 7, generator=generator), torch.randint(0, 7, (53,), generator=generator)


def probabilities(scores: Tensor) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    powers = np.exp(scores.numpy().astype(np.float64))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_smoothed_cross_entropy(scored: tuple[Tensor, Tensor], smoothing: float) -> None:
    scores, labels = scored
    logs = np.log(probabilities(scores))
    target = np.full((53, 7), smoothing / 7)
    target[np.arange(53), labels.numpy()] += 1 - smoothing
    expected = -(target * logs).sum(1).mean()
    assert float(Classification(NAMES, smoothing).loss(scores, labels)) == pytest.approx(expected, rel=1e-5)


def test_metrics_are_those_of_a_computation_by_ranks(scored: tuple[Tensor, Tensor]) -> None:
    scores, labels = scored
    task = Classification(NAMES, label_smoothing=0.1)  # smoothing is for training alone
    batches = [(scores[i : i + 20], labels[i : i + 20]) for i in range(0, 53, 20)]
    metrics = task.metrics(task.totals(nn.Identity(), batches, NONE, torch.device("cpu")), NONE)
    own = scores.numpy()[np.arange(53), labels.numpy()]
    rank = (scores.numpy() > own[:, None]).sum(1)
    assert metrics["top1"] == pytest.approx(100 * float((rank == 0).mean()))
    assert metrics["top5"] == pytest.approx(100 * float((rank < 5).mean()))
    assert 0 < metrics["top1"] < metrics["top5"] < 100
    assert metrics["loss"] == pytest.approx(-np.log(probabilities(scores)[np.arange(53), labels.numpy()]).mean())


def test_totals_add_up_over_any_partition(scored: tuple[Tensor, Tensor]) -> None:
    scores, labels = scored
    task, cpu = Classification(NAMES), torch.device("cpu")
    whole = task.totals(nn.Identity(), [(scores, labels)], NONE, cpu)
    shares = [task.totals(nn.Identity(), [(scores[r::3], labels[r::3])], NONE, cpu) for r in range(3)]
    assert torch.allclose(sum(shares, torch.zeros(4, dtype=torch.float64)), whole, rtol=1e-6)
    assert whole[0] == 53
    assert whole.dtype == torch.float64


def test_totals_of_nothing_are_no_division_by_zero() -> None:
    task = Classification(NAMES)
    assert task.metrics(task.totals(nn.Identity(), [], NONE, torch.device("cpu")), NONE) == {
        "loss": 0,
        "top1": 0,
        "top5": 0,
    }


def test_three_classes_have_a_top_five() -> None:
    task = Classification(("x", "y", "z"))
    scores, labels = torch.eye(3), torch.tensor([0, 2, 2])
    metrics = task.metrics(task.totals(nn.Identity(), [(scores, labels)], NONE, torch.device("cpu")), NONE)
    assert metrics["top1"] == pytest.approx(200 / 3)
    assert metrics["top5"] == 100


class Says(nn.Module):
    """Returns its scores whatever the input."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, images: Tensor) -> Tensor:
        return self.scores


def test_predictions_are_the_five_likeliest_classes_in_order(scored: tuple[Tensor, Tensor]) -> None:
    scores, _ = scored
    anything = Preprocessing(1, (4, 4), (0.0,), (1.0,))
    for one, shares in zip(scores, probabilities(scores), strict=True):
        row = Classification(NAMES).predict(Says(one[None]), anything, Image.new("L", (4, 4)))
        best = np.argsort(-shares)[:5]
        assert [name for name, _ in row] == [NAMES[i] for i in best]
        assert [p for _, p in row] == pytest.approx(shares[best].tolist(), rel=1e-5)
