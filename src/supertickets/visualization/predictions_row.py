"""A row of images with predicted classes, as the demo shows numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from .style import GREEN, RED


def draw_predictions(
    images: Sequence[Image.Image], labels: Sequence[str], predictions: Sequence[Sequence[tuple[str, float]]], path: Path
) -> None:
    """Draw held-out images with the predicted classes, right ones in green and wrong ones in red."""
    figure = Figure(figsize=(1.35 * len(images), 1.9), layout="constrained")
    axes = figure.subplots(1, len(images))
    for axis, image, label, classes in zip(np.atleast_1d(axes), images, labels, predictions, strict=True):
        name, share = classes[0]
        axis.imshow(image, cmap="gray_r")
        axis.set_axis_off()
        axis.set_title(f"{name} ({share:.0%})", color=GREEN if name == label else RED, fontsize=11)
    figure.savefig(path, dpi=130)
