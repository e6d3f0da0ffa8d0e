"""Export in 8-bit integers: what the file says, how it is judged, and when it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import supertickets as st
from cli_outcome import Cli
from supertickets import UserError
from supertickets.data import Preprocessing
from supertickets.deploy.exporter import export, onnx_runner
from supertickets.deploy.int8 import CALIBRATION_IMAGES, calibration_images, export_int8
from supertickets.deploy.quantization import quantize
from supertickets.models.factory import create_spec
from supertickets.runs.evaluate import load_ticket_data

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain network with half of its weights, in a few epochs."""
    words = [
        *("--supernet.name", "resnet8", "--supernet.settings.width", "8", "--threads", "1", "--epochs", "6"),
        *(
            "--evaluate_every",
            "6",
            "--recalibrate_batches",
            "2",
            "--search.interval",
            "0",
            "--search.last_epoch",
            "null",
        ),
        *("--prune.schedule", "cubic", "--prune.ratio", "0.5", "--prune.steps", "5"),
    ]
    folder = tmp_path_factory.mktemp("int8") / "run"
    st.draw(st.load_recipe("digits", words), folder)
    return folder


def test_it_is_smaller_says_nearly_the_same_and_keeps_zeros(run: Path, tmp_path: Path, cli: Cli) -> None:
    outcome = cli("export", run, "--int8", "--out", tmp_path / "small.onnx", "--json")
    assert outcome.status == 0, outcome.err
    said = json.loads(outcome.out)
    assert said["loss"] <= 1
    assert said["before"]["top1"] - said["after"]["top1"] == pytest.approx(said["loss"])
    ticket = st.load(run)
    assert said["before"]["top1"] == pytest.approx(ticket.about["validation"]["top1"])
    model = onnx.load(tmp_path / "small.onnx")
    integers = [numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    weights = [values for values in integers if values.ndim == 4]
    zeros = sum(int((values == 0).sum()) for values in weights) / sum(values.size for values in weights)
    assert zeros >= 0.45  # those of the mask, and what rounds to zero
    whole = cli("export", run, "--out", tmp_path / "whole.onnx")
    assert whole.status == 0
    assert (tmp_path / "small.onnx").stat().st_size < 0.55 * (tmp_path / "whole.onnx").stat().st_size
    batches = load_ticket_data(ticket)
    images = next(iter(batches.evaluation(batches.splits.validation)))[0].numpy()
    small, large = (onnx_runner(tmp_path / name)(images) for name in ("small.onnx", "whole.onnx"))
    assert small.shape == large.shape
    assert 0 < np.abs(small - large).max() < 0.2 * np.abs(large).max()


def test_a_file_that_loses_too_much_is_not_written(run: Path, tmp_path: Path) -> None:
    ticket, path = st.load(run), tmp_path / "folder" / "small.onnx"
    with pytest.raises(UserError, match=r"int8 loses .* points of accuracy .*; allow it with --force"):
        export_int8(ticket, path, most_loss=-100)
    assert not path.exists()
    assert export_int8(ticket, path, most_loss=-100, force=True).path.exists()
    assert [file.name for file in path.parent.iterdir()] == ["small.onnx"]


def test_it_is_calibrated_on_training_images_as_they_are(run: Path) -> None:
    """Without augmentation, in whole batches, no more than needed."""
    batches = load_ticket_data(st.load(run))
    images = np.concatenate(list(calibration_images(batches)))
    assert len(images) <= CALIBRATION_IMAGES
    known = np.concatenate([inputs.numpy() for inputs, _ in batches.evaluation(batches.splits.train)])
    rows = {row.tobytes() for row in known}
    assert all(row.tobytes() in rows for row in images)


def test_other_formats_and_places_are_refused(run: Path, cli: Cli, tmp_path: Path) -> None:
    outcome = cli("export", run, "--int8", "--format", "torch")
    assert outcome.status == 2
    assert "--int8 writes ONNX" in outcome.err
    for words, line in (
        (["--int8", "--out", tmp_path], f"{tmp_path} is a folder; give --out the name of a file"),
        (["--out", f"{tmp_path}/new/"], "new/ is a folder; give --out the name of a file"),
        (["--most-loss", "0"], "--most-loss is for --int8; leave it out"),
        (["--data", tmp_path], "--data is for --int8; leave it out"),
    ):
        outcome = cli("export", run, *words)
        assert (outcome.status, line in outcome.err) == (2, True)
        assert outcome.err.count("\n") == 1


SMALL = {"channels": ((4,),), "blocks": ((1,),), "head_channels": (6,), "expansion": 1, "tokens": 2, "grid": 2}
SMALL |= {"stem_channels": (4, 4), "last_channels": 12}


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        ("hrnet_tiny", SMALL),
        ("resnet8", {"head": "density", "num_classes": 1, "widths": (4, 4, 4), "strides": (2, 2, 2), "head_width": 8}),
    ],
    ids=["Transformer", "scenes of any size"],
)
def test_quantisation_takes_exports_as_they_are(network: str, settings: dict[str, Any], tmp_path: Path) -> None:
    spec = create_spec(network, **{"num_classes": 3, **settings})
    torch.manual_seed(0)
    how = Preprocessing(spec.in_channels, spec.image_size, (0.5,) * spec.in_channels, (0.25,) * spec.in_channels)
    ticket = st.Ticket(spec, spec.build().state_dict(), {}, ("a", "b", "c")[: spec.num_classes], how, {})
    whole, small = export(ticket, tmp_path / "whole.onnx").path, tmp_path / "small.onnx"
    images = [torch.randn(8, *spec.input_shape).numpy()]
    quantize(whole, small, images)
    kinds = {node.op_type for node in onnx.load(str(small)).graph.node}
    assert "QuantizeLinear" in kinds
    scores = [onnx_runner(path, 1)(images[0]) for path in (whole, small)]
    assert np.corrcoef(*map(np.ravel, scores))[0, 1] > 0.9
