"""Generated street scenes in CamVid's layout; the colour of a pixel tells its class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLORS = np.array([[20, 60, 200], [90, 90, 90], [30, 160, 40]], np.uint8)


def scene(seed: int, height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Sky above a slanted horizon, road below, trees as boxes: the colour of a pixel tells its class."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    mask = (rows > height * random.uniform(0.3, 0.7) + columns * random.uniform(-0.2, 0.2)).astype(np.uint8)
    for _ in range(3):
        top, left = random.integers(0, height - 8), random.integers(0, width - 8)
        mask[top : top + 8, left : left + 6] = 2
    return COLORS[mask], mask


def street(root: Path, counts: dict[str, int], **size: int) -> Path:
    seed = 0
    for split, count in counts.items():
        for i in range(count):
            seed += 1
            picture, mask = scene(seed, **size)
            for folder, pixels in ((split, picture), (f"{split}annot", mask)):
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / folder / f"{i:03}.png")
    return root
