"""Tables and figures."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from rich.table import Table

from supertickets import Ticket, UserError
from supertickets.cost import count
from supertickets.cost.latency import Latency
from supertickets.deploy import Bench
from supertickets.models.factory import create_spec
from supertickets.report.tables import architecture_table, bench_table, cost_lines, describe
from supertickets.visualization.overlays import draw_prediction, format_prediction, pixel_shares, predictions
from supertickets.visualization.run_figure import digits_page, draw_run_figure


def text(table: Table, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def assert_figure(path: Path, least: tuple[int, int], most: tuple[int, int]) -> None:
    with Image.open(path) as figure:
        assert figure.format == "PNG"
        assert all(low <= size <= high for low, size, high in zip(least, figure.size, most, strict=True))
        assert np.asarray(figure.convert("L")).std() > 5  # something is on it


@pytest.fixture
def run_copy(toy_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_run, tmp_path / "run"))


def test_a_run_at_a_glance(run_copy: Path, ticket: Ticket) -> None:
    path = draw_run_figure(run_copy, ticket)
    assert path.parent == run_copy
    assert_figure(path, (800, 500), (4000, 3000))


def test_a_dense_run_at_a_glance(run_copy: Path, ticket: Ticket) -> None:
    (run_copy / "events.jsonl").write_text(
        "".join(
            line + "\n"
            for line in (run_copy / "events.jsonl").read_text().splitlines()
            if json.loads(line)["event"] in ("epoch", "recalibrate", "digest")
        )
    )
    assert_figure(draw_run_figure(run_copy, replace(ticket, mask={})), (800, 500), (4000, 3000))


def test_predictions_are_written_beside_their_figures(ticket: Ticket, tmp_path: Path) -> None:
    names = []
    for name, size, mode in (("small", (8, 8), "L"), ("large", (500, 300), "RGB"), ("wide", (40, 10), "RGBA")):
        names.append(tmp_path / f"{name}.png")
        Image.new(mode, size, "white").save(names[-1])
    found = list(predictions(ticket, names, save=tmp_path / "new" / "folder"))
    assert [path for path, _ in found] == names
    written = sorted((tmp_path / "new" / "folder").iterdir())
    assert [path.name for path in written] == ["large.png", "small.png", "wide.png"]
    for path in written:
        assert_figure(path, (160, 80), (600, 400))


def test_figures_of_one_name_do_not_overwrite_each_other(ticket: Ticket, tmp_path: Path) -> None:
    names = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        names.append(tmp_path / folder / "digit.png")
        Image.new("L", (8, 8)).save(names[-1])
    list(predictions(ticket, names, save=tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["digit-2.png", "digit.png"]


def test_figures_are_predicted_and_written_one_by_one(ticket: Ticket, tmp_path: Path) -> None:
    """What was read before and behind a broken figure is written, each when it is its turn."""
    names = [tmp_path / f"{name}.png" for name in ("a", "b", "c")]
    for path in names:
        Image.new("L", (8, 8), 90).save(path)
    names[1].write_bytes(names[1].read_bytes()[:50])
    written = []
    for path, said in predictions(ticket, names, save=tmp_path / "out"):
        if path == names[1]:
            assert isinstance(said, UserError)
            assert str(path) in str(said)
        else:
            assert isinstance(said, dict)
            assert [(row["name"], row["probability"]) for row in said["classes"]] == ticket.predict([path])[0]
        written.append(sorted(path.name for path in (tmp_path / "out").iterdir()))
    assert written == [["a.png"], ["a.png"], ["a.png", "c.png"]]


def test_deep_and_transparent_figures_are_shown_as_they_are_read(ticket: Ticket) -> None:
    deep = Image.fromarray(np.full((8, 8), 40 * 257, np.uint16))
    glass = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    for figure, colour in ((deep, (40, 40, 40)), (glass, (255, 255, 255))):
        page = format_prediction(ticket, figure, [("seven", 0.93)])
        assert page.getpixel((0, 0)) == colour


def test_a_painted_scene_has_the_colours_of_its_classes_and_a_legend() -> None:
    mask = np.zeros((40, 80), np.uint8)
    mask[20:] = 2
    page = np.asarray(draw_prediction(Image.new("RGB", (80, 40)), mask, ("sky", "tree", "road")))
    scene, legend = page[:160, :320], page[:, 320:]
    assert len(np.unique(scene.reshape(-1, 3), axis=0)) == 2
    assert (scene[:80] == scene[0, 0]).all()
    solid = np.unique(legend[8:22, 10:24].reshape(-1, 3), axis=0)
    assert len(solid) == 1
    assert np.abs(solid[0] * 0.55 - scene[0, 0]).max() <= 1  # over black
    assert pixel_shares(mask, ("sky", "tree", "road")) == [("sky", 0.5), ("road", 0.5)]


@pytest.mark.parametrize("count", [1, 10])
def test_a_page_of_digits(tmp_path: Path, count: int) -> None:
    images = [Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)) for _ in range(count)]
    digits_page(images, ["3"] * count, [[("3", 0.8), ("5", 0.2)]] * count, tmp_path / "page.png")
    assert_figure(tmp_path / "page.png", (100, 100), (3000, 500))


def test_describe_takes_tickets_runs_and_recipes(ticket: Ticket, toy_run: Path) -> None:
    for what in (toy_run, toy_run / "ticket"):
        found = describe(str(what))
        spec, mask, cost = found.spec, found.mask, found.cost
        assert spec == ticket.spec
        assert cost == ticket.cost
        assert mask.keys() == ticket.mask.keys()
    found = describe("digits")
    spec, mask, cost = found.spec, found.mask, found.cost
    assert spec == create_spec("hrnet_tiny", in_channels=1)
    assert not mask
    assert cost == count(spec)


@pytest.mark.parametrize("what", ["digit", "/nowhere"])
def test_describe_names_what_is_neither(what: str) -> None:
    with pytest.raises(UserError, match=what):
        describe(what)


def test_the_architecture_has_a_row_per_block(ticket: Ticket) -> None:
    lines = text(architecture_table(ticket.spec, ticket.mask, ticket.cost)).splitlines()
    full = ticket.spec.full_units()
    for name, units in ticket.spec.units.items():
        (line,) = (line for line in lines if line.split()[:1] == [name])
        for left, most in zip(units.hidden, full[name].hidden, strict=True):
            assert (f"{left}/{most}" if left < most else str(most)) in line.split()
        tokens, all_tokens = units.tokens, full[name].tokens
        assert not all_tokens or (f"{tokens}/{all_tokens}" if tokens < all_tokens else str(tokens)) in line.split()
        flags = [f for key, f in ticket.mask.items() if key.startswith(f"blocks.{name}.")]
        if flags:
            density = sum(int(f.sum()) for f in flags) / sum(f.numel() for f in flags)
            assert line.split()[-1] == f"{density:.0%}"
    assert any(line.split()[:1] == ["classifier"] for line in lines)


def test_a_network_without_a_mask_has_no_columns_for_one() -> None:
    found = describe("cityscapes")
    spec, mask, cost = found.spec, found.mask, found.cost
    said = text(architecture_table(spec, mask, cost), width=80)
    assert "density" not in said
    assert "…" not in said
    assert "head_transform 270->90 1080 1080 1080 41.2 G" in " ".join(said.split())


def test_figures_are_said_as_they_are(ticket: Ticket) -> None:
    said = "\n".join(cost_lines(ticket.cost))
    cost = ticket.cost
    for figure in (cost.params, cost.nonzero_params, cost.macs, cost.masked_macs, cost.paper_macs):
        assert f"{figure:,}" in said
    assert f"{cost.sparsity:.1%} of maskable" in said
    assert f"{cost.sparsity_all:.1%} of all" in said


def test_latencies_stand_side_by_side() -> None:
    latencies = {
        "dense/torch": Latency(6.0, 5.5, 7.0),
        "ticket/torch": Latency(4.0, 3.5, 4.5),
        "dense/onnxruntime": Latency(1.0, 0.9, 1.1),
        "ticket/onnxruntime": Latency(0.25, 0.2, 0.3),
    }
    lines = text(bench_table(Bench("a processor", 1, 8, latencies), ["dense"], "ticket")).splitlines()
    (torch_line,) = (line for line in lines if line.split()[:1] == ["torch"])
    (onnx_line,) = (line for line in lines if line.split()[:1] == ["onnxruntime"])
    assert "6.00 ms (5.50-7.00)" in torch_line
    assert torch_line.split()[-1] == "1.50x"
    assert onnx_line.split()[-1] == "4.00x"
    assert any("a processor" in line and "batch 8" in line for line in lines)


def test_increments_stand_beside_the_times_of_both_ends() -> None:
    """Over the first network: +50% and +25%; the ticket is compared with the second."""
    times = {"no connection": 4.0, "all connected": 6.0, "ticket": 5.0}
    latencies = {
        f"{name}/{kind}": Latency(ms, ms, ms) for name, ms in times.items() for kind in ("torch", "onnxruntime")
    }
    table = bench_table(Bench("a processor", 1, 1, latencies), list(times)[:2], "ticket")
    (line,) = (line for line in text(table).splitlines() if line.split()[:1] == ["torch"])
    assert "6.00 ms (6.00-6.00), +50.0%" in line
    assert "5.00 ms (5.00-5.00), +25.0%" in line
    assert line.split()[-1] == "1.20x"
