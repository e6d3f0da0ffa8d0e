"""The demo's row of numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from check_figures import assert_figure
from supertickets.visualization.predictions_row import draw_predictions


@pytest.mark.parametrize("count", [1, 10])
def test_a_row_of_images(tmp_path: Path, count: int) -> None:
    images = [Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)) for _ in range(count)]
    draw_predictions(images, ["3"] * count, [[("3", 0.8), ("5", 0.2)]] * count, tmp_path / "page.png")
    assert_figure(tmp_path / "page.png", (100, 100), (3000, 500))
