"""Costs by hand, against PyTorch's own counter, and against what removing a unit really saves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from supertickets.cost import Cost, count, layer_costs, unit_macs
from supertickets.models import HRNetSpec
from supertickets.models.factory import create_spec
from supertickets.models.hrnet import matrix_products as products
from supertickets.models.hrnet.blocks import BlockStyle

# One branch on a 4x4 image, small enough for the figures below to be worked out by hand.
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
    tokens=3,
    style=BlockStyle(kernels=(3, 5), grid=2),
)
# Weights times output positions; all maps behind the stem are 2x2.
HAND_MACS = {
    "stem.0": 1 * 2 * 9 * 4,
    "blocks.s0_fuse_0to0.expand": 2 * 4 * 4,
    "blocks.s0_fuse_0to0.depthwise.k3": 2 * 9 * 4,
    "blocks.s0_fuse_0to0.depthwise.k5": 2 * 25 * 4,
    "blocks.s0_fuse_0to0.project": 4 * 2 * 4,
    "blocks.s0_fuse_0to0.tokens.to_tokens": (2 + 2) * 3 * 4,
    "blocks.s0_fuse_0to0.tokens.encoder.qkv": 3 * 4 * 12,
    "blocks.s0_fuse_0to0.tokens.encoder.attend": 2 * 3 * 3 * 4,
    "blocks.s0_fuse_0to0.tokens.encoder.out": 3 * 4 * 4,
    "blocks.s0_fuse_0to0.tokens.encoder.feed.up": 3 * 4 * 4,
    "blocks.s0_fuse_0to0.tokens.encoder.feed.down": 3 * 4 * 4,
    "blocks.s0_fuse_0to0.tokens.decoder.query": 3 * 4 * 4,
    "blocks.s0_fuse_0to0.tokens.decoder.key_value": 3 * 4 * 8,
    "blocks.s0_fuse_0to0.tokens.decoder.attend": 2 * 3 * 3 * 4,
    "blocks.s0_fuse_0to0.tokens.decoder.out": 3 * 4 * 4,
    "blocks.s0_fuse_0to0.tokens.decoder.feed.up": 3 * 4 * 4,
    "blocks.s0_fuse_0to0.tokens.decoder.feed.down": 3 * 4 * 4,
    "blocks.s0_fuse_0to0.tokens.from_tokens": 3 * 2 * 4,
    "blocks.head_raise_0.expand": 2 * 4 * 4,
    "blocks.head_raise_0.depthwise.k3": 2 * 9 * 4,
    "blocks.head_raise_0.depthwise.k5": 2 * 25 * 4,
    "blocks.head_raise_0.project": 4 * 4 * 4,
    "blocks.head_raise_0.shortcut": 4 * 1 * 4,  # two groups, of one input and two outputs each
    "last_conv": 4 * 5 * 4,
    "classifier": 5 * 3,
}
HAND_PARAMS = (
    (18 + 4)  # stem and its BN
    + (8 + 8 + 18 + 50 + 8 + 8 + 4)  # expand, BN, depthwise, BN, project, BN
    + (12 + 6 + 12 + 6 + 4)  # tokens: projection, BN, queries, projection, BN; an embedding of 4
    + 2 * (4 * 16 + 8 + 2 * 16 + 8)  # encoder and decoder: attention, norm, feed-forward, norm
    + (8 + 8 + 18 + 50 + 8 + 16 + 8 + 4)  # raise: the same blocks, and a shortcut
    + (20 + 10)
    + (15 + 3)
)
SMALL = create_spec(
    "hrnet_tiny",
    channels=((4, 6),),
    blocks=((1, 1),),
    stem_channels=(4, 4),
    head_channels=(6, 8),
    kernels=(3, 5),
    last_channels=10,
    expansion=1,
    tokens=3,
    grid=2,
    num_classes=3,
    in_channels=2,
)

# An identity block with tokens, one of stride 2, and one that changes the width.
FEW = dataclasses.replace(SMALL, head="segmentation", blocks=((0, 0),), units={})


def test_every_layer_by_hand() -> None:
    rows = layer_costs(HAND)
    assert {row.name: row.macs for row in rows} == HAND_MACS
    assert len(rows) == len(HAND_MACS)
    assert all(row.masked_macs == row.macs for row in rows)
    weights = {name: p.numel() for name, p in HAND.build().named_parameters()}
    for row in rows:
        if row.weight is None:
            assert row.name.endswith("attend")
        else:
            assert row.uses * weights[row.weight] == row.macs


def test_totals_by_hand() -> None:
    assert sum(HAND_MACS.values()) == 1679
    cost = count(HAND)
    assert (cost.params, cost.macs, cost.masked_macs) == (HAND_PARAMS, 1679, 1679)
    assert cost.nonzero_params == cost.params
    assert (cost.sparsity, cost.sparsity_all, cost.paper_macs) == (0.0, 0.0, 1679)
    assert count(HAND.build()) == cost


def test_another_size_by_hand() -> None:
    """8x8 input: convolutions cost four times as much, tokens and classifier the same."""
    fixed = sum(macs for name, macs in HAND_MACS.items() if ".tokens." in name) + HAND_MACS["classifier"]
    assert count(HAND, (1, 8, 8)).macs == 4 * (1679 - fixed) + fixed


def test_masked_macs_by_hand() -> None:
    """Half of the stem (9 of 18), one weight of the shortcut, all of the projection, one of the qkv's 48."""
    mask = {
        "stem.0.weight": torch.arange(18).view(2, 1, 3, 3) % 2 == 0,
        "blocks.head_raise_0.shortcut.weight": torch.tensor([True, False, True, True]).view(4, 1, 1, 1),
        "blocks.s0_fuse_0to0.project.weight": torch.zeros(2, 4, 1, 1, dtype=torch.bool),
        "blocks.s0_fuse_0to0.tokens.encoder.qkv.weight": (torch.arange(48) > 0).view(12, 4),
    }
    cost = count(HAND, mask=mask)
    assert cost.macs == 1679
    assert cost.masked_macs == 1679 - 9 * 4 - 1 * 4 - 8 * 4 - 1 * 3
    assert cost.maskable_params == 18 + 4 + 8 + 48
    assert cost.nonzero_params == cost.params - (9 + 1 + 8 + 1)
    assert cost.sparsity == pytest.approx(19 / 78)
    assert cost.sparsity_all == pytest.approx(19 / HAND_PARAMS)
    assert cost.paper_macs == round(1679 * (1 - 19 / 78))
    by_name = {row.name: row.masked_macs for row in cost.layers}
    assert by_name["stem.0"] == 36
    assert by_name["blocks.s0_fuse_0to0.project"] == 0
    assert cost.to_json() == {
        "params": HAND_PARAMS,
        "nonzero_params": HAND_PARAMS - 19,
        "sparsity": cost.sparsity,
        "sparsity_all": cost.sparsity_all,
        "macs": 1679,
        "masked_macs": cost.masked_macs,
        "paper_macs": cost.paper_macs,
    }


def test_a_mask_of_ones_changes_nothing_but_what_is_maskable() -> None:
    mask = {"stem.0.weight": torch.ones(2, 1, 3, 3, dtype=torch.bool)}
    dense, masked = count(HAND), count(HAND, mask=mask)
    assert (dense.maskable_params, masked.maskable_params) == (0, 18)
    assert masked.layers == dense.layers
    assert masked.sparsity == 0.0


def check_against_pytorch(spec: HRNetSpec, input_shape: tuple[int, int, int], *, training: bool) -> None:
    """Each layer, and the total: PyTorch counts 2 operations per MAC, here for two images."""
    torch.manual_seed(0)
    net = spec.build().train(training).requires_grad_(False)
    x = torch.randn(2, *input_shape)
    counter = FlopCounterMode(display=False)
    # The mathematical form of attention is made of products that are counted; products for small maps are others, and
    # what is computed kernel by kernel is not counted with its module.
    small, large = (mock.patch.object(products, name, return_value=False) for name in ("fits_in_cache", "is_large"))
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), small, large, counter:
        net(x)
    rows = layer_costs(spec, input_shape=input_shape)
    counted: Mapping[str, Mapping[object, int]] = counter.get_flop_counts()
    for row in rows:
        assert sum(counted[f"HRNet.{row.name}"].values()) == 4 * row.macs, row.name
    assert counter.get_total_flops() == 4 * sum(row.macs for row in rows)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("tokens", [True, False])
def test_small_network_agrees_with_pytorchs_counter(tokens: bool, training: bool) -> None:
    spec = SMALL if tokens else create_spec("hrnet_tiny", transformer=False, expansion=1, in_channels=2)
    check_against_pytorch(spec, (2, 9, 12), training=training)


@pytest.mark.long
@pytest.mark.parametrize("transformer", [True, False])
def test_paper_network_agrees_with_pytorchs_counter(transformer: bool) -> None:
    check_against_pytorch(create_spec("hrnet_imagenet", transformer=transformer), (3, 32, 32), training=False)


@pytest.mark.long
@pytest.mark.parametrize("head", ["segmentation", "keypoints"])
def test_dense_head_agrees_with_pytorchs_counter(head: str) -> None:
    spec = create_spec("hrnet_tiny", head=head, expansion=1, tokens=2, grid=2, in_channels=2, last_channels=6)
    check_against_pytorch(spec, (2, 11, 8), training=False)


def test_unit_macs_by_hand() -> None:
    """A channel of kernel k: (in + k * k + out) * 4 positions. A token: 16 + 8 for the projections, 192 for the linear
    layers and 80 for attention, which falls from 2 * 2 * 9 * 4 to 2 * 2 * 4 * 4."""
    macs = unit_macs(HAND)
    assert {name: value.tolist() for name, value in macs.items()} == {
        "s0_fuse_0to0.hidden": [52.0, 52.0, 116.0, 116.0],
        "s0_fuse_0to0.tokens": [296.0] * 3,
        "head_raise_0.hidden": [60.0, 60.0, 124.0, 124.0],
    }
    assert all(value.dtype == torch.float64 for value in macs.values())


def total_macs(spec: HRNetSpec) -> int:
    return sum(row.macs for row in layer_costs(spec))


def random_flags(spec: HRNetSpec, seed: int, share: float) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {g.name: torch.rand(len(g), generator=generator) < share for g in spec.unit_groups()}


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.3, 0.6, 1.0]), data=st.data())
def test_removing_a_unit_saves_its_macs(seed: int, share: float, data: st.DataObject) -> None:
    """On a network that was cut at random before, the last token of a path and the last channel included."""
    spec = FEW.keep(random_flags(FEW, seed, share))
    groups = spec.unit_groups()
    if not groups:
        return
    group = data.draw(st.sampled_from(groups))
    unit = data.draw(st.integers(0, len(group) - 1))
    flags = torch.ones(len(group), dtype=torch.bool)
    flags[unit] = False
    saved = total_macs(spec) - total_macs(spec.keep({group.name: flags}))
    assert unit_macs(spec)[group.name][unit].item() == pytest.approx(saved, abs=1e-6)
    assert saved > 0


def test_units_of_a_spec_without_units() -> None:
    none = SMALL.keep({g.name: torch.zeros(len(g), dtype=torch.bool) for g in SMALL.unit_groups()})
    assert unit_macs(none) == {}
    left = {row.name for row in layer_costs(none)}
    assert left == {n for n in left if n.startswith(("stem", "last_conv", "classifier")) or n.endswith("shortcut")}


@settings(deadline=None)
@given(zeros=st.integers(0, 50), maskable=st.integers(50, 100), other=st.integers(1, 1000), macs=st.integers(0, 10**12))
def test_definitions_of_sparsity(zeros: int, maskable: int, other: int, macs: int) -> None:
    params = maskable + other
    cost = Cost(params, params - zeros, maskable, macs, macs, ())
    assert math.isclose(cost.sparsity, zeros / maskable)
    assert math.isclose(cost.sparsity_all, zeros / params)
    assert abs(cost.paper_macs - macs * (maskable - zeros) / maskable) <= 0.5 + 1e-9 * macs
