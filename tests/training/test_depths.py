"""Depths of parameters: by hand, and against timm's own table where it has one; and the rates that follow them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from supertickets.config.optimizer_settings import OptimizerSettings
from supertickets.models import create_spec
from supertickets.training.depths import _parts, parameter_depths
from supertickets.training.optimizers import load_optimizer_tensors, make_optimizer, optimizer_tensors, set_step


class Blocks(nn.Module):
    """A token, a stem with its norm, two blocks of two layers, a head."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 2, 3))
        self.stem, self.norm = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width)
        self.stages = nn.Sequential(nn.ModuleList([Block(width)]), Block(width))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(width, 2)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))
        self.other = nn.Conv2d(width, width, 1)


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = Blocks()


class Headed(nn.Module):
    """A network of other code with a head of ours behind."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Wrapped()
        self.neck, self.classifier = Block(4), nn.Conv2d(4, 3, 1)


BY_HAND = {"token": 0, "stem": 0, "norm": 0, "stages.0.0": 1, "stages.1": 2, "head": 3, "neck": 4, "classifier": 5}


@pytest.mark.parametrize("make", [Blocks, Wrapped, Headed])
def test_depths_by_hand(make: Callable[[], nn.Module]) -> None:
    module = make()
    depths = parameter_depths(module)
    assert list(depths) == [name for name, _ in module.named_parameters()]
    for name, depth in depths.items():
        bare = name.removeprefix("network.").removeprefix("network.")
        (wanted,) = (d for part, d in BY_HAND.items() if bare.startswith(part))
        assert depth == wanted, name


@pytest.mark.parametrize(("name", "settings"), [("resnet18", {}), ("vit_tiny_patch16_224", {"img_size": 32})])
def test_rates_are_timms_own(name: str, settings: dict[str, Any]) -> None:
    timm = pytest.importorskip("timm")
    from timm.optim import param_groups_layer_decay

    spec = create_spec(f"timm:{name}", num_classes=3, image_size=(32, 32), **settings)
    network = spec.build()
    module = network.get_submodule("network")
    assert type(module) is type(timm.create_model(name, **settings))
    named = dict(module.named_parameters())
    theirs = {
        id(p): group["lr_scale"] for group in param_groups_layer_decay(module, layer_decay=0.7) for p in group["params"]
    }
    optimizer = make_optimizer(network, OptimizerSettings(lr=1.0, layer_decay=0.7))
    ours = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(ours) == len(named)
    assert ours == pytest.approx(theirs)


def test_the_rule_by_parts_is_timms_table_of_a_resnet() -> None:
    timm = pytest.importorskip("timm")
    from timm.models import group_parameters

    module = timm.create_model("resnet18", num_classes=3)
    assert _parts(module, "") == list(group_parameters(module, module.group_matcher(coarse=False)).values())


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
@pytest.mark.parametrize(("head", "last"), [("classification", 9), ("segmentation", 10)])
def test_a_network_of_a_library_is_as_deep_as_its_blocks(name: str, head: str, last: int) -> None:
    """A stem, eight blocks, a classifier; for maps, of a graph's making, the neck stands in front of the classifier."""
    if name.startswith("timm"):
        pytest.importorskip("timm")
    depths = parameter_depths(create_spec(name, num_classes=3, image_size=(64, 64), head=head).build())
    assert depths["network.conv1.weight"] == depths["network.bn1.weight"] == 0
    assert depths["network.layer1.1.conv2.weight"] == 2
    assert depths["network.layer4.1.bn2.bias"] == 8
    assert depths["network.fc.bias" if last == 9 else "classifier.bias"] == max(depths.values()) == last


@pytest.mark.parametrize("name", ["hrnet_tiny", "resnet38", "mobilenet_v2", "resnet8"])
def test_own_networks_are_deep(name: str) -> None:
    depths = parameter_depths(create_spec(name, num_classes=3, image_size=(32, 32)).build())
    assert depths["classifier.weight"] == depths["classifier.bias"] == max(depths.values())
    assert set(depths.values()) == set(range(max(depths.values()) + 1))
    assert max(depths.values()) > 3


def test_rates_by_hand() -> None:
    """Half the rate per block: 1/8 in front, then 1/4, 1/2, and the whole one of the head."""
    module = Blocks()
    optimizer = make_optimizer(module, OptimizerSettings(lr=0.8, layer_decay=0.5, weight_decay=0.01))
    names = {id(p): name for name, p in module.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(names)
    for name, wanted in {"token": 0.1, "stem.bias": 0.1, "norm.weight": 0.1, "stages.0.0.other.weight": 0.2}.items():
        assert rates[name] == pytest.approx(wanted)
    for name, wanted in {"stages.1.layers.1.bias": 0.4, "head.weight": 0.8}.items():
        assert rates[name] == pytest.approx(wanted)
    set_step(optimizer, 0.08, 0.5)
    assert sorted({round(group["lr"], 6) for group in optimizer.param_groups}) == [0.01, 0.02, 0.04, 0.08]
    assert {group["momentum"] for group in optimizer.param_groups} == {0.5}
    decays = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {name: 0.01 if p.ndim > 1 else 0.0 for name, p in module.named_parameters()}


@pytest.mark.parametrize("settings", [{"name": "sgd"}, {"name": "adamw"}, {"name": "rmsprop"}])
def test_a_step_moves_each_depth_by_its_rate(settings: dict[str, Any]) -> None:
    """One step against the same step of a second network whose every parameter has the rate by hand."""
    shared = {"lr": 0.1, "weight_decay": 0.0, **settings}
    module, other = Blocks(), Blocks()
    other.load_state_dict(module.state_dict())
    before, start = ({n: p.detach().clone() for n, p in one.named_parameters()} for one in (module, other))
    optimizers = [
        make_optimizer(one, OptimizerSettings(**shared, **more))
        for one, more in ((module, {"layer_decay": 0.5}), (other, {}))
    ]
    for one, optimizer in zip((module, other), optimizers, strict=True):
        for p in one.parameters():
            p.grad = torch.ones_like(p)
        set_step(optimizer, 0.1, None)
        optimizer.step()
    moved = dict(other.named_parameters())
    for name, p in module.named_parameters():
        factor = 0.5 ** (3 - parameter_depths(module)[name])
        torch.testing.assert_close(p - before[name], factor * (moved[name] - start[name]))


def test_state_moves_to_a_narrower_network_by_name() -> None:
    """Rates follow names, so that they stay when units go; momenta are found by name in groups of any order."""
    settings = OptimizerSettings(lr=0.1, layer_decay=0.5)
    wide, narrow = Blocks(4), Blocks(2)
    assert parameter_depths(wide) == parameter_depths(narrow)
    optimizer = make_optimizer(wide, settings)
    for p in wide.parameters():
        p.grad = torch.full_like(p, float(p.numel()))
    optimizer.step()
    cut = {}
    for key_name, value in optimizer_tensors(optimizer, wide).items():
        shape = dict(narrow.named_parameters())[key_name.split("/", 1)[1]].shape
        cut[key_name] = value[tuple(slice(0, n) for n in shape)]
    other = make_optimizer(narrow, settings)
    load_optimizer_tensors(other, narrow, cut)
    back = optimizer_tensors(other, narrow)
    assert back.keys() == cut.keys()
    assert all(torch.equal(back[name], value) for name, value in cut.items())
    assert [g["lr"] for g in other.param_groups] == [g["lr"] for g in optimizer.param_groups]


def test_without_decay_there_are_two_groups_as_ever() -> None:
    optimizer = make_optimizer(Blocks(), OptimizerSettings(lr=0.1))
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1]
