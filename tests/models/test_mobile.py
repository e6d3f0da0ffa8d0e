"""Mobile spaces: exact sizes, known networks beside torchvision's, shared weights beside networks cut out of them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import pytest
import timm.layers
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import models

from supertickets import UserError, create_supernet, list_supernets
from supertickets.cost import count
from supertickets.models import Choices, MobileNetwork, MobileSpec
from supertickets.models.factory import create_spec, spec_from_json
from supertickets.models.mobile import layers
from supertickets.models.mobile.layer_spec import Block, Layer, scale_filters, squeeze_channels
from supertickets.models.mobile.layers import SingleLayer
from supertickets.nas import Space

SPACES = ("tunas_proxyless", "tunas_proxyless_enlarged", "tunas_mobilenetv3")


def spec(name: str, **overrides: object) -> MobileSpec:
    created = create_spec(name, **overrides)
    assert isinstance(created, MobileSpec)
    return created


def small() -> MobileSpec:
    """Every kind of layer and decision, a few channels."""
    stem = (
        Layer(kind="conv", kernels=(3, 5), stride=2, activation="swish6"),
        Layer(kind="separable", kernels=(3, 5), skips=(False, True), residual=True),
    )
    open_ = Layer(kernels=(3, 5, 7), expansions=(1, 2, 6), se=(False, True), stride=2)
    again = dataclasses.replace(open_, stride=1, skips=(False, True), residual=True)
    return MobileSpec(
        blocks=(
            Block(name="stem", filters=(8, 16), layers=stem),
            Block(name="b1", filters=(8, 16, 24), layers=(open_, again, again)),
            Block(name="head", filters=(16, 32), layers=(Layer(kind="conv", kernels=(1,)),)),
        ),
        last_filters=(8, 32),
        num_classes=5,
        image_size=(16, 16),
    )


def images(batch: int = 4, size: int = 16) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def sampled(space_spec: MobileSpec, how_many: int) -> list[dict[str, bool | int | float]]:
    space = Space(space_spec.decisions())
    return space.genotypes(space.sample(how_many, torch.Generator().manual_seed(0)))


# Sizes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("mobilenet_v2", 3_504_872, 300.77),
        ("mnasnet_b1", 4_383_312, 314.42),
        ("proxylessnas_mobile", 4_080_512, 320.43),
        ("mobilenet_v3_large", 5_483_032, 216.59),
    ],
)
def test_known_networks_have_their_published_sizes(name: str, params: int, macs: float) -> None:
    cost = count(create_spec(name))
    assert cost.params == params
    assert round(cost.macs / 1e6, 2) == macs


@pytest.mark.parametrize(
    ("name", "nodes", "encodings"),
    [
        ("tunas_proxyless", 73, 3 * (6 * 12**3) ** 5 * 6),
        ("tunas_proxyless_enlarged", 73, 3 * (6 * 12**3) ** 5 * 6 * 6_453_888),
        ("tunas_mobilenetv3", 86, 12 * (36 * 72**3) ** 5 * 4**2 * 6 * 7**5),
    ],
)
def test_spaces_have_their_published_cardinality(name: str, nodes: int, encodings: int) -> None:
    space = Space(spec(name).decisions())
    assert len(space.decisions) == nodes
    assert space.encodings() == encodings


def test_networks_without_what_is_skipped() -> None:
    """A layer that is skipped has one form: 7 instead of 12 per open layer."""
    assert Space(spec("tunas_proxyless").decisions()).networks() == 3 * (6 * 7**3) ** 5 * 6
    exponents = [round(math.log10(Space(spec(name).decisions()).networks()), 1) for name in SPACES]
    assert exponents == [17.8, 24.6, 38.4]


def test_widths_of_the_enlarged_space() -> None:
    options = {d.name: d.options for d in spec("tunas_proxyless_enlarged").decisions() if d.name.endswith("filters")}
    assert options["stem.filters"] == (8, 16, 24, 32)
    assert options["b3.filters"] == (16, 24, 32, 40, 48, 64)
    assert options["head.filters"] == (512, 640, 768, 1024, 1280, 1536, 2048)


def test_doubled_widths() -> None:
    """Table 8: where a block halves the map, and at every block."""
    for name, doubles in (("strides", (False, True, True, True, False, True, False, False)), ("blocks", None)):
        blocks = spec(f"tunas_proxyless_doubled_at_{name}").blocks
        grows = [high.filters[0] // low.filters[0] for low, high in itertools.pairwise(blocks)]
        assert grows == ([1 + d for d in doubles] if doubles else [1, 1, 2, 2, 2, 2, 2, 2])
        strides = [block.layers[0].stride for block in blocks[1:]]
        if doubles:
            assert strides == grows


def test_the_space_around_mobilenet_v3() -> None:
    """Strides and activations are those of MobileNetV3-Large; every layer may have a module."""
    around, large = spec("tunas_mobilenetv3").blocks, spec("mobilenet_v3_large").blocks
    for block, known in zip(around, large, strict=True):
        assert (block.name, block.layers[0].stride) == (known.name, known.layers[0].stride)
        assert [layer.activation for layer in block.layers[:2]] == [layer.activation for layer in known.layers[:2]]
    assert all(layer.se == (False, True) for block in around[1:-1] for layer in block.layers)


@pytest.mark.parametrize(
    ("filters", "multiplier", "width"), [(16, 0.5, 8), (16, 0.1, 8), (16, 0.75, 16), (80, 2.3, 184)]
)
def test_scale_filters(filters: int, multiplier: float, width: int) -> None:
    assert scale_filters(filters, multiplier) == width


@pytest.mark.parametrize(("hidden", "width"), [(16, 8), (72, 24), (120, 32), (480, 120), (672, 168), (960, 240)])
def test_squeezed(hidden: int, width: int) -> None:
    """The widths of MobileNetV3's modules."""
    assert squeeze_channels(hidden) == width


def test_width_and_size_are_settings() -> None:
    half = spec("mobilenet_v2", width=0.5, image_size=[32, 32], num_classes=10)
    assert [block.filters for block in half.blocks][:3] == [(16,), (8,), (16,)]
    assert half.build()(images(2, 32)).shape == (2, 10)
    with pytest.raises(UserError, match="unknown supernet setting 'widht'; did you mean 'width'"):
        create_spec("mobilenet_v2", widht=0.5)
    for width in (0, math.inf, "half"):
        with pytest.raises(UserError, match=f"width is {width}; it multiplies"):
            create_spec("mobilenet_v2", width=width)
    for wrong, hint in (
        ({"activation": "gelu"}, "unknown supernet.settings.activation 'gelu'; did you mean 'relu'"),
        ({"padding": "symetric"}, "unknown supernet.settings.padding 'symetric'; did you mean 'symmetric'"),
        ({"gate": "foo"}, "unknown supernet.settings.gate 'foo'"),
    ):
        with pytest.raises(UserError, match=hint):
            create_spec("mobilenet_v3_large", **wrong)
    assert {"mobilenet_v2", *SPACES} <= set(list_supernets())


# Beside torchvision ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mobilenet_v2", {"activation": "relu6", "bn_eps": 1e-5}),
        ("mobilenet_v3_large", {"gate": "hard_sigmoid"}),
    ],
)
def test_known_networks_are_those_of_torchvision(name: str, settings: dict[str, object]) -> None:
    """With its weights, activations and padding; inputs so large that activations pass 6."""
    torch.manual_seed(0)
    theirs = models.get_model(name).train()
    theirs(3 * images(4, 96))  # running statistics that are not those of the start
    ours = create_supernet(name, padding="symmetric", **settings).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.eval().state_dict().values(), strict=True)))
    x, largest = 30 * images(2, 96), []
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda module, given, out: largest.append(float(out.max())))
    with torch.no_grad():
        wanted = theirs(x)
        size = wanted.abs().max()  # small without training
        torch.testing.assert_close(ours(x) / size, wanted / size, rtol=0, atol=1e-5)
    assert max(largest) > 6


@pytest.mark.parametrize("size", [7, 8, 15, 16])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_padding_as_tensorflow(size: int, kernel: int) -> None:
    """A strided convolution, with a batch norm before any training."""
    layer = Layer(kind="conv", kernels=(kernel,), stride=2)
    one = SingleLayer(layer, 3, 8, small().style(stateless=False)).eval()
    x = images(1, size)
    weight = one.layer.convs[f"k{kernel}"].weight
    mixed = F.conv2d(timm.layers.pad_same(x, [kernel] * 2, [2, 2]), weight, stride=2)  # type: ignore[arg-type]
    torch.testing.assert_close(one(x), F.relu(mixed / (1 + small().bn_eps) ** 0.5))


# Shared weights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(6))
def test_a_network_cut_out_computes_the_same(place: int) -> None:
    """With the statistics of the batch."""
    torch.manual_seed(0)
    shared = small().build()
    choices = sampled(small(), 6)[place]
    own = shared.extract_subnet(choices)
    assert not own.spec.is_search_space()
    assert count(own).params < count(shared).params
    torch.testing.assert_close(own.train()(images()), shared(images(), choices), rtol=0, atol=1e-5)


@pytest.mark.parametrize("place", range(6))
def test_a_network_cut_out_where_options_share_nothing(place: int) -> None:
    torch.manual_seed(0)
    apart = dataclasses.replace(small(), collapsed=False)
    shared = apart.build()
    choices = sampled(apart, 6)[place]
    own = shared.extract_subnet(choices)
    assert count(own) == count(small().select(choices))
    torch.testing.assert_close(own.train()(images()), shared(images(), choices), rtol=0, atol=1e-5)


def test_options_that_share_nothing_learn_alone() -> None:
    torch.manual_seed(0)
    apart = dataclasses.replace(small(), collapsed=False)
    network = apart.build()
    expansions = [d for d in apart.decisions() if d.name.endswith("expansion")]
    assert {d.kind for d in expansions} == {"op"}
    grads = gradients(network, sampled(apart, 1)[0])
    chosen = {
        name.split(".options.")[0]: name.split(".")[4] for name, g in grads.items() if ".options." in name and g.any()
    }
    others = [
        g for n, g in grads.items() if ".options." in n and chosen.get(n.split(".options.")[0]) != n.split(".")[4]
    ]
    assert chosen
    assert others
    assert not any(gradient.any() for gradient in others)
    averaged = {d.name: None if d.kind == "op" else max(d.options) for d in apart.decisions()}
    assert all(gradient.any() for gradient in gradients(network, averaged).values())
    largest = apart.extreme(largest=True)
    assert torch.equal(network(images()), network(images(), largest))


def test_a_network_cut_out_has_shared_running_statistics() -> None:
    torch.manual_seed(0)
    shared = dataclasses.replace(small(), statistics="running").build().train()
    choices = sampled(small(), 1)[0]
    shared(images(), choices)
    own = shared.extract_subnet(choices).eval()
    torch.testing.assert_close(own(images()), shared.eval()(images(), choices), rtol=0, atol=1e-5)
    assert any(float(t.abs().max()) > 0 for name, t in own.state_dict().items() if name.endswith("running_mean"))


def test_without_choices_it_is_the_largest() -> None:
    shared = small().build()
    largest = {d.name: max(d.options) for d in small().decisions()}
    largest |= {name: False for name in largest if name.endswith("skip")}
    assert torch.equal(shared(images()), shared(images(), largest))


def gradients(network: MobileNetwork, choices: Choices) -> dict[str, Tensor]:
    network.zero_grad(set_to_none=True)
    network(images(), choices).square().sum().backward()
    return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in network.named_parameters()}


def warmed() -> Choices:
    """All operations averaged, all widths the largest."""
    return {d.name: None if d.kind == "op" else max(d.options) for d in small().decisions()}


def test_everything_learns_under_full_warmup() -> None:
    torch.manual_seed(0)
    grads = gradients(small().build(), warmed())
    assert [name for name, gradient in grads.items() if not gradient.any()] == []


def test_the_largest_space_learns_as_a_whole() -> None:
    torch.manual_seed(0)
    network = create_supernet("tunas_mobilenetv3", width=0.25, image_size=(32, 32), num_classes=4)
    assert isinstance(network, MobileNetwork)
    choices = {d.name: None if d.kind == "op" else max(d.options) for d in network.spec.decisions()}
    network(images(8, 64), choices).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_sampled_step_touches_what_was_chosen() -> None:
    torch.manual_seed(0)
    network = small().build()
    choices: dict[str, bool | int | float] = {
        "stem.0.kernel": 3,
        "stem.1.skip": True,
        "stem.filters": 8,
        **{"b1.0.kernel": 7, "b1.0.expansion": 2, "b1.0.se": False},
        **{"b1.1.kernel": 3, "b1.1.expansion": 1, "b1.1.se": True, "b1.1.skip": False},
        **{"b1.2.skip": True, "b1.filters": 16, "head.filters": 16, "last.filters": 8},
    }
    grads = gradients(network, choices)
    for name in ("stem.0.convs.k5.weight", "stem.1.project.weight", "b1.0.convs.k3.weight", "b1.2.expand.weight"):
        assert not grads[f"blocks.{name}"].any(), name
    assert not any(gradient.any() for name, gradient in grads.items() if name.startswith("blocks.b1.0.se"))
    expand = grads["blocks.b1.0.expand.weight"]
    assert expand[:16, :8].any()
    assert not expand[16:].any()
    assert not expand[:, 8:].any()
    assert grads["blocks.b1.1.se.squeeze.weight"][:8, :16].any()
    assert grads["blocks.b1.0.convs.k7.weight"][:16].any()


def test_a_space_uses_the_statistics_of_the_batch() -> None:
    """In evaluation too, and running ones stay as they were; a single value per channel is its own mean."""
    torch.manual_seed(0)
    shared = small().build()
    before = {name: t.clone() for name, t in shared.state_dict().items()}
    assert torch.equal(shared.train()(images()), shared.eval()(images()))
    assert all(torch.equal(t, before[name]) for name, t in shared.state_dict().items())
    assert shared(images(1, 2)).isfinite().all()


def test_a_cut_leaves_random_numbers_alone_and_keeps_precision() -> None:
    shared = small().build().double()
    torch.manual_seed(5)
    own = shared.extract_subnet(sampled(small(), 1)[0])
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert own.classifier.weight.dtype == torch.float64


def test_averaged_options_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """In training, so that memory holds one of them; gradients are the same."""
    calls = []
    torch.manual_seed(0)
    network = small().build()
    plain = layers.checkpoint
    monkeypatch.setattr(layers, "checkpoint", lambda option, x, **how: calls.append(option) or plain(option, x, **how))
    again = gradients(network, warmed())
    assert len(calls) == 2 + 2 + 3 * (3 + 2)  # kernels of the stem's layers; kernels and modules of the bottlenecks
    monkeypatch.setattr(layers, "checkpoint", lambda option, x, **how: option(x))
    for name, gradient in gradients(network, warmed()).items():
        torch.testing.assert_close(again[name], gradient)


def test_weights_at_the_start() -> None:
    """He-normal by what enters an output, cut at two deviations; the classifier's deviation is 0.01."""
    torch.manual_seed(0)
    network = create_supernet("mobilenet_v2")
    for name, fan_in in (("b7.0.expand", 160), ("b4.1.convs.k3", 9), ("head.0.convs.k1", 320)):
        weight = network.state_dict()[f"blocks.{name}.weight"]
        assert float(weight.std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
        assert float(weight.abs().max()) <= 2 * (2 / fan_in) ** 0.5 / 0.8796
    assert float(network.state_dict()["classifier.weight"].std()) == pytest.approx(0.01 * 0.8796, rel=0.05)


def test_averaged_options_by_hand() -> None:
    """A separable layer that may be skipped, with everything averaged: x + (what it makes of the mean) / 2."""
    torch.manual_seed(0)
    network = small().build()
    layer = network.blocks["stem"][1]  # type: ignore[index]
    x = torch.randn(4, 16, 8, 8)
    each = [torch.relu(layer.style.normalise(layer.norms[k], layer.convs[k](x))) for k in ("k3", "k5")]
    made = layer.style.normalise(layer.project_bn, layer.project((each[0] + each[1]) / 2))
    out = layer(x, "stem.1", {"stem.1.kernel": None, "stem.1.skip": None}, 16)
    torch.testing.assert_close(out, x + made / 2)


def test_an_averaged_module_by_hand() -> None:
    """Half of the map as it is, half of it through squeeze-and-excite."""
    torch.manual_seed(0)
    layer = SingleLayer(Layer(expansions=(2,), se=(False, True)), 8, 8, small().style(stateless=False)).layer
    x = torch.randn(4, 8, 6, 6)
    wide = torch.relu(layer.style.normalise(layer.expand_bn, layer.expand(x)))
    wide = torch.relu(layer.style.normalise(layer.norms["k3"], layer.convs["k3"](wide)))
    pooled = wide.mean((2, 3), keepdim=True)
    gate = torch.sigmoid(layer.se.excite(torch.relu(layer.se.squeeze(pooled))))
    made = layer.style.normalise(layer.project_bn, layer.project((wide + wide * gate) / 2))
    torch.testing.assert_close(layer(x, "b", {"b.se": None}, 8), made)


# Specs ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SPACES, "mobilenet_v3_large"])
def test_json_round_trip(name: str) -> None:
    once = spec(name)
    assert spec_from_json(json.loads(json.dumps(once.to_json()))) == once


def test_answers_as_a_setting() -> None:
    space = create_spec("tunas_proxyless")
    assert isinstance(space, MobileSpec)
    chosen = space.extreme(largest=False)
    assert create_spec("tunas_proxyless", choices=chosen) == space.select(chosen)
    assert create_spec("tunas_proxyless", choices={"b2.0.kernel": 7}) == space.select({"b2.0.kernel": 7})
    for wrong, named in (
        ({"b2.0.kernl": 7}, "there is no decision b2.0.kernl; did you mean 'b2.0.kernel'"),
        ({"b2.0.kernel": 9}, r"b2.0.kernel is 9; take one of \[3, 5, 7\]"),
        ({"b2.1.skip": 0}, r"b2.1.skip is 0; take one of \[False, True\]"),
        ([1, 2], "choices names answers"),
    ):
        with pytest.raises(UserError, match=named):
            create_spec("tunas_proxyless", choices=wrong)


def test_strides_as_a_setting() -> None:
    spec = create_spec("mobilenet_v2", strides=[1, 1, 1, 2, 2, 1, 2, 1, 1])
    assert isinstance(spec, MobileSpec)
    assert [block.layers[0].stride for block in spec.blocks] == [1, 1, 1, 2, 2, 1, 2, 1, 1]
    assert all(layer.stride == 1 for block in spec.blocks for layer in block.layers[1:])
    assert count(spec).params == 3_504_872


@pytest.mark.parametrize("name", ["tunas_proxyless_enlarged", "tunas_mobilenetv3"])
def test_the_smallest_and_the_largest(name: str) -> None:
    spec = create_spec(name, image_size=(32, 32))
    assert isinstance(spec, MobileSpec)
    space = Space(spec.decisions())
    costs = [count(spec.select(choices)).macs for choices in space.genotypes(space.sample(20, torch.Generator()))]
    smallest, largest = (count(spec.select(spec.extreme(largest=end))) for end in (False, True))
    assert smallest.macs < min(costs) < max(costs) < largest.macs


def test_narrow() -> None:
    choices = {"b1.1.skip": True, "b1.0.kernel": 5, "b1.filters": 24}
    space = small().select(choices)
    layers = space.blocks[1].layers
    assert (len(layers), layers[0].kernels, layers[1].kernels) == (2, (5,), (3, 5, 7))
    assert space.blocks[1].filters == (24,)
    assert space.is_search_space()
    assert not small().select(sampled(small(), 1)[0]).is_search_space()


def test_maskable_weights() -> None:
    network = small().build()
    assert "classifier.weight" not in network.maskable_weights()
    assert {"classifier.weight", "last.weight", "blocks.b1.0.se.squeeze.weight"} <= set(
        network.maskable_weights(classifier=True)
    )
