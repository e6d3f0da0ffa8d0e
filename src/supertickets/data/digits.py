"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from ..config.recipe import DataSettings
from .classification import InMemoryImages, make_splits
from .samples import Splits
from .splits import stratified_split


def load_digits(settings: DataSettings) -> Splits:
    """The 1,797 handwritten digits (8x8, 17 grey levels) that come with scikit-learn; a fifth is the test split."""
    from sklearn.datasets import load_digits as load

    bunch = load()
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    data = InMemoryImages(images, torch.from_numpy(bunch.target.astype(np.int64)))
    test, rest = stratified_split(data.labels.numpy(), 0.2, settings.split_seed)
    return make_splits(data.subset(rest), data.subset(test), tuple(str(i) for i in range(10)), settings)
