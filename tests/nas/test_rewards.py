"""Rewards at hand-worked points."""

from __future__ import annotations

import math

import pytest
import torch

from supertickets.config.search_settings import RewardKind
from supertickets.nas import Trend, fit_trend, reward


@pytest.mark.parametrize(
    ("kind", "dear", "cheap"), [("soft", 0.7621, 0.8398), ("hard", 0.7621, 0.8), ("absolute", 0.73, 0.765)]
)
def test_by_hand(kind: RewardKind, dear: float, cheap: float) -> None:
    """Quality 0.8, exponent -0.07, target 0.5, at twice and half of it."""
    found = reward(kind, torch.tensor([0.8, 0.8]), torch.tensor([1.0, 0.25]), 0.5, -0.07)
    assert found.tolist() == pytest.approx([dear, cheap], abs=5e-5)


@pytest.mark.parametrize("kind", ["soft", "hard", "absolute"])
def test_at_the_target_it_is_the_quality(kind: RewardKind) -> None:
    assert float(reward(kind, torch.tensor(0.6), torch.tensor(84.0), 84.0, -0.1)) == pytest.approx(0.6)


def test_trend() -> None:
    cost = torch.tensor([40.0, 50.0, 60.0, 70.0])
    assert fit_trend(0.5 + 0.003 * cost, cost, 50.0) == pytest.approx((0.15, 0), abs=1e-6)
    for unknown in ([5.0, 5.0, 5.0], [1.0, 2.0], []):
        found = fit_trend(torch.tensor([0.1, 0.9, 0.3][: len(unknown)]), torch.tensor(unknown), 50.0)
        assert found == (0, math.inf)
        assert not found.exceeds(-1e-9)


def test_the_error_of_a_trend_is_that_of_textbooks() -> None:
    """Ratios 0, 1, 2 and qualities 0, 3, 0: slope 0, residuals -1, 2, -1, hence sqrt(6 / 1 / 2)."""
    found = fit_trend(torch.tensor([0.0, 3.0, 0.0]), torch.tensor([0.0, 5.0, 10.0]), 5.0)
    assert found == pytest.approx((0, 3**0.5))
    assert not Trend(0.2, 0.06).exceeds(-0.1)
    assert Trend(0.2, 0.04).exceeds(-0.1)


def test_a_steeper_trend_than_beta_leads_past_the_target() -> None:
    """Why the slope must be less than -beta: here quality gains 0.15 per target."""
    cost = torch.linspace(10, 100, 91)
    best = [float(cost[reward("absolute", 0.5 + 0.003 * cost, cost, 50.0, beta).argmax()]) for beta in (-0.1, -0.2)]
    assert best == [100.0, 50.0]
