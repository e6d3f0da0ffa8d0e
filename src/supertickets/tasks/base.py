"""The base of all tasks: everything that differs between them, in one class each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from PIL import Image
from torch import Tensor, nn

from ..config.task_settings import TaskRules
from ..data.preprocessing import Preprocessing
from ..data.samples import Samples
from ..models import Head, as_tuples
from .drawing import add_caption
from .metric import Metric


@dataclass(frozen=True)
class Task(ABC):
    """A task: loss, metrics, and predictions in memory, as JSON, as text and as figures.

    A user's own task is a subclass, called ``package.module:Name`` in a recipe (docs/adding-a-task.md).

    Attributes:
        classes: Names of the network's outputs.
        limbs: Pairs of outputs, by index, between which a line is drawn.
        name: Name in recipes; an own task goes by its ``package.module:Name`` and needs none.
        head: Kind of network that the task needs.
        rules: Settings of a recipe that the task takes.
        metric: Figure that is shown first, and that networks are chosen by.
        hub_tag: Name of the task on the Hugging Face hub.
        outputs: Noun for the network's outputs.
        any_size: Whether a network for the task takes images of any size, as for scenes.
        explainable: Whether a prediction is a class with its probability, so that ``explain`` shows where the network
            saw it.
    """

    classes: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...] = field(default=(), kw_only=True)
    name: ClassVar[str] = ""
    head: ClassVar[Head]
    rules: ClassVar[TaskRules] = TaskRules()
    metric: ClassVar[Metric]
    hub_tag: ClassVar[str] = "other"
    outputs: ClassVar[str] = "classes"
    any_size: ClassVar[bool] = False
    explainable: ClassVar[bool] = False

    @property
    def sees_images_once(self) -> bool:
        """Return whether an evaluated image goes through the network once and as it is: not in windows, or mirrored."""
        return True

    @classmethod
    def from_recipe(
        cls, classes: tuple[str, ...], recipe: Mapping[str, Any], limbs: Sequence[tuple[int, int]] = ()
    ) -> Self:
        """Return the task that a recipe describes.

        Args:
            classes: Names of the network's outputs.
            recipe: Settings as JSON; those that are missing have their defaults.
            limbs: See the attribute.
        """
        return cls(classes, **cls.settings_of(recipe), limbs=tuple(limbs))

    @classmethod
    def settings_of(cls, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Return the task's own settings by field: those that a recipe has under its name."""
        return {name: as_tuples(value) for name, value in recipe.get(cls.name, {}).items()}

    def fit(self, data: Samples, prepare: Preprocessing) -> Self:
        """Return the task with everything that it takes from the training data, e.g. weights of classes.

        Args:
            data: Training split.
            prepare: Preprocessing of its images.
        """
        return self

    @abstractmethod
    def loss(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return the training loss, averaged over the batch.

        Args:
            scores: Output of the network for a batch.
            target: Targets of the batch, as the data gives them.
        """

    @abstractmethod
    def totals(
        self, module: nn.Module, batches: Iterable[tuple[Tensor, Any]], data: Samples, device: torch.device
    ) -> Tensor:
        """Return sums over this process's batches of some samples; float64, adds up over processes."""

    @abstractmethod
    def metrics(self, totals: Tensor, data: Samples) -> dict[str, float]:
        """Return the figures of the totals over all processes; accuracies in percent."""

    @abstractmethod
    def predict(
        self, module: nn.Module, prepare: Preprocessing, image: Image.Image, *, device: torch.device | str = "cpu"
    ) -> Any:
        """Return the prediction for one image of any size, by a network that is on that device.

        If ``rules.boxes``, it also takes ``boxes``, or None.
        """

    def class_probabilities(self, scores_K: Tensor) -> Tensor:
        """Return the probabilities of the classes (K,), as `predict` gives them; only for explainable tasks.

        Args:
            scores_K: Output of the network for one image.
        """
        raise NotImplementedError

    def describe(self, prediction: Any) -> dict[str, Any]:
        """Return a prediction as plain JSON."""
        return {"prediction": prediction}

    def text_lines(self, description: Mapping[str, Any]) -> list[str]:
        """Return a description in a line to read, or in one for each person or object."""
        return [str(description["prediction"])]

    def draw(self, image: Image.Image, prediction: Any) -> Image.Image:
        """Return an image, RGB, with a prediction drawn."""
        return add_caption(image, self.text_lines(self.describe(prediction))[0])

    def export_metadata(self, scores: Tensor) -> dict[str, Any]:
        """Return what a reader of an exported file needs beside classes and preprocessing, as JSON by name.

        Args:
            scores: Output of the network for images of the size it is exported for.
        """
        return {}
