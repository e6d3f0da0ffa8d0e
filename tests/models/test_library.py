"""Known networks against what torchvision publishes of them, PyTorch's own counter, and the libraries themselves."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from supertickets.cost import count, unit_macs
from supertickets.errors import UserError
from supertickets.models import LibrarySpec, Spec
from supertickets.models.factory import create_spec, create_supernet, spec_from_json

pytest.importorskip("timm")
import timm

TINY = {"num_classes": 10, "in_channels": 1, "image_size": (32, 32)}


def known(name: str, **fields: Any) -> LibrarySpec:
    """A spec that nobody has tried, which `create_spec` does."""
    library, _, own = name.partition(":")
    return LibrarySpec(library=library, name=own, **fields)


# Costs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "resnet18", "vit_b_16", "regnet_y_400mf"]
)
def test_costs_are_those_that_torchvision_publishes(name: str) -> None:
    """Attention included; the constructor of the last one reads numbers from tensors."""
    published = models.get_model_weights(name).DEFAULT.meta
    cost = count(known(f"torchvision:{name}"))
    assert cost.params == published["num_params"]
    assert cost.macs / 1e9 == pytest.approx(published["_ops"], abs=6e-4)
    assert cost.masked_macs == cost.macs


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit_tiny_patch16_224", "nf_resnet26"])
def test_costs_agree_with_pytorchs_counter(name: str) -> None:
    spec = known(f"timm:{name}", **TINY, settings={"img_size": 32} if "vit" in name else {})
    network = spec.build().eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        network(torch.zeros(1, *spec.input_shape))
    cost = count(network)
    assert 2 * cost.macs == counter.get_total_flops()
    assert cost.params == sum(p.numel() for p in network.parameters())
    named = dict(network.named_parameters())
    assert all(row.uses * named[row.weight].numel() == row.macs for row in cost.layers if row.weight)


def test_a_mask_counts_per_layer() -> None:
    """A 3x3 convolution of one channel to 16 over a 32x32 image at stride 2, in which one weight is left."""
    spec = known("timm:mobilenetv3_small_050", **TINY)
    name = "network.conv_stem.weight"
    flags = torch.zeros(16, 1, 3, 3, dtype=torch.bool)
    flags[0, 0, 0, 0] = True
    dense, masked = count(spec), count(spec, mask={name: flags})
    (row,) = (row for row in masked.layers if row.weight == name)
    assert (row.name, row.uses, row.macs, row.masked_macs) == ("network.conv_stem", 16 * 16, 144 * 256, 256)
    assert dense.masked_macs - masked.masked_macs == 143 * 256


# What is pruned ------------------------------------------------------------------------------------------------------


def weights_of(network: nn.Module, *kinds: type[nn.Module]) -> list[str]:
    return [f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, kinds)]


@pytest.mark.parametrize(
    ("name", "classifiers"),
    [
        ("timm:mobilenetv2_035", ["classifier"]),
        ("timm:mobilenetv3_small_050", ["classifier"]),
        ("torchvision:shufflenet_v2_x0_5", ["fc"]),
        ("torchvision:mobilenet_v3_small", ["classifier.3"]),  # another linear layer in front of it is pruned
        ("torchvision:squeezenet1_1", ["classifier.1"]),  # a convolution
        ("timm:deit_tiny_distilled_patch16_224", ["head", "head_dist"]),
    ],
)
def test_all_but_the_classifier_is_pruned(name: str, classifiers: list[str]) -> None:
    own = {"img_size": 32} if "deit" in name else {}
    network = create_supernet(name, **TINY, **own)
    every = weights_of(network, nn.Conv2d, nn.Linear)
    last = [f"network.{layer}.weight" for layer in classifiers]
    assert set(last) < set(every)
    assert network.maskable_weights() == [weight for weight in every if weight not in last]
    assert network.maskable_weights(classifier=True) == every


def test_weights_that_a_layer_normalises_are_counted_but_not_pruned() -> None:
    network = create_supernet("timm:nf_resnet26", **TINY)
    normalised = [f"{n}.weight" for n, m in network.named_modules() if type(m).__name__ == "ScaledStdConv2d"]
    assert normalised
    assert not set(normalised) & set(network.maskable_weights(classifier=True))
    rows = {row.name: row for row in count(network).layers}
    assert all(rows[name.removesuffix(".weight")].weight is None for name in normalised)


def test_projections_of_attention_are_pruned() -> None:
    """A parameter of torchvision's attention that is no layer's weight."""
    names = known("torchvision:vit_b_16").weights
    assert sum(name.endswith("self_attention.in_proj_weight") for name in names) == 12


# The spec ------------------------------------------------------------------------------------------------------------


def test_a_spec_survives_its_json() -> None:
    settings = {"img_size": (32, 32), "drop_rate": 0.2}
    spec = LibrarySpec(library="timm", name="vit_tiny_patch16_224", settings=settings, **TINY)
    assert spec.to_json() == {"family": "timm", "name": "vit_tiny_patch16_224", "settings": settings, **TINY}
    assert spec_from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert str(spec) == "timm:vit_tiny_patch16_224"


def test_there_are_no_units() -> None:
    spec: Spec = known("torchvision:shufflenet_v2_x0_5", **TINY)
    assert spec.unit_groups() == ()
    assert unit_macs(spec) == {}
    assert spec.keep({}) is spec
    assert spec.full() is spec
    assert (spec.head, spec.input_shape) == ("classification", (1, 32, 32))


def test_weights_are_the_librarys_own() -> None:
    spec = known("timm:mobilenetv3_small_050", **TINY, settings={"drop_rate": 0.3})
    torch.manual_seed(5)
    ours = spec.build()
    torch.manual_seed(5)
    theirs = timm.create_model("mobilenetv3_small_050", num_classes=10, in_chans=1, drop_rate=0.3)
    assert all(torch.equal(value, ours.network.state_dict()[name]) for name, value in theirs.state_dict().items())
    assert ours.network.drop_rate == 0.3


def test_layers_that_ask_for_the_version_of_their_weights() -> None:
    """torchvision's MNASNet refuses tensors without it."""
    spec = create_spec("torchvision:mnasnet0_5", num_classes=3, image_size=(32, 32))
    weights = {name: value + 1 for name, value in spec.build().state_dict().items()}
    module = spec.build()
    module.load_state_dict(weights)
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())


def test_torchvision_sees_grey_three_times() -> None:
    network = known("torchvision:shufflenet_v2_x0_5", **TINY).build().eval()
    grey = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(grey), network.network(grey.repeat(1, 3, 1, 1)))
    colours = known("torchvision:shufflenet_v2_x0_5", **TINY | {"in_channels": 3}).build().eval()
    colours.load_state_dict(network.state_dict())
    assert colours(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: create_spec("tim:resnet18"), "supernet.name tim:resnet18 cannot be imported"),
        (lambda: create_spec("timm:mobilenetv3_smal_050"), "did you mean 'mobilenetv3_small_050'"),
        (lambda: create_spec("timm:qqqqqqqqqqqq"), "'qqqqqqqqqqqq'; see timm.list_models()"),
        (lambda: create_spec("timm:hf-hub:someone/network"), "no classification network 'hf-hub:someone/network'"),
        (lambda: create_spec("timm:resnet18.a1_in1k"), "leave out what follows the dot"),
        (lambda: create_spec("torchvision:fasterrcnn_resnet50_fpn"), "torchvision has no classification network"),
        (lambda: create_spec("torchvision:shufflenet"), "did you mean 'shufflenet_v2_x"),
        (lambda: create_spec("shufflenet_v2_x0_5"), "or timm:NAME, torchvision:NAME"),
        (lambda: create_spec("timm:resnet18", tokens=3), "unexpected keyword argument 'tokens'"),
        (lambda: create_spec("timm:resnet18", in_chans=3), r"supernet.settings.in_chans follows from the data"),
        (lambda: create_spec("timm:resnet18", pretrained=True), "follows from supernet.pretrained"),
        (lambda: create_spec("torchvision:alexnet", **TINY), "32 x 32 pixels"),
        (lambda: create_spec("timm:vit_tiny_patch16_224", **TINY), "doesn't match model"),
        (lambda: create_spec("torchvision:googlenet", image_size=(64, 64)), "GoogLeNetOutputs"),
        (lambda: create_spec("timm:resnet18", features_only=True), "list in training"),
    ],
)
def test_errors_name_the_cause_in_one_line(make: Callable[[], Spec], said: str) -> None:
    with pytest.raises(UserError) as error:
        make()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"timm:resnet18 needs timm: pip install 'supertickets\[timm\]'"):
        create_spec("timm:resnet18")


@pytest.mark.parametrize("word", ["pretrained", "checkpoint_path", "pretrained_cfg", "weights"])
def test_a_file_from_elsewhere_loads_nothing(word: str) -> None:
    data = known("timm:mobilenetv2_035", **TINY).to_json() | {"settings": {word: "https://example.org/x"}}
    with pytest.raises(UserError, match=f"supernet.settings.{word}"):
        spec_from_json(data)
    damaged = {"family": "timm", "name": "resnet18"}
    with pytest.raises(UserError, match="damaged"):
        spec_from_json(damaged)
