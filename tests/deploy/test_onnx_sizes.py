"""Tools for ONNX can follow the sizes of every map in an exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnxruntime.quantization.shape_inference import quant_pre_process

import supertickets as st
from supertickets.config.recipe import Recipe
from supertickets.data import Preprocessing
from supertickets.deploy import export
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
    ("name", "head", "task"),
    [("timm:resnet18", "density", "counting"), ("hrnet_tiny", "segmentation", "segmentation")],
)
def test_maps_of_free_sizes_too(name: str, head: Any, task: str, tmp_path: Path) -> None:
    """A pyramid, whose maps are added up, and maps that are joined."""
    torch.manual_seed(0)
    outputs = 1 if task == "counting" else 3
    spec = create_spec(name, num_classes=outputs, in_channels=3, image_size=(64, 64), head=head)
    prepare = Preprocessing(3, (64, 64), (0.5,) * 3, (0.5,) * 3)
    about = {"recipe": Recipe(task=task).to_json()}
    check_prepares(st.Ticket(spec, spec.build().state_dict(), {}, tuple("abc")[:outputs], prepare, about), tmp_path)
