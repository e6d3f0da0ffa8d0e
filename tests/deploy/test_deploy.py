"""Deployment: dead channels go and nothing changes; exported files say what the ticket says."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor

from cli_outcome import onnx_predict
from supertickets import Ticket, UserError
from supertickets.data import Preprocessing
from supertickets.deploy import Exported, compact, export
from supertickets.deploy.exporter import Format
from supertickets.models import HRNetSpec
from supertickets.models.factory import create_spec

EXPORT = importlib.import_module("supertickets.deploy.exporter")
Weights = dict[str, Tensor]
SMALL = {"in_channels": 2, "num_classes": 4, "kernels": (3, 5), "stem_channels": (4, 4), "last_channels": 12}
# Two branches, with tokens: blocks of both strides and shortcuts.
SPEC = create_spec(
    "hrnet_tiny", channels=((4, 6),), blocks=((1, 1),), head_channels=(6, 8), expansion=1, tokens=2, grid=2, **SMALL
)
# One branch, where the file matters: exporting takes seconds, and grows with the network.
ONE = {"channels": ((4,),), "blocks": ((1,),), "head_channels": (6,), "expansion": 1}
NARROW = create_spec("hrnet_tiny", tokens=2, grid=2, **ONE, **SMALL)
LEAST = create_spec("hrnet_tiny", transformer=False, **ONE, **SMALL)


def made(change: Callable[[Weights], None], spec: HRNetSpec = SPEC, seed: int = 0) -> Ticket:
    """A dense ticket with random weights and BN statistics, changed; its mask is where the weights are not zero."""
    generator = torch.Generator().manual_seed(seed)
    module = spec.build()
    weights = {}
    for name, value in module.state_dict().items():
        if name.endswith("running_var"):
            value = 0.5 + torch.rand(value.shape, generator=generator)
        elif value.is_floating_point() and value.ndim <= 1:
            value = torch.randn(value.shape, generator=generator) + (1 if name.endswith("weight") else 0)
        elif value.is_floating_point():
            fan_in = max(value[0].numel(), 1)
            value = torch.randn(value.shape, generator=generator) / fan_in**0.5
        weights[name] = value.clone()
    change(weights)
    mask = {name: weights[name] != 0 for name in module.maskable_weights()}
    how = Preprocessing(spec.in_channels, spec.image_size, (0.5,) * spec.in_channels, (0.25,) * spec.in_channels)
    return Ticket(spec, weights, mask, tuple("abcd")[: spec.num_classes], how, {})


@torch.no_grad()
def difference(a: Ticket, b: Ticket) -> float:
    """The largest difference of two tickets' outputs, in units of the largest output."""
    images = 2 * torch.randn(7, *a.spec.input_shape, generator=torch.Generator().manual_seed(1))
    mine, theirs = a.module(images), b.module(images)
    assert mine.std() > 0.05  # the network is no constant
    return float((mine - theirs).abs().max() / mine.abs().max())


def channels(spec: HRNetSpec) -> dict[str, int]:
    return {name: sum(units.hidden) for name, units in spec.units.items()}


def removed(before: Ticket, after: Ticket) -> dict[str, int]:
    left = channels(after.spec)
    return {name: count - left[name] for name, count in channels(before.spec).items()}


def depthwise(weights: Weights, block: str, channel: int) -> Tensor:
    """The filter of a hidden channel, by its number among all kernel sizes."""
    for kernel in (3, 5):
        part = weights[f"blocks.{block}.depthwise.k{kernel}.weight"]
        if channel < len(part):
            return part[channel]
        channel -= len(part)
    raise IndexError


def no_column(weights: Weights, block: str, c: int) -> None:
    weights[f"blocks.{block}.project.weight"][:, c] = 0


def no_filter(weights: Weights, block: str, c: int) -> None:
    depthwise(weights, block, c).zero_()


def no_filter_but_a_constant(weights: Weights, block: str, c: int) -> None:
    no_filter(weights, block, c)
    weights[f"blocks.{block}.unit_bn.running_mean"][c] = 0
    weights[f"blocks.{block}.unit_bn.bias"][c] = 2.5


def no_scale(weights: Weights, block: str, c: int) -> None:
    weights[f"blocks.{block}.unit_bn.weight"][c] = 0
    weights[f"blocks.{block}.unit_bn.bias"][c] = 1.5


def no_row_and_silent(weights: Weights, block: str, c: int) -> None:
    weights[f"blocks.{block}.expand.weight"][c] = 0
    for name, value in (("bias", -1.0), ("running_mean", 0.3), ("weight", 0.7)):
        weights[f"blocks.{block}.expand_bn.{name}"][c] = value


def no_row_and_exactly_silent(weights: Weights, block: str, c: int) -> None:
    no_row_and_silent(weights, block, c)
    for name in ("bias", "running_mean"):
        weights[f"blocks.{block}.expand_bn.{name}"][c] = 0


def no_row_but_a_rest(weights: Weights, block: str, c: int) -> None:
    no_row_and_silent(weights, block, c)
    # A constant map, which the padded depthwise convolution bends at its borders.
    weights[f"blocks.{block}.expand_bn.bias"][c] = 2.0


DEAD = [no_column, no_filter, no_filter_but_a_constant, no_scale, no_row_and_silent, no_row_and_exactly_silent]
Kill = Callable[[Weights, str, int], None]


def test_nothing_dead_is_nothing_removed() -> None:
    ticket = made(lambda weights: None)
    small = compact(ticket)
    assert not any(removed(ticket, small).values())
    assert difference(ticket, small) == 0


@pytest.mark.parametrize("kill", DEAD)
def test_a_dead_channel_goes_and_outputs_stay(kill: Kill) -> None:
    def first_and_last(weights: Weights) -> None:  # of the smallest and of the largest kernel, in every block
        for block, count in channels(SPEC).items():
            kill(weights, block, 0)
            kill(weights, block, count - 1)

    ticket = made(first_and_last)
    small = compact(ticket)
    assert removed(ticket, small) == dict.fromkeys(SPEC.units, 2)
    assert difference(ticket, small) < 1e-5


def test_a_channel_without_a_row_but_with_a_rest_stays() -> None:
    ticket = made(lambda weights: [no_row_but_a_rest(weights, block, 1) for block in SPEC.units] and None)
    small = compact(ticket)
    assert not any(removed(ticket, small).values())
    assert difference(ticket, small) < 1e-5


@pytest.mark.parametrize("block", SPEC.shapes())
def test_a_block_without_a_living_channel_leaves_its_constant(block: str) -> None:
    def all_of_it(weights: Weights) -> None:
        for channel in range(channels(SPEC)[block]):
            DEAD[channel % len(DEAD)](weights, block, channel)

    ticket = made(all_of_it)
    small = compact(ticket)
    assert channels(small.spec)[block] == 0
    assert difference(ticket, small) < 1e-5
    assert not any(name.startswith(f"blocks.{block}.project") for name in small.weights)


def test_a_kernel_size_can_go_as_a_whole() -> None:
    def threes(weights: Weights) -> None:
        weights["blocks.s0_b0_0.depthwise.k3.weight"].zero_()

    ticket = made(threes)
    small = compact(ticket)
    assert small.spec.units["s0_b0_0"].hidden == (0, 4)
    assert difference(ticket, small) < 1e-5


@pytest.mark.parametrize("seed", range(6))
def test_channels_that_die_in_every_way_at_once(seed: int) -> None:
    random = np.random.default_rng(seed)
    dead: dict[str, set[int]] = {name: set() for name in SPEC.units}

    def many(weights: Weights) -> None:
        for block, count in channels(SPEC).items():
            for channel in range(count):
                which = int(random.integers(0, 2 * len(DEAD)))
                if which < len(DEAD):
                    DEAD[which](weights, block, channel)
                    dead[block].add(channel)
                elif which == len(DEAD):
                    no_row_but_a_rest(weights, block, channel)

    ticket = made(many, seed=seed)
    small = compact(ticket)
    assert removed(ticket, small) == {name: len(gone) for name, gone in dead.items()}
    assert difference(ticket, small) < 1e-5
    assert small.cost.params < ticket.cost.params
    assert small.cost.macs < ticket.cost.macs


def test_compaction_keeps_masks_in_step_and_leaves_the_ticket_alone() -> None:
    ticket = made(lambda weights: [no_column(weights, "s0_b1_0", c) for c in (1, 4, 7)] and None)
    before = {name: value.clone() for name, value in ticket.weights.items()}
    small = compact(ticket)
    assert all(torch.equal(ticket.weights[name], value) for name, value in before.items())
    assert small.mask.keys() == ticket.mask.keys()
    for name, flags in small.mask.items():
        assert flags.shape == small.weights[name].shape
        assert not small.weights[name][~flags].any()
    assert small.cost.nonzero_params < ticket.cost.nonzero_params  # the rows that nobody reads are gone too


def test_a_drawn_ticket_survives_compaction(ticket: Ticket) -> None:
    assert difference(ticket, compact(ticket)) < 1e-5


@pytest.fixture(scope="module")
def half_dead() -> Ticket:
    """A ticket with a block that has no living channel, and others that have lost one."""

    def some(weights: Weights) -> None:
        no_column(weights, "s0_fuse_0to0", 1)
        no_scale(weights, "head_raise_0", 5)
        for channel in range(channels(NARROW)["s0_b0_0"]):
            no_filter(weights, "s0_b0_0", channel)

    return made(some, NARROW)


@pytest.fixture(scope="module")
def onnx_file(half_dead: Ticket, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(half_dead, tmp_path_factory.mktemp("onnx") / "sub" / "model.onnx")


@pytest.mark.long
def test_onnx_says_what_the_ticket_says_at_any_batch(half_dead: Ticket, onnx_file: Exported) -> None:
    session = onnxruntime.InferenceSession(str(onnx_file.path), providers=["CPUExecutionProvider"])
    (given,), (got,) = session.get_inputs(), session.get_outputs()
    assert given.shape[1:] == [2, 8, 8]
    assert isinstance(given.shape[0], str)  # a name, no number
    for batch in (1, 3, 11):
        images = torch.randn(batch, 2, 8, 8, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            expected = half_dead.module(images).numpy()
        scores = session.run([got.name], {given.name: images.numpy()})[0]
        assert np.abs(scores - expected).max() < 1e-4
        assert expected.std() > 0.05


@pytest.mark.long
def test_onnx_holds_classes_and_preprocessing(half_dead: Ticket, onnx_file: Exported) -> None:
    model = onnx.load(str(onnx_file.path))
    onnx.checker.check_model(model)
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props if entry.key in _METADATA}
    expected = json.loads(json.dumps({"classes": half_dead.classes, "preprocessing": asdict(half_dead.preprocessing)}))
    assert metadata == expected


_METADATA = ("classes", "preprocessing")


@pytest.mark.long
def test_an_export_reports_parity_and_removed_channels(half_dead: Ticket, onnx_file: Exported) -> None:
    assert onnx_file.parity < 1e-4
    assert onnx_file.channels_removed == sum(removed(half_dead, compact(half_dead)).values()) == 10
    assert [path.name for path in onnx_file.path.parent.iterdir()] == ["model.onnx"]


@pytest.mark.long
def test_torch_export_says_what_the_ticket_says(
    half_dead: Ticket, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        exported = export(half_dead, tmp_path / "model.pt2", "torch")
    assert exported.parity < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]
    module = torch.export.load(exported.path).module()
    for batch in (1, 5):
        images = torch.randn(batch, 2, 8, 8, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            assert torch.allclose(module(images), half_dead.module(images), atol=1e-4)
    assert [record.getMessage() for record in caplog.records] == []  # the user asked for a file, not for a talk
    assert capfd.readouterr().err == ""


@pytest.mark.long
@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_a_failing_parity_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Format) -> None:
    monkeypatch.setattr(EXPORT, "TOLERANCE", 0.0)
    with pytest.raises(RuntimeError, match="differs"):
        export(made(lambda weights: None, LEAST), tmp_path / "model", kind)
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_a_wrong_export_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check compares with the ticket itself, so that an error of the compaction is seen too."""
    monkeypatch.setattr(EXPORT, "compact", lambda ticket: made(lambda weights: None, LEAST, seed=9))
    (tmp_path / "model.pt2").write_text("an older export")
    with pytest.raises(RuntimeError, match="differs"):
        export(made(lambda weights: None, LEAST), tmp_path / "model.pt2", "torch")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["an older export"]


# Two branches behind a stem of stride 2, in a square; the second stage adds the coarser to the finer.
TWO = SMALL | {"channels": ((6, 6), (4, 4)), "blocks": ((0, 0), (1, 1)), "stem_strides": (2, 1)}
SCENES = create_spec("hrnet_tiny", head="segmentation", image_size=(32, 32), expansion=1, tokens=2, grid=4, **TWO)


@pytest.mark.long
def test_scenes_of_any_size(tmp_path: Path) -> None:
    """Also where a map has the size of the tokens' grid; the coarser map has two cells from 5 pixels on."""
    ticket = made(lambda weights: None, SCENES)
    exported = export(ticket, tmp_path / "model.pt2", "torch")
    assert exported.parity < 1e-4
    module = torch.export.load(exported.path).module()
    for size in ((32, 32), (5, 5), (31, 50), (64, 33), (16, 14), (41, 8)):
        images = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(size[1]))
        with torch.no_grad():
            wanted = ticket.module(images)
        assert wanted.shape[2:] == tuple(-(-side // 2) for side in size)
        assert (module(images) - wanted).abs().max() < 1e-4 * max(1, wanted.abs().max())
    with pytest.raises(Exception, match=">= 5"):
        module(torch.zeros(1, 2, 32, 4))


@pytest.mark.long
def test_an_error_at_another_size_alone_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = made(lambda weights: None, replace(LEAST, head="segmentation", units={}))
    asked = []

    def wrong_elsewhere(*args: Any) -> Callable[[np.ndarray], np.ndarray]:
        args[-1].touch()  # the file

        def run(images: np.ndarray) -> np.ndarray:
            asked.append(images.shape)
            scores = ticket.module(torch.from_numpy(images)).detach().numpy()
            return scores if images.shape[2:] == (8, 8) else scores + np.nan

        return run

    monkeypatch.setitem(EXPORT._WRITERS, "torch", wrong_elsewhere)
    with pytest.raises(RuntimeError, match="differs by nan"):
        export(ticket, tmp_path / "model.pt2", "torch")
    assert asked == [(8, 2, 8, 8), (1, 2, 8, 8), (1, 2, 9, 11)]
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_the_example_script_agrees_with_predict_on_a_jpeg(tmp_path: Path) -> None:
    """A photograph of another shape and size, turned by EXIF; only onnxruntime, Pillow and numpy on the other side."""
    how = Preprocessing(3, (16, 16), (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), "crop", 0.875, "bicubic")
    spec = create_spec(
        "hrnet_tiny",
        in_channels=3,
        image_size=(16, 16),
        num_classes=3,
        channels=[[6, 8]],
        blocks=[[1, 1]],
        head_channels=[8, 12],
    )
    torch.manual_seed(0)
    ticket = Ticket(spec, spec.build().state_dict(), {}, ("cat", "dog", "big bird"), how, {"recipe": {}})
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3)).astype(np.uint8)
    image = Image.fromarray(pixels).resize((90, 120), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "photo.JPG", exif=exif)
    exported = export(ticket, tmp_path / "model.onnx")
    _, *entries = onnx_predict(exported.path, tmp_path / "photo.JPG").out.strip().split("\t")
    wanted = ticket.predict([tmp_path / "photo.JPG"])[0]
    assert [text.rpartition(" ")[0] for text in entries] == [name for name, _ in wanted]
    assert [float(text.rpartition(" ")[2]) for text in entries] == pytest.approx([p for _, p in wanted], abs=1e-4)


@pytest.mark.long
def test_the_example_script_names_a_preprocessing_that_it_does_not_know(tmp_path: Path) -> None:
    given = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1])
    got = onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1])
    same = onnx.helper.make_node("Identity", ["images"], ["scores"])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([same], "same", [given], [got]),
        opset_imports=[onnx.helper.make_opsetid("", 20)],
        ir_version=10,
    )
    about = {"classes": [], "preprocessing": {"fit": "fold", "size": [8, 8]}}
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in about.items()})
    onnx.save(model, tmp_path / "model.onnx")
    outcome = onnx_predict(tmp_path / "model.onnx", tmp_path / "none.png")
    assert (outcome.status, len(outcome.err.splitlines())) == (1, 1)
    assert "'fold'" in outcome.err


def test_a_folder_is_no_name_for_an_export(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder; give --out the name of a file"):
        export(made(lambda weights: no_column(weights, "s0_b0_0", 0), LEAST), tmp_path)
