"""The policy with curiosity: rewards and reuse by hand, and what it finds where the answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from supertickets.config.search_settings import ConnectSettings
from supertickets.nas import connection_policy as connections
from supertickets.nas import connection_reward, policy_search
from supertickets.nas.connection_policy import Curiosity, reuse_factor
from supertickets.nas.controllers import Controller

SETTINGS = ConnectSettings(steps=300)
WANTED = torch.tensor([True, False, False, True, False, True])


def alike(schemes: Tensor) -> Tensor:
    """Quality: the share of blocks that are as wanted."""
    return (schemes == WANTED).double().mean(1)


def test_the_reward_by_hand() -> None:
    """A scheme with one of four connections and quality 0.6; one with all and 0.7."""
    schemes = torch.tensor([[False, True, False, False], [True] * 4])
    quality = torch.tensor([0.6, 0.7], dtype=torch.float64)
    assert connection_reward(schemes, quality, 0.02, 1.0).tolist() == pytest.approx([0.6 + 0.02 * 0.75, 0.7])
    assert connection_reward(schemes, quality, 0.1, 0.5).tolist() == pytest.approx([0.3 + 0.075, 0.35])


def test_only_biases_and_the_second_layer_learn() -> None:
    """The controller's input is zero, as in the released code."""
    controller = Controller(3, 5.0)
    log_p = controller()
    assert log_p.shape == (3, 2)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(3, dtype=torch.float64))
    log_p[:, 1].sum().backward()
    gradients = [float(p.grad.abs().sum()) for p in controller.parameters() if p.grad is not None]
    assert gradients[0] == 0
    assert min(gradients[1:]) > 0
    hot = Controller(3, 1.0)
    hot.load_state_dict(controller.state_dict())
    logits = hot.body(torch.zeros(20, dtype=torch.float64)).unflatten(0, (3, 2))
    torch.testing.assert_close(controller().detach(), torch.log_softmax(logits / 5, dim=1).detach())


def test_the_curiosity_bonus_of_a_seen_scheme_falls() -> None:
    torch.manual_seed(0)
    curiosity = Curiosity(6, SETTINGS)
    seen = torch.tensor([[True, False, True, False, True, False]])
    first = float(curiosity.bonus(seen))
    fixed = [p.clone() for p in curiosity.target.parameters()]
    for _ in range(100):
        last = float(curiosity.bonus(seen))
    assert last < 0.05 * first
    assert float(curiosity.bonus(~seen)) > 10 * last
    assert all(torch.equal(*pair) for pair in zip(fixed, curiosity.target.parameters(), strict=True))


def test_reuse_by_hand() -> None:
    """One scheme of two blocks, answers now at 0.6 and 0.3, then at 0.5 and 0.4: ratios 1.2 and 0.75."""
    now = torch.tensor([[math.log(0.6), math.log(0.3)]], dtype=torch.float64, requires_grad=True)
    before = torch.tensor([[math.log(0.5), math.log(0.4)]], dtype=torch.float64)
    advantage = torch.tensor([2.0], dtype=torch.float64)
    plain = 2 * (1.2 * math.log(0.6) + 0.75 * math.log(0.3))
    clipped = 2 * (1.1 * math.log(0.6) + 0.9 * math.log(0.3))
    assert reuse_factor(now, before, advantage, replace(SETTINGS, reuse="paper")).item() == pytest.approx(plain)
    assert reuse_factor(now, before, advantage, SETTINGS).item() == pytest.approx(0.1 * min(plain, clipped))
    reuse_factor(now, before, advantage, replace(SETTINGS, reuse="paper")).backward()
    assert now.grad is not None
    assert now.grad[0].tolist() == pytest.approx([2 * 1.2, 2 * 0.75])  # ratios are no part of the graph


@pytest.mark.parametrize("reuse", ["paper", "clipped"])
def test_reused_rewards_hold_the_curiosity_bonus_in_the_paper_alone(
    reuse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rewards that are learned from again hold the curiosity of their step (Eq. 30 and 31), or not (released code)."""
    again: list[Tensor] = []

    def watched(now: Tensor, before: Tensor, advantage: Tensor, settings: ConnectSettings) -> Tensor:
        again.append(advantage)
        return reuse_factor(now, before, advantage, settings)

    monkeypatch.setattr(connections, "reuse_factor", watched)
    settings = replace(SETTINGS, steps=15, curiosity=1.0, baseline=None, reuse=reuse)  # type: ignore[arg-type]
    steps = policy_search(6, alike, settings, seed=0)
    assert len(again) == 5  # ten steps pass first
    then = [step.reward + step.bonus if reuse == "paper" else step.reward for step in steps]
    assert all(any(torch.equal(rewards, one) for one in then) for rewards in again)


@pytest.mark.parametrize("reuse", ["none", "paper", "clipped"])
def test_it_finds_what_is_wanted(reuse: str) -> None:
    """And becomes sure of it, if not always of all of it; the same seed finds the same."""
    settings = replace(SETTINGS, reuse=reuse, sparsity=0.0)  # type: ignore[arg-type]
    last = []
    for seed in range(4):
        steps = policy_search(6, alike, settings, seed)
        assert len(steps) == 300
        assert steps[0].schemes.shape == (3, 6)
        assert steps[0].probability == pytest.approx(0.5, abs=0.05)
        assert steps[-1].probability > 0.9
        last += [step.quality for step in steps[-20:]]
    assert float(torch.cat(last).mean()) > 0.9
    again = policy_search(6, alike, settings, seed)
    assert all(torch.equal(one.schemes, other.schemes) for one, other in zip(steps, again, strict=True))


def test_sgd_and_no_baseline() -> None:
    """As the paper writes it (Eq. 6): slower, but the same way."""
    settings = replace(SETTINGS, optimizer="sgd", baseline=None, reuse="none", sparsity=0.0, steps=600)
    steps = policy_search(6, alike, settings, seed=1)
    first, last = (torch.stack([s.quality for s in part]).mean() for part in (steps[:100], steps[-100:]))
    assert last > first + 0.1


def test_sparsity_leads_to_fewer_connections() -> None:
    steps = policy_search(6, lambda schemes: torch.zeros(len(schemes), dtype=torch.float64), SETTINGS, seed=0)
    assert float(torch.stack([step.schemes.double() for step in steps[-20:]]).mean()) < 0.2


def test_random_numbers_stay_as_they_are() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    policy_search(6, alike, replace(SETTINGS, steps=3), seed=0)
    assert torch.equal(torch.rand(1), wanted)
