"""Random numbers as a function of what they are for."""

from __future__ import annotations

import numpy as np
import pytest

from supertickets.data.randomness import mix_seed, uniform


def test_mix_is_splitmix64() -> None:
    # First output of the published generator from state 0, and of the state that its own increment leads to.
    assert mix_seed(0) == 0xE220A8397B1DCDAF >> 1


def test_mix_differs_with_every_key_and_their_order() -> None:
    seeds = {mix_seed(a, b, c) for a in range(12) for b in range(12) for c in range(12)}
    assert len(seeds) == 12**3
    assert mix_seed(1, 2) != mix_seed(2, 1)
    assert mix_seed(1) != mix_seed(1, 0)


@pytest.mark.parametrize("keys", [(0,), (-1, 5), (2**63, 1), (2**80, 3)])
def test_mix_gives_63_bits_for_any_integers(keys: tuple[int, ...]) -> None:
    assert 0 <= mix_seed(*keys) < 2**63
    assert mix_seed(*keys) == mix_seed(*keys)


def test_uniform_rows_depend_on_seed_epoch_and_index_alone() -> None:
    index = np.arange(200)
    rows = uniform(3, 7, index, 4)
    shuffled = np.random.default_rng(0).permutation(index)
    assert np.array_equal(uniform(3, 7, shuffled, 4), rows[shuffled])
    assert np.array_equal(uniform(3, 7, index[50:51], 4), rows[50:51])
    assert not np.array_equal(uniform(4, 7, index, 4), rows)
    assert not np.array_equal(uniform(3, 8, index, 4), rows)


def test_uniform_is_uniform() -> None:
    rows = uniform(0, 0, np.arange(20000), 4)
    assert rows.shape == (20000, 4)
    assert rows.dtype == np.float32
    assert rows.min() >= 0
    assert rows.max() < 1
    assert np.abs(rows.mean(0) - 0.5).max() < 0.01
    assert np.abs(rows.var(0) - 1 / 12).max() < 0.003
    correlation = np.corrcoef(rows.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.03
    neighbours = np.corrcoef(rows[:-1, 0], rows[1:, 0])[0, 1]
    assert abs(neighbours) < 0.03
