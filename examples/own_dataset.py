"""Draw a ticket from a dataset of your own: a class with ``__len__``, ``__getitem__`` and ``classes``.

Run ``python examples/own_dataset.py``, with settings behind it if you like: ``--epochs 20``. The command line takes the
class too: ``PYTHONPATH=examples supertickets draw digits --data.source own_dataset:Shapes``.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

import supertickets as st

OUT = Path("runs/own_dataset")
SIZE = 8  # pixels


class Shapes:
    """Generated grey images: a disc or a square, anywhere in the image."""

    classes = ("disc", "square")

    def __init__(self, folder: Path | None, split: str) -> None:
        """Keep what the samples of a split are made from; ``folder`` is the one of ``--data``, not needed here."""
        if split == "val":
            raise ValueError("none is given, so that one is held out from training")
        self.seed, self.count = {"train": (0, 400), "test": (1, 100)}[split]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> tuple[np.ndarray, int]:
        random = np.random.default_rng((self.seed, position))
        label, radius = position % 2, random.integers(2, 4)
        top, left = random.integers(radius, SIZE - radius, 2)
        y, x = np.abs(np.mgrid[:SIZE, :SIZE] - np.array([top, left])[:, None, None])
        inside = (x**2 + y**2 <= radius**2) if label == 0 else (np.maximum(x, y) <= radius * 0.7)
        ground = random.integers(0, 60, (SIZE, SIZE))
        return np.where(inside, 220, ground).astype(np.uint8), label


def main() -> None:
    """Draw the ticket and print what it reached."""
    shutil.rmtree(OUT, ignore_errors=True)
    quick = ["--epochs", "12", "--data.batch", "32", "--threads", "1", "--prune.ratio", "0.5"]
    recipe = st.load_recipe("digits", ["--data.source", "own_dataset:Shapes", *quick, *sys.argv[1:]])
    ticket = st.draw(recipe, OUT)
    print(f"classes: {', '.join(ticket.classes)}; test accuracy: {ticket.about['test']['top1']:.0f}%")


if __name__ == "__main__":
    main()
