"""The controller, worked out by hand: log-probabilities, entropies, warm-up, baseline, schedule, updates."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from supertickets.config.search_settings import PolicySettings
from supertickets.models import Decision
from supertickets.nas import Baseline, Policy, SampledNetworks, Space, auto_lr, lr_at, warmup_at

FLAT = Space((Decision("a", (3, 5, 7)), Decision("b", (8, 16), "filters")))
NESTED = Space(
    (
        Decision("kernel", (3, 5, 7), within=("skip", False)),
        Decision("skip", (False, True)),
        Decision("width", (16, 8), "filters"),  # the largest option is the first
    )
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(space: Space, *rows: list[int]) -> SampledNetworks:
    indices = torch.tensor(rows)
    return SampledNetworks(indices, torch.zeros_like(indices, dtype=torch.bool), space.active(indices))


# Uniform, nested, warmed up -------------------------------------------------------------------------------------------


def test_a_uniform_controller() -> None:
    policy = Policy(FLAT)
    assert policy.entropy() == pytest.approx(math.log(6))
    assert policy.mean_probability() == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert policy.log_probabilities(draws(FLAT, [0, 0], [2, 1])).tolist() == pytest.approx([-math.log(6)] * 2)


def test_nested_decisions_count_where_they_mean_something() -> None:
    """The kernel means something in half of the networks."""
    policy = Policy(NESTED)
    assert policy.entropy() == pytest.approx(math.log(3) / 2 + math.log(2) + math.log(2))
    logs = policy.log_probabilities(draws(NESTED, [1, 0, 0], [1, 1, 0]))
    assert logs.tolist() == pytest.approx([-math.log(12), -math.log(4)])


def test_entropy_is_that_of_the_networks() -> None:
    """The sum over all networks, for logits that are not uniform."""
    policy = Policy(NESTED)
    policy.logits[:, :2] += torch.tensor([[0.3, -1.0], [0.7, 0.1], [0.0, 2.0]])
    rows = [[k, 0, w] for k in range(3) for w in range(2)] + [[0, 1, w] for w in range(2)]
    log_p = policy.log_probabilities(draws(NESTED, *rows))
    assert float(log_p.exp().sum()) == pytest.approx(1)
    assert policy.entropy() == pytest.approx(float(-(log_p.exp() * log_p).sum()))


def test_log_probability_under_warmup() -> None:
    """log p where a decision was replaced, log(1 - p) and its own where it was not."""
    policy = Policy(FLAT)
    one = SampledNetworks(torch.tensor([[0, 1]]), torch.tensor([[True, False]]), torch.ones(1, 2, dtype=torch.bool))
    expected = math.log(0.25) + math.log(0.75) + math.log(1 / 2)
    assert policy.log_probabilities(one, warmup=0.25).tolist() == pytest.approx([expected])


def test_full_warmup() -> None:
    """All operations are averaged, all widths the largest, and what lies within an averaged answer means something."""
    policy = Policy(NESTED)
    networks = policy.sample(5, generator(), warmup=1.0)
    assert policy.choices(networks) == [{"kernel": None, "skip": None, "width": 16}] * 5
    alone = Policy(NESTED, PolicySettings(op_warmup=False))
    for choices in alone.choices(alone.sample(20, generator(), warmup=1.0)):
        assert choices["width"] == 16
        assert choices["skip"] in (False, True)
        assert ("kernel" in choices) == (choices["skip"] is False)


def test_warmup_is_drawn_per_decision() -> None:
    replaced = Policy(FLAT).sample(4000, generator(), warmup=0.3).replaced.double()
    assert replaced.mean(dim=0).tolist() == pytest.approx([0.3, 0.3], abs=0.03)
    assert float((replaced[:, 0] * replaced[:, 1]).mean()) == pytest.approx(0.09, abs=0.02)


def test_samples_follow_the_probabilities() -> None:
    policy = Policy(FLAT)
    policy.logits[0] = torch.tensor([0.2, 0.3, 0.5]).log()
    indices = policy.sample(20_000, generator()).indices
    assert (torch.bincount(indices[:, 0]) / 20_000).tolist() == pytest.approx([0.2, 0.3, 0.5], abs=0.02)
    assert int(indices[:, 1].max()) == 1


# Learning -------------------------------------------------------------------------------------------------------------


def test_the_baseline_has_no_bias() -> None:
    baseline = Baseline(0.95)
    assert baseline.update(0.4) == pytest.approx(0.4)
    assert baseline.update(0.8) == pytest.approx((0.95 * 0.05 * 0.4 + 0.05 * 0.8) / (0.95 * 0.05 + 0.05))


def test_learning_rate_and_warmup_over_steps() -> None:
    settings = PolicySettings(lr=0.01)
    assert [lr_at(step, 100, settings) for step in (0, 24, 25)] == pytest.approx([0, 0, 0.01])
    assert lr_at(100, 100, settings) == pytest.approx(0.1)
    assert lr_at(99, 100, PolicySettings(lr=0.01, growth=1)) == pytest.approx(0.01)
    assert [warmup_at(step, 100, settings) for step in (0, 5, 25, 99)] == pytest.approx([1, 0.8, 0, 0])
    assert warmup_at(0, 100, PolicySettings(warmup=0)) == 0


@pytest.mark.parametrize("steps", [40, 2000])
def test_the_rate_that_nobody_chose_goes_as_far_in_any_number_of_steps(steps: int) -> None:
    settings = PolicySettings(growth=20, delay=0.5)
    chosen = dataclasses.replace(settings, lr=auto_lr(steps, settings))
    assert sum(lr_at(step, steps, chosen) for step in range(steps)) == pytest.approx(130)


def by_autograd(policy: Policy, drawn: SampledNetworks, rewards: Tensor, baseline: float) -> tuple[Tensor, Tensor]:
    """Mean of the gradients of single samples, and of their squares."""
    logits = policy.logits.clone().requires_grad_()
    gradients = []
    for s in range(len(rewards)):
        log_p = logits.log_softmax(dim=1)[torch.arange(len(logits)), drawn.indices[s]]
        counts = drawn.active[s] & ~drawn.replaced[s]
        loss = -(rewards[s] - baseline) * log_p[counts].sum()
        gradients.append(torch.autograd.grad(loss, logits)[0].nan_to_num())
    stacked = torch.stack(gradients)
    return stacked.mean(dim=0), stacked.square().mean(dim=0)


def test_an_update_is_adam_without_a_first_moment() -> None:
    policy = Policy(NESTED)
    policy.logits[:, :2] += torch.tensor([[0.3, -1.0], [0.7, 0.1], [0.0, 2.0]])
    drawn = policy.sample(6, generator(), warmup=0.3)
    rewards = torch.tensor([0.1, 0.9, 0.4, 0.3, 0.8, 0.2], dtype=torch.float64)
    before = policy.logits.clone()
    first, squares = by_autograd(policy, drawn, rewards, float(rewards.mean()))
    assert policy.update(drawn, rewards, lr=0.1) == pytest.approx(float(rewards.mean()))
    finite = before.isfinite()
    torch.testing.assert_close(policy.logits[finite], (before - 0.1 * first / (squares.sqrt() + 1e-8))[finite])
    assert torch.equal(policy.logits.isfinite(), finite)
    second = policy.second.clone()
    again = policy.sample(6, generator(1))
    _, more = by_autograd(policy, again, rewards, policy.baseline.total / policy.baseline.weight)
    policy.update(again, rewards, lr=0.0)
    torch.testing.assert_close(policy.second[finite], (0.999 * second + 0.001 * more)[finite], rtol=1e-3, atol=1e-9)


def test_processes_learn_as_one() -> None:
    """Two processes with half of the samples each, whose tensors are averaged, and one with all of them."""
    whole = Policy(FLAT)
    drawn = whole.sample(8, generator())
    rewards = torch.rand(8, dtype=torch.float64, generator=generator(1))
    whole.update(drawn, rewards, lr=0.1)
    halves = [slice(0, 4), slice(4, 8)]
    sent: list[list[Tensor]] = [[], []]  # what each of the two would send

    def run(half: int, others: list[Tensor] | None) -> Policy:
        policy, rows = Policy(FLAT), halves[half]

        def average(tensors: Sequence[Tensor]) -> None:
            for tensor in tensors:
                sent[half].append(tensor.clone())
                if others is not None:
                    tensor.add_(others[len(sent[half]) - 1]).div_(2)
                elif tensor.ndim == 0:
                    tensor.fill_(rewards.mean())

        part = SampledNetworks(drawn.indices[rows], drawn.replaced[rows], drawn.active[rows])
        policy.update(part, rewards[rows], lr=0.1, average=average)
        return policy

    run(1, None)
    torch.testing.assert_close(run(0, sent[1]).logits, whole.logits)


def test_it_finds_the_best_of_few() -> None:
    policy = Policy(NESTED, PolicySettings(lr=0.05, delay=0.0, warmup=0.0))
    random = generator()
    for step in range(400):
        drawn = policy.sample(4, random)
        names = NESTED.genotypes(drawn.indices)
        rewards = torch.tensor([(g.get("kernel") == 5) + 0.5 * (g["width"] == 8) for g in names])
        policy.update(drawn, rewards, lr_at(step, 400, policy.settings))
    assert NESTED.genotype(policy.most_probable()) == {"kernel": 5, "skip": False, "width": 8}
    assert policy.entropy() < 0.3
    assert policy.mean_probability() > 0.9


def test_it_goes_on_from_its_state() -> None:
    one, other = Policy(FLAT), Policy(FLAT)
    rewards = torch.tensor([0.1, 0.9])
    one.update(one.sample(2, generator()), rewards, lr=0.1)
    other.restore(one.tensors(), one.to_json())
    for policy in (one, other):
        policy.update(policy.sample(2, generator(3)), rewards, lr=0.1)
    assert torch.equal(one.logits, other.logits)
    assert one.to_json() == other.to_json()
