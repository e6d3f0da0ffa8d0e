"""ResNets with connection schemes: published sizes, torchvision as oracle, and what a scheme does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from supertickets import Ticket, UserError, create_supernet
from supertickets.cost import count
from supertickets.data import Preprocessing
from supertickets.deploy.exporter import export
from supertickets.models import ResNet, ResNetSpec, create_resnet
from supertickets.models.factory import create_spec, spec_from_json
from supertickets.tasks.segmentation import enlarge

NARROW: dict[str, Any] = {"widths": (4, 8, 16), "ratio": 4, "num_classes": 10, "image_size": (8, 8)}
SHARED: dict[str, Any] = {"attention": "se", "sharing": "stage"}


def stage_numbers(spec: ResNetSpec) -> tuple[int, ...]:
    """The scheme as the released code has it: a number per stage, whose highest bit is the first block."""
    return tuple(int(stage, 2) for stage in spec.scheme.split("|"))


def scheme_of(numbers: tuple[int, ...], spec: ResNetSpec) -> str:
    """The scheme that `stage_numbers` wrote as numbers."""
    return "|".join(f"{number:0{blocks}b}" for number, blocks in zip(numbers, spec.blocks, strict=True))


def narrow(**more: Any) -> ResNet:
    torch.manual_seed(0)
    network = create_resnet("resnet38", **{**NARROW, **more}).build()
    for name, value in network.state_dict().items():  # as after some training
        if "running" in name:
            value.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "overrides", "params"),
    [
        ("resnet38", {}, 428_980),
        ("resnet38", {"attention": "se"}, 473_892),
        ("resnet164", {}, 1_727_284),
        ("resnet164", {"attention": "se"}, 1_929_388),
        ("resnet164", {"attention": "sge"}, 1_727_716),
        ("resnet164", SHARED, 1_738_512),
        ("resnet164", {**SHARED, "attention": "sge"}, 1_727_284 + 3 * 2 * 4),
        ("resnet164", {**SHARED, "attention": "dia"}, 1_946_132),
        ("resnet50", {}, 25_583_592),
        ("resnet50", {"attention": "se"}, 28_114_584),
        ("resnet50", {"attention": "sge"}, 25_583_592 + 16 * 2 * 64),
        ("resnet50", SHARED, 26_283_992),
        ("resnet50", {**SHARED, "attention": "sge"}, 25_584_104),
        ("resnet50", {**SHARED, "attention": "dia"}, 28_384_612),
    ],
)
def test_published_sizes(name: str, overrides: dict[str, Any], params: int) -> None:
    """Those of Tables I and II to the last parameter; DIA's follow from its formula, 2 (c h + h + 4 h c + 4 c)."""
    with torch.device("meta"):
        network = create_supernet(name, **overrides)
    assert sum(p.numel() for p in network.parameters()) == params


def test_it_is_torchvisions_resnet50() -> None:
    """Without biases on the convolutions, as torchvision has it."""
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50(num_classes=10).eval()
    ours = create_supernet("resnet50", bias=False, num_classes=10).eval()
    copy_all(theirs, ours)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(x), theirs(x))
    assert count(create_resnet("resnet50", bias=False)).macs == 4_089_184_256  # as fvcore and others count it


@pytest.mark.parametrize("size", [(64, 96), (57, 83)])
def test_with_its_head_for_maps_it_is_torchvisions_dilated_network(size: tuple[int, int]) -> None:
    """The last two stages keep their maps at an eighth; torchvision enlarges the scores itself."""
    torch.manual_seed(0)
    theirs = torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=5, aux_loss=False
    ).eval()
    ours = create_supernet("resnet50", bias=False, head="segmentation", num_classes=5).eval()
    copy_all(theirs, ours)
    x = torch.randn(1, 3, *size)
    maps = ours(x)
    assert maps.shape == (1, 5, -(-size[0] // 8), -(-size[1] // 8))
    torch.testing.assert_close(enlarge(maps, size), theirs(x)["out"])
    assert [str(m) for m in (*ours.head, ours.classifier)] == [str(m) for m in theirs.classifier]
    with FlopCounterMode(display=False) as counter:
        theirs(x)
    assert count(replace(ours.spec, image_size=size)).macs == counter.get_total_flops() // 2


def copy_all(theirs: nn.Module, ours: nn.Module) -> None:
    """Gives both networks the same weights, and statistics as after some training."""
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    for one, other in zip(_in_order(theirs), _in_order(ours), strict=True):
        other.load_state_dict(one.state_dict())


def _in_order(network: nn.Module) -> list[nn.Module]:
    """Convolutions, norms and linear layers; a shortcut comes behind its block's branch in both."""
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]


@pytest.mark.parametrize(
    ("name", "stride", "steps"),
    [
        ("resnet50", 32, [(1, 1, 1), (2, 1, 1), (2, 1, 1), (2, 1, 1)]),
        ("resnet50", 16, [(1, 1, 1), (2, 1, 1), (2, 1, 1), (1, 1, 2)]),
        ("resnet50", 8, [(1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)]),
        ("resnet38", 4, [(1, 1, 1), (2, 1, 1), (2, 1, 1)]),
        ("resnet38", 1, [(1, 1, 1), (1, 1, 2), (1, 2, 4)]),
    ],
)
def test_stages_dilate_instead_of_halving(name: str, stride: int, steps: list[tuple[int, int, int]]) -> None:
    spec = create_resnet(name, output_stride=stride)
    assert spec.steps() == steps
    assert spec.coarsest_stride == stride


def test_heads_for_maps() -> None:
    """Their parameters by hand, what they answer at odd sizes, and that scores begin small."""
    plain = count(create_resnet("resnet38")).params - (256 * 100 + 100)
    x = torch.randn(2, 3, 21, 34)
    for head, outputs in (("segmentation", 7), ("density", 1)):
        more = {"num_classes": 7} if head == "segmentation" else {}
        spec = create_resnet("resnet38", head=head, **more)
        assert spec_from_json(spec.to_json()) == spec
        assert count(spec).params == plain + 256 * 64 * 9 + 2 * 64 + 64 * outputs + outputs
        network = spec.build()
        assert any(isinstance(m, nn.Dropout) for m in network.modules()) == (head == "segmentation")
        scores = network(x)
        assert scores.shape == (2, outputs, 6, 9)
        assert scores.abs().max() < 2
        behind = {name for name in network.state_dict() if not ResNet.is_feature(name)}
        assert {name.split(".")[0] for name in behind} == {"head", "classifier"}
        assert {*network.maskable_weights(classifier=True)} - {*network.maskable_weights()} == {"classifier.weight"}
        assert "head.0.weight" in network.maskable_weights()
    assert create_resnet("resnet50", head="density").coarsest_stride == 8


@pytest.mark.parametrize("attention", ["se", "sge", "dia"])
def test_maps_with_attention_export_with_free_sizes(attention: str, tmp_path: Path) -> None:
    """Attention modules look at whole maps, of any size."""
    blocks = {"blocks": (1, 1), "widths": (4, 8), "connected": (True, True), "output_stride": 2}
    shipped = create_resnet("resnet38", **{**NARROW, **SHARED, "attention": attention, "head": "segmentation"})
    spec = replace(shipped, **blocks, image_size=(16, 24))
    torch.manual_seed(0)
    weights = dict(spec.build().state_dict())
    prepare = Preprocessing(3, (16, 24), (0.5,) * 3, (0.5,) * 3)
    ticket = Ticket(spec, weights, {}, tuple(map(str, range(10))), prepare, {})
    assert export(ticket, tmp_path / "model.pt2", "torch").parity < 1e-5
    program = torch.export.load(tmp_path / "model.pt2").module()
    x = torch.randn(3, 3, 33, 17)
    torch.testing.assert_close(program(x), ticket.module(x))


def test_a_module_scales_the_branch_behind_its_last_norm() -> None:
    """Eq. 3, on the first two blocks; what is not connected is the plain network."""
    network, x = narrow(attention="se"), torch.randn(2, 4, 8, 8)
    for name, connected in (("s1.b0", True), ("s1.b1", True), ("s1.b1", False)):
        block = network.blocks[name.replace(".", "_")]
        branch, shortcut = block.branch(x), block.shortcut(x)
        gate: nn.Module = network.attention[name.replace(".", "_")]
        wanted = torch.relu((gate(branch)[0] if connected else branch) + shortcut)
        joined, _ = network.join(name, *network.run_branch(name, x), None, connected=connected)
        torch.testing.assert_close(joined, wanted)
        x = joined


@pytest.mark.parametrize(
    "overrides", [{"attention": "se"}, {"attention": "sge"}, SHARED, {**SHARED, "attention": "dia"}]
)
@pytest.mark.parametrize("scheme", ["1111|1111|1111", "0000|0000|0000", "0100|1001|0000", "0011|0000|1010"])
def test_a_cut_computes_what_the_scheme_computes(scheme: str, overrides: dict[str, Any]) -> None:
    """Modules that nothing connects are gone, and of a stage without a connection the shared one too."""
    network = narrow(**overrides)
    flags = [digit == "1" for digit in scheme.replace("|", "")]
    names = [name for stage in network.spec.names() for name in stage]
    spec = network.spec.select(dict(zip(names, flags, strict=True)))
    assert spec.scheme == scheme
    cut = spec.build().eval()
    own = cut.state_dict()
    cut.load_state_dict({name: network.state_dict()[name] for name in own})
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(cut(x), network(x, dict(zip(names, flags, strict=True))))
    if overrides.get("sharing") == "stage":
        assert list(cut.attention) == [f"s{i}" for i, stage in enumerate(scheme.split("|"), 1) if "1" in stage]
    else:
        assert len(cut.attention) == sum(flags)
    if sum(flags) == 0:
        torch.testing.assert_close(cut(x), narrow_without(network)(x))


def narrow_without(network: ResNet) -> ResNet:
    """The original network, with the same weights."""
    plain = create_resnet("resnet38", **{k: v for k, v in NARROW.items() if k != "ratio"}).build().eval()
    plain.load_state_dict({name: network.state_dict()[name] for name in plain.state_dict()})
    return plain


def test_the_state_of_dia_goes_from_connected_block_to_connected_block() -> None:
    """And begins anew in every stage: the second stage's output does not depend on the first's module."""
    network, x = narrow(**{**SHARED, "attention": "dia"}), torch.randn(2, 4, 8, 8)
    _, first = network.join("s1.b0", *network.run_branch("s1.b0", x), None, connected=True)
    wide = network.run_branch("s1.b1", x[:, :1].expand(-1, 16, -1, -1))
    _, passed = network.join("s1.b1", *wide, first, connected=False)
    assert passed is first
    states: list[Any] = []
    for module in network.attention.values():
        module.register_forward_pre_hook(lambda module, args: states.append(args[1]))
    network(torch.randn(2, 3, 8, 8), {"s1.b0": False, "s2.b0": False})
    assert [state is None for state in states] == [True, False, False] * 2 + [True, False, False, False]


@given(some.data())
@settings(max_examples=50, deadline=None)
def test_schemes_are_written_and_read(data: some.DataObject) -> None:
    """As text with and without strokes, as numbers per stage (highest bit first), and as JSON."""
    name = data.draw(some.sampled_from(["resnet38", "resnet164", "resnet50"]))
    plain = create_resnet(name, attention="se")
    flags = tuple(data.draw(some.lists(some.booleans(), min_size=len(plain.connected), max_size=len(plain.connected))))
    digits = "".join("01"[flag] for flag in flags)
    spec = create_resnet(name, attention="se", scheme=digits)
    assert spec.connected == flags
    assert create_resnet(name, attention="se", scheme=spec.scheme) == spec
    assert create_resnet(name, attention="se", scheme=int(digits)) == spec  # what a command line makes of digits
    assert create_resnet(name, attention="se", scheme=scheme_of(stage_numbers(spec), spec)) == spec
    assert spec_from_json(spec.to_json()) == spec


def test_published_schemes() -> None:
    """Those that the released code trains, as the numbers that it passes."""
    sge = create_resnet("resnet50", attention="sge", sharing="stage", scheme="100|1011|010011|011")
    assert stage_numbers(sge) == (4, 11, 19, 3)
    assert sum(sge.connected) == 9
    assert scheme_of((6, 3, 50, 3), sge) == "110|0011|110010|011"
    assert scheme_of((7, 15, 63, 7), sge) == create_resnet("resnet50", attention="sge").scheme


def test_weights_begin_as_published() -> None:
    torch.manual_seed(0)
    network = create_resnet("resnet164", attention="se").build()
    conv = network.blocks["s3_b5"].branch[3]
    assert conv.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    gate = network.attention["s3_b5"].excite
    assert gate.weight.abs().max().item() <= 1 / 16**0.5  # as PyTorch begins: within one over the root of the inputs


def test_pruning_covers_attention_and_leaves_the_classifier() -> None:
    network = narrow(attention="se")
    weights = network.maskable_weights()
    assert "attention.s1_b0.squeeze.weight" in weights
    assert "classifier.weight" not in weights
    assert {*network.maskable_weights(classifier=True)} - {*weights} == {"classifier.weight"}
    assert isinstance(network.get_parameter(weights[-1]), Tensor)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"attention": "dia"}, "attention dia is shared by a stage; set supernet.settings.sharing to stage"),
        ({"scheme": "1" * 12}, "set supernet.settings.attention too"),
        ({"attention": "se", "scheme": "1" * 11}, r"give a 0 or 1 per block, in quotes, e.g. \"1111\\|1111\\|1111\""),
        ({"attention": "se", "scheme": "111|11111|1111"}, "give a 0 or 1 per block"),
        ({"attention": "se", "scheme": "2" * 12}, "give a 0 or 1 per block"),
        ({"attention": "se", "sharing": "stages"}, "unknown supernet.settings.sharing 'stages'"),
        ({"attention": "es"}, "unknown supernet.settings.attention 'es'"),
        ({"head": "detections"}, "unknown supernet.settings.head 'detections'; did you mean 'detection'"),
        ({"output_stride": 3}, "output_stride is 3; take one of 1, 2, 4, 8"),
        ({"head": "density", "num_classes": 2}, "a density is that of one kind of things, not of 2"),
        ({"widths": [16, 32]}, "widths has 2 numbers; give one per stage, 3"),
        ({"width": 0.5}, "unknown supernet setting 'width'"),
    ],
)
def test_impossible_settings_are_refused(overrides: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        create_spec("resnet38", **overrides)


class Quiet(nn.Module):
    """A module of a user's own, which needs the number of channels for nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x / 2


def test_a_class_stands_for_its_name() -> None:
    network = create_supernet("resnet38", attention=Quiet, widths=(4, 4, 4))
    assert network.spec.to_json()["attention"] == f"{__name__}:Quiet"
    x = torch.randn(1, 3, 8, 8)
    assert not torch.equal(network.eval()(x), network(x, {"s1.b0": False}))


def test_a_block_that_is_not_there() -> None:
    network = create_supernet("resnet38", attention="se")
    with pytest.raises(UserError, match=r"no block is named s1\.b9; did you mean 's1\.b"):
        network(torch.randn(1, 3, 8, 8), {"s1.b9": False})


def test_decisions_are_those_of_connected_blocks() -> None:
    spec = create_resnet("resnet38", attention="se", scheme="1000|0000|0011")
    assert isinstance(spec, ResNetSpec)
    assert [decision.name for decision in spec.decisions()] == ["s1.b0", "s3.b2", "s3.b3"]
    assert spec.select({"s1.b0": False, "s2.b0": True}).scheme == "0000|0000|0011"  # what is gone does not come back


def test_a_file_with_other_flags_than_blocks_is_refused() -> None:
    whole = create_spec("resnet38", attention="se").to_json()
    with pytest.raises(UserError, match="11 flags say which of 12 blocks are connected"):
        spec_from_json({**whole, "connected": whole["connected"][:-1]})
