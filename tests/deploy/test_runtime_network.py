"""Tickets whose network runs in another runtime: `predict` and `evaluate` say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cli_outcome import Cli
from supertickets import Ticket, UserError
from supertickets.data import Preprocessing
from supertickets.deploy import on_runtime
from supertickets.deploy.runtimes import EXACT_RUNTIMES, RUNTIMES
from supertickets.models.factory import create_spec

pytestmark = pytest.mark.long
OTHERS = [name for name in EXACT_RUNTIMES if name != "torch"]


def a_ticket(task: str, head: str, classes: int, **settings: Any) -> Ticket:
    """A plain network with random weights and statistics for a task."""
    size = (32, 32)
    spec = create_spec("resnet8", width=4, image_size=size, num_classes=classes, head=head, **settings)
    torch.manual_seed(0)
    how = Preprocessing(3, size, (0.5,) * 3, (0.25,) * 3)
    names = tuple(f"class {i}" for i in range(classes))
    return Ticket(spec, spec.build().state_dict(), {}, names, how, {"recipe": {"task": task}})


TICKETS = {
    "classification": a_ticket("classification", "classification", 5),
    "segmentation": a_ticket("segmentation", "segmentation", 3, head_width=8),
    "counting": a_ticket("counting", "density", 1, head_width=8),
    "pose": a_ticket("pose", "keypoints", 17, head_width=8),
    "detection": a_ticket("detection", "detection", 3, head_width=8),
}


def close(a: Any, b: Any) -> bool:
    """Return whether two predictions agree: names and classes but for few pixels, numbers to 1e-3."""
    if isinstance(a, np.ndarray):
        if a.dtype == np.uint8:
            return a.shape == b.shape and float((a == b).mean()) > 0.99
        return a.shape == b.shape and np.allclose(a, b, atol=1e-3, rtol=1e-3)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(close, a, b))
    return a == b if isinstance(a, str) else a == pytest.approx(b, abs=1e-3)


@pytest.mark.parametrize(
    "task", [name if name != "detection" else pytest.param(name, marks=pytest.mark.slow) for name in TICKETS]
)
def test_every_task_predicts_the_same_in_onnxruntime(task: str) -> None:
    """Also images of other sizes, where a task takes them."""
    ticket = TICKETS[task]
    other = on_runtime(ticket, "onnxruntime", threads=1)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in ((32, 32), (45, 70))]
    assert close(other.predict(images), ticket.predict(images))
    assert other.module is not ticket.module
    assert not list(other.module.parameters())


@pytest.mark.parametrize("runtime", OTHERS)
def test_every_runtime_predicts_the_same(runtime: str) -> None:
    if not RUNTIMES[runtime].available():
        pytest.skip(f"{runtime} is not installed")
    ticket, image = TICKETS["classification"], np.random.default_rng(1).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    assert close(on_runtime(ticket, runtime).predict(image), ticket.predict(image))


def test_evaluate_and_predict_take_a_runtime(cli: Cli, quick_run: Path, images: Path) -> None:
    usual = json.loads(cli("evaluate", quick_run, "--json").out)
    done = cli("evaluate", quick_run, "--runtime", "onnxruntime", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out) == pytest.approx(usual, abs=1e-3)
    image = next(path for path in images.rglob("*") if path.suffix in (".png", ".jpg"))
    one, two = (
        json.loads(cli("predict", quick_run, image, "--runtime", name, "--json").out)[0]["classes"]
        for name in ("torch", "onnxruntime")
    )
    assert [entry["name"] for entry in one] == [entry["name"] for entry in two]
    probabilities = [[entry["probability"] for entry in some] for some in (one, two)]
    assert probabilities[0] == pytest.approx(probabilities[1], abs=1e-3)


def test_the_runtime_is_the_one_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = type(RUNTIMES["onnxruntime"])
    monkeypatch.setattr(runtime, "prepare", lambda *_: lambda images: np.eye(5, dtype=np.float32)[[3] * len(images)])
    [(name, _), *_] = on_runtime(TICKETS["classification"], "onnxruntime").predict(np.zeros((8, 8, 3), np.uint8))
    assert name == "class 3"


def test_what_a_runtime_cannot_do_is_said(cli: Cli, quick_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = cli("evaluate", quick_run, "--runtime", "onnxruntime", "--device", "cuda")
    assert (refused.status, "runs on the CPU, not on cuda" in refused.err) == (2, True)
    with pytest.raises(UserError, match="unknown runtime 'tvm'"):
        on_runtime(TICKETS["classification"], "tvm")
    monkeypatch.setattr(RUNTIMES["openvino"].__class__, "libraries", ("openvino_of_tomorrow",))
    monkeypatch.setitem(__import__("supertickets.errors").errors.EXTRAS, "openvino_of_tomorrow", "openvino")
    missing = cli("evaluate", quick_run, "--runtime", "openvino")
    assert missing.status == 2
    assert "pip install 'supertickets[openvino]'" in missing.err
