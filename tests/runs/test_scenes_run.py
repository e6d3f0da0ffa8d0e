"""A whole run on generated scenes: drawn, stopped and resumed, evaluated, painted, exported, trained further."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import supertickets as st
from cli_outcome import Cli, onnx_file, onnx_predict
from generate_streets import COLORS, scene, street
from supertickets.runs.evaluate import evaluate_ticket

pytestmark = pytest.mark.long

TOY = [
    *("--threads", "1", "--epochs", "12", "--evaluate_every", "4", "--recalibrate_batches", "2"),
    *("--data.size", "[32,40]", "--data.shorter", "32", "--data.batch", "8", "--data.workers", "0"),
    *("--data.class_names", '["sky","road","tree"]', "--data.ignore", "[255]", "--augment.resize", "[0.75,1.5]"),
    *("--supernet.settings.channels", "[[8],[8,12]]", "--supernet.settings.blocks", "[[1],[1,1]]"),
    *("--supernet.settings.stem_channels", "[8,8]", "--supernet.settings.stem_strides", "[2,1]"),
    *("--supernet.settings.tokens", "4", "--supernet.settings.grid", "2", "--optimizer.lr", "0.02"),
    *("--search.interval", "3", "--search.last_epoch", "6", "--search.warmup_epochs", "1"),
    *("--search.target_shrinkage", "2.5"),
    *("--prune.ratio", "0.5", "--prune.interval", "3", "--prune.progressive", "false", "--prune.layer_floor", "0.05"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return street(tmp_path_factory.mktemp("street"), {"train": 24, "val": 6, "test": 6})


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run; tests must not write into it."""
    out = tmp_path_factory.mktemp("scenes") / "run"
    st.draw(st.load_recipe("camvid", ["--data.dir", str(folder), *TOY]), out)
    return out


def test_scenes_are_learned_searched_and_pruned(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    assert set(result["test"]) == {"loss", "miou", "macc", "aacc"}
    assert result["test"]["miou"] > 45  # some 20 by chance
    ticket = st.load(run)
    assert ticket.cost.sparsity == pytest.approx(0.5, abs=1e-3)
    full = sum(map(len, ticket.spec.full().unit_groups()))
    assert sum(map(len, ticket.spec.unit_groups())) < full
    assert "| task | segmentation, 3 classes |" in ticket.card()


def test_rare_classes_may_count_for_more(folder: Path, tmp_path: Path) -> None:
    words = ["--data.dir", str(folder), *TOY, "--epochs", "1", "--search.last_epoch", "null", "--prune.ratio", "0"]
    losses = []
    for balance in (0.0, 1.0):
        out = tmp_path / f"{balance:g}"
        st.train(st.load_recipe("camvid", [*words, "--segmentation.balance", str(balance)]), out)
        events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
        losses.append(next(event["train_loss"] for event in events if event["event"] == "epoch"))
    assert losses[0] != pytest.approx(losses[1])
    with pytest.raises(st.UserError, match=r"segmentation\.balance=-1\.0 is out of range"):
        st.train(st.load_recipe("camvid", [*words, "--segmentation.balance", "-1"]), tmp_path / "negative")


def test_evaluate_finds_the_figure_of_the_run(cli: Cli, run: Path, folder: Path) -> None:
    metrics = json.loads(cli("evaluate", run, "--data", folder, "--json").out)
    assert metrics == pytest.approx(json.loads((run / "result.json").read_text())["test"])


def test_predictions_go_through_the_windows_of_the_evaluation(run: Path, folder: Path) -> None:
    ticket = st.load(run)
    images, masks = ([*sorted((folder / name).iterdir())] for name in ("test", "testannot"))
    labels = [np.asarray(Image.open(path)) for path in masks]

    def right(recipe: dict[str, Any]) -> tuple[float, float]:
        """Percent of the pixels that a ticket of this recipe names rightly: as predicted, and as evaluated."""
        made = replace(ticket, about={**ticket.about, "recipe": recipe})
        hits = [(said == label).mean() for said, label in zip(made.predict(images), labels, strict=True)]
        return 100 * float(np.mean(hits)), evaluate_ticket(made)["aacc"]

    recipe = ticket.about["recipe"]
    whole, windowed = right(recipe), right({**recipe, "segmentation": {"window": [32, 24]}})
    assert whole[0] == pytest.approx(whole[1])
    assert windowed[0] == pytest.approx(windowed[1])
    assert windowed[0] != pytest.approx(whole[0], abs=1e-3)


def test_a_recipe_that_describes_no_task_is_named(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "ticket", tmp_path / "ticket")
    config = json.loads((tmp_path / "ticket" / "config.json").read_text())
    config["about"]["recipe"]["segmentation"] = {"windows": [16, 20]}
    (tmp_path / "ticket" / "config.json").write_text(json.dumps(config))
    with pytest.raises(st.UserError, match=r"config.json is damaged .*'windows'"):
        st.load(tmp_path / "ticket")


def test_predict_paints_a_folder_of_images(cli: Cli, run: Path, tmp_path: Path) -> None:
    for i in range(2):
        pixels, _ = scene(100 + i, height=60, width=90)
        (tmp_path / "new").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "new" / f"{i}.png")
    rows = json.loads(cli("predict", run, tmp_path / "new", "--save", tmp_path / "out", "--json").out)
    assert [Path(row["image"]).name for row in rows] == ["0.png", "1.png"]
    for row in rows:
        assert {entry["name"] for entry in row["classes"]} <= {"sky", "road", "tree"}
        assert sum(entry["share"] for entry in row["classes"]) == pytest.approx(1, abs=0.01)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]
    pixels, mask = scene(7, height=64, width=80)
    said = st.load(run).predict([Image.fromarray(pixels)])[0]
    assert said.shape == mask.shape
    assert (said == mask).mean() > 0.7


def test_a_folder_without_images_is_refused(cli: Cli, run: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    outcome = cli("predict", run, tmp_path / "none")
    assert outcome.status == 2
    assert "holds no images" in outcome.err


@pytest.fixture(scope="module")
def model(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file of the ticket."""
    return onnx_file(run, tmp_path_factory.mktemp("onnx"))


def test_the_exported_network_scores_like_the_ticket_at_any_size(run: Path, model: Path) -> None:
    """Coarse maps of one cell, of the Transformer's 2 x 2 grid, and sizes that do not halve evenly."""
    ticket = st.load(run)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    for size in ((32, 40), (40, 32), (33, 57), (8, 6), (3, 4), (64, 96)):
        images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(size[1]))
        with torch.no_grad():
            wanted = ticket.module(images).numpy()
        assert wanted.shape == (2, 3, -(-size[0] // 2), -(-size[1] // 2))
        assert np.abs(session.run(None, {"images": images.numpy()})[0] - wanted).max() < 1e-4


def test_the_example_script_agrees_with_predict(run: Path, model: Path, tmp_path: Path) -> None:
    """Two images of different shapes, one on its side."""
    ticket = st.load(run)
    for i, (height, width) in enumerate(((48, 101), (75, 60))):
        pixels, _ = scene(200 + i, height, width)
        Image.fromarray(pixels).save(tmp_path / "street.png")
        outcome = onnx_predict(model, tmp_path / "street.png")
        shares = {text.split()[0]: float(text.split()[1]) for text in outcome.out.strip().split("\t")[1:]}
        said = ticket.predict([tmp_path / "street.png"])[0]
        wanted = {name: float((said == k).mean()) for k, name in enumerate(ticket.classes)}
        assert shares == pytest.approx({name: share for name, share in wanted.items() if share}, abs=0.005)
        assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_a_ticket_of_scenes_is_trained_further(cli: Cli, run: Path, folder: Path, tmp_path: Path) -> None:
    words = ("--epochs", "1", "--data", folder, "--out", tmp_path / "more")
    assert cli("retrain", run / "ticket", *words).status == 0
    before, after = st.load(run), st.load(tmp_path / "more")
    assert after.spec == before.spec
    for name, flags in before.mask.items():
        assert torch.equal(flags, after.mask[name])
        assert not after.weights[name][~flags].any()


def test_colours_tell_classes_in_these_tests() -> None:
    pixels, mask = scene(0)
    assert (pixels == COLORS[mask]).all()
