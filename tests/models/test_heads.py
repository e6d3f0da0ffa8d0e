"""Heads over maps of several strides: by hand, torchvision as oracle, sizes, and what is small about their graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor, nn
from torchvision.models.segmentation.lraspp import LRASPPHead

from supertickets.models.factory import create_spec
from supertickets.models.heads import FeatureMap, GlobalPool
from supertickets.models.heads.fpn import FPN
from supertickets.models.heads.lraspp import LRASPP, SummedClassifier
from supertickets.models.heads.maps import first_at, initialise_head

MAPS = [FeatureMap(4, 2), FeatureMap(6, 4), FeatureMap(8, 16)]


def random_maps(maps: list[FeatureMap], height: int, width: int) -> list[Tensor]:
    return [torch.randn(2, c, -(-height // s), -(-width // s)) for c, s in maps]


@pytest.mark.parametrize(("stride", "index"), [(1, 0), (2, 0), (4, 1), (8, 2), (16, 2), (32, 2)])
def test_the_finest_map_at_least_as_coarse(stride: int, index: int) -> None:
    assert first_at(MAPS, stride) == index


def test_pooling_is_the_mean_of_the_last_map() -> None:
    assert GlobalPool()([torch.zeros(1, 1, 4, 4), torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])]).tolist() == [[3.0]]


def test_a_pyramid_by_hand() -> None:
    """One channel, every convolution passes on what it gets: fine + enlarged coarse, negative sums cut off."""
    head = FPN([FeatureMap(1, 1), FeatureMap(1, 2)], width=1, stride=1).eval()
    with torch.no_grad():
        for lateral in head.laterals:
            lateral[0].weight.fill_(1)  # type: ignore[index]
        head.smooth[1].weight.zero_()  # type: ignore[operator]
        head.smooth[1].weight[0, 0, 1, 1] = 1  # type: ignore[index]
    fine, coarse = torch.tensor([[[[1.0, 1.0, -9.0, 1.0]]]]), torch.tensor([[[[0.0, 8.0]]]])
    made = head([fine, coarse])
    torch.testing.assert_close(made, torch.tensor([[[[1.0, 3.0, 0.0, 9.0]]]]), rtol=1e-4, atol=1e-4)


def test_finer_maps_are_left_out() -> None:
    maps = random_maps(MAPS, 32, 32)
    head = FPN(MAPS, width=8, stride=4).eval()
    assert head(maps).shape == (2, 8, 8, 8)
    assert torch.equal(head(maps), head([torch.full_like(maps[0], 7.0), *maps[1:]]))


def test_lraspp_is_torchvisions() -> None:
    torch.manual_seed(0)
    theirs = LRASPPHead(6, 8, num_classes=3, inter_channels=10).eval()
    head, classifier = LRASPP(MAPS, width=10, stride=4).eval(), SummedClassifier(6, 10, 3)
    head.coarse.load_state_dict(theirs.cbr.state_dict())
    head.gate.load_state_dict(theirs.scale.state_dict())
    classifier.fine.load_state_dict(theirs.low_classifier.state_dict())
    classifier.coarse.load_state_dict(theirs.high_classifier.state_dict())
    maps = random_maps(MAPS, 35, 64)
    torch.testing.assert_close(classifier(head(maps)), theirs({"low": maps[1], "high": maps[2]}))


def test_weights_begin_he_normal_and_those_of_the_classifier_near_zero() -> None:
    torch.manual_seed(0)
    head, classifier = FPN([FeatureMap(64, 4)], width=64, stride=4), nn.Conv2d(64, 50, 1)
    initialise_head(head, classifier)
    assert float(head.smooth[1].weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)  # type: ignore[operator]
    assert float(classifier.weight.detach().std()) == pytest.approx(0.01, rel=0.1)
    assert classifier.bias is not None
    assert not classifier.bias.any()


@pytest.mark.parametrize("neck", ["fpn", "lraspp"])
@pytest.mark.parametrize("head", ["segmentation", "keypoints", "density"])
@pytest.mark.parametrize(("stride", "cells"), [(1, (17, 33)), (4, (5, 9)), (32, (3, 5))])
def test_maps_have_the_stride_that_is_asked_for(neck: str, head: str, stride: int, cells: tuple[int, int]) -> None:
    """The coarsest map of the network has a stride of 8: there is none of 32."""
    kinds = 1 if head == "density" else 3
    more: dict[str, Any] = {"widths": (4, 4, 4, 4), "blocks": (1, 1, 1, 1), "head_width": 6}
    spec = create_spec("resnet8", head=head, neck=neck, map_stride=stride, num_classes=kinds, **more)
    assert spec.build().eval()(torch.zeros(1, 3, 17, 33)).shape == (1, kinds, *cells)


@settings(max_examples=20, deadline=None)
@given(some.integers(1, 40), some.integers(1, 40), some.sampled_from(["fpn", "lraspp"]))
def test_any_size_goes_through(height: int, width: int, neck: str) -> None:
    spec = create_spec("resnet8", head="segmentation", neck=neck, widths=(2, 2, 2), head_width=3, map_stride=2)
    scores = spec.build().eval()(torch.zeros(1, 3, height, width))
    assert scores.shape == (1, 10, -(-height // 2), -(-width // 2))


def test_a_pyramid_is_few_operations() -> None:
    """Three maps: three laterals, two sums, one 3x3 convolution; nothing is concatenated."""
    head = FPN([FeatureMap(4, 4), FeatureMap(6, 8), FeatureMap(8, 16)], width=8, stride=4).eval()
    program = torch.export.export(head, (random_maps([FeatureMap(4, 4), FeatureMap(6, 8), FeatureMap(8, 16)], 64, 64),))
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert sum("conv2d" in name for name in names) == 4
    assert sum("add" in name for name in names) == 2
    assert not any("cat" in name or "slice" in name for name in names)
