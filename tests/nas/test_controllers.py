"""The recurrent controller: a distribution over schemes in which a block depends on those before."""

from __future__ import annotations

import torch

from supertickets.config.search_settings import ConnectSettings
from supertickets.nas import every_scheme, policy_search
from supertickets.nas.controllers import RecurrentController

M = 4


def hot() -> RecurrentController:
    """A controller that is far from indifferent."""
    torch.manual_seed(0)
    controller = RecurrentController(M, 5.0)
    with torch.no_grad():
        controller.logits.weight *= 60
    return controller


def test_the_probabilities_of_all_schemes_sum_to_one() -> None:
    answers = hot().answers(every_scheme(M))
    assert answers.shape == (16, M)
    torch.testing.assert_close(answers.sum(1).exp().sum(), torch.tensor(1.0, dtype=torch.float64))


def test_schemes_are_sampled_as_often_as_they_are_likely() -> None:
    controller = hot()
    drawn = controller.sample(20_000, torch.Generator().manual_seed(0))
    numbers = (drawn.long() * (2 ** torch.arange(M - 1, -1, -1))).sum(1)
    shares = torch.bincount(numbers, minlength=16).double() / len(drawn)
    torch.testing.assert_close(shares, controller.answers(every_scheme(M)).sum(1).exp().detach(), atol=0.015, rtol=0)


def test_an_answer_depends_on_those_before_only() -> None:
    controller = hot()
    one, other = controller.answers(torch.tensor([[True, False, True, True], [False, False, True, True]]))
    assert one[1] != other[1]
    tail = controller.answers(torch.tensor([[True, False, False, False]]))[0]
    torch.testing.assert_close(tail[:2], one[:2])
    assert tail[2] != one[2]


def test_it_learns_what_depends_on_an_answer_before() -> None:
    """The second block should be as the first, the third otherwise: blocks on their own cannot tell."""

    def judge(schemes: torch.Tensor) -> torch.Tensor:
        return ((schemes[:, 0] == schemes[:, 1]).double() + (schemes[:, 1] != schemes[:, 2]).double()) / 2

    settings = ConnectSettings(by="enas", steps=200, lr=0.01, sparsity=0.0, curiosity=0.0, reuse="none")
    steps = policy_search(3, judge, settings, seed=0)
    assert float(torch.cat([step.quality for step in steps[-20:]]).mean()) > 0.95
    first = torch.cat([step.schemes[:, 0] for step in steps[:60]]).double().mean()
    assert 0.2 < float(first) < 0.8
