"""Every operation of the sparse runtime against PyTorch, with numpy and with the kernels for every vector width."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from build_graph import one_operation
from kernel_libraries import BACKENDS, ONNXRUNTIME, run_on

WINDOW = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1, "activation": ("none",)}
POOL = {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "ceil": False}
ACTIVATIONS: dict[tuple[Any, ...], Callable[[Tensor], Tensor]] = {
    ("relu",): F.relu,
    ("clip", 0.0, 6.0): F.relu6,
    ("hard_sigmoid", 1 / 6, 0.5): F.hardsigmoid,
    ("hard_swish",): F.hardswish,
    ("sigmoid",): torch.sigmoid,
    ("silu",): F.silu,
    ("gelu",): F.gelu,
    ("tanh",): torch.tanh,
    ("leaky_relu", 0.1): lambda x: F.leaky_relu(x, 0.1),
}


def values(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


Check = Callable[[str, Tensor, list[Tensor], dict[str, Any], Tensor], None]


@pytest.fixture(params=[*BACKENDS, ONNXRUNTIME])
def check(request: pytest.FixtureRequest) -> Check:
    return partial(check_operation, request.param)


def check_operation(
    backend: int, operation: str, x: Tensor, weights: list[Tensor], attributes: dict[str, Any], wanted: Tensor
) -> None:
    graph = one_operation(operation, tuple(x.shape[1:]), [w.numpy() for w in weights], attributes)
    [out] = run_on(backend, graph, x.numpy())
    np.testing.assert_allclose(out, wanted.numpy(), rtol=1e-4, atol=1e-5 * max(1, float(wanted.abs().max())))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(check: Check, activation: tuple[Any, ...]) -> None:
    x = torch.cat([values(1, 3, 5, 7), torch.tensor([-100.0, -3, 0, 3, 100]).expand(1, 3, 7, 5).transpose(2, 3)], 2)
    check("activation", x, [], {"activation": activation}, ACTIVATIONS[activation](x))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", [("none",), *ACTIVATIONS])
def test_what_is_no_number_stays_visible(backend: int, activation: tuple[Any, ...]) -> None:
    """As with numpy, an activation behind a convolution makes no number of it."""
    x = values(1, 2, 5, 7)
    x[0, 1, 2, 3] = float("nan")
    weight = np.eye(2, dtype=np.float32)[:, :, None, None]
    attributes = WINDOW | {"pads": (0,) * 4, "activation": activation}
    [out] = run_on(backend, one_operation("conv", (2, 5, 7), [weight], attributes), x.numpy())
    assert np.isnan(out[0, 1, 2, 3])


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 3), (7, 7)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_convolution(check: Check, kernel: tuple[int, int], stride: int, groups: int) -> None:
    x, weight, bias = values(2, 6, 11, 9), values(12, 6 // groups, *kernel, seed=1), values(12, seed=2)
    pads = (kernel[0] // 2, kernel[1] // 2)
    attributes = WINDOW | {"strides": (stride, stride), "pads": (*pads, *pads), "groups": groups}
    check("conv", x, [weight, bias], attributes, F.conv2d(x, weight, bias, stride, pads, 1, groups))


@pytest.mark.parametrize(
    ("strides", "pads", "dilations"),
    [
        ((1, 1), (0, 0), (1, 1)),
        ((1, 1), (3, 3), (1, 1)),
        ((1, 1), (2, 2), (2, 2)),
        ((2, 3), (2, 1), (2, 1)),
        ((3, 3), (0, 2), (1, 3)),
    ],
)
def test_unusual_convolutions(
    check: Check, strides: tuple[int, int], pads: tuple[int, int], dilations: tuple[int, int]
) -> None:
    x, weight = values(1, 4, 13, 10), values(5, 4, 3, 3, seed=1)
    attributes = WINDOW | {"strides": strides, "pads": (*pads, *pads), "dilations": dilations}
    check("conv", x, [weight], attributes, F.conv2d(x, weight, None, strides, pads, dilations))


def test_unequal_padding(check: Check) -> None:
    x, weight = values(1, 2, 8, 8), values(3, 2, 3, 3, seed=1)
    wanted = F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, None, 2)  # F.pad takes left, right, top, bottom
    check("conv", x, [weight], WINDOW | {"strides": (2, 2), "pads": (0, 0, 1, 1)}, wanted)


def test_bias_sum_and_activation_of_a_convolution_in_this_order(check: Check) -> None:
    x, weight, bias, skip = (
        values(1, 2, 5, 5),
        values(3, 2, 3, 3, seed=1),
        values(3, seed=2),
        values(1, 3, 5, 5, seed=3),
    )
    wanted = F.relu(F.conv2d(x, weight, bias, padding=1) + skip)
    check("conv", x, [weight, bias, skip], WINDOW | {"activation": ("relu",)}, wanted)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("size", [(8, 9), (7, 7), (6, 5)])
def test_pooling(check: Check, ceil: bool, size: tuple[int, int]) -> None:
    x = values(2, 3, *size) - 3  # so that zeros outside would win
    attributes = POOL | {"ceil": ceil}
    check("max_pool", x, [], attributes | {"dilations": (1, 1)}, F.max_pool2d(x, 3, 2, 1, ceil_mode=ceil))
    for counted in (False, True):
        wanted = F.avg_pool2d(x, 3, 2, 1, ceil_mode=ceil, count_include_pad=counted)
        check("avg_pool", x, [], attributes | {"count_pads": counted}, wanted)


@pytest.mark.parametrize(
    ("before", "size"),
    [
        *(((5, 7), size) for size in ((10, 14), (4, 3), (5, 7), (1, 1), (20, 56), (7, 33), (10, 128))),
        *(((3, 67), size) for size in ((6, 134), (2, 21), (3, 4), (5, 70))),  # rows of several vectors
    ],
)
def test_resizing(check: Check, before: tuple[int, int], size: tuple[int, int]) -> None:
    x = values(2, 3, *before)
    sizes = torch.tensor([2, 3, *size])
    for mode, centres, wanted in (
        ("nearest", "asymmetric", F.interpolate(x, size, mode="nearest")),
        ("linear", "half_pixel", F.interpolate(x, size, mode="bilinear")),
        ("linear", "align_corners", F.interpolate(x, size, mode="bilinear", align_corners=True)),
    ):
        check("resize", x, [sizes], {"mode": mode, "centres": centres}, wanted)


def test_products(check: Check) -> None:
    x, weight, bias = values(2, 3, 4, 5), values(6, 5, seed=1), values(6, seed=2)
    plain = {"activation": ("none",)}
    check("linear", x, [weight, bias], plain, F.linear(x, weight, bias))
    check("matmul", x, [values(3, 5, 2, seed=1)], {}, x @ values(3, 5, 2, seed=1))
    for operation, wanted in (("add", x + 3), ("sub", x - 3), ("mul", x * 3), ("div", x / 3)):
        check(operation, x, [torch.tensor(3.0)], plain, wanted)
    scale = values(1, 3, 1, 1, seed=4)
    check("mul", x, [scale], {"activation": ("relu",)}, F.relu(x * scale))


def test_norm_and_softmax(check: Check) -> None:
    x, scale, bias = values(2, 3, 4, 5), values(5, seed=1), values(5, seed=2)
    check("layer_norm", x, [scale, bias], {"axis": -1, "epsilon": 1e-5}, F.layer_norm(x, (5,), scale, bias))
    for axis in (-1, 1):
        check("softmax", x, [], {"axis": axis}, x.softmax(axis))


def test_moves(check: Check) -> None:
    x = values(1, 4, 5, 6)
    check("transpose", x, [], {"order": (0, 2, 3, 1)}, x.permute(0, 2, 3, 1))
    check("reshape", x, [torch.tensor([0, -1, 3])], {"zero_copies": True}, x.reshape(1, -1, 3))
    check("concat", x, [x[:, :1]], {"axis": 1}, torch.cat([x, x[:, :1]], 1))
    check("split", x, [], {"axis": 1, "sizes": (1, 3)}, x[:, :1])
    limits = {"axes": (1, 3), "starts": (1, -4), "ends": (2**62, -1), "steps": (2, 1)}
    check("slice", x, [], limits, x[:, 1::2, :, -4:-1])
    check("expand", x[:, :1], [torch.tensor([1, 3, 1, 1])], {}, x[:, :1].expand(-1, 3, -1, -1))
    check("squeeze", x[:, :1], [], {"axes": (1,)}, x[:, 0])
    check("unsqueeze", x, [], {"axes": (1,)}, x[:, None])
    check("mean", x, [], {"axes": (2, 3), "keep": True}, x.mean((2, 3), keepdim=True))
    check("sum", x, [], {"axes": (-1,), "keep": False}, x.sum(-1))
    check("gather", x, [torch.tensor(2)], {"axis": 1}, x[:, 2])
    check("shape", x, [], {"start": 1, "end": 3}, torch.tensor([4, 5]))
