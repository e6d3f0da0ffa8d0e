"""Tools for ONNX can follow the sizes of every map in an exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import onnx
import pytest
import torch
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch.nn import functional as F

import supertickets as st
from supertickets.config.recipe import Recipe
from supertickets.data import Preprocessing
from supertickets.deploy import export
from supertickets.models import Network
from supertickets.models.factory import create_spec


def check_prepares(ticket: st.Ticket, folder: Path) -> None:
    """Checks that onnxruntime's recommended step before quantisation works, with its defaults."""
    path = export(ticket, folder / "model.onnx").path
    quant_pre_process(str(path), str(folder / "prepared.onnx"))
    graph = onnx.load(path).graph
    used = {name for node in graph.node for name in node.input}
    assert {one.name for one in graph.initializer} <= used


def test_a_supernet_with_resized_maps_can_be_prepared_for_quantisation(ticket: st.Ticket, tmp_path: Path) -> None:
    check_prepares(ticket, tmp_path)


PLAIN = {"widths": (4, 4, 4), "strides": (2, 2, 2), "head_width": 8, "in_channels": 3, "image_size": (32, 32)}


@pytest.mark.long
@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("counting", {**PLAIN, "head": "density", "num_classes": 1}),
        ("segmentation", {**PLAIN, "head": "segmentation", "num_classes": 3}),
    ],
)
def test_plain_networks_of_free_sizes_too(task: str, settings: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = create_spec("resnet8", **settings)
    how = Preprocessing(3, (32, 32), (0.5,) * 3, (0.5,) * 3)
    names = ("a", "b", "c")[: spec.num_classes]
    about = {"recipe": Recipe(task=task).to_json()}
    check_prepares(st.Ticket(spec, spec.build().state_dict(), {}, names, how, about), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "head", "task", "settings"),
    [
        ("timm:resnet18", "density", "counting", {}),
        (
            "resnet8",
            "density",
            "counting",
            {"widths": [8, 12, 24], "strides": [2] * 3, "stem_stride": 2, "neck": "fpn"},
        ),
        ("hrnet_tiny", "segmentation", "segmentation", {}),
    ],
)
def test_maps_of_free_sizes_too(name: str, head: Any, task: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """A pyramid, whose maps are added up, and maps that are joined."""
    torch.manual_seed(0)
    outputs = 1 if task == "counting" else 3
    spec = create_spec(name, num_classes=outputs, in_channels=3, image_size=(64, 64), head=head, **settings)
    prepare = Preprocessing(3, (64, 64), (0.5,) * 3, (0.5,) * 3)
    about = {"recipe": Recipe(task=task).to_json()}
    check_prepares(st.Ticket(spec, spec.build().state_dict(), {}, tuple("abc")[:outputs], prepare, about), tmp_path)


class Beside(torch.nn.Module):
    """A resized map that meets another one; how, is given."""

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int], join: str) -> None:
        super().__init__()
        self.join, self.first = join, torch.nn.Conv2d(in_channels, num_classes, 1)
        self.gate = torch.nn.Conv2d(in_channels, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x).relu()
        if self.join == "point":  # which is repeated
            y = F.interpolate(y, scale_factor=2) + self.gate(x.mean((2, 3), keepdim=True))
        elif self.join == "rows":
            rows = self.gate(x)[:, :, :3]
            y = torch.cat([rows, F.interpolate(y, scale_factor=(2, 1))], 2)
        else:  # a factor that makes no whole size, so that pixels lie elsewhere than the size says
            larger = F.pad(self.gate(x), (1, 1, 1, 1))
            y = F.interpolate(y, scale_factor=1.3, mode="bilinear") + larger
        return y.relu().mean((2, 3))


@pytest.mark.parametrize("join", ["point", "rows", "fraction"])
def test_a_neighbour_of_another_size_says_nothing(join: str, tmp_path: Path) -> None:
    """The export itself compares scores, and writes nothing that differs."""
    torch.manual_seed(0)
    spec = create_spec(f"{__name__}:Beside", in_channels=3, image_size=(8, 8), num_classes=4, join=join)
    how = Preprocessing(3, (8, 8), (0.5,) * 3, (0.5,) * 3)
    ticket = st.Ticket(spec, spec.build().state_dict(), {}, tuple("abcd"), how, {"recipe": Recipe().to_json()})
    assert export(ticket, tmp_path / "model.onnx").path.exists()
    if join == "fraction":
        with pytest.raises(st.UserError, match="factor that makes no whole size"):
            export(ticket, tmp_path / "model.sparse", "sparse")


class HalfAndBack(torch.nn.Module):
    """A network that adds a map to itself at half the size and back, which fits at even sizes alone."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW + F.interpolate(F.max_pool2d(x_BCHW, 2), scale_factor=2)


def test_a_network_for_some_sizes_asks_for_fixed_ones(tmp_path: Path) -> None:
    spec = create_spec(
        "resnet8", num_classes=3, image_size=(64, 64), head="segmentation", widths=[4], strides=[2], blocks=[1]
    )
    about = {"recipe": Recipe(task="segmentation").to_json()}
    ticket = st.Ticket(
        spec, spec.build().state_dict(), {}, tuple("abc"), Preprocessing(3, (64, 64), (0,) * 3, (1,) * 3), about
    )
    with pytest.raises(st.UserError, match=r"any size \(The size of tensor a .* give --fixed for images of one size"):
        export(ticket.with_module(cast(Network, HalfAndBack())), tmp_path / "model.onnx")
