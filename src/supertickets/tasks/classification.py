"""Image classification: cross-entropy, top-1 and top-5."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ..config.task_settings import TASK_RULES
from ..data.preprocessing import Preprocessing
from ..data.samples import Samples
from .base import Task
from .drawing import add_caption
from .metric import Metric


@dataclass(frozen=True)
class Classification(Task):
    """The task of naming one class per image.

    Attributes:
        classes: Names, in the order of the network's outputs.
        label_smoothing: Share of the training target that is spread over all classes.
    """

    label_smoothing: float = 0.0
    name: ClassVar[str] = "classification"
    head: ClassVar[Literal["classification"]] = "classification"
    rules = TASK_RULES["classification"]
    metric = Metric("top1", "accuracy")
    hub_tag = "image-classification"
    explainable = True

    @classmethod
    def settings_of(cls, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Return the recipe's label smoothing."""
        return {"label_smoothing": recipe.get("label_smoothing", 0.0)}

    def loss(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of scores (B, K) with labels (B,) or shares (B, K), averaged over the batch."""
        return F.cross_entropy(scores, target, label_smoothing=self.label_smoothing)

    @torch.no_grad()
    def totals(
        self, module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], data: Samples, device: torch.device
    ) -> Tensor:
        """Return sums over batches that add up over processes: [samples, loss, top-1 hits, top-5 hits], float64."""
        sums = torch.zeros(4, dtype=torch.float64, device=device)
        top = min(5, len(self.classes))
        for images, labels in batches:
            labels = labels.to(device)
            scores = module(images.to(device))
            hits = scores.topk(top, dim=1).indices == labels[:, None]
            loss = F.cross_entropy(scores, labels, reduction="sum")
            sums += torch.stack((torch.ones_like(labels).sum(), loss, hits[:, 0].sum(), hits.sum())).to(sums)
        return sums

    def metrics(self, totals: Tensor, data: Samples) -> dict[str, float]:
        """Return ``loss``, and ``top1`` and ``top5`` in percent."""
        count, loss, first, five = totals.tolist()
        count = max(count, 1)
        return {"loss": loss / count, "top1": 100 * first / count, "top5": 100 * five / count}

    @torch.no_grad()
    def predict(
        self, module: nn.Module, prepare: Preprocessing, image: Image.Image, *, device: torch.device | str = "cpu"
    ) -> list[tuple[str, float]]:
        """Return (class, probability) from likely to unlikely, five at most."""
        probabilities = self.class_probabilities(module(prepare(prepare.pixels(image)[None]).to(device))[0])
        values, index = probabilities.topk(min(5, len(self.classes)))
        return [(self.classes[i], p) for i, p in zip(index.tolist(), values.tolist(), strict=True)]

    def class_probabilities(self, scores_K: Tensor) -> Tensor:
        """Return the softmax of the scores."""
        return scores_K.softmax(dim=0)

    def describe(self, prediction: Any) -> dict[str, Any]:
        """Return the classes and their probabilities."""
        return {"classes": [{"name": name, "probability": share} for name, share in prediction]}

    def text_lines(self, description: Mapping[str, Any]) -> list[str]:
        """Return the three most likely classes in a line."""
        return [", ".join(f"{entry['name']} {entry['probability']:.1%}" for entry in description["classes"][:3])]

    def draw(self, image: Image.Image, prediction: Any) -> Image.Image:
        """Return the image over a line with the most likely class."""
        name, share = prediction[0]
        return add_caption(image, f"{name}  {share:.0%}")
