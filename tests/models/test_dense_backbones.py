"""Heads for every task behind networks of every family: shapes, JSON, what is pruned, what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supertickets import UserError
from supertickets.cost import count
from supertickets.models import Spec
from supertickets.models.base import Head
from supertickets.models.factory import create_spec, spec_from_json
from supertickets.models.heads import FeatureMap
from supertickets.models.heads.anchors import PER_CELL, map_sides
from supertickets.models.heads.ssdlite import BoxPredictor, FurtherMaps
from supertickets.models.mobile.ssdlite import SSDLite
from supertickets.models.resnet.scheme_tree import outputs_of_all

NETWORKS: dict[str, dict[str, Any]] = {
    "resnet8": {"widths": (4, 4, 8), "stem_stride": 2, "strides": (2, 2, 2)},
    "resnet38": {"widths": (2, 3, 4), "attention": "se", "ratio": 2},
    "mobilenet_v3_large": {"width": 0.1},
    "timm:test_resnet": {},
    "torchvision:shufflenet_v2_x0_5": {},
    f"{__name__}:make_maps": {"width": 4},
}
HEADS: tuple[Head, ...] = ("segmentation", "keypoints", "density", "detection")
# Pixels per cell of the larger map of a detector.
FINE = {"resnet8": 8, "resnet38": 2, "mobilenet_v3_large": 16, "timm:test_resnet": 16}
every_network = pytest.mark.parametrize("name", list(NETWORKS), ids=[name.rpartition(":")[2] for name in NETWORKS])


def make_maps(num_classes: int, in_channels: int, image_size: tuple[int, int], width: int) -> nn.Module:
    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(in_channels, width, 3, 16, 1), nn.Conv2d(width, width, 3, 2, 1)

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            fine = self.first(images)
            return fine, self.second(fine)

    return Maps()


def make_output(num_classes: int, in_channels: int, image_size: tuple[int, int], extra: int = 0) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3, 2, 1), nn.Conv2d(4, num_classes + extra, 1))


def create(name: str, head: Head, **more: Any) -> Spec:
    if name.startswith("timm"):
        pytest.importorskip("timm")
    size = (64, 64) if head == "detection" else (64, 96)
    kinds = 1 if head == "density" else 3
    return create_spec(
        name, head=head, **{"image_size": size, "num_classes": kinds, "head_width": 8} | NETWORKS[name] | more
    )


@every_network
@pytest.mark.parametrize("head", HEADS)
def test_every_head_fits_every_network(name: str, head: Head) -> None:
    torch.manual_seed(0)
    spec = create(name, head)
    assert spec.head == head
    assert head in spec.heads
    assert spec_from_json(json.loads(json.dumps(spec.to_json()))) == spec
    network = spec.build()
    out = network(torch.randn(2, *spec.input_shape))
    if head == "detection":
        first = 64 // FINE.get(name, 16)
        assert out.shape == (2, PER_CELL * sum(side**2 for side in map_sides(first)), 1 + 3 + 4)
    else:
        stride = {"resnet38": 8, f"{__name__}:make_maps": 16}.get(name, 4)
        stride = 4 if name == "resnet38" else stride  # which has no coarser map than 4
        assert out.shape == (2, spec.num_classes, 64 // stride, 96 // stride)
    out.square().mean().backward()
    assert [key for key, p in network.named_parameters() if p.grad is None] == []
    weights = network.maskable_weights()
    last = set(network.maskable_weights(classifier=True)) - set(weights)
    assert last
    assert all(weight.startswith(("classifier.", "detector.head.")) for weight in last)
    assert count(spec).params == sum(p.numel() for p in network.parameters())


@every_network
@pytest.mark.parametrize("neck", ["fpn", "lraspp"])
def test_scenes_of_any_size_go_through(name: str, neck: str) -> None:
    """The coarsest stride is known, so that an exported network takes them too."""
    spec = create(name, "segmentation", neck=neck)
    assert spec.coarsest_stride is not None
    height, width = spec.coarsest_stride + 3, 2 * spec.coarsest_stride
    scores = spec.build().eval()(torch.zeros(1, 3, height, width))
    stride = 16 if "make_maps" in name else 4
    assert scores.shape == (1, 3, math.ceil(height / stride), math.ceil(width / stride))


def test_grey_images_are_taken() -> None:
    for name in ("resnet8", "torchvision:shufflenet_v2_x0_5"):
        spec = create(name, "keypoints", in_channels=1)
        assert spec.build().eval()(torch.zeros(1, 1, 64, 96)).shape == (1, 3, 16, 24)


def test_for_class_scores_a_network_of_a_library_stays_what_it_was() -> None:
    spec = create_spec("torchvision:shufflenet_v2_x0_5", num_classes=3, image_size=(32, 32))
    assert spec.to_json().keys() == {"family", "name", "num_classes", "in_channels", "image_size", "settings"}
    assert [name for name, _ in spec.build().named_children()] == ["network"]


def test_features_of_a_classifier_go_behind_another_head() -> None:
    """Names and shapes agree, so that they transfer, and that weights of the whole network fit."""
    whole = create_spec("torchvision:shufflenet_v2_x0_5", num_classes=7, image_size=(64, 96)).build().state_dict()
    network = create("torchvision:shufflenet_v2_x0_5", "segmentation").build()
    features = {name: value for name, value in network.state_dict().items() if network.is_feature(name)}
    assert {name: value.shape for name, value in features.items()} == {
        name: whole[name].shape for name in whole if not name.startswith("network.fc.")
    }
    fresh = network.state_dict().keys() - features.keys()
    assert {name.partition(".")[0] for name in fresh} == {"head", "classifier"}


def test_the_detector_is_that_of_mobile_networks() -> None:
    torch.manual_seed(0)
    spec = create_spec("mobilenet_v2", head="detection")
    theirs = SSDLite((6, 8), (16, 8, 8, 4), 3, spec.style(stateless=False)).eval()  # type: ignore[attr-defined]
    head = FurtherMaps([FeatureMap(4, 4), FeatureMap(6, 8), FeatureMap(8, 16)], width=8).eval()
    classifier = BoxPredictor(head.channels, 3).eval()
    head.further.load_state_dict(theirs.extra.state_dict())
    classifier.head.load_state_dict(theirs.head.state_dict())
    for module in (*head.modules(), *classifier.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    maps = [torch.randn(2, c, side, side) for c, side in ((4, 16), (6, 8), (8, 4))]
    torch.testing.assert_close(classifier(head(maps)), theirs(maps[1], maps[2]))


@pytest.mark.parametrize("neck", ["dilated", "fpn", "lraspp"])
def test_all_schemes_are_judged_behind_any_neck(neck: str) -> None:
    """As a tree, and one by one."""
    torch.manual_seed(0)
    spec = create_spec(
        "resnet38", head="segmentation", neck=neck, attention="se", ratio=2, widths=(2, 2, 2), scheme="100000100100"
    )
    network, images = spec.build().eval(), torch.randn(1, 3, 16, 16)
    names = [decision.name for decision in spec.decisions()]
    every = dict(outputs_of_all(network, images))  # type: ignore[arg-type]
    assert len(every) == 8
    for scheme, out in every.items():
        torch.testing.assert_close(out, network(images, dict(zip(names, scheme, strict=True))))


def test_a_dilated_resnet_is_the_usual_one() -> None:
    assert create_spec("resnet50", head="segmentation").output_stride == 8  # type: ignore[attr-defined]
    joined = create_spec("resnet50", head="segmentation", neck="fpn")
    assert joined.output_stride == 32  # type: ignore[attr-defined]
    assert [tuple(one) for one in joined.maps()] == [(256, 4), (512, 8), (1024, 16), (2048, 32)]  # type: ignore[attr-defined]


def test_a_network_of_ones_own_may_make_the_output_itself() -> None:
    spec = create_spec(f"{__name__}:make_output", head="density", num_classes=1, image_size=(8, 8))
    network = spec.build()
    assert [name for name, _ in network.named_children()] == ["network"]
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 1, 4, 4)
    assert network.maskable_weights() == ["network.0.weight"]
    assert spec.coarsest_stride is None
    with pytest.raises(UserError, match="where two maps of 2 channels are needed"):
        create_spec(f"{__name__}:make_output", head="keypoints", num_classes=2, image_size=(8, 8), extra=1)


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("torchvision:swin_t", {"head": "detection"}, "a detector needs a map and its half as the last two"),
        ("torchvision:vit_b_16", {"head": "segmentation", "image_size": (224, 224)}, "leave out most of its layers"),
        ("resnet8", {"head": "detection", "image_size": (32, 64)}, "a detector takes square images, not 32 x 64"),
        ("resnet8", {"head": "detection", "blocks": (1,)}, "a detector needs a map and its half as the last two"),
        ("tunas_proxyless", {"head": "segmentation"}, "spaces of mobile networks have heads for classification and"),
        (
            "resnet38",
            {"head": "segmentation", "neck": "pan"},
            "unknown supernet.settings.neck 'pan'; did",
        ),
        ("resnet8", {"head": "segmentation", "neck": "dilated"}, "unknown supernet.settings.neck 'dilated'"),
        ("torchvision:alexnet", {"head": "keypoints", "image_size": (16, 16)}, "does not take images of 16 x 16"),
        ("torchvision:resnet18", {"head": "maps"}, "unknown supernet.settings.head 'maps'"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(name: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        create_spec(name, **{"num_classes": 3, "image_size": (64, 64)} | more).build()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
