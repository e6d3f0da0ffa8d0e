"""Tasks: loss, metrics and how a prediction is made, one file each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from ..data.pictures import Preprocessing
from ..data.samples import Samples
from ..supernets.hrnet import Head
from .classification import Classification
from .pose import Pose
from .segmentation import Segmentation

__all__ = ["Classification", "Pose", "Segmentation", "Task", "headline", "task_of_head"]

# The figure of every task that is shown first, in percent, and what people call it.
_HEADLINES = {"top1": "accuracy", "miou": "mIoU", "ap": "AP"}


class Task(Protocol):
    """What is learned.

    Attributes:
        classes: Names of the network's outputs.
        head: The kind of network that it needs.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def head(self) -> Head: ...

    def loss(self, scores: Tensor, target: Tensor) -> Tensor:
        """Training loss, averaged over the batch."""

    def totals(
        self, module: nn.Module, batches: Iterable[tuple[Tensor, Any]], data: Samples, device: torch.device
    ) -> Tensor:
        """What an evaluation found in this process's batches of some samples; float64, adds up over processes."""

    def metrics(self, totals: Tensor, data: Samples) -> dict[str, float]:
        """Figures of the totals over all processes; accuracies in percent."""

    def predict(self, module: nn.Module, prepare: Preprocessing, picture: Image.Image) -> Any:
        """What the network says of one picture of any size."""


def task_of_head(head: Head, classes: tuple[str, ...]) -> Task:
    """The task of a finished network, for predictions."""
    if head == "classification":
        return Classification(classes)
    return Segmentation(classes) if head == "segmentation" else Pose(classes)


def headline(scores: Mapping[str, Any]) -> tuple[str, float] | None:
    """The figure that is shown first: what it is called, and its value."""
    return next(((called, scores[name]) for name, called in _HEADLINES.items() if name in scores), None)
