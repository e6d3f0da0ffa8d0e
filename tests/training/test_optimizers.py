"""Optimizers against their originals; schedules against PyTorch and by hand."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction
from typing import Any, Literal

import pytest
import torch
from timm.optim.rmsprop_tf import RMSpropTF
from torch import Tensor, nn
from torch.optim import Optimizer

from supertickets import Recipe, UserError
from supertickets.config.lr_schedule import lr_factor, momentum_at
from supertickets.config.optimizer_settings import LrSettings, OptimizerSettings
from supertickets.config.recipe import PruneSettings
from supertickets.config.validation import check_recipe
from supertickets.training.optimizers import (
    RMSprop,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
    set_step,
)

NAMES: list[Literal["sgd", "rmsprop", "adam", "adamw"]] = ["sgd", "rmsprop", "adam", "adamw"]


def twins() -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    torch.manual_seed(0)
    mine = [nn.Parameter(torch.randn(3, 4, dtype=torch.float64)), nn.Parameter(torch.randn(5, dtype=torch.float64))]
    return mine, [nn.Parameter(p.detach().clone()) for p in mine]


def rmsprop(params: list[nn.Parameter], given: dict[str, Any], **settings: Any) -> RMSprop:
    """Ours, with the arguments that PyTorch's takes."""
    group = {"params": params, "weight_decay": given.get("weight_decay", 0.0)}
    return RMSprop([group], OptimizerSettings(name="rmsprop", **{**given, **settings}))


def run_alongside(
    a: Optimizer,
    b: Optimizer,
    mine: list[nn.Parameter],
    theirs: list[nn.Parameter],
    rates: list[float] | None = None,
) -> None:
    """Twenty steps with the same gradients, of very different sizes."""
    for step in range(20):
        for optimizer in (a, b) if rates is not None else ():
            set_step(optimizer, rates[step], None)
        for p, q in zip(mine, theirs, strict=True):
            p.grad = torch.randn_like(p) * 10.0 ** (step % 5 - 3)
            q.grad = p.grad.clone()
        a.step()
        b.step()
        for p, q in zip(mine, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_rmsprop_equals_pytorchs(momentum: float, weight_decay: float) -> None:
    mine, theirs = twins()
    same: dict[str, Any] = {
        "lr": 0.01,
        "alpha": 0.95,
        "eps": 1e-3,
        "momentum": momentum,
        "weight_decay": weight_decay,
    }
    run_alongside(rmsprop(mine, same), torch.optim.RMSprop(theirs, **same), mine, theirs)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("lr_in_momentum", [True, False])
def test_rmsprop_equals_tensorflows(momentum: float, weight_decay: float, lr_in_momentum: bool) -> None:
    """As timm has it, under a rate that changes in every step."""
    mine, theirs = twins()
    same: dict[str, Any] = {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "momentum": momentum, "weight_decay": weight_decay}
    ours = rmsprop(mine, same, initial_accumulator=1.0, eps_inside_sqrt=True, lr_in_momentum=lr_in_momentum)
    rates = [0.01 * (step % 7 + 1) for step in range(20)]
    run_alongside(ours, RMSpropTF(theirs, **same, lr_in_momentum=lr_in_momentum), mine, theirs, rates)


def test_rates_in_the_momentum_stay_those_of_their_steps() -> None:
    """By hand: g = 1, v = 1 throughout, momentum 0.5; rates 0.2 and 0.1 move w by 0.2 and by 0.5 * 0.2 + 0.1.

    Without, the second step is 0.1 * (0.5 + 1).
    """
    for lr_in_momentum, expected in ((True, 1 - 0.2 - 0.2), (False, 1 - 0.2 - 0.15)):
        weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
        given = {"lr": 0.2, "alpha": 0.9, "eps": 1e-15, "momentum": 0.5}
        optimizer = rmsprop([weight], given, initial_accumulator=1.0, lr_in_momentum=lr_in_momentum)
        for rate in (0.2, 0.1):
            set_step(optimizer, rate, None)
            weight.grad = torch.ones_like(weight)
            optimizer.step()
        assert weight.item() == pytest.approx(expected, rel=1e-12)


def test_rmsprop_variants_differ() -> None:
    """By hand, one step: g = 2, v = 0.1 * 4 (+ 0.9); w = 1 - 0.1 * 2 / (sqrt(v) + 0.5) or / sqrt(v + 0.5)."""
    expected = {
        (0.0, False): 1 - 0.2 / (math.sqrt(0.4) + 0.5),
        (0.0, True): 1 - 0.2 / math.sqrt(0.9),
        (1.0, False): 1 - 0.2 / (math.sqrt(1.3) + 0.5),
        (1.0, True): 1 - 0.2 / math.sqrt(1.8),
    }
    for (accumulator, inside), value in expected.items():
        weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
        given = {"lr": 0.1, "alpha": 0.9, "eps": 0.5, "momentum": 0.0}
        optimizer = rmsprop([weight], given, initial_accumulator=accumulator, eps_inside_sqrt=inside)
        optimizer.step()  # without a gradient nothing happens
        assert weight.item() == 1.0
        weight.grad = torch.full_like(weight, 2.0)
        optimizer.step()
        assert weight.item() == pytest.approx(value, rel=1e-12)


class Net(nn.Module):
    """Weights, a bias and a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.bn = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.bn(self.conv(x)).mean((2, 3)))
        return scores


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_is_for_weights_alone(name: Literal["sgd", "rmsprop", "adam", "adamw"]) -> None:
    net = Net()
    optimizer = make_optimizer(net, OptimizerSettings(name=name, weight_decay=0.25, lr=0.5))
    names = {p: n for n, p in net.named_parameters()}
    decays = {g["weight_decay"]: [names[p] for p in g["params"]] for g in optimizer.param_groups}
    assert decays == {
        0.25: ["conv.weight", "head.weight"],
        0.0: ["conv.bias", "bn.weight", "bn.bias", "head.bias"],
    }
    assert all(g["lr"] == 0.5 for g in optimizer.param_groups)


def test_settings_reach_the_optimizer() -> None:
    net = Net()
    sgd = make_optimizer(net, OptimizerSettings(name="sgd", momentum=0.7))
    assert type(sgd) is torch.optim.SGD
    assert sgd.param_groups[0]["momentum"] == 0.7
    for name, kind in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)):
        adam = make_optimizer(net, OptimizerSettings(name=name, betas=(0.5, 0.6), eps=0.1))  # type: ignore[arg-type]
        assert type(adam) is kind
        assert (adam.param_groups[0]["betas"], adam.param_groups[0]["eps"]) == ((0.5, 0.6), 0.1)
    tensorflow = OptimizerSettings(
        name="rmsprop",
        alpha=0.8,
        eps=0.2,
        momentum=0.3,
        initial_accumulator=1.0,
        eps_inside_sqrt=True,
        lr_in_momentum=True,
    )
    rms = make_optimizer(net, tensorflow)
    assert isinstance(rms, RMSprop)
    group = rms.param_groups[0]
    assert (group["alpha"], group["eps"], group["momentum"]) == (0.8, 0.2, 0.3)
    assert (rms.initial_accumulator, rms.eps_inside_sqrt, rms.lr_in_momentum) == (1.0, True, True)
    assert make_optimizer(net, OptimizerSettings(name="adam")).param_groups[0]["eps"] == 1e-8


@pytest.mark.parametrize("fused", [True, False])
def test_step_counts_are_where_the_kernels_want_them(fused: bool) -> None:
    """On a GPU fused kernels read them there, others on the CPU; "meta" stands for the GPU."""
    net = nn.Linear(2, 2, device="meta")
    optimizer = torch.optim.Adam(net.parameters(), fused=False)
    for group in optimizer.param_groups:
        group["fused"] = fused
    load_optimizer_tensors(optimizer, net, {"step/weight": torch.tensor(3.0), "exp_avg/weight": torch.zeros(2, 2)})
    assert optimizer.state[net.weight]["step"].device.type == ("meta" if fused else "cpu")


@pytest.mark.parametrize("name", NAMES)
def test_state_carried_to_a_twin_goes_on_alike(name: Literal["sgd", "rmsprop", "adam", "adamw"]) -> None:
    """Named tensors are all there is to an optimizer; strides are those of the parameters."""
    torch.manual_seed(0)
    chosen = OptimizerSettings(name=name, lr=0.05, weight_decay=0.01)
    net = Net().to(memory_format=torch.channels_last)
    optimizer = make_optimizer(net, chosen)
    x = torch.randn(4, 2, 5, 5)

    def step(network: Net, its: Optimizer) -> None:
        network.zero_grad()
        network(x).square().sum().backward()
        its.step()

    for _ in range(3):
        step(net, optimizer)
    twin = Net().to(memory_format=torch.channels_last)
    twin.load_state_dict(net.state_dict())
    other = make_optimizer(twin, chosen)
    carried = {n: t.clone(memory_format=torch.contiguous_format) for n, t in optimizer_tensors(optimizer, net).items()}
    load_optimizer_tensors(other, twin, carried)
    for key, value in optimizer_tensors(other, twin).items():
        parameter = twin.get_parameter(key.split("/")[1])
        assert value.ndim == 0 or value.stride() == parameter.stride()
    for _ in range(3):
        step(net, optimizer)
        step(twin, other)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), twin.parameters(), strict=True))


def test_rate_and_momentum_of_every_group() -> None:
    net = Net()
    for name in NAMES:
        optimizer = make_optimizer(net, OptimizerSettings(name=name, betas=(0.9, 0.99), momentum=0.9))
        set_step(optimizer, 0.125, None)
        key = "betas" if "adam" in name else "momentum"
        assert [(g["lr"], g[key]) for g in optimizer.param_groups] == [
            (0.125, (0.9, 0.99) if key == "betas" else 0.9)
        ] * 2
        set_step(optimizer, 0.25, 0.5)
        assert [(g["lr"], g[key]) for g in optimizer.param_groups] == [
            (0.25, (0.5, 0.99) if key == "betas" else 0.5)
        ] * 2


@pytest.mark.parametrize("total", [2, 7, 40])
@pytest.mark.parametrize("rise", [0.3, 0.25, 0.7])
def test_one_cycle_equals_pytorchs(total: int, rise: float) -> None:
    weight = nn.Parameter(torch.zeros(1))
    theirs = torch.optim.SGD([weight], lr=1.0, momentum=0.5)
    original = torch.optim.lr_scheduler.OneCycleLR(
        theirs, max_lr=0.04, total_steps=total, pct_start=rise, div_factor=20.0, final_div_factor=500.0
    )
    chosen = LrSettings(shape="one_cycle", rise=rise, start_divisor=20.0, end_divisor=500.0, cycle_momentum=True)
    for step in range(total):
        group = theirs.param_groups[0]
        assert 0.04 * lr_factor(step, total, 3, chosen) == pytest.approx(group["lr"], rel=1e-9)
        assert momentum_at(step, total, chosen) == pytest.approx(group["momentum"], rel=1e-9)
        theirs.step()
        if step < total - 1:
            original.step()


@pytest.mark.parametrize(("total", "power"), [(1, 0.9), (20, 0.9), (7, 2.0)])
def test_poly_equals_pytorchs(total: int, power: float) -> None:
    """And behind a warm-up it falls over the steps that are left."""
    theirs = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.04)
    original = torch.optim.lr_scheduler.PolynomialLR(theirs, total_iters=total, power=power)
    for step in range(total):
        wanted = pytest.approx(theirs.param_groups[0]["lr"], rel=1e-9)
        assert 0.04 * lr_factor(step, total, 3, LrSettings(shape="poly", power=power)) == wanted
        late = LrSettings(shape="poly", power=power, warmup_epochs=2)
        assert 0.04 * lr_factor(step + 6, total + 6, 3, late) == wanted
        theirs.step()
        original.step()


def test_momentum_moves_only_where_asked() -> None:
    assert momentum_at(3, 10, LrSettings(shape="one_cycle")) is None
    assert momentum_at(3, 10, LrSettings(shape="cosine", cycle_momentum=True)) is None


@pytest.mark.parametrize("shape", ["constant", "step", "cosine", "exponential", "one_cycle"])
def test_the_factor_is_always_a_share(shape: Any) -> None:
    """From 0 to 1 at every step of every run, however short; a rise of one step included."""
    for rise, warmup, total in itertools.product((0.0, 0.1, 0.25, 0.5, 1.0), (0.0, 0.5, 3.0), range(1, 25)):
        chosen = LrSettings(shape=shape, rise=rise, warmup_epochs=warmup, milestones=(1, 2))
        for step in range(total):
            factor = lr_factor(step, total, 4, chosen)
            assert -1e-12 <= factor <= 1 + 1e-12, (rise, warmup, total, step)


def test_warmup_by_hand() -> None:
    """Five epochs of four steps from half the rate, as on ImageNet; then the shape begins."""
    chosen = LrSettings(shape="constant", warmup_epochs=5, warmup_from=0.5)
    factors = [lr_factor(step, 100, 4, chosen) for step in (0, 1, 10, 19, 20, 99)]
    assert factors == pytest.approx([0.5, 0.525, 0.75, 0.975, 1.0, 1.0])
    from_zero = LrSettings(shape="cosine", warmup_epochs=0.5)
    assert [lr_factor(s, 12, 4, from_zero) for s in (0, 1, 2)] == pytest.approx([0.0, 0.5, 1.0])


def test_cosine_by_hand() -> None:
    """Ten steps behind a warm-up of two: 1, ..., a half in the middle, ..., towards 0.1."""
    chosen = LrSettings(shape="cosine", final=0.1, warmup_epochs=1)
    assert lr_factor(2, 12, 2, chosen) == pytest.approx(1.0)
    assert lr_factor(7, 12, 2, chosen) == pytest.approx(0.55)
    assert lr_factor(4, 12, 2, chosen) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 5)) / 2)
    assert lr_factor(11, 12, 2, chosen) == pytest.approx(0.1 + 0.9 * (1 + math.cos(0.9 * math.pi)) / 2)


def test_steps_by_hand() -> None:
    """COCO: a tenth from epoch 170 on, a hundredth from 200."""
    chosen = LrSettings(shape="step", milestones=(170, 200), gamma=0.1)
    epochs = (0, 169, 170, 199, 200, 209)
    assert [lr_factor(5 * e, 1050, 5, chosen) for e in epochs] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert lr_factor(5 * 170 - 1, 1050, 5, chosen) == 1.0


def test_exponential_by_hand() -> None:
    """ImageNet: times 0.97 every 2.4 epochs, in stairs; ten steps per epoch, so every 24 steps."""
    chosen = LrSettings(shape="exponential", gamma=0.97, decay_epochs=2.4)
    for step in range(24 * 12 + 1):
        stairs = math.floor(Fraction(step, 10) / Fraction(24, 10))
        assert lr_factor(step, 10_000, 10, chosen) == pytest.approx(0.97**stairs, rel=1e-12), step


@pytest.mark.parametrize(
    ("optimizer", "lr", "message"),
    [
        ({"lr": 0.0}, {}, "optimizer.lr=0.0 is out of range"),
        ({"momentum": 1.0}, {}, "optimizer.momentum=1.0 is out"),
        ({"momentum": -0.1}, {}, "optimizer.momentum=-0.1 is out"),
        ({}, {"shape": "step"}, "lr.milestones is empty"),
    ],
)
def test_impossible_settings(optimizer: dict[str, Any], lr: dict[str, Any], message: str) -> None:
    recipe = Recipe(prune=PruneSettings(ratio=0.0))
    with pytest.raises(UserError, match=message):
        check_recipe(dataclasses.replace(recipe, optimizer=OptimizerSettings(**optimizer), lr=LrSettings(**lr)))
    check_recipe(recipe)
