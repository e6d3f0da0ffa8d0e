"""The penalty, worked out by hand."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from supertickets.config.recipe import SearchSettings
from supertickets.models import HRNetSpec
from supertickets.models.hrnet.blocks import BlockStyle
from supertickets.nas import Penalty, expected_shrinkage, rho_at, unit_weights

# One branch on a 4x4 image: unit MACs are 52, 52, 116, 116 (tokens 296 each) and 60, 60, 124, 124; see test_counting.
HAND = HRNetSpec(
    num_classes=3,
    in_channels=1,
    image_size=(4, 4),
    stem_channels=(2,),
    stem_strides=(2,),
    channels=((2,),),
    blocks=((0,),),
    expansion=1,
    head_channels=(4,),
    last_channels=5,
    tokens=0,
    style=BlockStyle(kernels=(3, 5), grid=2),
)
FUSE, RAISE = "blocks.s0_fuse_0to0.unit_bn.weight", "blocks.head_raise_0.unit_bn.weight"


def make(
    penalty: Literal["subgradient", "proximal"], *, warmup: float = 0.0, last: int | None = None
) -> tuple[torch.Tensor, Penalty]:
    settings = SearchSettings(interval=1, rho=0.1, warmup_epochs=warmup, penalty=penalty, last_epoch=last)
    scale = torch.tensor([1.0, -2.0, 0.0, 0.05])
    scale.grad = torch.tensor([10.0, 20.0, 30.0, 40.0])
    weights = {"scale": torch.tensor([1.0, 0.5, 3.0, 2.0], dtype=torch.float64)}
    return scale, Penalty.of({"scale": scale, "other": torch.ones(2)}, weights, settings)


def test_subgradient_adds_rho_times_p_times_sign() -> None:
    scale, penalty = make("subgradient")
    penalty.add_to_gradients(3.0)
    assert scale.grad is not None
    torch.testing.assert_close(scale.grad, torch.tensor([10.1, 19.95, 30.0, 40.2]))
    penalty.shrink_scales(3.0, lr=0.5)
    assert torch.equal(scale, torch.tensor([1.0, -2.0, 0.0, 0.05]))


def test_the_proximal_step_has_the_rate_of_each_scale() -> None:
    """A quarter of the rate: 0.1 * 0.5 / 4 goes. The optimizer itself gives a subgradient its rate."""
    for kind, left in (("proximal", 1 - 0.0125), ("subgradient", 1.0)):
        settings = SearchSettings(interval=1, rho=0.1, penalty=kind)  # type: ignore[arg-type]
        scale = torch.ones(1)
        scale.grad = torch.zeros(1)
        penalty = Penalty.of({"scale": scale}, {"scale": torch.ones(1)}, settings, {"scale": 0.25})
        penalty.add_to_gradients(3.0)
        penalty.shrink_scales(3.0, lr=0.5)
        assert scale.item() == pytest.approx(left)
        assert scale.grad.item() == pytest.approx(0.1 if kind == "subgradient" else 0)


def test_proximal_is_a_soft_threshold() -> None:
    """lr * rho * p = 0.05, 0.025, 0.15, 0.1: the last scale, 0.05, becomes exactly zero."""
    scale, penalty = make("proximal")
    penalty.add_to_gradients(3.0)
    assert scale.grad is not None
    assert torch.equal(scale.grad, torch.tensor([10.0, 20.0, 30.0, 40.0]))
    penalty.shrink_scales(3.0, lr=0.5)
    torch.testing.assert_close(scale, torch.tensor([0.95, -1.975, 0.0, 0.0]))
    assert scale[3].item() == 0.0


def test_warmup_weakens_both_kinds() -> None:
    scale, penalty = make("subgradient", warmup=4.0)
    penalty.add_to_gradients(1.0)  # a quarter of rho
    assert scale.grad is not None
    torch.testing.assert_close(scale.grad, torch.tensor([10.025, 19.9875, 30.0, 40.05]))
    scale, penalty = make("proximal", warmup=4.0)
    penalty.shrink_scales(2.0, lr=0.5)  # half of rho
    torch.testing.assert_close(scale, torch.tensor([0.975, -1.9875, 0.0, 0.0]))


@pytest.mark.parametrize("kind", ["subgradient", "proximal"])
def test_no_pull_once_the_search_is_over(kind: Literal["subgradient", "proximal"]) -> None:
    for epochs_done, pulls in ((1.99, True), (2.0, False), (7.5, False)):
        scale, penalty = make(kind, last=2)
        assert scale.grad is not None
        before = torch.cat((scale, scale.grad))
        penalty.add_to_gradients(epochs_done)
        penalty.shrink_scales(epochs_done, lr=0.5)
        assert torch.equal(torch.cat((scale, scale.grad)), before) is not pulls


@pytest.mark.parametrize(
    ("epochs_done", "rho"), [(0.0, 0.0), (1.0, 0.02), (2.5, 0.05), (5.0, 0.1), (5.5, 0.1), (8.0, 0.0), (9.0, 0.0)]
)
def test_rho_rises_then_stays_then_ends(epochs_done: float, rho: float) -> None:
    settings = SearchSettings(interval=1, rho=0.1, warmup_epochs=5.0, last_epoch=8)
    assert rho_at(epochs_done, settings) == pytest.approx(rho)


def test_rho_without_warmup_or_search() -> None:
    assert rho_at(0.0, SearchSettings(interval=3, rho=0.1)) == 0.1
    assert rho_at(1e9, SearchSettings(interval=3, rho=0.1)) == 0.1
    assert rho_at(1.0, SearchSettings(interval=0, rho=0.1)) == 0.0
    assert rho_at(0.0, SearchSettings(interval=3, rho=0.1, last_epoch=0)) == 0.0


def test_weights_by_hand() -> None:
    """The mean of 52, 52, 116, 116, 60, 60, 124, 124 is 88."""
    weights = unit_weights(HAND, HAND)
    assert {n: v.tolist() for n, v in weights.items()} == {
        FUSE: [52 / 88, 52 / 88, 116 / 88, 116 / 88],
        RAISE: [60 / 88, 60 / 88, 124 / 88, 124 / 88],
    }


@pytest.mark.parametrize(("exponent", "first", "last"), [(0.5, (52 / 88) ** 0.5, (124 / 88) ** 0.5), (0.0, 1.0, 1.0)])
def test_a_smaller_exponent_makes_weights_flatter(exponent: float, first: float, last: float) -> None:
    weights = unit_weights(HAND, HAND, exponent)
    assert weights[FUSE][0].item() == pytest.approx(first)
    assert weights[RAISE][-1].item() == pytest.approx(last)


def test_the_supernet_fixes_the_unit_of_measure() -> None:
    flags = {
        "s0_fuse_0to0.hidden": torch.tensor([False, True, False, False]),
        "head_raise_0.hidden": torch.tensor([False, False, False, False]),
    }
    weights = unit_weights(HAND.keep(flags), HAND)
    assert {n: v.tolist() for n, v in weights.items()} == {FUSE: [52 / 88]}


def test_weights_of_tokens_by_hand() -> None:
    """Three tokens of 296 MACs raise the mean to (704 + 888) / 11; of two, each saves 264."""
    with_tokens = HRNetSpec(**{**vars(HAND), "tokens": 3, "units": {}})
    scale = "blocks.s0_fuse_0to0.tokens.token_bn.weight"
    mean = (704 + 3 * 296) / 11
    assert unit_weights(with_tokens, with_tokens)[scale].tolist() == pytest.approx([296 / mean] * 3)
    two = with_tokens.keep({"s0_fuse_0to0.tokens": torch.tensor([True, True, False])})
    # 24 for the projections, 192 for the linear layers, 2 * 2 * (4 - 1) * 4 for attention.
    assert unit_weights(two, with_tokens)[scale].tolist() == pytest.approx([(24 + 192 + 48) / mean] * 2)


def test_a_network_without_units_has_no_penalty() -> None:
    none = HAND.keep({g.name: torch.zeros(len(g), dtype=torch.bool) for g in HAND.unit_groups()})
    assert unit_weights(none, HAND) == {}
    penalty = Penalty.of({}, {}, SearchSettings(interval=1, rho=0.1))
    penalty.add_to_gradients(1.0)
    penalty.shrink_scales(1.0, 0.1)


@pytest.mark.parametrize(("penalty", "momentum", "expected"), [("subgradient", 0.9, 1.4), ("proximal", 0.9, 0.14)])
def test_reach_by_hand(penalty: Literal["subgradient", "proximal"], momentum: float, expected: float) -> None:
    """Ten steps of lr 0.1 over two epochs, the first of them warm-up: rho * lr * (0 + .2 + .4 + .6 + .8 + 5)."""
    settings = SearchSettings(interval=1, rho=0.2, warmup_epochs=1.0, penalty=penalty)
    assert expected_shrinkage([0.1] * 10, 5, settings, momentum) == pytest.approx(expected)
    assert expected_shrinkage([0.1] * 10, 5, settings, 0.0) == pytest.approx(0.14)


def test_reach_is_where_sgd_takes_an_indifferent_scale() -> None:
    """A long run of the real optimizer: without a loss, a scale goes as far as `reach` says."""
    settings = SearchSettings(interval=1, rho=1e-3, penalty="subgradient")
    scale = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([scale], lr=0.05, momentum=0.9)
    penalty = Penalty.of({"scale": scale}, {"scale": torch.ones(1)}, settings)
    for step in range(1000):
        scale.grad = torch.zeros(1)
        penalty.add_to_gradients(step / 10)
        optimizer.step()
    assert 1 - scale.item() == pytest.approx(expected_shrinkage([0.05] * 1000, 10, settings, 0.9), rel=0.02)
