"""Plain residual networks: published sizes, torchvision as oracle, their maps, specs and weights."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn

from supertickets import UserError, create_supernet
from supertickets.cost import count
from supertickets.models import PlainNetwork, PlainSpec
from supertickets.models.factory import create_spec, spec_from_json

SMALL: dict[str, Any] = {"widths": (4, 6, 8), "num_classes": 5, "image_size": (16, 24)}


def plain(name: str = "resnet8", **more: Any) -> PlainNetwork:
    torch.manual_seed(0)
    network = create_supernet(name, **{**SMALL, **more})
    assert isinstance(network, PlainNetwork)
    return network.eval()


def test_sizes_by_hand() -> None:
    """He et al.'s network of 20 layers has 0.27 M parameters; shortcuts here are convolutions."""
    assert count(create_spec("resnet20")).params == 272_474
    stages = [(16, 16, 0), (16, 32, 1), (32, 64, 1)]
    weights = sum(9 * a * b + 9 * b * b + shortcut * a * b for a, b, shortcut in stages)
    norms = 2 * (16 + sum((2 + shortcut) * b for _, b, shortcut in stages))
    assert count(create_spec("resnet8")).params == 27 * 16 + weights + norms + 64 * 10 + 10


def test_resnet18_is_torchvisions() -> None:
    torch.manual_seed(0)
    theirs, ours = torchvision.models.resnet18(num_classes=7).eval(), create_supernet("resnet18", num_classes=7).eval()
    kinds = nn.Conv2d | nn.BatchNorm2d | nn.Linear
    pairs = [[m for m in network.modules() if isinstance(m, kinds)] for network in (theirs, ours)]
    for one, other in zip(*pairs, strict=True):
        if isinstance(one, nn.BatchNorm2d):
            one.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
            one.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
        other.load_state_dict(one.state_dict())
    images = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(ours(images), theirs(images))
    assert count(create_spec("resnet18")).params == 11_689_512  # as torchvision publishes it


@pytest.mark.parametrize(
    ("more", "maps"),
    [
        ({}, [(4, 1), (6, 2), (8, 4)]),
        ({"stem_stride": 2}, [(4, 2), (6, 4), (8, 8)]),
        ({"stem_stride": 2, "strides": (2, 2, 2)}, [(4, 4), (6, 8), (8, 16)]),
        ({"stem": "large"}, [(4, 4), (6, 8), (8, 16)]),
        ({"strides": (1, 2, 1)}, [(4, 1), (8, 2)]),  # of two stages of one stride the last
        ({"strides": (1, 1, 1)}, [(8, 1)]),
    ],
)
def test_maps_are_those_that_the_spec_lists(more: dict[str, Any], maps: list[tuple[int, int]]) -> None:
    network = plain(**more)
    assert [tuple(one) for one in network.spec.maps()] == maps
    height, width = 33, 48
    made = network.features(torch.randn(2, 3, height, width))
    assert [tuple(x.shape) for x in made] == [(2, c, -(-height // s), -(-width // s)) for c, s in maps]
    assert network.spec.coarsest_stride == maps[-1][1]


def test_width_is_that_of_the_first_stage() -> None:
    spec = create_spec("resnet14", width=24, blocks=(1, 2, 3, 4))
    assert isinstance(spec, PlainSpec)
    assert (spec.widths, spec.strides) == ((24, 48, 96, 192), (1, 2, 2, 2))
    assert create_spec("resnet8", width=32, widths=(8, 8, 9)).widths == (8, 8, 9)  # type: ignore[attr-defined]
    assert str(spec) == "a plain ResNet of 10 blocks, 24 to 192 channels wide"


def test_a_block_by_hand() -> None:
    """With both convolutions passing the centre on, a block of the same shape doubles what is positive."""
    network = plain(widths=(3, 6, 8))
    block = network.stages[0][0]  # type: ignore[index]
    assert isinstance(block.shortcut, nn.Identity)
    with torch.no_grad():
        for conv in (block.conv1, block.conv2):
            conv.weight.zero_()
            conv.weight[range(3), range(3), 1, 1] = 1
    maps = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(block(maps), 2 * maps, rtol=1e-4, atol=1e-4)


def test_no_scale_begins_at_zero() -> None:
    """A scale of zero would say that a channel is of no importance."""
    network = plain()
    assert all(bool((m.weight == 1).all()) for m in network.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("head", ["classification", "segmentation"])
@pytest.mark.parametrize("neck", ["fpn", "lraspp"])
def test_all_but_the_classifier_is_pruned(head: str, neck: str) -> None:
    network = plain(head=head, neck=neck)
    every = [f"{name}.weight" for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    last = [name for name in every if name.startswith("classifier.")]
    assert last
    assert network.maskable_weights(classifier=True) == every
    assert network.maskable_weights() == [name for name in every if name not in last]


def test_features_are_what_a_classifier_and_a_segmenter_share() -> None:
    shared = {name for name in plain().state_dict() if PlainNetwork.is_feature(name)}
    assert shared == {name for name in plain(head="segmentation").state_dict() if PlainNetwork.is_feature(name)}
    assert set(plain().state_dict()) - shared == {"classifier.weight", "classifier.bias"}


@settings(max_examples=20, deadline=None)
@given(some.data())
def test_a_spec_survives_its_json(data: some.DataObject) -> None:
    stages = data.draw(some.integers(1, 4))
    numbers = some.lists(some.integers(1, 3), min_size=stages, max_size=stages).map(tuple)
    spec = create_spec(
        data.draw(some.sampled_from(["resnet8", "resnet18"])),
        blocks=data.draw(numbers),
        widths=data.draw(numbers),
        strides=data.draw(some.lists(some.integers(1, 2), min_size=stages, max_size=stages)),
        head=data.draw(some.sampled_from(["classification", "segmentation", "keypoints"])),
        neck=data.draw(some.sampled_from(["fpn", "lraspp"])),
        image_size=(20, 17),
    )
    assert spec_from_json(json.loads(json.dumps(spec.to_json()))) == spec
    scores = spec.build().eval()(torch.zeros(1, *spec.input_shape))
    assert scores.shape[:2] == (1, spec.num_classes)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"widht": 8}, "unknown supernet setting 'widht'; did you mean 'width"),
        ({"stem": "tiny"}, "unknown supernet.settings.stem 'tiny'; take one of small, large"),
        ({"stem_stride": 4}, "supernet.settings.stem_stride is 4; a small stem has 1 or 2"),
        ({"stem": "large", "stem_stride": 2}, "a large stem has 4"),
        ({"widths": (8, 8)}, "blocks for 3 stages, widths for 2 and strides for 3"),
        ({"blocks": (1, 0, 1)}, "supernet.settings.blocks is [1, 0, 1]; give numbers of at least 1"),
        ({"width": 0}, "supernet.settings.widths is [0, 0, 0]"),
        ({"width": "wide"}, "supernet.settings.width is wide; give a number of channels, e.g. 16"),
        ({"strides": (1, 2, 4)}, "supernet.settings.strides is [1, 2, 4]; give a 1 or 2 for every stage"),
        ({"head": "keypoint"}, "unknown supernet.settings.head 'keypoint'; did you mean 'keypoints'"),
        ({"neck": "pan"}, "unknown supernet.settings.neck 'pan'"),
        ({"map_stride": 3}, "unknown supernet.settings.map_stride '3'"),
        ({"head_width": 0}, "supernet.settings.head_width is 0; give a number of channels"),
        ({"dropout": 1.0}, "supernet.settings.dropout is 1.0; give a share from 0 to below 1"),
        ({"head": "density", "num_classes": 2}, "a density is that of one kind of things, not of 2"),
    ],
)
def test_errors_name_the_cause_in_one_line(overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        create_spec("resnet8", **overrides)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
