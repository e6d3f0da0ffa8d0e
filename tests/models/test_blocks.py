"""The searching block and its token path, each against an independent way to compute it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from supertickets.models import Units
from supertickets.models.factory import create_supernet
from supertickets.models.hrnet import matrix_products as products
from supertickets.models.hrnet.blocks import BlockShape, BlockStyle, MixBlock
from supertickets.models.hrnet.transformer import TokenPath

KERNELS = (3, 5, 7)
STYLE = BlockStyle(kernels=KERNELS, grid=2, token_dropout=0.0, bn_eps=1e-3, bn_momentum=0.3)


@contextmanager
def in_double() -> Iterator[None]:
    """Builds and runs in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Statistics, scales and shifts that are not 0 and 1, so that forgetting one shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d | nn.LayerNorm):
                norm.weight.copy_(torch.randn(norm.weight.shape, generator=generator) + 1)
                norm.bias.copy_(torch.randn(norm.bias.shape, generator=generator))
            if isinstance(norm, nn.BatchNorm2d):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.running_mean.copy_(torch.randn(norm.running_mean.shape, generator=generator))
                norm.running_var.copy_(torch.rand(norm.running_var.shape, generator=generator) + 0.5)


def make(shape: BlockShape, hidden: tuple[int, ...], tokens: int = 0, seed: int = 0) -> MixBlock:
    torch.manual_seed(seed)
    block = MixBlock(shape, Units(hidden=hidden, tokens=tokens), STYLE)
    randomise(block, seed)
    return block


def norm_slice(x: Tensor, bn: nn.BatchNorm2d, part: slice, training: bool) -> Tensor:
    """Batch norm with some of a layer's channels; leaves its statistics alone."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    mean, var = bn.running_mean[part].clone(), bn.running_var[part].clone()
    return F.batch_norm(x, mean, var, bn.weight[part], bn.bias[part], training, 0.0, bn.eps)


def released_form(block: MixBlock, x: Tensor, hidden: tuple[int, ...]) -> Tensor:
    """The block as the released code has it: one expand-depthwise-project operation per kernel size, summed."""
    start, total = 0, None
    for kernel, count in zip(KERNELS, hidden, strict=True):
        part = slice(start, start + count)
        start += count
        if not count:
            continue
        h = F.relu(norm_slice(F.conv2d(x, block.expand.weight[part]), block.expand_bn, part, block.training))
        depthwise = block.depthwise[f"k{kernel}"].weight
        assert isinstance(depthwise, Tensor)
        h = F.conv2d(h, depthwise, stride=block.stride, padding=kernel // 2, groups=count)
        h = F.conv2d(F.relu(norm_slice(h, block.unit_bn, part, block.training)), block.project.weight[:, part])
        total = h if total is None else total + h
    assert total is not None
    mixed = norm_slice(total, block.bn, slice(None), block.training)
    if isinstance(block.shortcut, nn.Conv2d):
        weight = block.shortcut.weight
        groups = math.gcd(x.shape[1], mixed.shape[1])
        assert weight.shape == (mixed.shape[1], x.shape[1] // groups, 1, 1)
        return F.conv2d(x, weight, stride=block.stride, groups=groups) + mixed
    return x + mixed


@pytest.mark.parametrize("by_products", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("shape", "hidden", "size"),
    [
        (BlockShape(4, 4), (3, 2, 1), (8, 8)),
        (BlockShape(4, 6, 2), (4, 0, 2), (7, 5)),
        (BlockShape(6, 9), (0, 3, 0), (5, 4)),
        (BlockShape(4, 4, 2), (1, 1, 1), (2, 3)),
    ],
)
def test_block_equals_separate_operations_per_kernel(
    shape: BlockShape, hidden: tuple[int, ...], size: tuple[int, int], training: bool, by_products: bool
) -> None:
    with in_double(), mock.patch.object(products, "fits_in_cache", return_value=by_products):
        block = make(shape, hidden).train(training)
        x = torch.randn(3, shape.channels_in, *size)
        expected = released_form(block, x, hidden)
        torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-10)


def forward_and_back(block: MixBlock, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Output, gradients and running statistics of one training step."""
    x = x.clone().requires_grad_()
    y = block(x)
    (y * weight).sum().backward()
    assert x.grad is not None
    tensors = {"output": y.detach(), "input": x.grad}
    tensors |= {f"grad {name}": p.grad for name, p in block.named_parameters() if p.grad is not None}
    return tensors | {f"buffer {name}": b.clone() for name, b in block.named_buffers()}


@settings(max_examples=40, deadline=None)
@given(
    stride=st.sampled_from([1, 2]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    hidden=st.tuples(*[st.integers(0, 3)] * 3).filter(any),
    widths=st.sampled_from([(4, 4), (4, 6), (3, 5)]),
    channels_last=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_products_equal_convolutions(
    stride: int,
    height: int,
    width: int,
    hidden: tuple[int, ...],
    widths: tuple[int, int],
    channels_last: bool,
    seed: int,
) -> None:
    with in_double():
        block = make(BlockShape(*widths, stride), hidden, seed=seed).train()
        x = torch.randn(3, widths[0], height, width)
        weight = torch.randn(3, widths[1], -(-height // stride), -(-width // stride))
        if channels_last:
            block, x = block.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
        tensors = {}
        for way in (True, False):
            with mock.patch.object(products, "fits_in_cache", return_value=way):
                tensors[way] = forward_and_back(copy.deepcopy(block), x, weight)
        assert tensors[True].keys() == tensors[False].keys()
        assert sum(name.startswith("grad") for name in tensors[True]) == len(list(block.parameters()))
        torch.testing.assert_close(tensors[True], tensors[False], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("size", "stride", "fits"),
    [((8, 8), 1, True), ((8, 9), 1, False), ((1, 64), 1, True), ((11, 11), 2, False), ((10, 12), 2, True)],
)
def test_products_serve_small_maps_alone(size: tuple[int, int], stride: int, fits: bool) -> None:
    """At most 64 * 64 entries from input to output: 120 * 30 = 3,600 fit, 121 * 36 = 4,356 do not."""
    assert products.fits_in_cache(torch.zeros(1, 2, *size), stride, 6) is fits


def test_products_serve_few_channels_alone() -> None:
    """A million entries in all: 244 channels of 64 * 64 fit, 245 do not."""
    assert products.fits_in_cache(torch.zeros(1, 2, 8, 8), 1, 244)
    assert not products.fits_in_cache(torch.zeros(1, 2, 8, 8), 1, 245)


def test_products_serve_training_alone() -> None:
    block = make(BlockShape(4, 4), (2, 2, 2))
    x = torch.randn(2, 4, 4, 4)
    with mock.patch.object(products, "depthwise_matrix", side_effect=AssertionError("products were used")):
        block.eval()(x)
        with pytest.raises(AssertionError, match="products were used"):
            block.train()(x)


def test_products_follow_the_type_of_the_weights() -> None:
    """`module.double()` trains as it does where maps are large."""
    torch.manual_seed(0)
    net = create_supernet("hrnet_tiny", in_channels=1, expansion=1, tokens=2, grid=2).double().train()
    net(torch.randn(2, 1, 8, 8, dtype=torch.float64)).sum().backward()


def test_products_train_after_inference_mode() -> None:
    """The tensors that `products` caches in a forward without autograd must serve one with it."""
    products._made_taps.cache_clear()
    block = make(BlockShape(4, 4), (2, 2, 2)).train()
    x = torch.randn(2, 4, 5, 5)
    try:
        with torch.inference_mode():
            block(x)
        block(x).sum().backward()
    finally:
        products._made_taps.cache_clear()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("shape", "tokens"), [(BlockShape(4, 4), 0), (BlockShape(4, 4), 3), (BlockShape(4, 6, 2), 0), (BlockShape(4, 6), 0)]
)
def test_empty_block_emits_the_constant_of_its_bn(shape: BlockShape, tokens: int, training: bool) -> None:
    with in_double():
        block = make(shape, (0, 0, 0), tokens).train(training)
        x = torch.randn(2, 4, 5, 6)
        skip = copy.deepcopy(block.tokens)(x) if tokens else block.shortcut(x)
        constant = norm_slice(torch.zeros_like(skip), block.bn, slice(None), training)
        torch.testing.assert_close(block(x), skip + constant, rtol=0, atol=1e-12)
    assert {name.split(".")[0] for name in block.state_dict()} <= {"bn", "shortcut", "tokens"}


def test_empty_block_by_hand() -> None:
    """beta - mean * gamma / sqrt(var + eps) = 1 - 3 * 2 / sqrt(4 - 1e-3 + 1e-3) = -2 in eval mode, beta in training."""
    block = MixBlock(BlockShape(1, 1), Units(hidden=(0, 0, 0)), STYLE)
    values = {"weight": 2.0, "bias": 1.0, "running_mean": 3.0, "running_var": 4.0 - 1e-3}
    for name, value in values.items():
        getattr(block.bn, name).data.fill_(value)
    x = torch.tensor([[[[5.0, 7.0]]]])
    torch.testing.assert_close(block.eval()(x), torch.tensor([[[[3.0, 5.0]]]]))
    torch.testing.assert_close(block.train()(x), torch.tensor([[[[6.0, 8.0]]]]))


@pytest.mark.parametrize(
    ("shape", "tokens", "has_path"),
    [(BlockShape(4, 4), 3, True), (BlockShape(4, 4), 0, False), (BlockShape(4, 4, 2), 3, False)],
)
def test_only_identity_blocks_with_tokens_have_a_path(shape: BlockShape, tokens: int, has_path: bool) -> None:
    block = make(shape, (1, 1, 1), tokens)
    assert hasattr(block, "tokens") is has_path


def attend(query: Tensor, memory: Tensor, in_proj: Tensor, out_proj: Tensor) -> Tensor:
    """Attention by PyTorch's own module."""
    attention = nn.MultiheadAttention(query.shape[-1], 1, bias=False, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight.copy_(in_proj)
        attention.out_proj.weight.copy_(out_proj)
    mixed: Tensor = attention(query, memory, memory, need_weights=False)[0]
    return mixed


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias)


def feed(x: Tensor, up: nn.Linear, down: nn.Linear, norm: nn.LayerNorm) -> Tensor:
    return layer_norm(x + F.relu(x @ up.weight.T) @ down.weight.T, norm)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(2, 2), (5, 7), (1, 1), (3, 3)])
def test_token_path_equals_pytorchs_attention(size: tuple[int, int], training: bool) -> None:
    """HR-NAS's layout (facts 1.3): coordinates, tokens, encoder, cross-attention with the residual from the memory."""
    grid, channels, tokens = 3, 4, 5
    with in_double():
        torch.manual_seed(1)
        path = TokenPath(channels, tokens, grid, 0.0).train(training)
        randomise(path)
        x = torch.randn(2, channels, *size)
        got = copy.deepcopy(path)(x)
        third = math.sqrt(1.5)  # -1, 0, 1 over their standard deviation sqrt(2 / 3)
        column = torch.tensor([-third, 0.0, third]).expand(3, 3)
        places = torch.stack((column, column.T)).expand(2, -1, -1, -1)
        small = F.interpolate(x, size=(grid, grid), mode="bilinear", align_corners=False)
        rows = torch.einsum("tc,bcij->btij", path.to_tokens.weight[:, :, 0, 0], torch.cat((small, places), 1))
        memory = norm_slice(rows, path.token_bn, slice(None), training).flatten(2)
        enc, dec = path.encoder, path.decoder
        memory = layer_norm(memory + attend(memory, memory, enc.qkv.weight, enc.out.weight), enc.norm)
        memory = feed(memory, enc.feed.up, enc.feed.down, enc.feed.norm)
        queries = path.queries.expand(2, -1, -1)
        in_proj = torch.cat((dec.query.weight, dec.key_value.weight))
        out = layer_norm(memory + attend(queries, memory, in_proj, dec.out.weight), dec.norm)
        out = feed(out, dec.feed.up, dec.feed.down, dec.feed.norm)
        back = torch.einsum("ct,btij->bcij", path.from_tokens.weight[:, :, 0, 0], out.view(2, tokens, grid, grid))
        back = norm_slice(back, path.up_bn, slice(None), training)
        expected = x + F.interpolate(back, size=size, mode="bilinear", align_corners=False)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)


def test_token_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    path = TokenPath(4, 5, 2, 0.5)
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(path.eval()(x), path(x))
    path.train()
    assert not torch.equal(path(x), path(x))
