"""Shares that are held out, and the limit of training samples."""

from __future__ import annotations

import numpy as np
import pytest

from supertickets import UserError
from supertickets.config.recipe import DataSettings
from supertickets.data import load_splits
from supertickets.data.randomness import mix_seed
from supertickets.data.splits import limit_samples, stratified_split


def one_line(error: pytest.ExceptionInfo[UserError], *named: object) -> str:
    text = str(error.value)
    assert "\n" not in text
    for what in named:
        assert str(what) in text
    return text


def test_stratified_takes_one_of_a_rare_class() -> None:
    labels = np.array([0] * 50 + [1] * 2)
    held, rest = stratified_split(labels, 0.1, 0)
    assert np.bincount(labels[held]).tolist() == [5, 1]
    assert sorted([*held, *rest]) == list(range(52))


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5, -0.1])
def test_an_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(UserError) as error:
        load_splits(DataSettings(validation=share))
    one_line(error, "data.validation", f"{share:g}")


def test_a_limit_leaves_some_training_samples_and_the_other_splits() -> None:
    whole, some, other = (
        load_splits(DataSettings(limit=limit, split_seed=seed)) for limit, seed in ((None, 0), (100, 0), (100, 1))
    )
    assert len(some.train) == 100
    assert any(f"100 of {len(whole.train)}" in note for note in some.notes)
    assert some.validation.digest() == whole.validation.digest()
    assert some.test.digest() == whole.test.digest()
    assert len({splits.train.digest() for splits in (whole, some, other)}) == 3
    every = np.arange(100)
    images, labels = some.train.batch(every, some.preprocessing, None)
    known = {
        tuple(image.flatten().tolist())
        for image in whole.train.batch(np.arange(len(whole.train)), whole.preprocessing, None)[0]
    }
    assert len({tuple(image.flatten().tolist()) for image in images} & known) == 100
    assert len(set(labels.tolist())) == 10
    assert load_splits(DataSettings(limit=5000)).train.digest() == whole.train.digest()


def test_an_impossible_limit_is_reported() -> None:
    with pytest.raises(UserError) as error:
        load_splits(DataSettings(limit=0))
    one_line(error, "data.limit", "1")


def test_a_limit_is_drawn_by_the_split_seed() -> None:
    whole = load_splits(DataSettings())
    # The same splits for both seeds, so that the limit alone can tell them apart.
    for seed in (0, 1):
        some = limit_samples(whole, DataSettings(limit=100, split_seed=seed))
        order = np.random.default_rng(mix_seed(seed, 6)).permutation(len(whole.train))
        assert some.train.digest() == whole.train.subset(np.sort(order[:100])).digest()
    first, second = (limit_samples(whole, DataSettings(limit=100, split_seed=seed)) for seed in (0, 1))
    assert first.train.digest() != second.train.digest()
