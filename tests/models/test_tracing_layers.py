"""Search units of layers of every kind: how many there are, what silences them, and what cannot be removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from supertickets.models.tracing import trace_units

SHAPE = (3, 8, 8)
# Per group its size and what silences it: "3.weight 3.bias".
Groups = Mapping[str, tuple[int, str]]


class Rows(nn.Module):
    """Maps (B, C, H, W) as tokens (B, H * W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mT


class MixTokens(nn.Module):
    """A linear layer along the tokens."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.mix = nn.Linear(tokens, tokens, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x.mT).mT


class Attention(nn.Module):
    """Self-attention whose heads are a number, as timm writes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = heads, width // heads, width
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        out = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, self.attn_dim))


def conv(before: int, after: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, padding=kernel // 2)


def end(width: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2))


KINDS: dict[str, tuple[Callable[[], list[nn.Module]], Groups]] = {
    "flatten": (
        lambda: [conv(3, 4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 2)],
        {"0": (4, "0.weight 0.bias"), "3": (8, "3.weight 3.bias")},
    ),
    "transposed": (
        lambda: [conv(3, 4), nn.ConvTranspose2d(4, 6, 2, 2), nn.ReLU(), nn.ConvTranspose2d(6, 6, 2, groups=3), end(6)],
        {"0": (4, "0.weight 0.bias"), "3": (3, "3.weight 3.bias")},
    ),
    "group norm": (lambda: [conv(3, 8), nn.GroupNorm(4, 8), nn.ReLU(), end(8)], {"0": (4, "1.weight 1.bias")}),
    "group norm of all": (lambda: [conv(3, 8), nn.GroupNorm(1, 8), end(8)], {}),
    "layer norm": (lambda: [conv(3, 8), Rows(), nn.LayerNorm(8), nn.Linear(8, 2)], {}),
    "instance norm": (lambda: [conv(3, 8), nn.InstanceNorm2d(8, affine=True), end(8)], {"0": (8, "1.weight 1.bias")}),
    "norm without scale": (lambda: [conv(3, 8), nn.BatchNorm2d(8, affine=False), end(8)], {}),
    "one dimension": (
        lambda: [nn.Flatten(2), nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6), nn.Conv1d(6, 2, 3)],
        {"1": (6, "2.weight 2.bias")},
    ),
    "pixel shuffle": (lambda: [conv(3, 16), nn.PixelShuffle(2), end(4)], {"0": (4, "0.weight 0.bias")}),
    "pixel unshuffle": (lambda: [conv(3, 4), nn.PixelUnshuffle(2), end(16)], {"0": (4, "0.weight 0.bias")}),
    "channel shuffle": (lambda: [conv(3, 8), nn.ChannelShuffle(2), end(8)], {"0": (4, "0.weight 0.bias")}),
    "gate": (lambda: [conv(3, 8), nn.GLU(1), end(4)], {"0": (4, "0.weight 0.bias")}),
    "slopes": (lambda: [conv(3, 8), nn.PReLU(8), nn.PReLU(), end(8)], {"0": (8, "0.weight 0.bias")}),
    "activations": (
        lambda: [conv(3, 8), nn.Hardswish(), nn.ELU(), nn.GELU(), nn.Mish(), nn.Tanh(), nn.Hardtanh(), end(8)],
        {"0": (8, "0.weight 0.bias")},
    ),
    "sigmoid": (lambda: [conv(3, 8), nn.Sigmoid(), end(8)], {}),
    "softplus": (lambda: [conv(3, 8), nn.Softplus(), end(8)], {}),
    "softmax in space": (lambda: [conv(3, 8), nn.Softmax(2), end(8)], {}),
    "pools": (
        lambda: [
            *(conv(3, 8), nn.MaxPool2d(2), nn.AvgPool2d(2, padding=1), nn.ZeroPad2d(1), nn.Upsample(scale_factor=2)),
            *(nn.ReflectionPad2d(1), nn.Upsample(scale_factor=2, mode="bilinear"), end(8)),
        ],
        {"0": (8, "0.weight 0.bias")},
    ),
    "border of ones": (lambda: [conv(3, 8), nn.ConstantPad2d(1, 1.0), end(8)], {}),
    "channels dropped": (lambda: [conv(3, 8), nn.Dropout2d(), nn.Dropout(), end(8)], {"0": (8, "0.weight 0.bias")}),
    "mixed tokens": (
        lambda: [conv(3, 8), Rows(), MixTokens(64), nn.Linear(8, 2)],
        {"0": (8, "0.weight 0.bias")},
    ),
    "heads": (
        lambda: [nn.Flatten(2), nn.Linear(64, 12), Attention(12, 4), nn.Flatten(), nn.Linear(6, 2)],
        {
            "1": (12, "1.weight 1.bias"),
            "2.qkv": (4, "2.qkv.weight 2.qkv.bias"),
            "2.proj": (2, "2.proj.weight 2.proj.bias"),
        },
    ),
    "transformer": (
        lambda: [conv(3, 8), Rows(), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 2)],
        {"2.linear1": (16, "2.linear1.weight 2.linear1.bias")},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_units_of_layers(kind: str) -> None:
    make, expected = KINDS[kind]
    torch.manual_seed(0)
    units = trace_units(lambda: nn.Sequential(*make()), SHAPE)
    groups = {
        group.name: (len(group), " ".join(gate.tensor for gate in group.gates))
        for group in units.groups
        if not group.name.endswith(".2")  # the classifier's input, if it has units of its own
    }
    assert groups == expected, units.left_out


def test_a_norm_of_parts_keeps_the_parts_together() -> None:
    (group,) = trace_units(lambda: nn.Sequential(conv(3, 8), nn.GroupNorm(4, 8), end(8)), SHAPE).groups
    owners = {f"{axis.tensor}:{axis.dim}": axis.owners for axis in group.axes}
    assert owners["0.weight:0"] == owners["1.bias:0"] == owners["2.2.weight:1"] == (0, 0, 1, 1, 2, 2, 3, 3)


def test_whole_heads_are_units() -> None:
    units = trace_units(lambda: nn.Sequential(nn.Flatten(2), Attention(64, 2), nn.Flatten(), nn.Linear(6, 2)), SHAPE)
    heads = next(group for group in units.groups if len(group) == 2 and group.name == "1.qkv")
    owners = {f"{axis.tensor}:{axis.dim}": axis.owners for axis in heads.axes}
    assert owners["1.qkv.bias:0"] == (*[0] * 32, *[1] * 32) * 3
    assert [read.tensor for read in heads.reads] == ["1.proj.weight"]


def test_a_sum_over_units_has_no_weights_that_could_be_zero() -> None:
    class Total(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum(1, keepdim=True)

    (group,) = trace_units(lambda: nn.Sequential(conv(3, 4), Total(), conv(1, 2)), SHAPE).groups
    assert [gate.tensor for gate in group.gates] == ["0.weight", "0.bias"]
    assert group.reads == ()
