"""The form of a network for runtimes other than PyTorch: the same function in fewer operations."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ...device import channel_block
from .blocks import MixBlock
from .transformer import Decoder, TokenPath

_Module = TypeVar("_Module", bound=nn.Module)


def fold_norms(network: _Module) -> _Module:
    """Return a copy with the same outputs in eval mode whose searching blocks are in their form for inference.

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

    No map is cut, and every ReLU follows a convolution, which runtimes do in one operation. Channels of zeros fill
    every chain up to a multiple of `channel_block`: maps of other widths are copied into blocks and out of them.
    One projection of the concatenated chains is kept: a sum of projections hardly changes what onnxruntime takes then,
    and makes small networks slower in the sparse runtime.
    """

    def __init__(self, block: MixBlock) -> None:
        super().__init__()
        self.skip = block.tokens if hasattr(block, "tokens") else block.shortcut
        expand, project = fuse_conv_bn_eval(block.expand, block.expand_bn), fuse_conv_bn_eval(block.project, block.bn)
        assert expand.bias is not None
        assert project.bias is not None
        rows, biases = expand.weight.split(block.hidden), expand.bias.split(block.hidden)
        norms = _split_block(block.unit_bn, block.hidden)
        chains = []
        for conv, norm, row, bias in zip(block.depthwise.values(), norms, rows, biases, strict=True):
            assert isinstance(conv, nn.Conv2d)
            depthwise = fuse_conv_bn_eval(conv, norm)
            assert depthwise.bias is not None
            filled = [_pad_channels(t) for t in (row, bias, depthwise.weight, depthwise.bias)]
            into, within = _conv(filled[0], filled[1]), _conv(filled[2], filled[3], block.stride, len(filled[3]))
            chains.append(nn.Sequential(into, nn.ReLU(), within, nn.ReLU()))
        self.chains = nn.ModuleList(chains)
        columns = project.weight.transpose(0, 1).split(block.hidden)
        self.project = _conv(torch.cat([_pad_channels(column) for column in columns]).transpose(0, 1), project.bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mixed = torch.cat([chain(x_BCHW) for chain in self.chains], dim=1)
        out: Tensor = self.skip(x_BCHW) + self.project(mixed)
        return out


def _pad_channels(tensor: Tensor) -> Tensor:
    """Return a tensor with zeros behind its first dimension, up to a multiple of what runtimes here block by."""
    return torch.cat((tensor, tensor.new_zeros(-len(tensor) % channel_block(), *tensor.shape[1:])))


def _conv(weight: Tensor, bias: Tensor, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution that keeps the size of maps, but for its stride."""
    out, inputs, side, _ = weight.shape
    conv = nn.Conv2d(inputs * groups, out, side, stride, side // 2, groups=groups, device="meta")
    conv.weight, conv.bias = nn.Parameter(weight.detach().contiguous()), nn.Parameter(bias.detach().clone())
    return conv


def _split_block(bn: nn.BatchNorm2d, sizes: tuple[int, ...]) -> list[nn.BatchNorm2d]:
    """Return a batch norm in eval mode, cut along its channels."""
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
