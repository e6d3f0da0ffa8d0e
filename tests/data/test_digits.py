"""The embedded digits and their splits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits as sklearn_digits

from supertickets.config.recipe import DataSettings
from supertickets.data import Splits, load_splits
from supertickets.data.classification import InMemoryImages


def images(data: InMemoryImages) -> set[bytes]:
    return {image.numpy().tobytes() for image in data.images}


def counts(data: InMemoryImages) -> list[int]:
    return np.bincount(data.labels.numpy(), minlength=10).tolist()


@pytest.fixture(scope="module")
def digits() -> Splits:
    return load_splits(DataSettings(validation=0.15))


def test_digits_splits_cover_the_data_once(digits: Splits) -> None:
    parts = [images(part) for part in (digits.train, digits.validation, digits.test)]
    # No two of the 1,797 are equal, so that sets of images tell which sample is where.
    whole = {np.round(image * 255 / 16).astype(np.uint8).tobytes() for image in sklearn_digits().images}
    assert sum(map(len, parts)) == len(whole) == 1797
    assert parts[0] | parts[1] | parts[2] == whole
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


def test_digits_splits_are_stratified(digits: Splits) -> None:
    every = np.bincount(sklearn_digits().target)
    test = [round(0.2 * int(n)) for n in every]
    held = [round(0.15 * (int(n) - t)) for n, t in zip(every, test, strict=True)]
    assert counts(digits.test) == test
    assert counts(digits.validation) == held
    assert counts(digits.train) == [int(n) - t - h for n, t, h in zip(every, test, held, strict=True)]


def test_digits_labels_stay_with_their_images(digits: Splits) -> None:
    bunch = sklearn_digits()
    label_of = {
        np.round(image * 255 / 16).astype(np.uint8).tobytes(): int(label)
        for image, label in zip(bunch.images, bunch.target, strict=True)
    }
    for part in (digits.train, digits.validation, digits.test):
        assert [label_of[image.numpy().tobytes()] for image in part.images] == part.labels.tolist()


def test_splits_are_a_function_of_their_seed(digits: Splits) -> None:
    again, other = (load_splits(DataSettings(validation=0.15, split_seed=seed)) for seed in (0, 1))
    assert (again.train.images == digits.train.images).all()
    assert (again.test.labels == digits.test.labels).all()
    assert images(other.test) != images(digits.test)
    assert images(other.validation) != images(digits.validation)


def test_the_share_held_out_does_not_touch_the_test_split(digits: Splits) -> None:
    half = load_splits(DataSettings(validation=0.5))
    assert (half.test.images == digits.test.images).all()
    assert len(half.validation) > 3 * len(digits.validation)


def test_normalisation_is_that_of_the_training_images_alone(digits: Splits) -> None:
    values = digits.train.images.numpy().astype(np.float64) / 255
    assert digits.preprocessing.mean == pytest.approx([values.mean()], rel=1e-5)
    assert digits.preprocessing.std == pytest.approx([values.std()], rel=1e-5)
    assert (digits.preprocessing.channels, digits.preprocessing.size) == (1, (8, 8))
