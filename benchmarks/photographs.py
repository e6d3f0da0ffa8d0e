"""Make a data set of classes of the photographs that scikit-image and scikit-learn ship: whose patch is it?

    pip install scikit-image
    python benchmarks/photographs.py OUT
    supertickets compare images --data OUT --budget.macs 2000000 --factors 0.5 1 --references resnet8 --threads 1

Every photograph is a class. It is made grey, so that its colours do not tell it, and cut into upright strips: every
second one is for the test split. Patches of 48 pixels are taken from random places in a strip, at one of three scales.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

_NAMES = (
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "coffee.png", "coins.png", "grass.png"),
    *("gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "page.png", "retina.jpg"),
    "rocket.jpg",
)
_SIDE = 48  # of a patch, in pixels
_STRIPS = 4
_SCALES = (1.0, 1.25, 1.5)  # pixels of the photograph for one of a patch
_COUNTS = {"train": 200, "test": 100}  # patches of a photograph


def read_photographs() -> dict[str, Image.Image]:
    """Return the photographs by name, grey, the shorter side at least two patches of the largest scale."""
    import skimage  # for this alone, and by no extra

    folder = Path(skimage.__file__).parent / "data"
    images = {Path(name).stem: Image.open(folder / name) for name in _NAMES}
    sample = load_sample_images()
    images |= {
        Path(name).stem: Image.fromarray(pixels) for name, pixels in zip(sample.filenames, sample.images, strict=True)
    }
    grey = {}
    for name, image in images.items():
        scale = max(1.0, 2 * _SIDE * max(_SCALES) / image.height, _STRIPS * _SIDE * max(_SCALES) * 1.25 / image.width)
        size = (round(scale * image.width), round(scale * image.height))
        grey[name] = image.convert("L").resize(size, Image.Resampling.BICUBIC)
    return grey


def draw_patch(image: Image.Image, split: str, random: np.random.Generator) -> Image.Image:
    """Return a patch from a random place of a random strip of a split."""
    strip = int(random.integers(_STRIPS // 2)) * 2 + (split == "test")
    left, right = (round(image.width * edge / _STRIPS) for edge in (strip, strip + 1))
    side = round(_SIDE * float(random.choice(_SCALES)))
    x, y = random.integers(left, right - side + 1), random.integers(0, image.height - side + 1)
    return image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC, (x, y, x + side, y + side))


def main() -> None:
    """Write the data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    for name, image in read_photographs().items():
        for split, count in _COUNTS.items():
            folder = options.out / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                draw_patch(image, split, random).save(folder / f"{i:03}.png")


if __name__ == "__main__":
    main()
