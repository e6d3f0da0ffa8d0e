"""Counting: the squared error of density maps, whose sum is the count; mean and root mean squared error of counts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from ..config.task_settings import TASK_RULES
from ..data.preprocessing import Preprocessing
from ..data.samples import Samples
from .base import Task
from .drawing import add_caption, draw_density
from .metric import Metric


@dataclass(frozen=True)
class Counting(Task):
    """The task of counting people, or whatever points mark, without finding them one by one.

    Attributes:
        classes: The name of the network's one output.
        scale: Factor of the maps: the network's answer is points per cell times this.
        count_weight: Weight of the squared error of a map's mean, and so of its count, in the loss.
    """

    scale: float = 100.0
    count_weight: float = 0.0
    name: ClassVar[str] = "counting"
    head: ClassVar[Literal["density"]] = "density"
    rules = TASK_RULES["counting"]
    metric = Metric("mae", "MAE", is_error=True)
    hub_tag = "image-to-image"  # the hub has no tag for counting
    outputs = "map"
    any_size = True

    def loss(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return the squared error of scaled density maps (B, 1, h, w), averaged over all cells; perhaps that of means.

        Args:
            scores: Output of the network.
            target: Points (B, M, 4): x, y and deviations in shares of the input; rows of -1 are none.
        """
        wanted = density_maps(target, (scores.shape[-2], scores.shape[-1]))
        error = scores - self.scale * wanted
        return error.square().mean() + self.count_weight * error.mean((1, 2, 3)).square().mean()

    @torch.no_grad()
    def totals(
        self, module: nn.Module, batches: Iterable[tuple[Tensor, Any]], data: Samples, device: torch.device
    ) -> Tensor:
        """Return [images, loss, |error|, error squared, count], sums over images; errors are those of counts."""
        sums = torch.zeros(5, dtype=torch.float64, device=device)
        for images, points in batches:
            for image, some in zip(images, points, strict=True):
                scores = module(image[None].to(device)).float()
                error = scores.double().sum() / self.scale - len(some)
                loss = self.loss(scores, some[None].to(device))
                sums += torch.stack((torch.ones_like(error), loss, error.abs(), error.square(), error * 0 + len(some)))
        return sums

    def metrics(self, totals: Tensor, data: Samples) -> dict[str, float]:
        """Return ``loss``, ``mae`` and ``rmse`` per image, and ``count``, the mean of the true counts.

        ``rmse`` is the root of the mean squared error, which papers on counting call MSE.
        """
        images, *sums = totals.tolist()
        loss, absolute, squared, count = (value / max(images, 1) for value in sums)
        return {"loss": loss, "mae": absolute, "rmse": math.sqrt(squared), "count": count}

    @torch.no_grad()
    def predict(
        self, module: nn.Module, prepare: Preprocessing, image: Image.Image, *, device: torch.device | str = "cpu"
    ) -> npt.NDArray[np.float32]:
        """Return the density map, float32 (h, w), coarser than the image; its sum is the count."""
        scores = module(prepare(prepare.pixels(image)[None]).to(device)).float()
        return (scores[0, 0] / self.scale).cpu().numpy()

    def describe(self, prediction: Any) -> dict[str, Any]:
        """Return the count."""
        return {"count": float(prediction.sum())}

    def text_lines(self, description: Mapping[str, Any]) -> list[str]:
        """Return the count in a line."""
        return [f"{description['count']:.1f} counted"]

    def draw(self, image: Image.Image, prediction: Any) -> Image.Image:
        """Return the image under heat, over a line with the count."""
        return add_caption(draw_density(image, prediction), self.text_lines(self.describe(prediction))[0])

    def export_metadata(self, scores: Tensor) -> dict[str, Any]:
        """Return ``scale``: the sum of a map, divided by it, is the count."""
        return {"scale": self.scale}


def density_maps(points_BM4: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the maps to learn: a Gaussian for every point, of sum 1 also where the border cuts it off.

    Gaussians are integrated over cells, not sampled, since they may be narrower than a cell.

    Args:
        points_BM4: x, y and the deviations along them, in shares of the input; rows of -1 are none.
        size: Height h and width w of the maps.

    Returns:
        Shape (B, 1, h, w); the sum of a map is the number of its points.
    """
    there = points_BM4[..., 3:] > 0
    columns, rows = (_parts(points_BM4[..., i], points_BM4[..., i + 2], size[1 - i]) for i in (0, 1))
    return ((rows * there).transpose(1, 2) @ columns)[:, None]


def _parts(centers_BM: Tensor, deviations_BM: Tensor, cells: int) -> Tensor:
    """Return the part of every Gaussian that lies in each of the cells along one axis, (B, M, cells), of sum 1."""
    edges = torch.linspace(0, 1, cells + 1, device=centers_BM.device)
    deviations = deviations_BM.abs()[..., None]  # those of filled-up rows are of no importance
    parts = torch.special.ndtr((edges - centers_BM[..., None]) / deviations).diff()
    return parts / parts.sum(-1, keepdim=True).clamp_min(1e-12)
