"""The fast ways of a searching block: same function, same gradients, same statistics."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from supertickets.models import Units
from supertickets.models.hrnet import convolutions, recompute
from supertickets.models.hrnet import matrix_products as products
from supertickets.models.hrnet.blocks import BlockShape, BlockStyle, MixBlock, norm_tensors


def conv(channels: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, 1, kernel // 2, groups=channels, bias=False).double()


@pytest.mark.parametrize("shape", [(1, 3, 9, 9), (3, 4, 6, 11), (2, 1, 3, 4)])
@pytest.mark.parametrize("kernel", [5, 7])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_of_the_convolution(
    shape: tuple[int, ...], kernel: int, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolutions, "_FEWEST_ENTRIES", 1)
    torch.manual_seed(0)
    module = conv(shape[1], kernel).to(memory_format=layout)
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    grad = torch.randn(shape, dtype=torch.float64)
    wanted = torch.autograd.grad(module(x), (x, module.weight), grad)
    assert "_Depthwise" in str(convolutions.depthwise(module, x).grad_fn)
    got = torch.autograd.grad(convolutions.depthwise(module, x), (x, module.weight), grad)
    assert torch.equal(convolutions.depthwise(module, x), module(x))
    for a, b in zip(got, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-10)


def test_gradients_pass_the_numerical_check() -> None:
    torch.manual_seed(0)
    module = conv(2, 5)
    x = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: convolutions._Depthwise.apply(x, w), (x, module.weight))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_pointwise_convolution_is_a_matrix_product(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 6, 7, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    module = nn.Conv2d(5, 3, 1, bias=False).double()
    grad = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    out, wanted = convolutions.pointwise(module, x), module(x)
    assert ("Convolution" not in str(out.grad_fn)) == (layout == torch.channels_last)
    assert out.is_contiguous(memory_format=layout)
    torch.testing.assert_close(out, wanted)
    for a, b in zip(*(torch.autograd.grad(y, (x, module.weight), grad) for y in (out, wanted)), strict=True):
        torch.testing.assert_close(a, b)


def test_evaluation_runs_the_convolutions_themselves() -> None:
    x = torch.randn(2, 5, 160, 40).contiguous(memory_format=torch.channels_last)
    wide, small = conv(5, 7).float().eval(), nn.Conv2d(5, 3, 1, bias=False).eval()
    assert "Convolution" in str(convolutions.depthwise(wide, x).grad_fn)
    assert "Convolution" in str(convolutions.pointwise(small, x).grad_fn)


def test_a_cut_of_a_map_is_convolved_like_the_map() -> None:
    torch.manual_seed(0)
    module = conv(3, 7)
    whole = torch.randn(40, 9, 20, 21, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    whole.requires_grad_()
    grad = torch.randn(40, 9, 20, 21, dtype=torch.float64).contiguous(memory_format=torch.channels_last)[:, 2:5]
    out = convolutions.depthwise(module, whole[:, 3:6])
    assert "_Depthwise" in str(out.grad_fn)
    wanted = torch.autograd.grad(module(whole[:, 3:6]), (whole, module.weight), grad)
    for a, b in zip(torch.autograd.grad(out, (whole, module.weight), grad), wanted, strict=True):
        torch.testing.assert_close(a, b)


def trained(block: MixBlock, x: Tensor) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
    """Output, gradients of everything, and what the statistics became."""
    x = x.clone().requires_grad_()
    out = block(x)
    gradients = torch.autograd.grad(out.square().sum(), [x, *block.parameters()], allow_unused=True)
    return out, [g for g in gradients if g is not None], dict(block.named_buffers())


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize(("shape", "hidden"), [(BlockShape(4, 4), (3, 2, 4)), (BlockShape(4, 6, 2), (2, 0, 3))])
def test_kernel_by_kernel_is_all_at_once(
    shape: BlockShape, hidden: tuple[int, ...], momentum: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> MixBlock:
        torch.manual_seed(1)
        block = MixBlock(shape, Units(hidden=hidden), BlockStyle()).double().train()
        for norm in (block.expand_bn, block.unit_bn):
            norm.momentum = momentum
            nn.init.uniform_(norm.weight, -1, 1)
        return block

    x = torch.randn(3, 4, 12, 12, dtype=torch.float64)
    monkeypatch.setattr(products, "SMALLEST_APART", 10**9)
    wanted = trained(make(), x)
    monkeypatch.setattr(products, "SMALLEST_APART", 1)
    monkeypatch.setattr(products, "LARGEST_MATRIX", 0)
    monkeypatch.setattr(convolutions, "_FEWEST_ENTRIES", 1)
    monkeypatch.setattr(recompute, "_FEWEST_PIXELS", 1)
    taken = mock.Mock(wraps=MixBlock._mix_by_kernel)
    monkeypatch.setattr(MixBlock, "_mix_by_kernel", lambda block, x: taken(block, x))
    got = trained(make(), x)
    assert taken.called
    assert torch.allclose(got[0], wanted[0], rtol=1e-9)
    for a, b in zip(got[1], wanted[1], strict=True):
        assert torch.allclose(a, b, rtol=1e-7, atol=1e-9)
    assert got[2].keys() == wanted[2].keys()
    for name, value in wanted[2].items():
        assert torch.allclose(got[2][name].double(), value.double()), name


def test_a_norm_in_parts_counts_once() -> None:
    norm = nn.BatchNorm2d(5).train()
    x = torch.randn(2, 5, 3, 3)
    pieces = zip(norm_tensors(norm, (2, 3)), x.split((2, 3), 1), strict=True)
    parts = [part.relu_then(torch.clone, piece) for part, piece in pieces]
    other = nn.BatchNorm2d(5).train()
    assert torch.allclose(torch.cat(parts, 1), other(x).relu(), atol=1e-6)
    assert int(norm.num_batches_tracked or 0) == 1
    assert torch.allclose(norm.running_var, other.running_var)


@pytest.mark.parametrize("times", [1, 2])
def test_a_normalised_map_is_made_again_and_not_kept(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recompute, "_FEWEST_PIXELS", 9 * 8)
    torch.manual_seed(0)
    module, follow = nn.BatchNorm2d(6).double().train(), conv(6, 3)
    nn.init.uniform_(module.weight, -1, 1)
    nn.init.uniform_(module.bias, -1, 1)
    x = torch.randn(2, 6, 9, 8, dtype=torch.float64, requires_grad=True)
    inputs = (x, *module.parameters(), follow.weight)
    wanted = torch.autograd.grad(follow(module(x).relu()).square().sum(), inputs)
    kept: list[Tensor] = []
    (norm,) = norm_tensors(module, (6,))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        out = norm.relu_then(follow, x)
    assert [t.shape for t in kept].count(x.shape) == 1  # the input of the norm
    for _ in range(times):
        for a, b in zip(torch.autograd.grad(out.square().sum(), inputs, retain_graph=True), wanted, strict=True):
            torch.testing.assert_close(a, b)
