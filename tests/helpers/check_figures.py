"""Checks of figures that were written as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def assert_figure(path: Path, least: tuple[int, int], most: tuple[int, int]) -> None:
    """Check that a PNG has a size between two sizes (width, height), and that something is drawn on it."""
    with Image.open(path) as figure:
        assert figure.format == "PNG"
        assert all(low <= size <= high for low, size, high in zip(least, figure.size, most, strict=True))
        assert np.asarray(figure.convert("L")).std() > 5
