"""Searches for connections where nothing learns from gradients: by hand, and where the answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from supertickets import UserError
from supertickets.config.search_settings import ConnectSettings
from supertickets.nas import (
    every_scheme,
    genetic_search,
    keep_largest,
    module_scores,
    periodic_scheme,
    random_search,
    search_by_ratio,
)
from supertickets.nas.connection_baselines import schemes_with_ratio

SETTINGS = ConnectSettings(steps=200, sparsity=0.0)
WANTED = torch.arange(16) % 3 == 0


def alike(schemes: Tensor) -> Tensor:
    """Quality: the share of blocks that are as wanted."""
    return (schemes == WANTED).double().mean(1)


def best_of(steps: list) -> float:
    return max(float(step.reward.max()) for step in steps)


def test_evolution_finds_what_chance_does_not() -> None:
    """Among 65,536 schemes, with 600 of them judged."""
    for seed in range(3):
        assert best_of(genetic_search(16, alike, SETTINGS, seed)) == 1.0
        assert best_of(random_search(16, alike, SETTINGS, seed)) < 1.0
    steps, again = genetic_search(16, alike, SETTINGS, 1), genetic_search(16, alike, SETTINGS, 1)
    assert len(steps) == 200
    assert all(step.schemes.shape == (3, 16) and step.probability is None for step in steps)
    assert all(torch.equal(one.schemes, other.schemes) for one, other in zip(steps, again, strict=True))


def test_evolution_of_a_single_block_and_of_few_schemes() -> None:
    """There are fewer schemes than live at a time."""
    assert best_of(genetic_search(2, lambda s: s.double().mean(1), replace(SETTINGS, steps=20), 0)) == 1.0
    assert best_of(genetic_search(1, lambda s: s.double().mean(1), replace(SETTINGS, steps=5), 0)) == 1.0


@pytest.mark.parametrize("probability", [0.2, 0.8])
def test_random_schemes_have_the_wanted_share(probability: float) -> None:
    steps = random_search(16, alike, replace(SETTINGS, probability=probability), 0)
    drawn = torch.cat([step.schemes for step in steps])
    assert drawn.shape == (600, 16)
    assert float(drawn.double().mean()) == pytest.approx(probability, abs=0.02)
    assert len(torch.unique(drawn, dim=0)) > 400


def test_rewards_weigh_sparsity() -> None:
    (step, *_) = random_search(16, alike, replace(SETTINGS, sparsity=0.1), 0)
    wanted = alike(step.schemes) + 0.1 * (1 - step.schemes.double().mean(1))
    torch.testing.assert_close(step.reward, wanted)


def test_every_second_and_every_third_block() -> None:
    def text(schemes: Tensor) -> list[str]:
        return ["".join(str(int(flag)) for flag in row) for row in schemes.tolist()]

    assert text(periodic_scheme(6, 2)) == ["101010", "010101"]
    assert text(periodic_scheme(6, 3)) == ["100100", "010010", "001001"]
    assert text(every_scheme(2)) == ["00", "01", "10", "11"]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20, unique=True), st.floats(0, 1))
def test_the_largest_stay(scores: list[int], share: float) -> None:
    kept = keep_largest(torch.tensor(scores, dtype=torch.float64), share).tolist()
    assert sum(kept) == int(share * len(scores))
    stay = [score for score, flag in zip(scores, kept, strict=True) if flag]
    gone = [score for score, flag in zip(scores, kept, strict=True) if not flag]
    assert not stay or not gone or min(stay) > max(gone)


@given(blocks=st.integers(1, 40), ratio=st.floats(0, 1), most=st.integers(1, 60))
def test_schemes_of_a_ratio_differ(blocks: int, ratio: float, most: int) -> None:
    schemes = schemes_with_ratio(blocks, ratio, most, torch.Generator().manual_seed(0))
    number = int(ratio * blocks + 1e-9)
    assert len(schemes) == min(most, math.comb(blocks, number)) == len(schemes.unique(dim=0))
    assert schemes.sum(1).tolist() == [number] * len(schemes)
    assert schemes.shape[1] == blocks


def test_ratios_stand_between_both_ends() -> None:
    """2.4, 4.8, 7.2 and 9.6 of 12 connections are rounded down."""
    settings = replace(SETTINGS, each=5)
    steps = search_by_ratio(12, lambda schemes: schemes.double().mean(1), settings, 0)
    assert [step.schemes.sum(1).tolist() for step in steps] == [[0, 12], [2] * 5, [4] * 5, [7] * 5, [9] * 5]
    assert steps[0].quality.tolist() == [0.0, 1.0]


def test_equal_scores_cannot_be_ranked() -> None:
    with pytest.raises(UserError, match="same score"):
        keep_largest(torch.ones(4), 0.5)


def test_scores_by_hand() -> None:
    """Two filters (1, 0) and (4, 4), 5 apart: 2.5 in the mean over both filters, for each; biases are out."""
    weight = torch.tensor([[1.0, 0.0], [4.0, 4.0]])
    module = {"weight": weight[:, :, None, None], "bias": torch.full((2,), 100.0)}
    same = {"weight": torch.ones(3, 2)}
    assert module_scores([module, same], "l1").tolist() == [9.0, 6.0]
    gates = {"weight": torch.full((1, 4, 1, 1), -0.5), "bias": torch.ones(1, 4, 1, 1)}  # of spatial group enhancement
    assert module_scores([gates], "l1").tolist() == [2.0]
    assert module_scores([module, same], "median").tolist() == pytest.approx([5.0, 0.0])
