"""Generated street scenes in CamVid's and in published layouts; the colour of a pixel tells its class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLORS = np.array([[20, 60, 200], [90, 90, 90], [30, 160, 40]], np.uint8)
# By source: an image's file and its mask's; what is stored for sky, road and tree, and for pixels without a class.
PUBLISHED = {
    "cityscapes": (
        "leftImg8bit/{part}/ulm/ulm_{i:06}_000019_leftImg8bit.png",
        "gtFine/{part}/ulm/ulm_{i:06}_000019_gtFine_labelIds.png",
        (23, 7, 21, 1),
    ),
    "ade20k": (
        "ADEChallengeData2016/images/{part}/ADE_{i:08}.jpg",
        "ADEChallengeData2016/annotations/{part}/ADE_{i:08}.png",
        (3, 7, 5, 0),
    ),
    "voc": (
        "VOCdevkit/VOC2012/JPEGImages/{part}_{i:06}.jpg",
        "VOCdevkit/VOC2012/SegmentationClass/{part}_{i:06}.png",
        (0, 7, 16, 255),
    ),
}
# Overrides of recipes for `street` and for `plain`.
QUICK = ["--threads", "1", "--evaluate_every", "4", "--recalibrate_batches", "2", "--data.workers", "0"]
SCENES = [
    *(*QUICK, "--data.size", "[32,40]", "--data.shorter", "32", "--data.batch", "8", "--augment.resize", "[0.75,1.5]"),
    *("--data.class_names", '["sky","road","tree"]', "--data.ignore", "[255]", "--optimizer.lr", "0.02"),
    *("--augment.photometric", "false", "--augment.class_share", "1"),
]
IMAGES = [*QUICK, "--data.size", "16", "--data.batch", "16", "--augment.crop", "1", "--augment.jitter", "0"]
IGNORED_ROWS = 2  # at the lower border of published scenes: the car with the camera


def scene(seed: int, height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Return a scene and its mask: sky above a slanted horizon, road below, trees as boxes; colours tell classes."""
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
            image, mask = scene(seed, **size)
            for folder, pixels in ((split, image), (f"{split}annot", mask)):
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / folder / f"{i:03}.png")
    return root


def plain(root: Path, names: tuple[str, ...] = ("sky", "road", "tree"), each: int = 24) -> Path:
    """Write folders of images whose class is their colour, as in the scenes."""
    random = np.random.default_rng(0)
    for color, name in zip(COLORS, names, strict=False):
        (root / name).mkdir(parents=True)
        for i in range(each):
            pixels = color + random.integers(-15, 16, (16, 16, 3))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / name / f"{i:02}.png")
    return root


def published(root: Path, source: str, counts: dict[str, int], **size: int) -> Path:
    """Write scenes in the layout of a published data set; ``counts`` is by part, as that names them."""
    of_image, of_mask, stored = PUBLISHED[source]
    seed = 0
    for part, count in counts.items():
        for i in range(count):
            seed += 1
            image, mask = scene(seed, **size)
            labels = np.array(stored, np.uint8)[mask]
            labels[-IGNORED_ROWS:] = stored[3]
            for file, pixels in ((of_image, image), (of_mask, labels)):
                path = root / file.format(part=part, i=i)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path, quality=95, subsampling=0)
        if source == "voc":
            lists = root / "VOCdevkit/VOC2012/ImageSets/Segmentation"
            lists.mkdir(parents=True, exist_ok=True)
            (lists / f"{part}.txt").write_text("".join(f"{part}_{i:06}\n" for i in range(count)))
    return root
