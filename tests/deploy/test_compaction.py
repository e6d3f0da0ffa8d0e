"""Compaction of traced networks: units without effect go, and the outputs stay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from supertickets import Ticket
from supertickets.data import Preprocessing
from supertickets.deploy import compact
from supertickets.deploy.compaction import count_removed
from supertickets.deploy.constants import find_constants
from supertickets.models import Spec
from supertickets.models.factory import create_spec
from supertickets.models.tracing.selfcheck import enliven

SIDE = 16
Weights = dict[str, Tensor]
Change = Callable[[Weights], None]


class Pair(nn.Module):
    """Two convolutions with a norm between them, and one behind them; then a classifier."""

    def __init__(self, kernel: int, bias: bool, classes: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.reader, self.last = nn.Conv2d(6, 5, kernel, padding=kernel // 2, bias=bias), nn.BatchNorm2d(5)
        self.classifier = nn.Linear(5, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)).relu()
        return self.classifier(self.last(self.reader(x)).relu().mean((2, 3)))


def make_pair(
    num_classes: int, in_channels: int, image_size: tuple[int, int], kernel: int = 1, bias: bool = False
) -> nn.Module:
    return Pair(kernel, bias, num_classes)


class Ramp(nn.Module):
    """Scales a coarse map by the place; a filter without weights then emits a ramp, which one cell does not show."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first, self.reader = nn.Conv2d(3, 6, 64, 64), nn.Conv2d(6, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.reader((x * torch.linspace(1, 2, x.shape[-1])).relu()).amax((2, 3))


def make_ramp(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    return Ramp(num_classes)


def make_ticket(spec: Spec, change: Change) -> Ticket:
    """A ticket with lively weights, changed; its mask is where the weights are not zero."""
    torch.manual_seed(0)
    module = spec.build().eval()
    with torch.no_grad():
        enliven(module, torch.Generator().manual_seed(0))
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    change(weights)
    mask = {name: weights[name] != 0 for name in module.maskable_weights()}
    how = Preprocessing(3, spec.image_size, (0.5,) * 3, (0.25,) * 3)
    return Ticket(spec, weights, mask, tuple("abc"), how, {})


def pair(change: Change, **settings: object) -> Ticket:
    spec = create_spec(f"{__name__}:make_pair", num_classes=3, in_channels=3, image_size=(SIDE, SIDE), **settings)
    return make_ticket(spec, change)


@torch.no_grad()
def difference(a: Ticket, b: Ticket) -> float:
    """The largest difference of two tickets' outputs, in units of the largest output."""
    images = 2 * torch.randn(5, *a.spec.input_shape, generator=torch.Generator().manual_seed(1))
    mine, theirs = a.module(images), b.module(images)
    assert mine.std() > 1e-3
    return float((mine - theirs).abs().max() / mine.abs().max())


def widths(ticket: Ticket) -> tuple[int, int]:
    return len(ticket.weights["network.first.weight"]), len(ticket.weights["network.reader.weight"])


def empty_filter(shift: float) -> Change:
    """A filter without weights, whose norm gives a number: the shift, since its mean is zero."""

    def change(weights: Weights) -> None:
        weights["network.first.weight"][2] = 0
        weights["network.norm.running_mean"][2] = 0
        weights["network.norm.bias"][2] = shift

    return change


def unread(weights: Weights) -> None:
    weights["network.reader.weight"][:, 4] = 0


def silent(weights: Weights) -> None:
    for name in ("weight", "bias"):
        weights[f"network.norm.{name}"][1] = 0


@pytest.mark.parametrize(
    ("change", "settings", "left"),
    [
        (unread, {}, (5, 5)),
        (unread, {"kernel": 3}, (5, 5)),
        (silent, {"kernel": 3}, (5, 5)),
        (empty_filter(0.8), {}, (5, 5)),  # absorbed by the running mean
        (empty_filter(0.8), {"bias": True}, (5, 5)),  # absorbed by the bias
        (empty_filter(0.8), {"kernel": 3}, (6, 5)),  # its border would be another
        (empty_filter(-0.8), {"kernel": 3}, (5, 5)),  # nothing, behind the ReLU
        (lambda weights: None, {}, (6, 5)),
    ],
    ids=["unread", "unread 3x3", "silent", "constant", "constant, bias", "padded", "zero", "dense"],
)
def test_a_unit_without_effect_goes(change: Change, settings: dict[str, object], left: tuple[int, int]) -> None:
    ticket = pair(change, **settings)
    small = compact(ticket)
    assert widths(small) == left
    assert count_removed(ticket, small) == 11 - sum(left)
    assert difference(ticket, small) < 1e-6
    assert {name: mask.shape for name, mask in small.mask.items()} == {n: small.weights[n].shape for n in small.mask}


def test_constants_are_found_where_maps_have_cells() -> None:
    def change(weights: Weights) -> None:
        weights["network.first.weight"][2] = 0
        weights["network.first.bias"][2] = 0.5
        weights["network.reader.weight"][:, 4] = 0

    spec = create_spec(f"{__name__}:make_ramp", num_classes=3, in_channels=3, image_size=(256, 256))
    ticket = make_ticket(spec, change)
    small = compact(ticket)
    assert len(small.weights["network.first.weight"]) == 5
    assert difference(ticket, small) < 1e-6


def test_a_group_keeps_a_unit() -> None:
    ticket = pair(lambda weights: weights["network.reader.weight"].zero_())
    small = compact(ticket)
    assert widths(small)[0] == 1
    torch.testing.assert_close(ticket.module(torch.ones(1, 3, SIDE, SIDE)), small.module(torch.ones(1, 3, SIDE, SIDE)))


def test_what_goes_leaves_more_unread() -> None:
    """The second layer's only reader of a unit is itself unread."""

    def change(weights: Weights) -> None:
        weights["network.classifier.weight"][:, 3] = 0
        weights["network.reader.weight"][:3, 0] = 0
        weights["network.reader.weight"][4:, 0] = 0

    ticket = pair(change)
    assert widths(compact(ticket)) == (5, 4)
    assert difference(ticket, compact(ticket)) < 1e-6


def prune_at_random(share: float) -> Change:
    """Zeros at random places of convolutions, all of them in some filters."""

    def change(weights: Weights) -> None:
        generator = torch.Generator().manual_seed(2)
        for value in weights.values():
            if value.ndim == 4:
                value *= torch.rand(value.shape, generator=generator) > share
                value *= torch.rand(len(value), 1, 1, 1, generator=generator) > 0.2

    return change


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("timm:resnet10t", {}),
        ("torchvision:mobilenet_v2", {"width_mult": 0.35}),
        ("torchvision:mobilenet_v3_small", {}),
        ("torchvision:shufflenet_v2_x0_5", {}),
        ("resnet8", {}),
        pytest.param("mobilenet_v2", {}, marks=pytest.mark.long),
    ],
)
def test_pruned_networks_of_every_kind(name: str, settings: dict[str, object]) -> None:
    spec = create_spec(name, num_classes=3, in_channels=3, image_size=(32, 32), **settings)
    ticket = make_ticket(spec, prune_at_random(0.8))
    small = compact(ticket)
    assert sum(map(torch.numel, small.weights.values())) < 0.95 * sum(map(torch.numel, ticket.weights.values()))
    assert difference(ticket, small) < 1e-5


def test_constants_are_those_of_every_image() -> None:
    """A squeeze-and-excitation scales a constant by what the image is, unless the constant is zero."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.scale, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return self.last(y * self.scale(x.mean((2, 3), keepdim=True)).sigmoid())

    module = Scaled()
    with torch.no_grad():
        module.first.weight[:2] = 0
        module.first.bias.copy_(torch.tensor([0.5, 0.0, 0.3]))
    readings = find_constants(module, torch.randn(2, 3, 4, 4))
    assert readings["last.weight", 1].constant.tolist() == [False, True, False]
    assert readings["last.weight", 1].value[1] == 0
    assert readings["last.weight", 1].bias == "last.bias"
    assert not readings["first.weight", 1].constant.any()


def test_a_norm_that_does_not_see_all_of_a_map_cannot_take_a_constant() -> None:
    class Both(nn.Module):
        def __init__(self, returns_both: bool) -> None:
            super().__init__()
            self.conv, self.norm, self.returns_both = nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2), returns_both

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            y = self.conv(x)
            return (y, self.norm(y)) if self.returns_both else (self.norm(y),)

    images = torch.randn(2, 3, 4, 4)
    assert find_constants(Both(False).eval(), images)["conv.weight", 1].mean == "norm.running_mean"
    assert find_constants(Both(True).eval(), images)["conv.weight", 1].mean is None


def test_a_place_in_the_border_is_no_constant() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ZeroPad2d(1), nn.Conv2d(2, 2, 1))
    with torch.no_grad():
        module[0].weight.zero_()
        module[0].bias.copy_(torch.tensor([0.5, 0.0]))
    assert find_constants(module, torch.randn(1, 3, 4, 4))["2.weight", 1].constant.tolist() == [False, True]


def test_random_numbers_stay() -> None:
    ticket = pair(unread)
    before = torch.get_rng_state()
    compact(ticket)
    assert torch.equal(before, torch.get_rng_state())
