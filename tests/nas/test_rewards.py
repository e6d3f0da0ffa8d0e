"""Rewards at hand-worked points."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from supertickets import UserError
from supertickets.nas import REWARDS, Reward, Trend, find_reward, fit_trend


@pytest.mark.parametrize(
    ("kind", "dear", "cheap"), [("soft", 0.7621, 0.8398), ("hard", 0.7621, 0.8), ("absolute", 0.73, 0.765)]
)
def test_by_hand(kind: str, dear: float, cheap: float) -> None:
    """Quality 0.8, exponent -0.07, target 0.5, at twice and half of it."""
    rewards = REWARDS[kind].weigh(torch.tensor([0.8, 0.8]), torch.tensor([1.0, 0.25]), 0.5, -0.07)
    assert rewards.tolist() == pytest.approx([dear, cheap], abs=5e-5)


@pytest.mark.parametrize("kind", ["soft", "hard", "absolute"])
def test_at_the_target_it_is_the_quality(kind: str) -> None:
    assert float(REWARDS[kind].weigh(torch.tensor(0.6), torch.tensor(84.0), 84.0, -0.1)) == pytest.approx(0.6)


def test_trend() -> None:
    cost = torch.tensor([40.0, 50.0, 60.0, 70.0])
    assert fit_trend(0.5 + 0.003 * cost, cost, 50.0) == pytest.approx((0.15, 0), abs=1e-6)
    for unknown in ([5.0, 5.0, 5.0], [1.0, 2.0], []):
        trend = fit_trend(torch.tensor([0.1, 0.9, 0.3][: len(unknown)]), torch.tensor(unknown), 50.0)
        assert trend == (0, math.inf)
        assert not trend.exceeds(-1e-9)


def test_the_error_of_a_trend_is_that_of_textbooks() -> None:
    """Ratios 0, 1, 2 and qualities 0, 3, 0: slope 0, residuals -1, 2, -1, hence sqrt(6 / 1 / 2)."""
    trend = fit_trend(torch.tensor([0.0, 3.0, 0.0]), torch.tensor([0.0, 5.0, 10.0]), 5.0)
    assert trend == pytest.approx((0, 3**0.5))
    assert not Trend(0.2, 0.06).exceeds(-0.1)
    assert Trend(0.2, 0.04).exceeds(-0.1)


def test_a_steeper_trend_than_beta_leads_past_the_target() -> None:
    """The slope must be less than -beta: here quality gains 0.15 per target."""
    cost = torch.linspace(10, 100, 91)
    rewards = [REWARDS["absolute"].weigh(0.5 + 0.003 * cost, cost, 50.0, beta) for beta in (-0.1, -0.2)]
    best = [float(cost[reward.argmax()]) for reward in rewards]
    assert best == [100.0, 50.0]


def test_a_reward_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_rewards.py").write_text(
        "def plain(quality, cost, target, beta):\n    return quality - cost\n"
        "def sloped(quality, cost, target, beta):\n    return quality + cost\n"
        "sloped.has_slope = True\nnothing = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = find_reward("own_rewards:plain")
    assert (own.name, own.has_slope) == ("own_rewards:plain", False)
    assert float(own.weigh(torch.tensor(0.75), torch.tensor(0.5), 1.0, -0.1)) == 0.25
    assert find_reward("own_rewards:sloped").has_slope
    with pytest.raises(UserError, match="reward own_rewards:nothing cannot be called; make it a function"):
        find_reward("own_rewards:nothing")
    with pytest.raises(UserError, match="unknown reward 'absolut'; did you mean 'absolute'"):
        find_reward("absolut")
    with pytest.raises(UserError, match=r"unknown reward 'own_rewards\.plain'; your own is written with a colon"):
        find_reward("own_rewards.plain")


def test_the_slope_of_the_absolute_reward_alone_is_beta() -> None:
    assert {name: reward.has_slope for name, reward in REWARDS.items()} == {
        **{"absolute": True, "soft": False, "hard": False}
    }
    assert all(isinstance(reward, Reward) and reward.name == name for name, reward in REWARDS.items())
