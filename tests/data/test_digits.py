"""The embedded digits and their splits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits as sklearn_digits

from supertickets.config.recipe import DataSettings
from supertickets.data import Splits, load_splits
from supertickets.data.classification import InMemoryImages
from supertickets.data.digits import write_numbers
from supertickets.errors import UserError


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


@pytest.fixture(scope="module")
def numbers() -> Splits:
    return load_splits(DataSettings(source="numbers", validation=0.15))


def left_digits(number: np.ndarray, digits: InMemoryImages) -> set[int]:
    """Return the labels of the digits whose first six columns, which no second digit covers, begin a number."""
    shapes = digits.images[:, 0, :, :6].numpy()
    windows = [number[top : top + 8, left : left + 6] for top in range(9) for left in range(2)]
    return {int(digits.labels[i]) for window in windows for i in np.flatnonzero((shapes == window).all((1, 2)))}


def test_numbers_are_written_with_digits_of_their_own_split_alone(digits: Splits, numbers: Splits) -> None:
    """A digit that training has seen would make the test easier than it says."""
    for name in ("train", "validation", "test"):
        part, own = getattr(numbers, name), getattr(digits, name)
        others = [getattr(digits, other) for other in ("train", "validation", "test") if other != name]
        for i in range(0, len(part), len(part) // 20):
            number, tens = part.images[i, 0].numpy(), int(part.labels[i]) // 10
            assert tens in left_digits(number, own)
            assert not any(tens in left_digits(number, other) for other in others)


def test_every_number_occurs_as_often_as_every_other(numbers: Splits) -> None:
    for part, count in ((numbers.train, 8000), (numbers.validation, 1500), (numbers.test, 2000)):
        assert np.bincount(part.labels.numpy(), minlength=100).tolist() == [count // 100] * 100
    assert numbers.classes[:3] == ("00", "01", "02")
    assert len(numbers.classes) == 100


def test_numbers_show_their_two_digits_side_by_side() -> None:
    values = torch.arange(10, dtype=torch.uint8)[:, None, None, None]
    plain = InMemoryImages((values + 1).expand(10, 1, 8, 8).contiguous(), torch.arange(10))
    written = write_numbers(plain, 200, seed=0)
    tops = set()
    for image, label in zip(written.images[:, 0].numpy(), written.labels.tolist(), strict=True):
        left, right = image[:, 1:7].max(1), image[:, 9:15].max(1)  # columns that are the first's and the second's alone
        assert set(left) == {0, label // 10 + 1}
        assert set(right) == {0, label % 10 + 1}
        assert np.count_nonzero(left) == np.count_nonzero(right) == 8
        tops.add((int(np.argmax(left > 0)), int(np.argmax(right > 0))))
    assert len({top for top, _ in tops}) == len({top for _, top in tops}) == 9  # up and down, one apart from the other
    assert len(tops) > 50


def test_numbers_are_a_function_of_the_seed_of_splits(numbers: Splits) -> None:
    again, other = (load_splits(DataSettings(source="numbers", validation=0.15, split_seed=seed)) for seed in (0, 1))
    assert again.digest() == numbers.digest() != other.digest()


def test_numbers_can_be_made_larger() -> None:
    large = load_splits(DataSettings(source="numbers", size=24))
    assert large.train.images.shape == (8000, 1, 24, 24)
    assert large.preprocessing.size == (24, 24)


def test_a_share_that_leaves_no_digit_to_learn_from_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.validation 0\.99\d* leaves no training samples"):
        load_splits(DataSettings(source="numbers", validation=0.9965))
