"""The sparse format: tickets of every family say the same without PyTorch, and what cannot run is named."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from cli_outcome import Cli
from sparse_tickets import FAMILIES, ticket_of
from supertickets import UserError
from supertickets.deploy import export
from supertickets.deploy.onnx_graph import read_onnx
from supertickets.models.factory import create_spec
from supertickets.runtime import load

EXPORT = importlib.import_module("supertickets.deploy.exporter")


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_runs_without_torch(family: str, tmp_path: Path) -> None:
    spec = FAMILIES[family]()
    ticket = ticket_of(spec)
    exported = export(ticket, tmp_path / "net.sparse", "sparse")
    assert exported.parity < 1e-4
    engine = load(exported.path)
    assert engine.about["classes"] == list(ticket.classes)
    assert engine.about["preprocessing"]["mean"] == [0.5] * spec.in_channels
    images = torch.randn(3, *spec.input_shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        wanted = ticket.module(images).numpy()
    assert wanted.std() > 1e-6  # the network is no constant
    np.testing.assert_allclose(engine(images.numpy()), wanted, atol=1e-4 * max(1, np.abs(wanted).max()))


def test_zeros_make_the_file_small(tmp_path: Path) -> None:
    sizes = []
    for sparsity in (0.0, 0.9):
        ticket = ticket_of(create_spec("resnet8", width=8, num_classes=4), sparsity)
        sizes.append(export(ticket, tmp_path / "net.sparse", "sparse").path.stat().st_size)
    assert sizes[1] < 0.4 * sizes[0]


def test_what_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(path: Path, **options: Any) -> Callable[[Any], Any]:
        engine = load(path, **options)
        return lambda images: engine(images) + 1e-3

    monkeypatch.setattr(EXPORT, "load_sparse", wrong)
    with pytest.raises(RuntimeError, match=r"differs by 0\.001"):
        export(ticket_of(create_spec("resnet8", width=4, num_classes=4)), tmp_path / "net.sparse", "sparse")
    assert list(tmp_path.iterdir()) == []


def onnx_model(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    value = onnx.helper.make_tensor_value_info
    given = value("images", onnx.TensorProto.FLOAT, ["batch", 3, 8, 8])
    last = nodes[-1].output[0]
    graph = onnx.helper.make_graph(nodes, "g", [given], [value(last, onnx.TensorProto.FLOAT, None)])
    return onnx.helper.make_model(graph)


def test_what_cannot_run_is_named_at_once() -> None:
    node = onnx.helper.make_node
    model = onnx_model(
        node("Erf", ["images"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("CumSum", ["images"], ["c"]),
        node("Add", ["b", "c"], ["d"]),
    )
    with pytest.raises(UserError, match="cannot run CumSum, Erf; export with --format onnx instead"):
        read_onnx(model, (3, 8, 8))


def test_fusion_by_hand() -> None:
    """Conv + bias, hard-swish of its parts, and a sum that is read twice, which stays."""
    node = onnx.helper.make_node
    model = onnx_model(
        node("HardSigmoid", ["images"], ["gate"], alpha=1 / 6, beta=0.5),
        node("Mul", ["images", "gate"], ["swish"]),
        node("Sigmoid", ["swish"], ["other"]),
        node("Mul", ["other", "swish"], ["silu"]),
        node("Add", ["silu", "images"], ["sum"]),
        node("Relu", ["sum"], ["relu"]),
        node("Identity", ["relu"], ["same"]),
        node("Mul", ["same", "sum"], ["out"]),
    )
    graph = read_onnx(model, (3, 8, 8))
    kinds = [(n.operation, n.attributes["activation"]) for n in graph.nodes]
    assert kinds == [
        ("activation", ("hard_swish",)),
        ("activation", ("silu",)),
        ("add", ("none",)),
        ("activation", ("relu",)),
        ("mul", ("none",)),
    ]


@pytest.mark.long
def test_the_command(tmp_path: Path, cli: Cli) -> None:
    ticket_of(create_spec("resnet8", width=4, num_classes=4)).save_pretrained(tmp_path / "ticket")
    done = cli("export", tmp_path / "ticket", "--format", "sparse")
    assert done.status == 0, done.err
    assert "model.sparse" in done.out
    assert load(tmp_path / "ticket" / "model.sparse")(np.zeros((1, 3, 32, 32))).shape == (1, 4)
