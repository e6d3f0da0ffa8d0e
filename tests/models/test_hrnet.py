"""The supernets: the paper's sizes, the wiring, what a spec promises."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supertickets import UserError
from supertickets.cost import Cost, count, layer_costs
from supertickets.models import HRNetSpec, Spec
from supertickets.models.factory import create_spec, create_supernet, list_supernets, spec_from_json
from supertickets.models.hrnet.blocks import BlockStyle

# Two branches, with tokens, blocks of both strides, both kinds of shortcut.
SMALL: dict[str, Any] = {
    "channels": ((4,), (4, 6)),
    "blocks": ((1,), (1, 1)),
    "stem_channels": (4, 4),
    "head_channels": (6, 8),
    "kernels": (3, 5),
    "last_channels": 10,
    "expansion": 1,
    "tokens": 2,
    "grid": 2,
    "num_classes": 3,
    "in_channels": 2,
}


@cache
def cost_of(name: str, transformer: bool) -> Cost:
    return count(create_spec(name, transformer=transformer))


def randomise(net: nn.Module) -> None:
    with torch.no_grad():
        for norm in net.modules():
            if isinstance(norm, nn.BatchNorm2d):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.weight.normal_(1.0, 0.5)
                norm.bias.normal_(0.0, 0.5)
                norm.running_mean.normal_(0.0, 0.5)
                norm.running_var.uniform_(0.5, 1.5)


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [("hrnet_imagenet", 13_243_868, 2_422_799_760), ("hrnet_coco", 10_110_053, 5_796_631_296)],
)
def test_paper_networks_without_transformer(name: str, params: int, macs: int) -> None:
    """Facts 1.6: the released count less its dead BNs, and its MACs."""
    cost = cost_of(name, transformer=False)
    assert (cost.params, cost.macs) == (params, macs)


@pytest.mark.parametrize(
    ("name", "params", "gmacs"),
    [("hrnet_imagenet", 15_975_472, 2.6301), ("hrnet_coco", 12_841_657, 6.0039)],
)
def test_paper_networks_with_transformer(name: str, params: int, gmacs: float) -> None:
    cost = cost_of(name, transformer=True)
    assert (cost.params, round(cost.macs / 1e9, 4)) == (params, gmacs)


@pytest.mark.parametrize(
    ("name", "gmacs", "at_224"),
    [("hrnet_cityscapes", 61.8, 5_917_958_928), ("hrnet_ade20k", 36.1, 6_912_572_688)],
)
def test_segmentation_networks(name: str, gmacs: float, at_224: int) -> None:
    """The released code counts at 224x224 and scales by the area, exact without Transformers."""
    spec = create_spec(name, transformer=False)
    macs = sum(row.macs for row in layer_costs(spec))
    assert round(macs / 1e9, 1) == gmacs
    assert macs * 224**2 == at_224 * math.prod(spec.image_size)


@pytest.mark.parametrize(
    ("name", "hidden", "head_blocks", "other_blocks"),
    [("hrnet_imagenet", 47_952, 7, 23), ("hrnet_coco", 44_928, 1, 17), ("hrnet_cityscapes", 44_928, 1, 17)],
)
def test_units_and_blocks_of_the_paper_networks(name: str, hidden: int, head_blocks: int, other_blocks: int) -> None:
    spec = create_spec(name)
    groups = spec.unit_groups()
    tokens = [group for group in groups if group.kind == "token"]
    assert (len(tokens), sum(len(group) for group in tokens)) == (44, 2_816)
    assert sum(len(group) for group in groups if group.kind == "channel") == hidden
    shapes = spec.shapes()
    rooms = [name.split("_")[1] if name.startswith("s") else "head" for name in shapes]
    assert sum(room in ("fuse", "new") for room in rooms) == 26
    assert sum(room.startswith("b") for room in rooms) == 34
    assert rooms.count("head") == head_blocks
    assert sum(not shape.is_identity for shape in shapes.values()) == other_blocks
    assert not [g for g in create_spec(name, transformer=False).unit_groups() if g.kind == "token"]


@pytest.mark.parametrize(("name", "weights"), [("hrnet_imagenet", 11_438_360), ("hrnet_coco", 9_921_330)])
def test_maskable_weights_of_the_paper_networks(name: str, weights: int) -> None:
    """Stem, blocks and shortcuts, not the classifier (facts 3)."""
    with torch.device("meta"):
        net = create_supernet(name, transformer=False)
    named = dict(net.named_parameters())
    assert sum(named[key].numel() for key in net.maskable_weights()) == weights


def test_transformer_weights_are_maskable_on_request_alone() -> None:
    net = create_supernet("hrnet_tiny", **SMALL)
    plain, every = set(net.maskable_weights()), set(net.maskable_weights(transformer=True))
    layers = {n for n, layer in net.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    assert every == {f"{n}.weight" for n in layers} - {"classifier.weight"}
    assert plain == {name for name in every if ".tokens." not in name}
    assert every - plain == {name for name in every if ".tokens." in name} != set()
    assert set(net.maskable_weights(classifier=True)) - plain == {"classifier.weight"}


@pytest.mark.parametrize("side", [8, 9, 12, 16, 28, 31, 32, 33, 48, 64])
def test_tiny_runs_at_every_size_it_names(side: int) -> None:
    torch.manual_seed(0)
    net = create_supernet("hrnet_tiny", image_size=(side, side), in_channels=1, expansion=1)
    spec = net.spec
    stride = math.prod(spec.stem_strides)
    assert stride == (1 if side < 32 else 2)
    assert max(len(widths) for widths in spec.channels) <= (3 if side < 32 else 4)
    assert (spec.tokens, spec.style.grid) == (16, 4)
    assert all(units.tokens <= 16 for units in spec.units.values())
    x = torch.randn(2, 1, side, side)
    for training in (True, False):
        scores = net.train(training)(x)
        assert scores.shape == (2, 10)
        assert scores.isfinite().all()
    maps = net.features(x)
    heights = [math.ceil(side / stride / 2**b) for b in range(len(maps))]
    assert [tuple(m.shape[-2:]) for m in maps] == [(h, h) for h in heights]


@pytest.mark.parametrize("size", [(7, 7), (8, 65), (4, 4)])
def test_tiny_refuses_other_sizes(size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="8 to 64 pixels"):
        create_spec("hrnet_tiny", image_size=size)


@pytest.mark.parametrize("head", ["segmentation", "keypoints"])
@pytest.mark.parametrize("size", [(8, 8), (9, 13)])
def test_dense_heads_answer_at_the_resolution_of_the_first_branch(head: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = create_supernet("hrnet_tiny", **SMALL | {"head": head, "stem_strides": (2, 1)}).eval()
    assert net(torch.randn(2, 2, *size)).shape == (2, 3, math.ceil(size[0] / 2), math.ceil(size[1] / 2))


@torch.no_grad()
@pytest.mark.parametrize(("name", "pixels"), [("hrnet_cityscapes", 32), ("hrnet_tiny", 2)])
def test_pixels_of_a_cell_of_the_coarsest_branch(name: str, pixels: int) -> None:
    """Of four branches behind a stem of stride 4; of two behind none."""
    assert create_spec(name).coarsest_stride == pixels


def test_wiring_by_hand() -> None:
    """Fusion of neighbours, nearest upsampling, ReLU after the sum but not after a new branch (facts 1.4, 1.5)."""
    torch.manual_seed(0)
    spec = create_spec("hrnet_tiny", **SMALL | {"channels": ((4,), (4, 6), (4, 6)), "blocks": ((1,), (1, 1), (1, 1))})
    net = spec.build().eval()
    randomise(net)

    def at(name: str, x: Tensor) -> Tensor:
        out: Tensor = net.blocks[name](x)
        return out

    def up(x: Tensor, size: int) -> Tensor:
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return x if x.shape[-1] == size else F.interpolate(x, (size, size), mode="bilinear", align_corners=False)

    for size in (8, 7):
        x = torch.randn(2, 2, size, size)
        a = at("s0_b0_0", at("s0_fuse_0to0", net.stem(x)).relu())
        a = at("s1_fuse_0to0", a).relu()
        a, b = at("s1_b0_0", a), at("s1_b1_0", at("s1_new_1", a))
        fused = (at("s2_fuse_0to0", a) + up(at("s2_fuse_1to0", b), size)).relu()
        b = (at("s2_fuse_0to1", a) + at("s2_fuse_1to1", b)).relu()
        a, b = at("s2_b0_0", fused), at("s2_b1_0", b)
        total = at("head_raise_1", b) + at("head_down_1", at("head_raise_0", a))
        pooled = net.last_bn(net.last_conv(total)).relu().mean((2, 3))
        torch.testing.assert_close(net(x), net.classifier(pooled))


def test_branches_that_do_not_touch_are_not_fused() -> None:
    shapes = create_spec("hrnet_imagenet").shapes()
    assert "s3_fuse_2to3" not in shapes  # that branch is new in stage 3
    assert {n for n in shapes if n.startswith("s4_fuse_")} == {
        f"s4_fuse_{a}to{b}" for a in range(4) for b in range(4) if abs(a - b) <= 1
    }


@pytest.mark.parametrize("shrunk", [False, True])
def test_spec_round_trip_rebuilds_the_network(shrunk: bool) -> None:
    torch.manual_seed(0)
    spec: Spec = create_spec("hrnet_tiny", **SMALL)
    if shrunk:
        flags = {group.name: torch.rand(len(group)) < 0.5 for group in spec.unit_groups()}
        first = next(iter(flags))
        flags[first] = torch.zeros_like(flags[first])  # a block with nothing left
        spec = spec.keep(flags)
    net = spec.build()
    randomise(net)
    text = json.dumps(spec.to_json())
    again = spec_from_json(json.loads(text))
    assert again == spec
    assert json.dumps(again.to_json()) == text
    torch.manual_seed(1)
    twin = again.build()
    assert [n for n, _ in twin.named_parameters()] == [n for n, _ in net.named_parameters()]
    twin.load_state_dict(net.state_dict())
    x = torch.randn(2, 2, 8, 8)
    assert torch.equal(twin.eval()(x), net.eval()(x))


@pytest.mark.parametrize("name", ["hrnet_ade20k", "hrnet_cityscapes", "hrnet_coco", "hrnet_imagenet", "hrnet_tiny"])
def test_every_supernet_travels_as_json(name: str) -> None:
    assert name in list_supernets()
    spec = create_spec(name, num_classes=7)
    assert spec_from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_settings_given_as_lists_make_the_same_spec() -> None:
    """YAML has no tuples; a recipe's network must equal the one that its ticket is read back as."""
    as_lists = json.loads(json.dumps(SMALL))
    spec = create_spec("hrnet_tiny", **as_lists)
    assert spec_from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_keep_counts_per_kernel() -> None:
    spec = create_spec("hrnet_tiny", **SMALL)
    flags = {g.name: torch.ones(len(g), dtype=torch.bool) for g in spec.unit_groups()}
    assert len(flags["s1_b1_0.hidden"]) == 12  # 6 channels times expansion 1, for kernels 3 and 5
    flags["s1_b1_0.hidden"][[0, 1, 2, 7]] = False
    flags["s1_b1_0.tokens"][0] = False
    kept = spec.keep(flags)
    assert (kept.units["s1_b1_0"].hidden, kept.units["s1_b1_0"].tokens) == ((3, 5), 1)
    others = {n: u for n, u in kept.units.items() if n != "s1_b1_0"}
    assert others == {n: u for n, u in spec.units.items() if n != "s1_b1_0"}
    by_name = {g.name: g for g in kept.unit_groups()}
    owners = {axis.tensor.split(".")[-2]: axis.owners for axis in by_name["s1_b1_0.hidden"].axes}
    assert (owners["k3"], owners["k5"]) == ((0, 1, 2), (3, 4, 5, 6, 7))
    assert spec.keep({}) == spec


def test_a_network_without_units_still_answers() -> None:
    spec = create_spec("hrnet_tiny", **SMALL)
    none = spec.keep({g.name: torch.zeros(len(g), dtype=torch.bool) for g in spec.unit_groups()})
    assert none.unit_groups() == ()
    net = none.build()
    x = torch.randn(4, 2, 8, 8)
    assert net.train()(x).shape == net.eval()(x).shape == (4, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: create_spec("hrnet_imagnet"), "did you mean 'hrnet_imagenet'"),
        (lambda: create_supernet("mobilenet"), "unknown supernet 'mobilenet'; did you mean 'mobilenet_v2'"),
        (lambda: create_supernet("vgg"), "unknown supernet 'vgg'; known: hrnet_ade20k"),
        (lambda: create_spec("hrnet_tiny", kernals=(3,)), "unknown supernet setting 'kernals'; did you mean 'kernels'"),
        (lambda: create_spec("hrnet_tiny", token=3), "did you mean 'tokens'"),
        (lambda: create_spec("hrnet_tiny", units={}), "unknown supernet setting 'units'"),
        (lambda: spec_from_json({"family": "snail"}), "unknown network family 'snail'"),
        (lambda: spec_from_json({"family": "hrnet", "channels": []}), "damaged"),
    ],
)
def test_errors_name_what_is_near(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(UserError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings", [{"channels": ((4,), (4, 6))}, {"head_channels": (6,)}, {"blocks": ((1, 1), (1, 1))}]
)
def test_settings_that_do_not_fit_together_are_the_users_error(settings: dict[str, Any]) -> None:
    """Branches, blocks and head widths must have equal lengths."""
    base: dict[str, Any] = {"channels": ((4, 6),), "blocks": ((1, 1),), "head_channels": (6, 8)}
    with pytest.raises(UserError):
        create_spec("hrnet_tiny", **base | settings)


def test_initial_weights() -> None:
    """mnas: normal with std sqrt(2 / fan_out), where a depthwise filter's fan-out is its area; or one std for all."""
    torch.manual_seed(0)
    spec = HRNetSpec(
        num_classes=100,
        channels=((16,),),
        blocks=((1,),),
        head_channels=(64,),
        last_channels=400,
        expansion=20,
        tokens=0,
        style=BlockStyle(kernels=(3, 5)),
    )
    net = spec.build()
    for weight, fan_out in (
        ("blocks.s0_b0_0.expand.weight", 640),
        ("blocks.s0_b0_0.depthwise.k3.weight", 9),
        ("blocks.s0_b0_0.depthwise.k5.weight", 25),
        ("last_conv.weight", 400),
    ):
        assert net.get_parameter(weight).std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
    assert 0.95 < net.classifier.weight.abs().max().item() / math.sqrt(1 / 100) <= 1
    assert not net.get_parameter("classifier.bias").any()
    alike = dataclasses.replace(spec, init_std=0.001).build()
    for layer in alike.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 1000:
            assert layer.weight.std().item() == pytest.approx(0.001, rel=0.1)


@pytest.mark.parametrize("setting", ["expansion", "tokens"])
def test_units_without_bound_are_refused_before_they_are_listed(setting: str) -> None:
    with pytest.raises(UserError, match=r"a block has .* channels or tokens"):
        create_spec("hrnet_tiny", **{setting: 10**9})
