"""Semantic segmentation: cross-entropy over labelled pixels; mIoU, mAcc and aAcc from one confusion matrix."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ..config.task_settings import TASK_RULES
from ..data.preprocessing import Preprocessing
from ..data.samples import Samples
from ..data.segmentation_masks import IGNORED
from .base import Task
from .drawing import draw_classes, mask_shares
from .metric import Metric


@dataclass(frozen=True)
class Segmentation(Task):
    """The task of naming one class per pixel.

    Attributes:
        classes: Names, in the order of the network's outputs.
        average: Divisor of the loss: "valid" pixels, or "all" of them, as the released code does.
        window: Height and width of the windows in which an evaluated image goes through the network, each a third
            over the last; None for the whole image at once.
        weights: Weights of the classes' pixels in the training loss; empty if all are 1.
        balance: Power by which rare classes count for more; `fit` makes weights of it.
    """

    average: Literal["valid", "all"] = "valid"
    window: tuple[int, int] | None = None
    weights: tuple[float, ...] = ()
    balance: float = 0.0
    name: ClassVar[str] = "segmentation"
    head: ClassVar[Literal["segmentation"]] = "segmentation"
    rules = TASK_RULES["segmentation"]
    metric = Metric("miou", "mIoU")
    hub_tag = "image-segmentation"
    any_size = True

    @property
    def sees_images_once(self) -> bool:
        """Return whether an evaluated image goes through the network at once, not in windows."""
        return self.window is None

    def fit(self, data: Samples, prepare: Preprocessing) -> Self:
        """Return the task with weights of classes by their share of the training pixels, if it balances them."""
        if not self.balance:
            return self
        shares = pixel_shares(data, prepare, len(self.classes))
        return replace(self, weights=balanced_weights(shares, self.balance))

    def loss(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of scores (B, K, h, w), made as large as the labels (B, H, W).

        Pixels of label 255 do not count.
        """
        weights = _on_device(self.weights, scores.device) if self.weights else None
        scores = enlarge(scores, target.shape[-2:])
        total = F.cross_entropy(scores, target, weights, ignore_index=IGNORED, reduction="sum")
        pixels = (target != IGNORED).sum().clamp_min(1) if self.average == "valid" else target.numel()
        return total / pixels

    @torch.no_grad()
    def totals(
        self, module: nn.Module, batches: Iterable[tuple[Tensor, Any]], data: Samples, device: torch.device
    ) -> Tensor:
        """Return [loss, confusion matrix (label, prediction) row by row]; masks may have any size, each its own."""
        kinds = len(self.classes)
        sums = torch.zeros(1 + kinds * kinds, dtype=torch.float64, device=device)
        for images, masks in batches:
            scores = sliding_window_scores(module, images.to(device), self.window)
            for one, mask in zip(scores, masks, strict=True):
                labels = mask.to(device)
                large = enlarge(one[None], labels.shape)
                sums[0] += F.cross_entropy(large, labels[None], ignore_index=IGNORED, reduction="sum")
                sums[1:] += confusion(labels, best_class(large[0]), kinds).flatten()
        return sums

    def metrics(self, totals: Tensor, data: Samples) -> dict[str, float]:
        """Return ``loss`` per labelled pixel; ``miou``, ``macc`` and ``aacc`` in percent.

        A class counts for mIoU if it occurs in labels or predictions, for mAcc if it occurs in labels.
        """
        kinds = len(self.classes)
        matrix = totals[1:].view(kinds, kinds)
        hit, labelled, said = matrix.diag(), matrix.sum(1), matrix.sum(0)
        union = labelled + said - hit
        pixels = matrix.sum().clamp_min(1)
        return {
            "loss": float(totals[0] / pixels),
            "miou": 100 * _mean(hit[union > 0] / union[union > 0]),
            "macc": 100 * _mean(hit[labelled > 0] / labelled[labelled > 0]),
            "aacc": 100 * float(hit.sum() / pixels),
        }

    @torch.no_grad()
    def predict(
        self, module: nn.Module, prepare: Preprocessing, image: Image.Image, *, device: torch.device | str = "cpu"
    ) -> npt.NDArray[np.uint8]:
        """Return the class of every pixel, uint8 of the image's own (height, width)."""
        scores = sliding_window_scores(module, prepare(prepare.pixels(image)[None]).to(device), self.window)
        classes = best_class(enlarge(scores, (image.height, image.width))[0])
        return classes.to(torch.uint8).cpu().numpy()

    def describe(self, prediction: Any) -> dict[str, Any]:
        """Return the classes and their shares of the pixels."""
        return {"classes": [{"name": name, "share": share} for name, share in mask_shares(prediction, self.classes)]}

    def text_lines(self, description: Mapping[str, Any]) -> list[str]:
        """Return the three most frequent classes in a line."""
        return [", ".join(f"{entry['name']} {entry['share']:.1%}" for entry in description["classes"][:3])]

    def draw(self, image: Image.Image, prediction: Any) -> Image.Image:
        """Return the image under the colours of its classes, with a legend."""
        return draw_classes(image, prediction, self.classes)


def pixel_shares(data: Samples, prepare: Preprocessing, kinds: int) -> list[float]:
    """Return the share of every class in the labelled pixels of at most 500 scenes, spread evenly."""
    counts = torch.zeros(kinds, dtype=torch.int64)
    for i in np.unique(np.linspace(0, len(data) - 1, min(len(data), 500)).round().astype(np.int64)):
        for mask in data.batch(np.array([i]), prepare, None)[1]:
            counts += torch.bincount(mask[mask != IGNORED], minlength=kinds)
    return (counts.double() / counts.sum().clamp_min(1)).tolist()


def balanced_weights(shares: Iterable[float], power: float) -> tuple[float, ...]:
    """Return weights share^-power of classes, 1 in the mean over pixels.

    Classes without pixels weigh as much as the rarest.

    With power 1 every class has the same part in the loss (Eigen and Fergus, 2015, divide the median share by it).
    """
    known = list(shares)
    rarest = min((share for share in known if share > 0), default=1.0)
    weights = [max(share, rarest) ** -power for share in known]
    mean = sum(share * weight for share, weight in zip(known, weights, strict=True))
    return tuple(weight / mean for weight in weights) if mean else ()


@functools.lru_cache(maxsize=8)
def _on_device(weights: tuple[float, ...], device: torch.device) -> Tensor:
    """Return weights as a tensor; kept, so that no step waits for a transfer."""
    return torch.tensor(weights, device=device)


def enlarge(scores_BKHW: Tensor, size: Iterable[int]) -> Tensor:
    """Return scores at another size, bilinear."""
    height, width = size
    if scores_BKHW.shape[-2:] == (height, width):
        return scores_BKHW
    return F.interpolate(scores_BKHW, size=(height, width), mode="bilinear", align_corners=False)


def best_class(scores_KHW: Tensor) -> Tensor:
    """Return the class of every pixel, (H, W); on a CPU this takes a fifth of the time of ``argmax``."""
    return scores_KHW.max(0).indices


def confusion(labels: Tensor, predicted: Tensor, kinds: int) -> Tensor:
    """Return counts of pixels by (label, prediction), float64 (kinds, kinds); ignored pixels are left out."""
    valid = labels != IGNORED
    pairs = labels[valid] * kinds + predicted[valid]
    return torch.bincount(pairs, minlength=kinds * kinds).view(kinds, kinds).to(torch.float64)


def sliding_window_scores(module: nn.Module, images_BCHW: Tensor, window: tuple[int, int] | None) -> Tensor:
    """Return scores of whole images, at once or averaged over windows that overlap by a third.

    Returns:
        (B, K, h, w) as the network makes them; with windows (B, K, H, W).
    """
    height, width = images_BCHW.shape[-2:]
    if window is None or (window[0] >= height and window[1] >= width):
        whole: Tensor = module(images_BCHW)
        return whole
    total: Tensor | None = None
    counts = torch.zeros(1, 1, height, width, device=images_BCHW.device)
    for top in _starts(height, window[0]):
        for left in _starts(width, window[1]):
            part = images_BCHW[:, :, top : top + window[0], left : left + window[1]]
            scores = enlarge(module(part), part.shape[-2:])
            if total is None:
                total = scores.new_zeros(len(images_BCHW), scores.shape[1], height, width)
            total[:, :, top : top + window[0], left : left + window[1]] += scores
            counts[:, :, top : top + window[0], left : left + window[1]] += 1
    assert total is not None
    return total / counts


def _starts(length: int, window: int) -> list[int]:
    """Return the starts of windows: a third over the last one, and the last at the border."""
    if window >= length:
        return [0]
    stride = max(1, round(window * 2 / 3))
    return [*range(0, length - window, stride), length - window]


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else 0.0
