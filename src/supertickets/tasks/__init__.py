"""Tasks: loss, metrics and how a prediction is made, one file each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from ..data.preprocessing import Preprocessing
from ..data.samples import Samples
from ..models import Head, as_tuples
from .classification import Classification
from .counting import Counting
from .detection import Detection
from .metric import Metric, primary_metric
from .pose import Pose
from .segmentation import Segmentation

__all__ = [
    "Classification",
    "Counting",
    "Detection",
    "Metric",
    "Pose",
    "Segmentation",
    "Task",
    "primary_metric",
    "task_of_head",
]


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

    def predict(
        self, module: nn.Module, prepare: Preprocessing, image: Image.Image, *, device: torch.device | str = "cpu"
    ) -> Any:
        """What the network, which is on that device, says of one image of any size."""


def task_of_head(head: Head, classes: tuple[str, ...], recipe: Mapping[str, Any]) -> Task:
    """The task of a network.

    Args:
        head: The kind of network.
        classes: Names of its outputs.
        recipe: What is learned and how it is evaluated, as JSON; what it does not say is as usual. Weights of classes
            are found from data (`pixel_shares`).
    """
    if head == "classification":
        return Classification(classes, recipe.get("label_smoothing", 0.0))
    if head == "segmentation":
        settings = recipe.get("segmentation", {})
        own = {name: as_tuples(value) for name, value in settings.items() if name != "balance"}
        return Segmentation(classes, **own)
    if head == "detection":
        return Detection(classes)
    if head == "density":
        return Counting(classes, **recipe.get("counting", {}))
    return Pose(classes, **recipe.get("pose", {}))
