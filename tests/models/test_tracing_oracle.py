"""Search units beside those of torch-pruning, which follows autograd's graph of layers that it knows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from supertickets.models.tracing import trace_units

STATISTICS = ("running_mean", "running_var")
Tensors = frozenset[tuple[str, int]]


def tensors_by_oracle(module: nn.Module, side: int) -> set[Tensors]:
    """The tensors and dimensions of every group of torch-pruning, without those that reach the output."""
    pruning = pytest.importorskip("torch_pruning")
    names = {layer: name for name, layer in module.named_modules()}
    graph = pruning.DependencyGraph().build_dependency(module, example_inputs=torch.randn(1, 3, side, side))
    groups = set()
    for group in graph.get_all_groups(ignored_layers=[list(module.modules())[-1]]):
        tensors: set[tuple[str, int]] = set()
        for item in group:
            layer, function = item.dep.target.module, item.dep.handler.__name__
            if layer not in names or not list(layer.parameters(recurse=False)):
                continue  # a sum, a view, ...
            is_depthwise = isinstance(layer, nn.Conv2d) and layer.groups == layer.out_channels > 1
            if isinstance(layer, nn.BatchNorm2d) or "out" in function or is_depthwise:
                tensors |= {(f"{names[layer]}.{name}", 0) for name, _ in layer.named_parameters(recurse=False)}
            else:
                tensors.add((f"{names[layer]}.weight", 1))
        groups.add(frozenset(tensors))
    return groups


def make_resnet18() -> nn.Module:
    from torchvision import models

    return models.resnet18(num_classes=7)


def make_mobilenet_v2() -> nn.Module:
    from torchvision import models

    return models.mobilenet_v2(num_classes=7, width_mult=0.35)


def make_concatenation() -> nn.Module:
    from torchvision.models.squeezenet import Fire

    return nn.Sequential(nn.Conv2d(3, 8, 3), Fire(8, 4, 6, 10), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7))


@pytest.mark.parametrize(("make", "count"), [(make_resnet18, 12), (make_mobilenet_v2, 25), (make_concatenation, 4)])
def test_groups_cover_the_tensors_that_an_oracle_names(make: Callable[[], nn.Module], count: int) -> None:
    units = trace_units(make, (3, 64, 64))
    ours = {
        frozenset((axis.tensor, axis.dim) for axis in group.axes if not axis.tensor.endswith(STATISTICS))
        for group in units.groups
    }
    assert len(ours) == len(units.groups) == count
    assert ours == tensors_by_oracle(make().eval(), 64)
