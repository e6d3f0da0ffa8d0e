"""A whole run on generated people: drawn, stopped and resumed, evaluated, shown as skeletons, exported, trained on."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import supertickets as st
from cli_outcome import Cli, onnx_file, onnx_predict
from generate_people import LIMBS, NAMES, crowd, person
from simulate_powercut import cut_at_step
from supertickets.data.coco_keypoints import box_matrix
from supertickets.data.geometry import image_matrix
from supertickets.tasks import Pose

pytestmark = pytest.mark.long

TOY = [
    *("--threads", "1", "--epochs", "12", "--evaluate_every", "6", "--recalibrate_batches", "2"),
    *("--data.size", "[32,24]", "--data.batch", "12", "--data.workers", "0", "--data.validation", "0.1"),
    *("--augment.jitter", "0", "--pose.sigma", "1.0"),
    *("--supernet.settings.channels", "[[8],[8,12]]", "--supernet.settings.blocks", "[[1],[1,1]]"),
    *("--supernet.settings.stem_channels", "[8,8]", "--supernet.settings.stem_strides", "[2,1]"),
    *("--supernet.settings.tokens", "4", "--supernet.settings.grid", "2", "--optimizer.lr", "0.01"),
    *("--search.interval", "3", "--search.last_epoch", "6", "--search.warmup_epochs", "1"),
    *("--prune.ratio", "0.5", "--prune.interval", "3", "--prune.progressive", "false", "--prune.layer_floor", "0.05"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crowd(tmp_path_factory.mktemp("crowd"), {"train2017": 80, "val2017": 16})


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run; tests must not write into it."""
    out = tmp_path_factory.mktemp("poses") / "run"
    st.draw(st.load_recipe("fashion_pose", ["--data.dir", str(folder), *TOY]), out)
    return out


def test_joints_are_learned_searched_and_pruned(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    assert {"loss", "ap", "ap50", "ap75", "ar"} <= set(result["test"])
    assert result["test"]["ap"] > 50
    ticket = st.load(run)
    assert ticket.classes == NAMES
    assert ticket.limbs == tuple((a - 1, b - 1) for a, b in LIMBS)
    assert ticket.cost.sparsity == pytest.approx(0.5, abs=1e-3)
    full = sum(map(len, ticket.spec.full().unit_groups()))
    assert sum(map(len, ticket.spec.unit_groups())) < full
    assert "| task | pose, 5 joints |" in ticket.card()


def test_a_stopped_run_goes_on_to_the_same_ticket(folder: Path, tmp_path: Path) -> None:
    """Stopped inside an epoch, in front of a removal and a prune."""
    short = ["--epochs", "3", "--search.interval", "2", "--search.last_epoch", "2", "--prune.interval", "2"]
    words = ["--data.dir", str(folder), *TOY, *short, "--checkpoint_seconds", "0", "--evaluate_every", "3"]
    recipe = st.load_recipe("fashion_pose", words)
    st.draw(recipe, tmp_path / "whole")
    with cut_at_step(1, 3):
        st.draw(recipe, tmp_path / "resumed")
    st.resume(tmp_path / "resumed")
    for name in ("model.safetensors", "mask.safetensors"):
        whole, resumed = (load_file(tmp_path / run / "ticket" / name) for run in ("whole", "resumed"))
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_evaluate_finds_the_figure_of_the_run(cli: Cli, run: Path, folder: Path) -> None:
    metrics = json.loads(cli("evaluate", run, "--data", folder, "--json").out)
    assert metrics == pytest.approx(json.loads((run / "result.json").read_text())["test"])


def test_evaluate_with_the_boxes_of_a_detector(cli: Cli, run: Path, folder: Path, tmp_path: Path) -> None:
    truth = json.loads((folder / "annotations" / "person_keypoints_val2017.json").read_text())
    boxes = [
        {"image_id": a["image_id"], "category_id": 1, "bbox": a["bbox"], "score": score}
        for a in truth["annotations"]
        for score in (0.9, 0.8)  # found twice: the poses are equal, so that one is left out
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    words = ("evaluate", run, "--data", folder, "--boxes", tmp_path / "boxes.json")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # other boxes are no other images
        metrics = json.loads(cli(*words, "--json").out)
    refused = cli(*words, "--split", "validation")
    assert (refused.status, "boxes of the test split" in refused.err) == (2, True)
    plain = json.loads((run / "result.json").read_text())["test"]
    assert "loss" not in metrics  # whose joints these are is not known
    assert metrics == pytest.approx({name: plain[name] for name in metrics})
    (folder / "person_detection_results").mkdir()
    shutil.move(tmp_path / "boxes.json", folder / "person_detection_results" / "val2017.json")
    again = json.loads(cli("evaluate", run, "--data", folder, "--boxes", "detected", "--json").out)
    shutil.rmtree(folder / "person_detection_results")
    assert again == metrics


def test_predict_finds_joints_and_draws_them(cli: Cli, run: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    boxes, wanted = [], []
    for i in range(4):
        image, marks, box = person(1000 + i)
        image.save(tmp_path / "new" / f"{i:03}.png")
        boxes.append({"image_id": i, "category_id": 1, "bbox": box, "score": 0.9})
        wanted.append(marks[:, :2])
    boxes.append({**boxes[2], "image_id": 1, "score": 0.1})  # too weak
    del boxes[3]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    words = ("--boxes", tmp_path / "boxes.json", "--save", tmp_path / "out")
    rows = json.loads(cli("predict", run, tmp_path / "new", *words, "--json").out)
    assert [(Path(row["image"]).name, len(row["people"])) for row in rows] == [
        *(("000.png", 1), ("001.png", 1), ("002.png", 1)),
        ("003.png", 0),
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000.png", "001.png", "002.png", "003.png"]
    errors = []
    for row, marks in zip(rows[:3], wanted, strict=False):
        joints = row["people"][0]["joints"]
        assert [joint["name"] for joint in joints] == list(NAMES)
        errors += [
            np.hypot(*(np.array([joint["x"], joint["y"]]) - at)) for joint, at in zip(joints, marks, strict=True)
        ]
    assert np.median(errors) < 3
    plain = cli("predict", run, tmp_path / "new")
    assert plain.status == 0
    assert "head (" in plain.out
    assert len(plain.out.splitlines()) == 4


def test_whole_images_are_regions_of_their_own(run: Path) -> None:
    ticket = st.load(run)
    image, _, _ = person(2000, height=64, width=48)
    assert ticket.predict([image])[0].shape == (1, 5, 3)
    # The same region, as a box without its margin.
    share = ticket.preprocessing.share
    inner = (48 * (1 - share) / 2, 64 * (1 - share) / 2, 48 * share, 64 * share)
    assert box_matrix(inner, ticket.preprocessing) == pytest.approx(image_matrix((48, 64), (32, 24)))
    assert ticket.predict([image], [[]])[0].shape == (0, 5, 3)
    maps = ticket.module(ticket.prepare(image))
    assert maps.shape == (1, 5, 16, 12)


@pytest.fixture(scope="module")
def model(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file of the ticket."""
    return onnx_file(run, tmp_path_factory.mktemp("onnx"))


def test_the_exported_network_scores_like_the_ticket(run: Path, model: Path) -> None:
    ticket = st.load(run)
    images = torch.rand(2, *ticket.spec.input_shape)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, 32, 24]
    with torch.no_grad():
        wanted = ticket.module(images).numpy()
    assert np.abs(session.run(None, {"images": images.numpy()})[0] - wanted).max() < 1e-4
    metadata = {entry.key: json.loads(entry.value) for entry in onnx.load(model).metadata_props}
    assert metadata["classes"] == list(NAMES)
    assert metadata["limbs"] == [[a - 1, b - 1] for a, b in LIMBS]
    assert (metadata["preprocessing"]["fit"], metadata["preprocessing"]["share"]) == ("pad", 0.8)


@pytest.mark.parametrize("size", [(64, 48), (30, 70), (201, 142)])
def test_the_example_script_finds_the_joints_that_the_ticket_finds(
    run: Path, model: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    """Margins at the sides, above and below; and an image that is averaged over blocks of pixels first."""
    person(3000, *size)[0].save(tmp_path / "person.png")
    ticket = st.load(run)
    task = Pose(ticket.classes, flip_test=False)
    (wanted,) = task.predict(ticket.module, ticket.preprocessing, Image.open(tmp_path / "person.png"))
    entries = onnx_predict(model, tmp_path / "person.png").out.strip().split("\t")[1:]
    assert [text.split()[0] for text in entries] == list(NAMES)
    assert np.array([text.split()[1:] for text in entries], float) == pytest.approx(wanted, abs=0.006)


def test_a_ticket_of_people_is_trained_further(cli: Cli, run: Path, folder: Path, tmp_path: Path) -> None:
    words = ("--epochs", "1", "--data", folder, "--out", tmp_path / "more")
    assert cli("retrain", run / "ticket", *words).status == 0
    before, after = st.load(run), st.load(tmp_path / "more")
    assert after.spec == before.spec
    for name, flags in before.mask.items():
        assert torch.equal(flags, after.mask[name])
        assert not after.weights[name][~flags].any()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("draw fashion_pose --data {folder} --augment.mixup 0.2", "augment.mixup"),
        ("draw fashion_pose --data {folder} --augment.half_body 1.5", "augment.half_body"),
        ("draw fashion_pose --data {folder} --pose.sigma 0", "pose.sigma"),
        ("draw fashion_pose --data {folder} --data.size [30,24]", "32 x 24"),
        ("draw fashion_pose --data {folder} --data.size null", "data.size"),
        ("draw fashion_pose --data {folder} --distill.teacher ema", "distill.teacher"),
        ("draw fashion_pose --data {folder} --task segmentation", "set task to pose"),
        ("draw fashion_pose --data {folder} --data.boxes detected", "person_detection_results"),
        ("draw fashion_pose --data {folder} --data.boxes {folder}/none.json", "none.json"),
        ("draw digits --task pose", "set task to classification"),
        ("draw camvid --data {folder} --augment.rotate 10", "augment.rotate"),
        ("draw fashion_pose --data {folder}/annotations", "give the folder of images and annotations"),
        ("predict {run} {folder}/val2017 --boxes {folder}/none.json", "none.json"),
        (
            "predict {run} {folder}/train2017 --boxes {folder}/annotations/person_keypoints_val2017.json",
            "none of these 80",
        ),
    ],
)
def test_wrong_input_is_refused_in_one_line(
    cli: Cli, run: Path, folder: Path, tmp_path: Path, words: str, named: str
) -> None:
    end = ["--out", str(tmp_path / "run")] if words.startswith("draw") else []
    outcome = cli(*words.format(folder=folder, run=run).split(), *end)
    assert (outcome.status, len(outcome.err.splitlines())) == (2, 1), outcome.err
    assert named in outcome.err
    assert not (tmp_path / "run" / "run.json").exists()


def test_boxes_are_for_poses_only(cli: Cli, toy_run: Path, run: Path, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "1.png")
    (tmp_path / "boxes.json").write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}]))
    for words in (("predict", toy_run, tmp_path / "1.png"), ("evaluate", toy_run)):
        outcome = cli(*words, "--boxes", tmp_path / "boxes.json")
        assert (outcome.status, len(outcome.err.splitlines())) == (2, 1)
        assert "boxes" in outcome.err
