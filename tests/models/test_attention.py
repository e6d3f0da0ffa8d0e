"""Attention modules against values computed by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from supertickets import UserError
from supertickets.models.resnet.attention import (
    DenseImplicitAttention,
    SpatialGroupEnhance,
    SqueezeExcite,
    make_attention,
)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def filled(layer: nn.Module, weights: Sequence[float], biases: Sequence[float]) -> None:
    """Sets the parameters of a layer."""
    assert isinstance(layer.weight, Tensor)
    assert isinstance(layer.bias, Tensor)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights).view_as(layer.weight))
        layer.bias.copy_(torch.tensor(biases).view_as(layer.bias))


def test_squeeze_and_excite() -> None:
    """Means 1 and 3, squeezed to relu(1 + 3 + 1) = 5, give the gates sigmoid(5) and sigmoid(2 - 5)."""
    module = SqueezeExcite(2, 2)
    filled(module.squeeze, [1, 1], [1])
    filled(module.excite, [1, -1], [0, 2])
    x = torch.tensor([[[[0.0, 2.0]], [[3.0, 3.0]]]])
    out, state = module(x)
    assert out.flatten().tolist() == pytest.approx([0, 2 * sigmoid(5), 3 * sigmoid(-3), 3 * sigmoid(-3)])
    assert state is None


def test_spatial_group_enhance() -> None:
    """A group of the channels (1, 3) and (2, 4), of means 2 and 3: likenesses 8 and 18, unbiased deviation 5 * 2^.5."""
    module = SpatialGroupEnhance(2, 1)
    x = torch.tensor([[[[1.0, 3.0]], [[2.0, 4.0]]]])
    fresh, _ = module(x)
    assert fresh.flatten().tolist() == pytest.approx((x * sigmoid(1)).flatten().tolist())
    filled(module, [2], [0.5])
    out, state = module(x)
    low, high = sigmoid(0.5 - math.sqrt(2)), sigmoid(0.5 + math.sqrt(2))
    assert out.flatten().tolist() == pytest.approx([low, 3 * high, 2 * low, 4 * high], rel=1e-5)
    assert state is None


def test_a_map_of_one_place() -> None:
    """It is like itself: what is left is the shift."""
    module, x = SpatialGroupEnhance(2, 1), torch.tensor([[[[3.0]], [[-2.0]]]])
    assert module(x)[0].flatten().tolist() == pytest.approx([3 * sigmoid(1), -2 * sigmoid(1)])


def test_groups_do_not_mix() -> None:
    module = SpatialGroupEnhance(4, 2)
    filled(module, [1, -2], [0.1, 0.2])
    torch.manual_seed(0)
    x = torch.randn(2, 4, 3, 3)
    first = SpatialGroupEnhance(2, 1)
    filled(first, [1], [0.1])
    torch.testing.assert_close(module(x)[0][:, :2], first(x[:, :2])[0])


def test_dense_implicit_attention() -> None:
    """Two blocks of one channel, with means 2 and 1; the layers inside pass on what is positive."""
    module = DenseImplicitAttention(1, 1)
    for path, weights in ((module.from_input, [0.1, 0.2, 0.3, 0.4]), (module.from_hidden, [0.5, -0.6, 0.7, -0.8])):
        filled(path[0], [1], [0])
        filled(path[2], weights, [0.01, 0.02, 0.03, 0.04])
    state, cell, hidden = None, 0.0, 0.0
    for mean in (2.0, 1.0):
        x = torch.tensor([[[[mean - 1, mean + 1]]]])
        out, state = module(x, state)
        forget = sigmoid(0.1 * mean + 0.01 + 0.5 * hidden + 0.01)
        write = sigmoid(0.2 * mean + 0.02 - 0.6 * hidden + 0.02)
        candidate = math.tanh(0.3 * mean + 0.03 + 0.7 * hidden + 0.03)
        read = sigmoid(0.4 * mean + 0.04 - 0.8 * hidden + 0.04)
        cell = forget * cell + write * candidate
        hidden = read * sigmoid(cell)  # not tanh
        assert out.flatten().tolist() == pytest.approx([(mean - 1) * hidden, (mean + 1) * hidden])
        assert [part.item() for part in state] == pytest.approx([hidden, cell])


class Half(nn.Module):
    """A user's own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def test_a_module_of_ones_own() -> None:
    module = make_attention(f"{__name__}:Half", 3, 16, 4)
    x = torch.ones(1, 3, 2, 2)
    out, state = module(x)
    assert torch.equal(out, x / 2)
    assert state is None


@pytest.mark.parametrize(
    ("kind", "ratio", "groups", "named"),
    [
        ("sse", 16, 4, "unknown supernet.settings.attention 'sse'.*se"),
        ("no.such:Module", 16, 4, "no.such:Module cannot be imported"),
        ("builtins:print", 16, 4, "builtins:print is no class of torch.nn.Module"),
        ("torch.nn:Conv2d", 16, 4, "torch.nn:Conv2d is not made of a number of channels"),
        ("torch.nn.Conv2d", 16, 4, "a class of your own is written with a colon, torch.nn:Conv2d"),
        ("sge", 16, 5, "groups is 5, which does not divide 64 channels"),
        ("se", 65, 4, "ratio is 65; with 64 channels take 1 to 64"),
        ("dia", 0, 4, "ratio is 0; with 64 channels take 1 to 64"),
    ],
)
def test_impossible_attention_is_refused(kind: str, ratio: int, groups: int, named: str) -> None:
    with pytest.raises(UserError, match=named):
        make_attention(kind, 64, ratio, groups)
