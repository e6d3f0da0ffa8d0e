"""Segmentation: loss, one confusion matrix over a whole set, windows, predictions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import confusion_matrix, jaccard_score, recall_score
from torch import Tensor, nn
from torch.nn import functional as F

from generate_streets import street
from supertickets.config.recipe import DataSettings
from supertickets.data import InMemoryImages, Preprocessing, load_splits
from supertickets.tasks.segmentation import (
    IGNORED,
    Segmentation,
    balanced_weights,
    enlarge,
    pixel_shares,
    sliding_window_scores,
)

CPU = torch.device("cpu")
NONE = InMemoryImages(torch.empty(0, 1, 1, 1), torch.empty(0))  # the samples, which this task does not look at
TASK = Segmentation(("sky", "road", "tree"))


class Says(nn.Module):
    """Returns the scores that it was given, whatever the input, one after the other."""

    def __init__(self, *scores: Tensor) -> None:
        super().__init__()
        self.scores = list(scores)

    def forward(self, images: Tensor) -> Tensor:
        return self.scores.pop(0)


def measured(scores: list[Tensor], masks: list[Tensor], task: Segmentation = TASK) -> dict[str, float]:
    batches = [(torch.zeros(1, 3, *s.shape[-2:]), [m]) for s, m in zip(scores, masks, strict=True)]
    return task.metrics(task.totals(Says(*scores), batches, NONE, CPU), NONE)


def one_hot(classes: list[list[int]]) -> Tensor:
    return F.one_hot(torch.tensor(classes), 3).permute(2, 0, 1)[None].float() * 5


def test_loss_is_the_mean_over_labelled_pixels() -> None:
    scores = torch.tensor([[[[2.0, 0.0]], [[0.0, 1.0]], [[0.0, 0.0]]]])
    labels = torch.tensor([[[0, 255]]])
    wanted = -2 + np.log(np.exp(2) + 2)
    assert float(TASK.loss(scores, labels)) == pytest.approx(wanted)
    everything = Segmentation(TASK.classes, average="all")
    assert float(everything.loss(scores, labels)) == pytest.approx(wanted / 2)


def test_weights_of_classes_by_hand() -> None:
    """Shares 0.8 and 0.2: to the power of -1 they weigh 1.25 and 5, by a mean of 2; of -0.5 the root of that."""
    assert balanced_weights([0.8, 0.2], 1) == pytest.approx((0.625, 2.5))
    assert balanced_weights([0.8, 0.2], 0) == pytest.approx((1, 1))
    roots = (0.8**-0.5, 0.2**-0.5)
    assert balanced_weights([0.8, 0.2], 0.5) == pytest.approx([root / (0.8**0.5 + 0.2**0.5) for root in roots])
    absent = balanced_weights([0.8, 0.2, 0.0], 1)
    assert absent[2] == absent[1]


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=9), st.floats(0, 1))
def test_weights_are_one_on_average_and_highest_for_the_rarest(parts: list[float], power: float) -> None:
    shares = [part / sum(parts) for part in parts]
    weights = balanced_weights(shares, power)
    assert sum(share * weight for share, weight in zip(shares, weights, strict=True)) == pytest.approx(1)
    assert weights[shares.index(min(shares))] == pytest.approx(max(weights))


def test_a_weighted_loss_counts_pixels_by_their_class() -> None:
    scores, labels = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    weights = (0.5, 2.0, 4.0)
    each = F.cross_entropy(scores, labels, reduction="none")
    wanted = (each * torch.tensor(weights)[labels]).mean()
    weighed = dataclasses.replace(TASK, weights=weights)
    torch.testing.assert_close(weighed.loss(scores, labels), wanted)
    masks = list(labels)
    assert measured(list(scores[:, None]), masks, weighed) == measured(list(scores[:, None]), masks)


def test_pixel_shares_are_those_of_the_masks(tmp_path: Path) -> None:
    folder = street(tmp_path, {"train": 5, "val": 1, "test": 1})
    names = ("sky", "road", "tree", "nothing")
    settings = DataSettings(source="masks", dir=str(folder), size=(48, 64), class_names=names, ignore=(1,))
    splits = load_splits(settings)
    masks = torch.cat([splits.train.batch(np.array([i]), splits.preprocessing, None)[1][0].flatten() for i in range(5)])
    wanted = [float((masks[masks != IGNORED] == kind).double().mean()) for kind in range(3)]
    assert wanted[0] > 0
    assert wanted[2] == 0
    assert pixel_shares(splits.train, splits.preprocessing, 3) == pytest.approx(wanted)


def test_loss_without_a_labelled_pixel_is_zero() -> None:
    scores = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = TASK.loss(scores, torch.full((1, 2, 2), IGNORED))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_scores_are_made_as_large_as_the_labels() -> None:
    scores = torch.randn(2, 3, 4, 5)
    labels = torch.randint(0, 3, (2, 16, 20))
    large = F.interpolate(scores, size=(16, 20), mode="bilinear", align_corners=False)
    assert float(TASK.loss(scores, labels)) == pytest.approx(float(F.cross_entropy(large, labels)))


def test_metrics_by_hand() -> None:
    """Labels 0 0 1 1 (and one ignored), found 0 1 1 1: IoU 1/2 and 2/3, recall 1/2 and 1, tree in neither."""
    metrics = measured([one_hot([[0, 1, 1, 1, 2]])], [torch.tensor([[0, 0, 1, 1, 255]])])
    assert metrics["miou"] == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)
    assert metrics["macc"] == pytest.approx(75)
    assert metrics["aacc"] == pytest.approx(75)


def test_a_class_that_is_only_said_counts_for_miou_alone() -> None:
    metrics = measured([one_hot([[0, 2]])], [torch.tensor([[0, 0]])])
    assert metrics["miou"] == pytest.approx(100 * (1 / 2 + 0) / 2)
    assert metrics["macc"] == pytest.approx(50)


@given(seed=st.integers(0, 10**6), ignored=st.floats(0, 0.9))
def test_metrics_are_those_of_another_library(seed: int, ignored: float) -> None:
    """Over several images of several sizes, against scikit-learn on all pixels together."""
    generator = torch.Generator().manual_seed(seed)
    scores, masks = [], []
    for height, width in ((5, 7), (4, 4), (1, 9)):
        scores.append(torch.randn(1, 3, height, width, generator=generator))
        mask = torch.randint(0, 3, (height, width), generator=generator)
        mask[torch.rand(height, width, generator=generator) < ignored] = IGNORED
        mask[0, 0] = 1
        masks.append(mask)
    labels = torch.cat([mask.flatten() for mask in masks])
    predicted = torch.cat([s[0].argmax(0).flatten() for s in scores])[labels != IGNORED].numpy()
    labels = labels[labels != IGNORED].numpy()
    either, labelled = sorted(set(labels) | set(predicted)), sorted(set(labels))
    got = measured([s.clone() for s in scores], masks)
    assert got["miou"] == pytest.approx(100 * jaccard_score(labels, predicted, labels=either, average="macro"))
    assert got["macc"] == pytest.approx(
        100 * recall_score(labels, predicted, labels=labelled, average="macro", zero_division=0)
    )
    assert got["aacc"] == pytest.approx(100 * (labels == predicted).mean())
    totals = TASK.totals(Says(*scores), [(torch.zeros(1, 3, *m.shape), [m]) for m in masks], NONE, CPU)
    assert totals[1:].view(3, 3).tolist() == confusion_matrix(labels, predicted, labels=[0, 1, 2]).tolist()


def test_totals_add_up_over_processes() -> None:
    scores, masks = [torch.randn(1, 3, 6, 6) for _ in range(4)], [torch.randint(0, 3, (6, 6)) for _ in range(4)]
    whole = measured([s.clone() for s in scores], masks)
    halves = [
        TASK.totals(Says(*scores[i::2]), [(torch.zeros(1, 3, 6, 6), [m]) for m in masks[i::2]], NONE, CPU)
        for i in (0, 1)
    ]
    assert TASK.metrics(halves[0] + halves[1], NONE) == pytest.approx(whole)


@pytest.mark.parametrize("window", [(4, 4), (6, 5), (8, 3), (20, 20)])
def test_windows_of_a_network_without_context_change_nothing(window: tuple[int, int]) -> None:
    network = nn.Conv2d(3, 3, 1)
    images = torch.randn(2, 3, 8, 9)
    assert torch.allclose(sliding_window_scores(network, images, window), network(images), atol=1e-6)


def test_windows_see_only_themselves() -> None:
    sizes = []

    class Looks(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            sizes.append(tuple(images.shape[-2:]))
            return images

    sliding_window_scores(Looks(), torch.zeros(1, 3, 10, 12), (6, 6))
    assert set(sizes) == {(6, 6)}
    assert len(sizes) == 2 * 3  # rows from 0 and 4, columns from 0, 4 and 6


def test_a_prediction_has_the_size_of_the_image() -> None:
    prepare = Preprocessing(3, (6, 8), (0.0,) * 3, (1.0,) * 3, "shorter", shorter=6)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 18, 3)).astype(np.uint8))
    classes = TASK.predict(nn.Conv2d(3, 3, 3, 2, 1), prepare, image)
    assert classes.shape == (12, 18)
    assert classes.dtype == np.uint8
    assert classes.max() < 3


def test_enlarge_keeps_what_fits() -> None:
    scores = torch.randn(1, 2, 3, 4)
    assert enlarge(scores, (3, 4)) is scores
