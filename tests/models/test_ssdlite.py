"""The detector: torchvision's with its weights, its anchors, shared weights beside networks cut out of them."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import Tensor
from torchvision import models
from torchvision.models.detection.image_list import ImageList

from supertickets import UserError, create_supernet
from supertickets.cost import count
from supertickets.models import MobileNetwork, MobileSpec, slice_state_dict
from supertickets.models.factory import create_spec, spec_from_json
from supertickets.models.heads.anchors import anchors, map_sides
from supertickets.models.mobile.ssdlite import SSDLite
from supertickets.nas import Space
from toy_mobile import DETECTOR, SPACE

CPU = torch.device("cpu")


def images(batch: int = 4, size: int = 64) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def choices_of(spec: MobileSpec, how_many: int) -> list[dict[str, bool | int | float]]:
    space = Space(spec.decisions())
    return space.genotypes(space.sample(how_many, torch.Generator().manual_seed(0)))


def theirs() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=6).eval()


def test_it_is_that_of_torchvision() -> None:
    """With its weights, on the same two maps; torchvision counts nothing as a class."""
    model = theirs()
    spec = create_spec("mobilenet_v3_large", head="detection", num_classes=5)
    assert isinstance(spec, MobileSpec)
    ours = SSDLite((672, 480), spec.extra_filters, spec.num_classes, spec.style(stateless=False)).eval()
    own = {**{f"extra.{k}": v for k, v in model.backbone.extra.state_dict().items()}}
    own |= {f"head.{k}": v for k, v in model.head.state_dict().items()}
    ours.load_state_dict(own)
    with torch.no_grad():
        maps = list(model.backbone(images(2, 320)).values())
        wanted = model.head(maps)
        predictions = ours(maps[0], maps[1])
    assert [x.shape[-1] for x in maps] == map_sides(20) == [20, 10, 5, 3, 2, 1]
    torch.testing.assert_close(predictions[..., :6], wanted["cls_logits"])
    torch.testing.assert_close(predictions[..., 6:], wanted["bbox_regression"])
    boxes = model.anchor_generator(ImageList(torch.empty(1, 3, 320, 320), [(320, 320)]), maps)[0]
    torch.testing.assert_close(320 * anchors(predictions.shape[1], CPU), boxes)


@pytest.mark.parametrize("size", [32, 40, 64, 100, 320])
def test_anchors_of_any_size(size: int) -> None:
    network = create_supernet("mobilenet_v2", width=0.1, head="detection", num_classes=3, image_size=(size, size))
    out = network(images(2, size))
    boxes = anchors(out.shape[1], CPU)
    assert out.shape == (2, 6 * sum(side**2 for side in map_sides(-(-size // 16))), 3 + 1 + 4)
    assert boxes.shape == (out.shape[1], 4)
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_anchors_by_hand() -> None:
    """One cell per map: squares of the scales 0.2, 0.35 ..., and between; twice and three times as wide as high."""
    boxes = anchors(36, CPU)
    wide, high = (boxes[:, 2:] - boxes[:, :2]).T
    torch.testing.assert_close((boxes[:, 2:] + boxes[:, :2]) / 2, torch.full((36, 2), 0.5))
    assert wide[::6].tolist() == pytest.approx([0.2, 0.35, 0.5, 0.65, 0.8, 0.95])
    assert (wide / high)[:6].tolist() == pytest.approx([1, 1, 2, 1 / 2, 3, 1 / 3])
    with pytest.raises(ValueError, match="37 anchors"):
        anchors(37, CPU)


def test_maps_come_from_stride_16_and_the_last_block() -> None:
    """The last of stride 16, whose width may be open, and the last one."""
    for name in ("tunas_mobilenetv3", "mobilenet_v3_large"):
        spec = create_spec(name, head="detection")
        assert isinstance(spec, MobileSpec)
        assert spec.last_halving() == ("b5", 0)
        assert spec.fine_filters() == next(block for block in spec.blocks if block.name == "b4").filters
    assert DETECTOR.last_halving() == ("b1", 0)
    later = dataclasses.replace(DETECTOR.blocks[1], layers=DETECTOR.blocks[1].layers[::-1])
    turned = dataclasses.replace(DETECTOR, blocks=(DETECTOR.blocks[0], later))
    assert (turned.last_halving(), turned.fine_filters()) == (("b1", 1), (8, 16))
    with pytest.raises(UserError, match=r"a detector needs a map and its half; .*supernet.settings.strides"):
        create_supernet("mobilenet_v2", head="detection", strides=[1] * 9)


@pytest.mark.parametrize("statistics", ["batch", "running"])
@pytest.mark.parametrize("place", range(4))
def test_a_network_cut_out_computes_the_same(statistics: str, place: int) -> None:
    torch.manual_seed(0)
    spec = dataclasses.replace(DETECTOR, statistics=statistics)
    shared = spec.build().train()
    choices = choices_of(spec, 4)[place]
    assert "last.filters" not in choices
    if statistics == "running":
        shared(images(), choices)
        shared.eval()
    own = shared.extract_subnet(choices).train(statistics == "batch")
    assert isinstance(own, MobileNetwork)
    torch.testing.assert_close(own(images()), shared(images(), choices), rtol=0, atol=1e-5)


def test_a_large_space_too() -> None:
    torch.manual_seed(0)
    shared = create_supernet("tunas_mobilenetv3", width=0.25, head="detection", image_size=(64, 64), num_classes=4)
    assert isinstance(shared, MobileNetwork)
    narrower = 0
    for choices in choices_of(shared.spec, 3):
        own = shared.extract_subnet(choices)
        narrower += own.detector.extra[0][0][0].in_channels < shared.detector.extra[0][0][0].in_channels
        torch.testing.assert_close(own.train()(images()), shared(images(), choices), rtol=0, atol=1e-5)
        masks = {name: torch.ones_like(t, dtype=torch.bool) for name, t in shared.state_dict().items()}
        assert {n: t.shape for n, t in slice_state_dict(shared.spec, choices, masks).items()} == {
            n: t.shape for n, t in own.state_dict().items()
        }
    assert narrower


def test_everything_learns() -> None:
    torch.manual_seed(0)
    network = DETECTOR.build()
    every = {d.name: None if d.kind == "op" else max(d.options) for d in DETECTOR.decisions()}
    network(images(), every).square().sum().backward()
    # Where a map has a single pixel, outer parts of kernels meet the border alone, but never all of a tensor.
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_prediction_layers_are_pruned_like_a_classifier() -> None:
    """The rest of the head is pruned like any layer."""
    network = DETECTOR.build()
    plain, all_of_them = network.maskable_weights(), network.maskable_weights(classifier=True)
    assert {"detector.extra.0.0.0.weight", "detector.head.regression_head.module_list.5.0.0.weight"} <= set(plain)
    last = set(all_of_them) - set(plain)
    assert len(last) == 12
    shapes = {tuple(network.get_parameter(name).shape[::2]) for name in last}
    assert shapes == {(6 * 4, 1)}  # 3 classes and nothing, or 4 sides: as many here


def test_costs_of_the_published_size() -> None:
    """Beside torchvision's, whose first map is wider and whose last ones are narrower."""
    cost = count(create_spec("mobilenet_v3_large", head="detection", num_classes=90, image_size=(320, 320)))
    network = create_supernet("mobilenet_v3_large", head="detection", num_classes=90, image_size=(320, 320))
    assert cost.params == sum(p.numel() for p in network.parameters())
    assert 0.5e9 < cost.macs < 0.7e9


def test_specs_in_json() -> None:
    assert spec_from_json(json.loads(json.dumps(DETECTOR.to_json()))) == DETECTOR
    older = SPACE.to_json()
    del older["head"], older["extra_filters"]
    assert spec_from_json(older) == SPACE  # as tickets were written before there were detectors


@pytest.mark.parametrize(
    ("name", "settings", "named"),
    [
        ("mobilenet_v2", {"head": "detector"}, "unknown supernet.settings.head 'detector'; did you mean 'detection'"),
        (
            "mobilenet_v2",
            {"head": "detection", "image_size": (64, 32)},
            "takes square images, not 64 x 32",
        ),
        ("mobilenet_v2", {"extra_filters": [8, 8, 8, 8]}, "unknown supernet setting 'extra_filters'"),
        ("hrnet_coco", {"head": "detection"}, "take a mobile network"),
    ],
)
def test_impossible_heads_are_refused(name: str, settings: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        create_spec(name, **settings)
