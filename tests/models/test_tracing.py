"""Search units of any module: groups worked out by hand, and the traps in which a tracer falls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supertickets.models.factory import create_spec
from supertickets.models.tracing import TracedUnits, trace_units
from supertickets.models.tracing.selfcheck import cut_tensors, enliven, largest_difference, silence_units
from supertickets.models.units import UnitGroup

SHAPE = (3, 8, 8)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Net(nn.Module):
    """Layers by name, and a forward that is given."""

    def __init__(self, forward: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.function = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def conv(before: int, after: int, kernel: int = 3, **settings: object) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, padding=kernel // 2, **settings)


def trace(forward: Callable[..., Tensor], **layers: nn.Module) -> TracedUnits:
    return trace_units(lambda: Net(forward, **layers), SHAPE)


def axes(group: UnitGroup) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {f"{axis.tensor}:{axis.dim}": axis.owners for axis in group.axes}


def gates(group: UnitGroup) -> set[str]:
    return {f"{axis.tensor}:{axis.dim}" for axis in group.gates}


def left_out(units: TracedUnits) -> dict[str, str]:
    return {group.name: group.reason for group in units.left_out}


def check_removal(make: Callable[[], nn.Module], units: TracedUnits, seed: int = 3) -> None:
    """Compares a network with silent units to the one without them, as the check of the tracer does."""
    generator = torch.Generator().manual_seed(seed)
    module = make().eval()
    enliven(module, generator)
    keep = {g.name: torch.rand(len(g), generator=generator) < 0.6 for g in units.groups}
    for flags in keep.values():
        flags[int(torch.randint(len(flags), (), generator=generator))] = True
    silent = silence_units(module.state_dict(), units.groups, keep)
    small = cut_tensors(silent, units.groups, keep)
    assert largest_difference(module, silent, small, torch.randn(2, *SHAPE, generator=generator)) < 1e-5


def test_units_of_a_chain() -> None:
    units = trace(
        lambda net, x: net.out(net.norm(net.first(x)).relu()).mean((2, 3)),
        first=conv(3, 4),
        norm=nn.BatchNorm2d(4),
        out=conv(4, 5),
    )
    (group,) = units.groups
    every = (0, 1, 2, 3)
    assert (group.name, group.kind, group.size) == ("first", "channel", 4)
    assert axes(group) == {
        "first.weight:0": every,
        "first.bias:0": every,
        **{f"norm.{name}:0": every for name in ("weight", "bias", "running_mean", "running_var")},
        "out.weight:1": every,
    }
    assert gates(group) == {"norm.weight:0", "norm.bias:0"}
    assert left_out(units) == {"out": "it reaches the output"}


def test_residual_sums_unite_their_terms() -> None:
    units = trace(
        lambda net, x: net.out((y := net.stem(x)) + net.second(net.first(y).relu())).mean((2, 3)),
        stem=conv(3, 4),
        first=conv(4, 6),
        second=conv(6, 4),
        out=conv(4, 2),
    )
    stem, hidden = units.groups
    assert (stem.name, stem.size, hidden.name, hidden.size) == ("stem", 4, "first", 6)
    assert gates(stem) == {"stem.weight:0", "stem.bias:0", "second.weight:0", "second.bias:0"}
    assert gates(hidden) == {"first.weight:0", "first.bias:0"}


def test_concatenated_units_stay_apart() -> None:
    units = trace(
        lambda net, x: net.out(net.norm(torch.cat([net.a(x), net.b(x)], 1)).relu()).mean((2, 3)),
        a=conv(3, 2),
        b=conv(3, 3),
        norm=nn.BatchNorm2d(5),
        out=conv(5, 2),
    )
    a, b = units.groups
    assert axes(a)["out.weight:1"] == (0, 1, -1, -1, -1)
    assert axes(b)["out.weight:1"] == (-1, -1, 0, 1, 2)
    assert axes(b)["norm.running_var:0"] == (-1, -1, 0, 1, 2)


def test_depthwise_convolutions_silence_by_themselves() -> None:
    units = trace(
        lambda net, x: net.out(net.depthwise(net.first(x)).relu()).mean((2, 3)),
        first=conv(3, 4),
        depthwise=conv(4, 4, groups=4),
        out=conv(4, 2, 1),
    )
    (group,) = units.groups
    assert gates(group) == {"depthwise.weight:0", "depthwise.bias:0"}
    assert "depthwise.weight:1" not in axes(group)


def test_groups_of_a_convolution_go_whole() -> None:
    units = trace(
        lambda net, x: net.out(net.grouped(net.first(x)).relu()).mean((2, 3)),
        first=conv(3, 6),
        grouped=conv(6, 9, groups=3, bias=False),
        out=conv(9, 2, 1),
    )
    (group,) = units.groups
    assert group.size == 3
    assert axes(group)["first.weight:0"] == (0, 0, 1, 1, 2, 2)
    assert axes(group)["grouped.weight:0"] == axes(group)["out.weight:1"] == (0, 0, 0, 1, 1, 1, 2, 2, 2)
    assert gates(group) == {"grouped.weight:0"}


def test_squeeze_and_excitation() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        y = net.norm(net.first(x)).relu()
        return net.out(y * net.expand(net.reduce(y.mean((2, 3), keepdim=True)).relu()).sigmoid()).mean((2, 3))

    units = trace(
        forward,
        first=conv(3, 8),
        norm=nn.BatchNorm2d(8),
        reduce=conv(8, 2, 1),
        expand=conv(2, 8, 1),
        out=conv(8, 2, 1),
    )
    wide, squeezed = units.groups
    assert (wide.name, wide.size, squeezed.name, squeezed.size) == ("first", 8, "reduce", 2)
    assert gates(wide) == {"norm.weight:0", "norm.bias:0"}  # the sigmoid does not silence
    assert {"reduce.weight:1", "expand.weight:0", "expand.bias:0"} < set(axes(wide))


def test_a_shift_behind_the_norm_counts() -> None:
    units = trace(
        lambda net, x: net.out((net.norm(net.first(x)) + 1).relu()).mean((2, 3)),
        first=conv(3, 4),
        norm=nn.BatchNorm2d(4),
        out=conv(4, 2),
    )
    assert not units.groups
    assert left_out(units)["first"] == "no weight at zero silences what is read of it"


def test_a_map_of_one_channel_may_scale_units() -> None:
    units = trace(
        lambda net, x: net.out((y := net.first(x)) * net.attend(y).sigmoid()).mean((2, 3)),
        first=conv(3, 4),
        attend=conv(4, 1),
        out=conv(4, 2),
    )
    (group,) = units.groups
    assert (group.name, group.size) == ("first", 4)
    assert left_out(units)["attend"] == "it is spread over other units"


@pytest.mark.parametrize(
    "read",
    [
        lambda net, y: net.three(y[:, :3]) + net.four(y),
        lambda net, y: net.three(y[:, -3:]) + net.four(y),
        lambda net, y: net.three(y[:, 2:5]) + net.four(y),
        lambda net, y: net.pair(y[:, ::2]) + net.four(y),
        lambda net, y: net.pair(y[:, 1::2]) + net.four(y),
        lambda net, y: net.pair(y.view(len(y), -1, 2, *y.shape[2:]).sum(2)) + net.four(y),
        lambda net, y: net.pair(y.split(4, 1)[0]) + net.pair(y.split(4, 1)[1]),
        lambda net, y: net.four(y.roll(1, 1)) + net.four(y),
        lambda net, y: net.four(y[:, [1, 0, 2, 3, 4, 5, 6, 7]]) + net.four(y),
    ],
    ids=["first", "last", "middle", "even", "odd", "pairs", "split", "roll", "index"],
)
def test_constant_places_are_never_units(read: Callable[[Net, Tensor], Tensor]) -> None:
    units = trace(
        lambda net, x: read(net, net.first(x).relu()).mean((2, 3)),
        first=conv(3, 8),
        three=conv(3, 2),
        pair=conv(4, 2),
        four=conv(8, 2),
    )
    assert not units.groups
    assert "first" in left_out(units)


def test_rows_of_a_view_lose_the_same_units() -> None:
    units = trace(
        lambda net, x: net.out((y := net.first(x)).view(len(y), 4, -1, 8, 8).sum(1)).mean((2, 3)),
        first=conv(3, 8),
        out=conv(2, 2),
    )
    (group,) = units.groups
    assert axes(group)["first.weight:0"] == (0, 1, 0, 1, 0, 1, 0, 1)
    assert axes(group)["out.weight:1"] == (0, 1)


def test_chunks_lose_the_same_units() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        a, b = net.first(x).chunk(2, 1)
        return net.out(a * b.sigmoid()).mean((2, 3))

    (group,) = trace(forward, first=conv(3, 8), out=conv(4, 2)).groups
    assert axes(group)["first.bias:0"] == (0, 1, 2, 3, 0, 1, 2, 3)
    assert gates(group) == {"first.weight:0", "first.bias:0"}


def test_a_layer_used_twice_unites_its_units() -> None:
    units = trace(
        lambda net, x: net.shared(net.shared(net.stem(x)).relu()).mean((2, 3)),
        stem=conv(3, 4),
        shared=conv(4, 4),
    )
    assert not units.groups
    assert left_out(units) == {"stem": "it reaches the output"}


def test_tied_tensors_are_cut_under_both_names() -> None:
    def make() -> nn.Module:
        net = Net(lambda net, x: net.out(net.a(x) + net.b(x)).mean((2, 3)), a=conv(3, 4), b=conv(3, 4), out=conv(4, 2))
        net.b.weight = net.a.weight
        return net

    units = trace_units(make, SHAPE)
    (group,) = units.groups
    assert {"a.weight:0", "b.weight:0"} < set(axes(group))
    check_removal(make, units)


def test_norms_of_two_names_and_fixed_filters_stay() -> None:
    """Neither has one trained scale by which a unit could be ranked."""

    def twice() -> nn.Module:
        part = nn.Sequential(conv(4, 6), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 4))
        both = lambda net, x: net.out(net.second(net.first(net.stem(x)))).mean((2, 3))  # noqa: E731
        return Net(both, stem=conv(3, 4), first=part, second=part, out=conv(4, 2))

    units = trace_units(twice, SHAPE)
    assert "what silences it is not trained, or a norm of two names" in left_out(units).values()
    assert all(gate.tensor.startswith(("stem", "out")) for group in units.groups for gate in group.gates)

    def fixed() -> nn.Module:
        net = Net(
            lambda net, x: net.out(F.conv2d(x.mean(1, keepdim=True), net.kernel, padding=1)).mean((2, 3)),
            out=conv(5, 2),
        )
        net.register_buffer("kernel", torch.randn(5, 1, 3, 3))
        return net

    assert trace_units(fixed, SHAPE).groups == ()


def test_old_weight_norm_can_be_traced() -> None:
    def make() -> nn.Module:
        first = torch.nn.utils.weight_norm(conv(3, 4))
        return nn.Sequential(first, nn.ReLU(), conv(4, 2))

    assert isinstance(trace_units(make, SHAPE).groups, tuple)


def test_random_numbers_stay_and_groups_are_equal_twice() -> None:
    def make() -> nn.Module:
        return nn.Sequential(conv(3, 4), nn.ReLU(), nn.Dropout(), conv(4, 6), nn.PReLU(6), conv(6, 2))

    before = torch.get_rng_state()
    first, second = trace_units(make, SHAPE), trace_units(make, SHAPE)
    assert torch.equal(before, torch.get_rng_state())
    assert first == second
    assert [len(group) for group in first.groups] == [4, 6]


def test_tracing_where_tensors_are_made_without_data() -> None:
    with torch.device("meta"):
        units = trace_units(lambda: nn.Sequential(conv(3, 4), conv(4, 2)), SHAPE)
    assert [len(group) for group in units.groups] == [4]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "mobilenet_v3_small"])
def test_networks_of_torchvision(name: str) -> None:
    from torchvision import models

    def make() -> nn.Module:
        return models.get_model(name, num_classes=5)

    units = trace_units(make, (3, 32, 32))
    assert [group.reason for group in units.left_out] == ["it reaches the output"]
    module = make().eval()
    weights = {axis.tensor for group in units.groups for axis in group.axes}
    assert {name for name, value in module.named_parameters() if value.ndim > 1} <= weights


@pytest.mark.parametrize("name", ["resnet8", "resnet38", "mobilenet_v3_large"])
def test_all_units_of_own_networks_can_go(name: str) -> None:
    units = trace_units(create_spec(name, num_classes=5).build, (3, 32, 32))
    assert left_out(units) == {"classifier": "it reaches the output"}
