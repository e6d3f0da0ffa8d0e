"""Generated crowds in ShanghaiTech's layout: a bright dot on a dark ground for every point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.io import savemat


def write_mat(path: Path, points: npt.ArrayLike) -> None:
    """Write points as ShanghaiTech's files hold them: image_info[0, 0][0, 0][0]."""
    marks = np.asarray(points, np.float64).reshape(-1, 2)
    inside = np.empty((1, 1), [("location", object), ("number", object)])
    inside[0, 0] = (marks, np.array([[len(marks)]], np.uint16))
    info = np.empty((1, 1), object)
    info[0, 0] = inside
    savemat(path, {"image_info": info}, do_compression=True)


def dots(seed: int, height: int, width: int, most: int = 20) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Return an image, uint8 (height, width, 3), and its points, (N, 2)."""
    random = np.random.default_rng(seed)
    points = random.uniform((2, 2), (width - 2, height - 2), (int(random.integers(4, most)), 2))
    y, x = (side[..., None] + 0.5 for side in np.mgrid[:height, :width])
    heat = np.exp(-((x - points[:, 0]) ** 2 + (y - points[:, 1]) ** 2) / 4).max(-1)
    ground = random.integers(0, 40, (height, width))
    return np.repeat((ground + 200 * heat).clip(0, 255).astype(np.uint8)[..., None], 3, 2), points


def crowds(root: Path, counts: dict[str, int], truth: str = "ground-truth", height: int = 48, width: int = 64) -> Path:
    """Write a part with train_data, test_data and so on; images differ in size by up to 8 pixels."""
    seed = 0
    for split, count in counts.items():
        for name in ("images", truth):
            (root / f"{split}_data" / name).mkdir(parents=True, exist_ok=True)
        for i in range(1, count + 1):
            seed += 1
            pixels, points = dots(seed, height + seed % 9, width - seed % 7)
            Image.fromarray(pixels).save(root / f"{split}_data" / "images" / f"IMG_{i}.jpg", quality=95)
            write_mat(root / f"{split}_data" / truth / f"GT_IMG_{i}.mat", points)
    return root
