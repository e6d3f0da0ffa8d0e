"""Runs on generated crowds, by the command line: drawn, evaluated, predicted, exported, timed, reported, refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import supertickets as st
from cli_outcome import Cli, onnx_file, onnx_predict
from generate_crowds import crowds, dots

pytestmark = pytest.mark.long

# A supernet of two branches; dots of the images are clear, so that a few epochs see most of them.
TOY = [
    *("--threads", "1", "--epochs", "16", "--evaluate_every", "8", "--recalibrate_batches", "2"),
    *("--data.size", "[32,40]", "--data.sigma", "2", "--data.batch", "8", "--data.validation", "0.2"),
    *("--augment.resize", "[1,1]", "--augment.photometric", "false", "--optimizer.lr", "0.02", "--ema_decay", "0"),
    *("--supernet.settings.channels", "[[8],[8,12]]", "--supernet.settings.blocks", "[[1],[1,1]]"),
    *("--supernet.settings.stem_channels", "[8,8]", "--supernet.settings.stem_strides", "[2,1]"),
    *("--supernet.settings.tokens", "4", "--supernet.settings.grid", "2", "--supernet.settings.last_channels", "12"),
    *("--search.interval", "3", "--search.last_epoch", "6", "--search.warmup_epochs", "1"),
    *("--prune.ratio", "0.3", "--prune.interval", "3", "--prune.progressive", "false"),
]
RESNET = [
    *("--threads", "1", "--epochs", "2", "--recalibrate_batches", "1", "--data.size", "[32,32]", "--data.batch", "8"),
    *("--data.workers", "0", "--supernet.settings.widths", "[4,4,8,8]"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crowds(tmp_path_factory.mktemp("crowds"), {"train": 40, "test": 5})


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run; tests must not write into it."""
    out = tmp_path_factory.mktemp("counting") / "run"
    st.draw(st.load_recipe("mbm_cells", ["--data.dir", str(folder), *TOY]), out)
    return out


def test_dots_are_counted_by_a_searched_and_pruned_network(run: Path, folder: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    assert result["test"]["mae"] < 0.7 * _blind_error(folder)
    ticket = st.load(run)
    assert ticket.cost.sparsity == pytest.approx(0.3, abs=1e-3)
    assert sum(map(len, ticket.spec.unit_groups())) < sum(map(len, ticket.spec.full().unit_groups()))
    assert "| task | counting, 1 map |" in ticket.card()
    assert f"| test mae | {result['test']['mae']:.4g} |" in ticket.card()


def _blind_error(folder: Path) -> float:
    """The mean error of who always says the mean count of the test images."""
    counts = np.array([len(dots(40 + i, 48, 64)[1]) for i in range(1, 6)])
    return float(np.abs(counts - counts.mean()).mean())


def test_evaluate_finds_the_figures_of_the_run(cli: Cli, run: Path, folder: Path) -> None:
    metrics = json.loads(cli("evaluate", run, "--data", folder, "--json").out)
    assert metrics == pytest.approx(json.loads((run / "result.json").read_text())["test"])


def test_predict_prints_counts_and_draws_density_over_images(cli: Cli, run: Path, folder: Path, tmp_path: Path) -> None:
    image = folder / "test_data" / "images" / "IMG_1.jpg"
    said = cli("predict", run, image, "--save", tmp_path / "out")
    (count,) = re.findall(r"IMG_1\.jpg: (-?\d+\.\d) counted", said.out)
    (row,) = json.loads(cli("predict", run, image, "--json").out)
    assert row == {"image": str(image), "count": pytest.approx(float(count), abs=0.051)}
    (density,) = st.load(run).predict([image])
    assert density.sum() == pytest.approx(row["count"])
    with Image.open(image) as plain, Image.open(tmp_path / "out" / "IMG_1.png") as page:
        width, height = plain.size
        factor = max(1, 240 // width)
        assert page.size == (width * factor, height * factor + 26)
        before = np.asarray(plain.convert("RGB").resize((width * factor, height * factor), 0)).astype(int)
        change = np.abs(np.asarray(page)[:-26].astype(int) - before).sum(-1)
    hot = np.kron(density > 0.7 * density.max(), np.ones((2 * factor, 2 * factor)))[: height * factor, : width * factor]
    assert change[hot > 0].mean() > 2 * change[hot == 0].mean()


def test_the_exported_network_counts_alike(run: Path, tmp_path: Path) -> None:
    model = onnx_file(run, tmp_path)
    for i, (height, width) in enumerate(((48, 101), (75, 60))):
        Image.fromarray(dots(300 + i, height, width)[0]).save(tmp_path / "dots.png")
        (count,) = re.findall(r"(-?\d+\.\d+) counted", onnx_predict(model, tmp_path / "dots.png").out)
        (density,) = st.load(run).predict([tmp_path / "dots.png"])
        assert float(count) == pytest.approx(float(density.sum()), abs=1e-3)


def test_show_bench_and_report_know_counts(cli: Cli, run: Path, tmp_path: Path) -> None:
    assert json.loads(cli("show", run, "--json").out)["spec"]["head"] == "density"
    assert "head_transform" in cli("show", run).out
    assert cli("bench", run, "--against", run, "--repeats", "2", "--runtimes", "torch").status == 0
    assert cli("report", run, "--out", tmp_path).status == 0
    text = (tmp_path / "report.md").read_text()
    assert ": MAE" in text


def test_a_counting_ticket_is_trained_further_and_pruned(cli: Cli, run: Path, folder: Path, tmp_path: Path) -> None:
    words = ("--epochs", "1", "--data", folder, "--out", tmp_path / "more")
    said = cli("retrain", run / "ticket", *words)
    assert said.status == 0
    assert re.search(r"validation MAE \d+\.\d\d,", said.err)
    more = ("--ratio", "0.6", "--criterion", "snip", "--batches", "1", "--data", folder, "--out", tmp_path / "pruned")
    assert cli("prune", run / "ticket", *more).status == 0
    assert st.load(tmp_path / "pruned").cost.sparsity == pytest.approx(0.6, abs=1e-3)


def test_connections_of_a_resnet_are_searched_by_counting(cli: Cli, folder: Path, tmp_path: Path) -> None:
    words = [*RESNET, "--connect.steps", "5", "--connect.samples", "2"]
    said = cli("search", "shanghaitech_a", "--data", folder, "--out", tmp_path / "run", *words)
    assert said.status == 0, said.err
    connected = st.load(tmp_path / "run").about["connection_search"]
    assert 0 <= connected["quality"] <= 1
    (row, *_) = json.loads(cli("predict", tmp_path / "run", folder / "test_data" / "images", "--json").out)
    assert set(row) == {"image", "count"}


def test_features_of_a_classifier_are_moved_to_crowds(cli: Cli, folder: Path, tmp_path: Path) -> None:
    """As in the paper: a ResNet that learned to tell images apart gets a head that counts."""
    for label, most in (("few", 6), ("many", 40)):
        (tmp_path / "classes" / label).mkdir(parents=True)
        for i in range(16):
            Image.fromarray(dots(500 + i, 32, 32, most)[0]).save(tmp_path / "classes" / label / f"{i}.png")
    network = ("--supernet.name", "resnet50", "--supernet.settings.attention", "se")
    words = ("--threads", "1", "--epochs", "1", "--data.size", "32", "--data.batch", "8", "--recalibrate_batches", "1")
    wide = ("--supernet.settings.sharing", "stage", "--supernet.settings.widths", "[4,4,8,8]")
    made = cli("train", "images", "--data", tmp_path / "classes", "--out", tmp_path / "source", *words, *network, *wide)
    assert made.status == 0, made.err
    target = [word for word in RESNET if not word.startswith("--supernet") and word != "[4,4,8,8]"]
    moved = ("--data", folder, "--out", tmp_path / "moved", *target)
    said = cli("transfer", tmp_path / "source", "shanghaitech_b", *moved)
    assert said.status == 0, said.err
    ticket = st.load(tmp_path / "moved")
    assert (ticket.spec.head, ticket.spec.num_classes) == ("density", 1)
    assert "mae" in ticket.about["test"]


REFUSED = [
    ("draw mbm_cells --data {folder} --task segmentation", "data.source shanghaitech is for counting"),
    ("draw mbm_cells --data {folder} --augment.rotate 10", "counting takes flip, photometric, resize"),
    ("draw mbm_cells --data {folder} --distill.teacher ema", "distill.teacher"),
    ("draw mbm_cells --data {folder} --data.sigma 0", "data.sigma=0.0 is out of range; use a value above 0."),
    ("draw mbm_cells --data {folder} --counting.scale -1", "counting.scale=-1.0 is out of range; use a value above 0."),
    ("draw mbm_cells --data {folder} --supernet.settings.head segmentation", "set supernet.settings.head to density"),
    ("draw mbm_cells --data {tmp}", "is empty"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_impossible_settings_are_refused_in_one_line(
    cli: Cli, folder: Path, tmp_path: Path, words: str, message: str
) -> None:
    outcome = cli(*words.format(folder=folder, tmp=tmp_path).split(), "--out", tmp_path / "run")
    assert outcome.status == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
