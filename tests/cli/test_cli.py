"""The command line: what it prints, as people and as programs read it, and how it refuses."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from PIL import Image

import supertickets as st
from cli_outcome import Cli, Outcome
from supertickets import Ticket
from supertickets.cli.main import COMMANDS
from supertickets.config.recipe import DataSettings
from supertickets.data import load_splits

FIGURES = {"params", "nonzero_params", "sparsity", "sparsity_all", "macs", "masked_macs", "paper_macs"}


def printed(outcome: Outcome) -> Any:
    """The JSON that a command printed, and nothing else."""
    assert outcome.status == 0, outcome.err
    return json.loads(outcome.out)


def line(outcome: Outcome) -> str:
    """The one line with which a command refused."""
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith("error: ")
    assert "Traceback" not in outcome.err
    return outcome.err


@pytest.fixture
def unfinished(toy_run: Path, tmp_path: Path) -> Path:
    """A run that was stopped before its ticket was written."""
    folder = Path(shutil.copytree(toy_run, tmp_path / "unfinished"))
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "ticket")
    return folder


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    path = tmp_path / "digit.png"
    Image.fromarray(load_splits(DataSettings()).test.images[0, 0].numpy()).save(path)
    return path


# What it prints ------------------------------------------------------------------------------------------------------


def test_recipes(cli: Cli) -> None:
    outcome = cli("recipes")
    assert outcome.status == 0
    assert [row.split()[0] for row in outcome.out.splitlines()] == list(st.list_recipes())
    assert printed(cli("recipes", "--json")) == st.list_recipes()


def test_show_a_recipe(cli: Cli) -> None:
    shown = printed(cli("show", "digits", "--json"))
    assert set(shown) == FIGURES | {"spec"}
    full = st.create_supernet("hrnet_tiny", in_channels=1)  # as the data has it
    assert shown["params"] == shown["nonzero_params"] == sum(p.numel() for p in full.parameters())
    assert shown["macs"] == shown["masked_macs"] == shown["paper_macs"] == st.cost.count(full).macs
    assert shown["sparsity"] == shown["sparsity_all"] == 0
    text = cli("show", "digits")
    assert text.status == 0
    assert f"{shown['params']:,} parameters" in text.out
    assert f"{shown['macs']:,} dense" in text.out


def test_show_estimates_the_time_of_a_published_recipe(cli: Cli) -> None:
    shown = printed(cli("show", "cityscapes", "--json"))
    epochs, scenes = st.load_recipe("cityscapes").epochs, 2975 - 60  # a fiftieth is held out
    assert shown["gpu_hours"] == pytest.approx(6 * shown["macs"] * epochs * scenes / 1e13 / 3600)
    text = " ".join(cli("show", "cityscapes").out.split())
    assert f"training {epochs} epochs of 2,915 samples: {shown['gpu_hours']:.2g} GPU-hours if a GPU sustains" in text
    assert "gpu_hours" not in printed(cli("show", "fashion_pose", "--json"))  # any people, not COCO's


def test_show_a_ticket(cli: Cli, toy_run: Path, ticket: Ticket) -> None:
    shown = printed(cli("show", toy_run / "ticket", "--json"))
    assert set(shown) == FIGURES | {"spec"}
    zeros = sum(int((~flags).sum()) for flags in ticket.mask.values())
    params = sum(p.numel() for p in ticket.module.parameters())
    assert (shown["params"], shown["nonzero_params"]) == (params, params - zeros)
    assert shown["sparsity"] == pytest.approx(zeros / sum(flags.numel() for flags in ticket.mask.values()))
    assert shown["sparsity_all"] == pytest.approx(zeros / params)
    assert shown["paper_macs"] == round(shown["macs"] * (1 - shown["sparsity"]))
    assert 0 < shown["masked_macs"] < shown["macs"]
    assert printed(cli("show", toy_run, "--json")) == shown  # a run stands for its ticket
    text = cli("show", toy_run)
    assert f"{shown['nonzero_params']:,} not zero" in text.out
    assert f"{shown['masked_macs']:,} under the mask" in text.out


def test_plan(cli: Cli) -> None:
    words = ("draw", "digits", "--plan", "--epochs", "20", "--search.interval", "5", "--search.last_epoch", "5")
    words += ("--prune.progressive", "true", "--prune.interval", "2")
    plan = printed(cli(*words, "--json"))
    assert plan[0] == {"epoch": 2, "events": ["prune to 10%", "recalibrate"]}
    assert {"epoch": 5, "events": ["shrink", "reactivate", "recalibrate"]} in plan
    assert plan[-1] == {"epoch": 20, "events": ["prune to 90%", "recalibrate"]}
    text = cli(*words).out.splitlines()
    assert len(text) == len(plan) + 1
    assert text[0] == "after epoch    2: prune to 10%, recalibrate"
    assert "ticket" in text[-1]


def test_settings_may_stand_anywhere(cli: Cli) -> None:
    expected = cli("draw", "digits", "--plan", "--epochs", "20").out
    assert expected
    for words in (
        ("draw", "--epochs=20", "--plan", "digits"),
        ("draw", "--plan", "--epochs=20"),  # "digits" is the default
        ("draw", "digits", "--epochs", "20", "--plan"),
        ("draw", "--epochs", "20", "digits", "--plan"),
        ("draw", "--epochs", "20", "--plan"),
    ):
        outcome = cli(*words)
        assert (words, outcome.out, outcome.err) == (words, expected, "")


def test_evaluate(cli: Cli, toy_run: Path, ticket: Ticket) -> None:
    scores = printed(cli("evaluate", toy_run, "--json"))
    assert {"top1", "top5"} <= set(scores) <= {"top1", "top5", "loss"}
    assert scores == pytest.approx(ticket.about["test"], rel=1e-5)
    other = printed(cli("evaluate", toy_run, "--split", "validation", "--device", "cpu", "--json"))
    assert other == pytest.approx(ticket.about["validation"], rel=1e-5)
    text = cli("evaluate", toy_run).out
    assert f"top1 {scores['top1']:.4g}" in text
    assert "test split" in text


def test_predict(cli: Cli, toy_run: Path, ticket: Ticket, digit: Path, tmp_path: Path) -> None:
    expected = ticket.predict([digit])[0]
    entries = printed(cli("predict", toy_run, digit, digit, "--json", "--save", tmp_path / "shown"))
    assert [entry["image"] for entry in entries] == [str(digit)] * 2
    for entry in entries:
        assert [c["name"] for c in entry["classes"]] == [name for name, _ in expected]
        assert [c["probability"] for c in entry["classes"]] == pytest.approx([p for _, p in expected])
    assert (tmp_path / "shown" / "digit.png").is_file()
    text = cli("predict", toy_run, digit, "--device", "cpu").out
    assert f"{digit}: {expected[0][0]} {expected[0][1]:.1%}, " in text


def test_predict_passes_over_what_it_cannot_read(cli: Cli, toy_run: Path, digit: Path, tmp_path: Path) -> None:
    whole = digit.read_bytes()
    (tmp_path / "new").mkdir()
    for name, raw in (("a", whole), ("b", whole[:60]), ("c", whole), ("d", b"")):
        (tmp_path / "new" / f"{name}.png").write_bytes(raw)
    words = ("predict", toy_run, tmp_path / "new", "--save", tmp_path / "out")
    listed, plain = cli(*words, "--json"), cli(*words)
    for outcome in (listed, plain):
        assert outcome.status == 2
        broken = outcome.err.splitlines()
        assert [row.split(" is not")[0] for row in broken] == [f"error: {tmp_path}/new/{n}.png" for n in ("b", "d")]
    assert [Path(entry["image"]).name for entry in json.loads(listed.out)] == ["a.png", "c.png"]
    assert [row.split(": ")[0] for row in plain.out.splitlines()] == [f"{tmp_path}/new/{n}.png" for n in ("a", "c")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    none = cli("predict", toy_run, tmp_path / "new" / "d.png", "--json")
    assert (none.status, json.loads(none.out), none.err.count("\n")) == (2, [], 1)


def test_export(cli: Cli, quick_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(quick_run / "ticket", tmp_path / "ticket"))
    made = printed(cli("export", folder, "--format", "torch", "--json"))
    assert set(made) == {"path", "parity", "channels_removed"}
    assert made["path"] == str(folder / "model.pt2")
    assert made["parity"] < 1e-4
    assert made["channels_removed"] >= 0
    assert torch.export.load(made["path"]).module()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert st.load(folder).cost  # the file does not disturb the ticket


def test_draw_then_retrain(cli: Cli, quick_words: list[str], tmp_path: Path) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    drawn = cli("draw", "digits", "--out", run, "--json", *quick_words)
    result = printed(drawn)
    assert FIGURES | {"ticket", "figure", "test", "validation", "samples", "seconds"} == set(result)
    assert result["ticket"] == str(run / "ticket")
    assert Path(result["figure"]).is_file()
    assert drawn.err.count("epoch ") == 4  # plain lines without a terminal, on the other stream
    assert {key: result[key] for key in FIGURES} == st.load(run).cost.to_json()
    assert result["test"] == st.load(run).about["test"]

    result = printed(cli("retrain", run, "--epochs", "1", "--out", again, "--json"))
    before, after = st.load(run), st.load(again)
    assert after.spec == before.spec
    assert after.mask.keys() == before.mask.keys()
    for name, flags in before.mask.items():
        assert torch.equal(after.mask[name], flags)
        assert not after.weights[name][~flags].any()
    assert not torch.equal(after.weights["classifier.weight"], before.weights["classifier.weight"])
    assert after.about["command"] == "retrain"
    assert {key: result[key] for key in FIGURES} == before.cost.to_json()


def test_train_is_dense(cli: Cli, quick_words: list[str], tmp_path: Path) -> None:
    words = ["--epochs", "1", "--search.last_epoch", "1"]
    result = printed(cli("train", "digits", "--out", tmp_path / "run", "--json", *quick_words, *words))
    ticket = st.load(tmp_path / "run")
    assert ticket.spec.units == ticket.spec.full_units()
    assert not ticket.mask
    assert result["sparsity"] == result["sparsity_all"] == 0
    assert result["params"] == result["nonzero_params"]


def test_every_command_explains_itself(cli: Cli) -> None:
    overview = cli("--help").out
    for command in COMMANDS:
        outcome = cli(command.name, "--help")
        assert outcome.status == 0
        assert f"example: supertickets {command.name}" in outcome.out
        assert ("--help-settings" in outcome.out) == command.takes_settings
        assert command.help[0].isupper()
        assert not command.help.endswith(".")
        assert f"\n    {command.name}" in overview


def test_help_on_a_command_leaves_the_settings_to_help_of_their_own(cli: Cli) -> None:
    assert "--prune.layer_floor" not in cli("draw", "--help").out
    outcome = cli("draw", "--help-settings")
    assert outcome.status == 0
    assert "--prune.layer_floor: a number from 0 to below 1 (default: 0.0)" in outcome.out


def test_a_commands_own_option_goes_before_a_setting_of_its_name(cli: Cli, toy_run: Path) -> None:
    assert "--epochs is -3" in line(cli("retrain", toy_run, "--epochs", "-3"))


def test_version(cli: Cli) -> None:
    assert cli("--version").out.strip() == st.__version__


# How it refuses ------------------------------------------------------------------------------------------------------

# The words of a command, {places} filled in, and what its one line must name.
WRONG = [
    ("draw {tmp}", "{tmp} is a folder, not a recipe; give a recipe and the folder: images --data {tmp}"),
    ("draw images {tmp}", "'{tmp}' is out of place; a folder of data as --data {tmp}"),
    ("draw images --data {digit} --out {tmp}/x", "data folder {digit} is a file; give"),
    ("draw images --data {tmp}/only --out {tmp}/x", "only has images of one class only (seven)"),
    ("draw digits --lr 0.01", "the learning rate is optimizer.lr"),
    ("draw digits --budget.macs 9e9 --plan", "leaves nothing to remove"),
    ("draw --prune.raito 0.8", "unknown setting 'prune.raito'; did you mean 'prune.ratio'?"),
    ("draw digits --budget.macs 9 --plan", "cannot be met"),
    ("draw digits --minutes 1 --plan --json", "give --epochs instead of --minutes"),
    (
        "draw images --budget.macs 1e6 --budget.runtime torch --out {tmp}/x",
        "set search.interval to 1, and prune.ratio to 0",
    ),
    ("draw tunas_mobilenetv3 --budget.macs 1e6 --out {tmp}/x", "supertickets search meets budgets"),
    ("", "COMMAND"),
    ("paint", "'paint'"),
    ("drwa digits", "did you mean 'draw'"),
    ("draw nothing", "unknown recipe 'nothing'"),
    ("draw digit", "did you mean 'digits'"),
    ("draw {tmp}/none.yaml", "{tmp}/none.yaml"),
    ("draw digits mnist", "mnist"),
    ("draw digits -x", "-x"),
    ("draw digits --epocs 3", "did you mean 'epochs'"),
    ("draw digits --prune.rato 0.5", "did you mean 'prune.ratio'"),
    ("draw {tmp}/misspelt.yaml", "did you mean 'prune.ratio'"),
    ("draw {tmp}/binary.yaml", "{tmp}/binary.yaml"),
    ("draw digits --epochs many", "epochs"),
    ("draw digits --optimizer.name adagrad", "optimizer.name"),
    ("draw digits --epochs", "--epochs"),
    ("draw digits --prune.ratio 1.5", "prune.ratio=1.5 is out of range; use a value from 0 to below 1."),
    ("draw digits --prune.progressive true --prune.interval 2 --epochs 16", "the fewest are 18"),
    ("draw digits --out {tmp}/x --prune.layer_floor 0.5", "nearest possible is 0.49"),
    ("draw digits --out {tmp}/x --prune.exempt_below 1000000", "prune.exempt_below"),
    ("draw digits --out {tmp}/x --data.batch 5000", "1222"),
    ("draw digits --out {tmp}/x --data.batch 1", "data.batch=1 is out of range; use a value of at least 2."),
    ("draw digits --out {tmp}/x --epochs 0 --data.batch 0", "data.batch=0 is out of range"),
    ("draw digits --out {tmp}/x --optimizer.clip_norm 0", "optimizer.clip_norm"),
    ("draw digits --out {tmp}/x --optimizer.weight_decay -1", "optimizer.weight_decay"),
    ("draw digits --out {tmp}/x --optimizer.alpha 1", "optimizer.alpha"),
    ("draw digits --out {tmp}/x --optimizer.eps 0", "optimizer.eps"),
    ("draw digits --out {tmp}/x --lr.end_divisor 0", "lr.end_divisor"),
    ("draw digits --out {tmp}/x --lr.rise 1", "lr.rise"),
    ("draw digits --out {tmp}/x --augment.scale 1", "augment.scale"),
    (
        "draw digits --out {tmp}/x --augment.randaugment 31",
        "augment.randaugment=31 is out of range; use a value from 0 to 30.",
    ),
    ("draw digits --out {tmp}/x --data.size 80", "data.size"),
    ("draw digits --out {tmp}/x --data.validation 1.5", "data.validation"),
    ("draw digits --out {tmp}/x --data.validation 0.999", "data."),
    ("draw digits --out {tmp}/x --device tpu", "'tpu'"),
    ("draw digits --out {tmp}/x --device meta", "'meta'"),
    ("draw digits --out {tmp}/x --threads 0", "threads"),
    ("draw digits --out {tmp}/x --seed 99999999999999999999", "seed"),
    ("draw digits --out {tmp}/x --supernet.name hrnet_huge", "'hrnet_huge'"),
    ("draw digits --out {tmp}/x --supernet.name hrnet_coco", "hrnet_coco"),
    ("draw digits --out {tmp}/x --supernet.settings.tokns 4", "did you mean 'tokens'"),
    ("draw digits --out {tmp}/x --supernet.settings.tokens few", "tokens"),
    ("draw digits --out {tmp}/x --supernet.settings.tokens 2.5", "tokens"),
    ("draw digits --out {tmp}/x --supernet.settings.tokens -1", "tokens"),
    ("draw digits --out {tmp}/x --supernet.settings.image_size 8", "image_size"),
    ("draw digits --out {tmp}/x --supernet.settings.num_classes 12", "leave it out"),
    ("draw digits --out {tmp}/x --supernet.settings.kernels [4]", "kernels"),
    ("draw digits --out {tmp}/x --supernet.settings.channels [[4,6]]", "blocks"),
    ("draw digits --out {tmp}/file", "{tmp}/file"),
    ("draw digits --out {tmp}/file/run", "{tmp}/file/run"),
    ("draw digits --out {toy}", "finished run"),
    ("draw digits --out {unfinished}", "supertickets resume {unfinished}"),
    ("draw mnist", "--data"),
    ("draw mnist --data {tmp}/nowhere", "{tmp}/nowhere"),
    ("draw mnist --data {tmp}/empty", "{tmp}/empty is empty"),
    ("draw mnist --data {tmp}/cut", "train-images-idx3-ubyte.gz"),
    ("train digits --prune.ratio 7", "prune.ratio"),
    ("train digit", "did you mean 'digits'"),
    ("resume", "RUN"),
    ("resume {tmp}/nowhere", "{tmp}/nowhere"),
    ("resume {tmp}/empty", "not a run directory"),
    ("resume {broken}", "{broken}/run.json is damaged"),
    ("retrain {toy}", "--epochs"),
    ("retrain {toy} --epochs 0 --out {tmp}/x", "nearest possible is 1"),
    ("retrain {toy} --epochs few", "few"),
    ("retrain {toy} --epochs 1 --search.interval 3", "search.interval"),
    ("retrain {toy} --epochs 1 --prune.ratio 0.5", "prune.ratio"),
    ("retrain {toy} --epochs 1 --optimizer.lrr 1", "did you mean 'optimizer.lr'"),
    ("retrain {tmp}/nowhere --epochs 1", "{tmp}/nowhere"),
    ("evaluate", "TICKET"),
    ("evaluate {tmp}/nowhere", "{tmp}/nowhere"),
    ("evaluate {tmp}/empty", "{tmp}/empty is no ticket and no run"),
    ("evaluate {toy} --split testing", "testing"),
    ("evaluate {toy} --epochs 3", "--epochs"),
    ("evaluate {toy} --device tpu", "'tpu'"),
    ("evaluate {lacking}", "model.safetensors"),
    ("evaluate {damaged}", "model.safetensors"),
    ("show {lacking}", "model.safetensors"),
    ("show nothing", "'nothing'"),
    ("show digits --jsn", "--jsn"),
    ("show {tmp}/misspelt.yaml", "did you mean 'prune.ratio'"),
    ("predict {toy}", "IMAGE"),
    ("predict {toy} {tmp}/none.png", "{tmp}/none.png does not exist"),
    ("predict {toy} {tmp}/file", "{tmp}/file"),
    ("predict {unfinished} {digit}", "supertickets resume {unfinished}"),
    ("predict {damaged} {digit}", "model.safetensors"),
    ("predict {toy} {digit} --device meta", "'meta'"),
    ("predict {toy} {digit} --save {tmp}/file", "{tmp}/file"),
    ("explain {toy}", "IMAGE"),
    ("explain {toy} {digit} --beside", "--beside"),
    ("explain {toy} {digit} --beside {tmp}/nowhere", "{tmp}/nowhere"),
    ("explain {toy} {digit} --class seven", "no class 'seven'"),
    ("explain {toy} {digit} --save {tmp}/file", "{tmp}/file"),
    ("explain {toy} {digit} --device meta", "'meta'"),
    ("explain {toy} {tmp}/none.png --save {tmp}/y", "{tmp}/none.png does not exist"),
    ("export {toy} --format tflite", "tflite"),
    ("export {tmp}/nowhere", "{tmp}/nowhere"),
    ("export {toy} --out {tmp}/file/model.onnx", "{tmp}/file"),
    ("bench {tmp}/nowhere", "{tmp}/nowhere"),
    ("bench {toy} --against {tmp}/nowhere", "{tmp}/nowhere"),
    ("bench {toy} --batch few", "few"),
    ("bench {toy} --batch 0", "--batch"),
    ("bench {toy} --repeats 0", "--repeats"),
    ("bench {toy} --threads 0", "--threads"),
    ("bench {toy} --threads 1,most", "--threads has 'most'; give whole numbers or all"),
    ("bench {toy} --runtimes onnx", "did you mean 'onnxruntime'"),
]


@pytest.fixture
def places(toy_run: Path, unfinished: Path, idx_folder: Path, digit: Path, tmp_path: Path) -> dict[str, Path]:
    """Write wrong inputs of every kind and return their paths by name."""
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "misspelt.yaml").write_text("prune:\n  rato: 0.5\n")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\0")
    cut = Path(shutil.copytree(idx_folder, tmp_path / "cut")) / "train-images-idx3-ubyte.gz"
    cut.write_bytes(gzip.compress(gzip.decompress(cut.read_bytes())[:-7]))
    lacking, damaged = (Path(shutil.copytree(toy_run, tmp_path / name)) for name in ("lacking", "damaged"))
    (lacking / "ticket" / "model.safetensors").unlink()
    whole = (damaged / "ticket" / "model.safetensors").read_bytes()
    (damaged / "ticket" / "model.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    broken = Path(shutil.copytree(unfinished, tmp_path / "broken"))
    (broken / "run.json").write_text((broken / "run.json").read_text()[:-20])
    (tmp_path / "only" / "seven").mkdir(parents=True)
    for name in ("a", "b", "c"):
        shutil.copyfile(digit, tmp_path / "only" / "seven" / f"{name}.png")
    return {
        "tmp": tmp_path,
        "toy": toy_run,
        "unfinished": unfinished,
        "digit": digit,
        "lacking": lacking,
        "damaged": damaged,
        "broken": broken,
    }


@pytest.mark.parametrize(("words", "named"), WRONG, ids=[words for words, _ in WRONG])
def test_wrong_input_is_refused_in_one_line(cli: Cli, places: dict[str, Path], words: str, named: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would be one more line
        said = line(cli(*(word.format(**places) for word in words.split())))
    assert named.format(**places) in said
    assert not (places["tmp"] / "x" / "run.json").exists()  # nothing was begun


@pytest.fixture
def held(unfinished: Path) -> Iterator[Path]:
    """A run directory that somebody else works in."""
    with FileLock(unfinished / ".lock"):
        yield unfinished


def test_a_run_in_use_is_refused(cli: Cli, held: Path, tmp_path: Path) -> None:
    before = (held / "events.jsonl").read_bytes()
    assert f"{held} is in use" in line(cli("resume", held))
    assert f"{held} is in use" in line(cli("draw", "digits", "--out", held))
    assert (held / "events.jsonl").read_bytes() == before


def test_a_refused_draw_leaves_the_run_as_it_was(cli: Cli, unfinished: Path) -> None:
    before = {path.name: path.read_bytes() for path in unfinished.iterdir() if path.name != ".lock"}
    line(cli("draw", "digits", "--out", unfinished))
    assert {path.name: path.read_bytes() for path in unfinished.iterdir() if path.name != ".lock"} == before


def test_a_finished_run_is_not_resumed(cli: Cli, toy_run: Path, tmp_path: Path) -> None:
    """But for a figure that is missing: the run was stopped while it was drawn."""
    run = Path(shutil.copytree(toy_run, tmp_path / "run"))
    (run / "figure.png").touch()
    assert "already finished" in line(cli("resume", run))
    (run / "figure.png").unlink()
    assert cli("resume", run).status == 0
    assert (run / "figure.png").stat().st_size > 0


def test_a_training_that_diverges_says_what_to_change(cli: Cli, quick_words: list[str], tmp_path: Path) -> None:
    words = ["--optimizer.lr", "1e12", "--optimizer.clip_norm", "null", "--lr.warmup_epochs", "0"]
    words += ["--divergence_retries", "0"]
    outcome = cli("draw", "digits", "--out", tmp_path / "run", *quick_words, *words)
    assert "optimizer.lr" in line(outcome)
    assert not (tmp_path / "run" / "ticket").exists()


def test_a_damaged_checkpoint_is_named(cli: Cli, unfinished: Path) -> None:
    path = unfinished / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-500])
    assert str(path) in line(cli("resume", unfinished))


def test_resume_emits_the_ticket_of_a_run_that_was_stopped_before(cli: Cli, unfinished: Path, toy_run: Path) -> None:
    assert cli("resume", unfinished).status == 0
    for name in ("model.safetensors", "mask.safetensors", "config.json", "README.md"):
        assert (unfinished / "ticket" / name).read_bytes() == (toy_run / "ticket" / name).read_bytes()
    assert (unfinished / "events.jsonl").read_bytes() == (toy_run / "events.jsonl").read_bytes()


def test_data_that_changed_ends_a_resumed_run_and_is_noted_for_a_ticket(
    cli: Cli, unfinished: Path, toy_run: Path
) -> None:
    shutil.copytree(toy_run / "ticket", unfinished / "other")
    for path in (unfinished / "run.json", unfinished / "other" / "config.json"):
        text = path.read_text()
        digest = load_splits(DataSettings(validation=0.15)).digest()
        assert text.count(digest) == 1
        path.write_text(text.replace(digest, "0" * 64))
    assert "the data is not what" in line(cli("resume", unfinished))
    measured = cli("evaluate", unfinished / "other")
    assert measured.status == 0
    assert measured.err.startswith("warning: the data is not what the ticket was made with")
    assert measured.out == cli("evaluate", toy_run).out


def test_a_short_dense_training_needs_no_schedule_of_a_search(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "digits", "--epochs", "1", "--out", tmp_path / "run").status == 0


def test_tickets_may_be_called_ticket(cli: Cli, toy_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toy_run)
    result = printed(cli("bench", "ticket", "--against", "ticket", "--repeats", "2", "--runtimes", "torch", "--json"))
    assert result["networks"] == ["./ticket", "ticket"]
    assert {name.rpartition("/")[0] for name in result["latencies"]} == {"./ticket", "ticket"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.batch", "64"], "data.batch is 64 but the training split has"),
        (["--supernet.name", "tunas_proxyless"], "is a space of networks"),
        (["--data.class_names", "[a,b]"], "class_names"),
    ],
)
def test_a_plan_refuses_what_the_run_refuses(words: list[str], message: str, cli: Cli, idx_folder: Path) -> None:
    words = ["draw", "mnist", "--data", str(idx_folder), *words]
    planned, run = cli(*words, "--plan"), cli(*words, "--out", idx_folder / "run")
    assert (planned.status, run.status) == (2, 2)
    assert planned.err == run.err
    assert message in planned.err


def test_a_plan_of_data_tells_the_network_and_its_cost(cli: Cli, idx_folder: Path) -> None:
    planned = cli("draw", "mnist", "--data", idx_folder, "--data.batch", "8", "--plan")
    assert planned.status == 0, planned.err
    assert re.search(r"M MACs; 4 steps per epoch$", planned.err, re.MULTILINE)


def test_data_that_comes_with_the_package_cannot_be_moved(cli: Cli, quick_run: Path) -> None:
    for words in (["evaluate", quick_run], ["export", quick_run, "--int8"]):
        refused = cli(*words, "--data", "/elsewhere")
        assert refused.status == 2
        assert "data.dir (--data) is not for the digits" in refused.err
