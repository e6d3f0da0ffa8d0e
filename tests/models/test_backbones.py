"""Maps of networks that other code makes: their strides, which are taken, and what is left out behind them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import Tensor, nn
from torchvision import models

from supertickets import UserError
from supertickets.models.backbones import (
    IntermediateMaps,
    ListedMaps,
    TracedMaps,
    choose_maps,
    find_backbone,
    stride_of,
)


class Halving(nn.Module):
    """Three convolutions, each halving the map; what it returns is up to ``kind``."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.layers = nn.ModuleList(nn.Conv2d(low, high, 3, 2, 1) for low, high in ((3, 4), (4, 6), (6, 8)))
        self.last = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor | list[Tensor] | dict[str, Tensor]:
        maps = []
        for layer in self.layers:
            x = torch.relu(layer(x))
            maps.append(x)
        if self.kind == "list":
            return maps
        if self.kind == "dict":
            return {"fine": maps[0], "coarse": maps[2], "pooled": x.mean((2, 3))}
        if self.kind == "maps":
            return x
        if self.kind == "branch" and x.sum() > 0:  # which a graph of operations cannot hold
            return self.last(-x.mean((2, 3)))
        return self.last(x.mean((2, 3)))


@given(some.integers(33, 300), some.integers(33, 300), some.sampled_from([1, 2, 4, 8, 16, 32]), some.booleans())
def test_sides_tell_the_stride(height: int, width: int, stride: int, up: bool) -> None:
    """A map of several cells tells its stride, whether halves were rounded up or down."""
    sides = [-(-side // stride) if up else side // stride for side in (height, width)]
    if min(sides) < 3:
        return
    guess = stride_of(torch.empty(1, 2, *sides, device="meta"), (height, width))
    assert guess is not None
    assert guess == stride or sides == [-(-side // guess) for side in (height, width)]


@pytest.mark.parametrize(
    ("sides", "stride"), [((20, 12), 4), ((79, 47), 1), ((3, 2), 32), ((10, 6), 8), ((20, 6), None), ((80, 48), None)]
)
def test_strides_by_hand(sides: tuple[int, int], stride: int | None) -> None:
    assert stride_of(torch.empty(1, 2, *sides), (79, 47)) == stride


def test_of_every_stride_the_last_map_is_taken() -> None:
    outputs = [torch.empty(1, c, side, side) for c, side in ((3, 16), (4, 8), (5, 16), (6, 4), (7, 8), (8, 5))]
    indices, maps = choose_maps([*outputs, "text", torch.empty(1, 8)], (32, 32), "it")
    assert indices == (2, 4, 3)
    assert [tuple(one) for one in maps] == [(5, 2), (7, 4), (6, 8)]
    with pytest.raises(UserError, match="it makes no maps that a head could take"):
        choose_maps([torch.empty(1, 8)], (32, 32), "it")


@pytest.mark.parametrize(
    ("kind", "way", "maps"),
    [
        ("list", ListedMaps, [(4, 2), (6, 4), (8, 8)]),
        ("dict", ListedMaps, [(4, 2), (8, 8)]),
        ("scores", TracedMaps, [(4, 2), (6, 4), (8, 8)]),
    ],
)
def test_maps_of_a_module(kind: str, way: type, maps: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    network, images = Halving(kind), torch.randn(2, 3, 24, 32)
    backbone = find_backbone(network, images, "it")
    assert isinstance(backbone, way)
    assert [tuple(one) for one in backbone.maps] == maps
    every = Halving("list")
    every.load_state_dict(network.state_dict())
    wanted = [x for x in every(images) if (x.shape[1], 32 // x.shape[-1]) in maps]
    for made, one in zip(backbone.run(backbone.cut(network), images), wanted, strict=True):
        torch.testing.assert_close(made, one)


def test_a_module_that_makes_the_output_itself_has_no_backbone() -> None:
    assert find_backbone(Halving("maps"), torch.zeros(1, 3, 16, 16), "it") is None


def test_a_module_that_cannot_be_followed_is_told_what_to_return() -> None:
    with pytest.raises(
        UserError, match=r"cannot be found in its operations \(.*\); let the network return a list"
    ) as e:
        find_backbone(Halving("branch"), torch.zeros(1, 3, 16, 16), "it")
    assert "\n" not in str(e.value)


def test_a_transformer_on_tokens_has_no_maps_behind_its_first_layer() -> None:
    with torch.device("meta"):
        network = models.vit_b_16(image_size=64)
        with pytest.raises(UserError, match="leave out most of its layers"):
            find_backbone(network, torch.empty(1, 3, 64, 64), "torchvision:vit_b_16")


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("resnet18", [(64, 2), (64, 4), (128, 8), (256, 16), (512, 32)]),
        ("mobilenet_v3_small", [(16, 2), (72, 4), (96, 8), (288, 16), (576, 32)]),
    ],
)
def test_torchvision_networks_keep_their_names(name: str, maps: list[tuple[int, int]]) -> None:
    """Behind the last map nothing is left; every weight that is left has a gradient."""
    torch.manual_seed(0)
    network, images = models.get_model(name, num_classes=7), torch.randn(2, 3, 64, 96)
    backbone = find_backbone(network, images, name)
    assert isinstance(backbone, TracedMaps)
    assert [tuple(one) for one in backbone.maps] == maps
    cut = backbone.cut(network).train()
    weights, whole = cut.state_dict(), network.state_dict()
    assert all(torch.equal(value, whole[key]) for key, value in weights.items())
    assert {key.partition(".")[0] for key in whole.keys() - weights.keys()} == {"fc" if "res" in name else "classifier"}
    sum(x.sum() for x in backbone.run(cut, images)).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None for p in cut.parameters())


@pytest.mark.parametrize(
    ("name", "settings", "strides"),
    [
        ("test_resnet", {}, [2, 4, 8, 16, 32]),
        ("test_efficientnet", {}, [2, 4, 8, 16, 32]),
        ("test_convnext", {}, [4, 8, 16, 32]),
        ("test_vit", {"img_size": 64}, [16]),
    ],
)
def test_timm_networks_keep_their_names(name: str, settings: dict[str, int], strides: list[int]) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    network = timm.create_model(name, num_classes=7, **settings)
    backbone = find_backbone(network, images, name)
    assert isinstance(backbone, IntermediateMaps)
    assert [one.stride for one in backbone.maps] == strides
    names = set(network.state_dict())
    cut = backbone.cut(network).train()
    assert set(cut.state_dict()) < names
    sum(x.sum() for x in backbone.run(cut, images)).backward()  # type: ignore[union-attr]
    assert [key for key, p in cut.named_parameters() if p.grad is None] == []
