"""The form of a network that is run but not trained: the same function in fewer operations."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..supernets.blocks import MixBlock
from ..supernets.transformer import Decoder, TokenPath

_Module = TypeVar("_Module", bound=nn.Module)


def folded(network: _Module) -> _Module:
    """A copy with the same outputs in eval mode whose searching blocks are in their form for inference.

    Their batch norms are folded into their convolutions, and attention is written without what only training needs.
    Of networks without such blocks it is a copy.
    """
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, MixBlock) and child.hidden:
                module.add_module(name, _FoldedBlock(child))
    for module in list(network.modules()):
        if isinstance(module, TokenPath):
            module.add_module("decoder", _FoldedDecoder(module.decoder, module.queries))
            module.encoder.add_module("attend", _PlainAttention())
    return network


class _FoldedBlock(nn.Module):
    """A `MixBlock` as one chain of convolutions per kernel size.

    No map is cut, and every ReLU follows a convolution, which runtimes do in one operation.
    """

    def __init__(self, block: MixBlock) -> None:
        super().__init__()
        self.skip = block.tokens if hasattr(block, "tokens") else block.shortcut
        whole = fuse_conv_bn_eval(block.expand, block.expand_bn)
        assert whole.bias is not None
        weights, biases = whole.weight.split(block.hidden), whole.bias.split(block.hidden)
        norms = _parts(block.unit_bn, block.hidden)
        chains = []
        for conv, norm, weight, bias in zip(block.depthwise.values(), norms, weights, biases, strict=True):
            assert isinstance(conv, nn.Conv2d)
            expand = nn.Conv2d(whole.in_channels, len(weight), 1)
            expand.weight, expand.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
            chains.append(nn.Sequential(expand, nn.ReLU(), fuse_conv_bn_eval(conv, norm), nn.ReLU()))
        self.chains = nn.ModuleList(chains)
        self.project = fuse_conv_bn_eval(block.project, block.bn)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mixed = torch.cat([chain(x_BCHW) for chain in self.chains], dim=1)
        out: Tensor = self.skip(x_BCHW) + self.project(mixed)
        return out


def _parts(bn: nn.BatchNorm2d, sizes: tuple[int, ...]) -> list[nn.BatchNorm2d]:
    """A batch norm in eval mode, cut along its channels."""
    parts = [nn.BatchNorm2d(size, eps=bn.eps, dtype=bn.weight.dtype).eval() for size in sizes]
    for name in ("weight", "bias", "running_mean", "running_var"):
        for part, values in zip(parts, getattr(bn, name).detach().split(sizes), strict=True):
            getattr(part, name).data.copy_(values)
    return parts


class _PlainAttention(nn.Module):
    """Attention as two products and a softmax; one query may serve the whole batch."""

    def forward(self, query_BnE: Tensor, key_BnE: Tensor, value_BnE: Tensor) -> Tensor:
        scores = query_BnE @ key_BnE.transpose(1, 2) * query_BnE.shape[-1] ** -0.5
        return F.softmax(scores, dim=-1) @ value_BnE


class _FoldedDecoder(nn.Module):
    """A `Decoder` for one set of queries, which are then the same for every image."""

    def __init__(self, decoder: Decoder, queries_nE: Tensor) -> None:
        super().__init__()
        self.fixed = nn.Parameter(decoder.query(queries_nE).detach())
        self.key_value, self.out, self.norm, self.feed = decoder.key_value, decoder.out, decoder.norm, decoder.feed
        self.attend = _PlainAttention()

    def forward(self, queries_nE: Tensor, memory_BnE: Tensor) -> Tensor:
        mixed = self.out(self.attend(self.fixed, *self.key_value(memory_BnE).chunk(2, dim=-1)))
        out: Tensor = self.feed(self.norm(memory_BnE + mixed))
        return out
