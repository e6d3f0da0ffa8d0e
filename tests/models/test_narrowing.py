"""Narrowing of layers: the numbers that they hold follow from the shapes of their tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from supertickets.models.tracing import narrow_module


@pytest.mark.parametrize(
    ("layer", "shapes", "numbers"),
    [
        (
            nn.Conv2d(8, 6, 3),
            {"weight": (3, 5, 3, 3), "bias": (3,)},
            {"in_channels": 5, "out_channels": 3, "groups": 1},
        ),
        (nn.Conv2d(8, 8, 3, groups=8), {"weight": (5, 1, 3, 3), "bias": (5,)}, {"in_channels": 5, "groups": 5}),
        (nn.Conv2d(8, 4, 1, groups=4), {"weight": (2, 2, 1, 1), "bias": (2,)}, {"in_channels": 4, "groups": 2}),
        (nn.Conv2d(8, 8, 1, groups=4), {"weight": (8, 1, 1, 1)}, {"in_channels": 4, "out_channels": 8, "groups": 4}),
        (nn.ConvTranspose2d(8, 6, 2), {"weight": (5, 3, 2, 2), "bias": (3,)}, {"in_channels": 5, "out_channels": 3}),
        (
            nn.ConvTranspose2d(8, 8, 2, groups=4),
            {"weight": (4, 2, 2, 2), "bias": (4,)},
            {"in_channels": 4, "out_channels": 4, "groups": 2},
        ),
        (nn.Linear(4, 3), {"weight": (2, 3), "bias": (2,)}, {"in_features": 3, "out_features": 2}),
        (
            nn.BatchNorm2d(4),
            dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (3,)),
            {"num_features": 3},
        ),
        (nn.BatchNorm1d(4, affine=False), {"running_mean": (3,), "running_var": (3,)}, {"num_features": 3}),
        (nn.LayerNorm(4), {"weight": (3,), "bias": (3,)}, {"normalized_shape": (3,)}),
        (nn.GroupNorm(4, 8), {"weight": (6,), "bias": (6,)}, {"num_channels": 6, "num_groups": 3}),
        (nn.Embedding(9, 4), {"weight": (9, 3)}, {"num_embeddings": 9, "embedding_dim": 3}),
        (nn.PReLU(4), {"weight": (3,)}, {"num_parameters": 3}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_numbers_of_layers(
    layer: nn.Module, shapes: dict[str, tuple[int, ...]], numbers: dict[str, object], device: str
) -> None:
    module = nn.Sequential(nn.Identity(), layer.to(device))
    order = list(module.state_dict())
    narrow_module(module, {f"1.{name}": shape for name, shape in shapes.items()})
    assert {name: getattr(module[1], name) for name in numbers} == numbers
    assert {name: tuple(value.shape) for name, value in module[1].state_dict().items() if name in shapes} == shapes
    assert list(module.state_dict()) == order


def test_tied_and_frozen_parameters_stay_so() -> None:
    module = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    module[1].weight = module[0].weight.requires_grad_(False)
    values = module[0].weight.detach().clone()
    narrow_module(module, {"0.weight": (5, 3), "1.weight": (5, 3)})
    assert module[0].weight is module[1].weight
    assert not module[1].weight.requires_grad
    assert torch.equal(module[0].weight, values[:, :3])
    assert module(torch.tensor([1])).shape == (1, 5)


def test_equal_shapes_change_nothing() -> None:
    layer = nn.Linear(4, 3)
    weight = layer.weight
    narrow_module(layer, {"weight": (3, 4), "bias": (3,)})
    assert layer.weight is weight
