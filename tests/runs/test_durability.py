"""Runs notice damage and mend what can be mended; they depend on no working directory and follow no link."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

import supertickets as st
from cli_outcome import Cli
from simulate_powercut import cut_before_ticket
from supertickets.config.loading import load_recipe
from supertickets.data import Preprocessing
from supertickets.deploy import export
from supertickets.models.factory import create_spec
from supertickets.runs.derive import with_absolute_paths
from supertickets.storage import checksums, remove
from supertickets.sweeps.sweep import Job
from supertickets.sweeps.work import mark_directory, run_job, start_log
from supertickets.training import Reporter

DEAD = 2**22 + 1  # no process has such a number


@pytest.fixture
def run(quick_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(quick_run, tmp_path / "run"))


@pytest.fixture
def unfinished(run: Path) -> Path:
    """The same without its ticket."""
    shutil.rmtree(run / "ticket")
    (run / "result.json").unlink()
    return run


@pytest.mark.parametrize("file", ["ticket/model.safetensors", "ticket/README.md", "ticket/config.json", "result.json"])
def test_a_damaged_ticket_is_made_again(file: str, run: Path, quick_run: Path) -> None:
    data = (run / file).read_bytes()
    (run / file).write_bytes(data[: len(data) // 2])
    st.resume(run)
    assert checksums(run / "ticket") == checksums(quick_run / "ticket")
    with pytest.raises(st.UserError, match="already finished"):
        st.resume(run)


def test_a_script_started_again_gets_a_whole_ticket(run: Path) -> None:
    (run / "ticket" / "mask.safetensors").unlink()
    ticket = st.load_or_run(run, lambda out: pytest.fail("it begins anew"))
    assert ticket == st.load(run)


def test_a_flipped_bit_of_a_checkpoint_is_noticed(unfinished: Path) -> None:
    path = unfinished / "checkpoint.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(st.UserError, match=r"checkpoint.safetensors is missing or damaged.*checksum"):
        st.resume(unfinished)


@pytest.mark.parametrize("length", [0, 1, None])
def test_a_shortened_log_is_refused_and_never_padded(length: int | None, unfinished: Path) -> None:
    log = unfinished / "events.jsonl"
    text = log.read_bytes()
    if length is None:
        log.unlink()
    else:
        log.write_bytes(text[:length])
    with pytest.raises(st.UserError, match=r"events.jsonl has \d bytes where its checkpoint needs"):
        st.resume(unfinished)
    assert (log.read_bytes() if log.exists() else None) == (None if length is None else text[:length])
    log.write_bytes(text)
    st.resume(unfinished)


def test_leftovers_of_a_killed_process_are_removed(unfinished: Path) -> None:
    (unfinished / f".checkpoint.{DEAD}.tmp.safetensors").write_text("half")
    (unfinished / f".ticket.{DEAD}.tmp").mkdir()
    st.resume(unfinished)
    assert not list(unfinished.glob(".*tmp*"))


@pytest.mark.parametrize("name", ["events.jsonl", "result.json", "ticket", "figure.png"])
def test_links_in_a_strangers_run_are_not_followed(name: str, unfinished: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (unfinished / name).unlink(missing_ok=True)
    (unfinished / name).symlink_to(mine)
    with pytest.raises(st.UserError, match=f"{name} is a link"):
        st.resume(unfinished)
    assert mine.read_text() == "mine"


def test_a_link_in_a_run_is_not_written_through_by_an_export(cli: Cli, run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (run / "model.pt2").symlink_to(tmp_path / "mine")
    assert cli("export", run, "--format", "torch").status == 0
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (run / "model.pt2").is_symlink()


@pytest.mark.parametrize(
    "words",
    [
        ["export", "{run}", "--out", "/proc/model.onnx"],
        ["export", "{run}", "--format", "c", "--out", "/proc/c"],
        ["report", "{run}", "--out", "/proc/report"],
        ["explain", "{run}", "{image}", "--save", "/proc/explained"],
        ["predict", "{run}", "{image}", "--save", "/proc/painted"],
        ["draw", "digits", "--out", "/proc/draw"],
        ["train", "digits", "--out", "/proc/train"],
        ["retrain", "{run}", "--epochs", "1", "--out", "/proc/again"],
        ["prune", "{run}", "--ratio", "0.9", "--out", "/proc/pruned"],
        ["latency-table", "tunas_proxyless", "--out", "/proc/table.json"],
    ],
)
def test_a_place_that_is_read_only_is_refused_before_the_work(words: list[str], cli: Cli, run: Path) -> None:
    image = run.parent / "digit.png"
    Image.new("L", (8, 8)).save(image)
    refused = cli(*(word.format(run=run, image=image) for word in words))
    assert (refused.status, refused.out) == (2, "")
    assert re.match(
        r"error: /proc/\w+(\.onnx|\.json)? cannot be (written|made) .*; choose another --(out|save)\n$", refused.err
    )


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["export"], "model.onnx"),
        (["export", "--format", "torch"], "model.pt2"),
        (["export", "--format", "sparse"], "model.sparse"),
        (["export", "--format", "c"], "model_c"),
        (["export", "--int8"], "model.int8.onnx"),
        (["report"], "report"),
    ],
)
def test_what_is_written_into_a_run_by_default_is_refused_if_that_is_read_only(
    words: list[str], file: str, cli: Cli, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a shared disk, which a superuser cannot make of a folder."""

    def read_only(dir: Path) -> None:
        assert Path(dir) == run
        raise OSError(errno.EROFS, "Read-only file system", str(dir))

    monkeypatch.setattr("supertickets.storage.tempfile.TemporaryFile", read_only)
    before = sorted(run.iterdir())
    refused = cli(words[0], run, *words[1:])
    assert (refused.status, refused.out) == (2, "")
    assert refused.err == f"error: {run / file} cannot be written (Read-only file system); choose another --out\n"
    assert sorted(run.iterdir()) == before
    assert cli("evaluate", run).status == 0


def test_a_run_that_was_stopped_behind_its_ticket_gets_its_figure(cli: Cli, run: Path) -> None:
    finished = cli("resume", run)
    assert finished.status == 0
    assert (run / "figure.png").exists()
    assert "ticket " in finished.out
    assert "already finished" in cli("resume", run).err


@pytest.mark.parametrize("place", [".", "job"])
def test_links_in_a_strangers_sweep_are_refused(place: str, tmp_path: Path) -> None:
    root, mine, job = tmp_path / "sweep", tmp_path / "mine", Job(command="draw", recipe=st.Recipe())
    (root / job.key).mkdir(parents=True)
    mine.write_text("mine")
    (root / (place if place == "." else job.key) / "log.txt").symlink_to(mine)
    with pytest.raises(st.UserError, match=r"log.txt is a link"):
        mark_directory(root) if place == "." else run_job(job, root)
    if place == "job":
        with pytest.raises(st.UserError, match=r"log.txt is a link"):
            start_log(root, job)
    assert mine.read_text() == "mine"


def test_the_files_of_a_run_have_one_mode(quick_run: Path) -> None:
    files = [*(quick_run / "ticket").iterdir(), *(quick_run / name for name in ("run.json", "checkpoint.safetensors"))]
    assert len({stat.S_IMODE(file.stat().st_mode) for file in files}) == 1


@pytest.mark.long
def test_what_commands_write_has_the_mode_of_the_umask(cli: Cli, run: Path, tmp_path: Path) -> None:
    image, out, before = tmp_path / "digit.png", tmp_path / "out", os.umask(0o027)
    try:
        Image.new("L", (8, 8)).save(image)
        for form in ("onnx", "sparse"):
            assert cli("export", run, "--format", form, "--out", out / f"model.{form}").status == 0
        assert cli("report", run, "--out", out / "report").status == 0
        assert cli("predict", run, image, "--save", out / "painted").status == 0
        assert cli("explain", run, image, "--save", out / "explained").status == 0
    finally:
        os.umask(before)
    files = [file for file in out.rglob("*") if file.is_file()]
    assert len(files) > 5
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o640}


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate"],
        pytest.param(["export", "--int8", "--force"], marks=pytest.mark.long),
        pytest.param(["retrain", "--epochs", "1"], marks=pytest.mark.long),
        ["prune", "--ratio", "0.5"],
    ],
    ids=lambda words: words[0],
)
def test_a_ticket_is_used_from_another_directory_and_with_moved_data(
    words: list[str],
    cli: Cli,
    idx_folder: Path,
    quick_words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    own = [*quick_words, "--data.source", "idx", "--data.dir", "idx", "--data.batch", "10", "--epochs", "1"]
    own += ["--search.interval", "0", "--search.last_epoch", "null", "--prune.ratio", "0", "--lr.warmup_epochs", "0"]
    st.train(load_recipe("digits", own), "run")
    monkeypatch.chdir("/")
    out = [] if words[0] == "evaluate" else ["--out", str(tmp_path / ("q.onnx" if words[0] == "export" else "out"))]
    command = [words[0], tmp_path / "run", *words[1:], *out]
    assert cli(*command).status == 0
    for place in out[1:]:
        remove(Path(place))
    shutil.move(idx_folder, tmp_path / "moved")
    refused = cli(*command)
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert f"data folder {idx_folder} does not exist" in refused.err
    assert cli(*command, "--data", tmp_path / "moved").status == 0


def test_a_run_goes_on_from_another_directory_and_with_moved_data(
    idx_folder: Path, quick_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*quick_words, "--data.source", "idx", "--data.dir", "idx", "--data.batch", "10", "--epochs", "1"]
    words += ["--search.interval", "0", "--search.last_epoch", "null", "--prune.ratio", "0", "--lr.warmup_epochs", "0"]
    with cut_before_ticket():
        st.train(load_recipe("digits", words), "run")
    monkeypatch.chdir("/")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    st.resume(tmp_path / "run")
    assert st.load(tmp_path / "run").about["recipe"]["data"]["dir"] == str(idx_folder)
    shutil.move(idx_folder, tmp_path / "moved")
    with pytest.raises(st.UserError, match="idx"):
        st.resume(tmp_path / "copy")
    st.resume(tmp_path / "copy", data_dir=str(tmp_path / "moved"))
    assert (tmp_path / "copy" / "ticket" / "model.safetensors").read_bytes() == (
        tmp_path / "run" / "ticket" / "model.safetensors"
    ).read_bytes()


def test_paths_of_a_recipe_become_absolute_and_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "teacher").mkdir()
    words = ["--data.source", "idx", "--data.dir", "x", "--distill.teacher", "teacher"]
    recipe = with_absolute_paths(load_recipe("digits", words))
    assert (recipe.data.dir, recipe.distill.teacher) == (str(tmp_path / "x"), str(tmp_path / "teacher"))
    assert recipe.data.boxes == "truth"
    named = load_recipe("digits", ["--distill.teacher", "timm:resnet18"])
    assert with_absolute_paths(named) == named


@pytest.mark.parametrize(
    ("name", "folder"),
    [("digits", "digits"), ("../../x", "-..-x"), ("/etc", "-etc"), ("..", "recipe"), ("a\x1b[2Jb", "a--2Jb")],
)
def test_a_name_stays_inside_runs(name: str, folder: str) -> None:
    assert st.Recipe(name=name).run_dir == f"runs/{folder}"


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_that_a_library_turns_into_an_error_still_stops(
    name: str, status: int, cli: Cli, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """As `torch` does: what a signal raises while it asks an object for its shape becomes a ValueError."""
    number = signal.Signals[name]
    usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
    inherited = signal.signal(number, usual)
    request.addfinalizer(lambda: signal.signal(number, inherited))

    def load(*_: Any, **__: Any) -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise ValueError("could not determine the shape of an object") from None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("supertickets.ticket.Ticket.from_pretrained", load)
        outcome = cli("show", tmp_path)
    assert (outcome.status, outcome.err.splitlines()) == (status, ["stopped"])
    assert signal.getsignal(number) is usual


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGUSR1", 138)])
def test_every_signal_to_end_saves_and_says_how_to_go_on(
    name: str,
    status: int,
    cli: Cli,
    quick_words: list[str],
    quick_run: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    number, run = signal.Signals[name], tmp_path / "run"
    inherited = signal.signal(number, signal.SIG_DFL)  # it may be ignored, as by nohup
    request.addfinalizer(lambda: signal.signal(number, inherited))
    before = signal.getsignal(number)

    def step(self: Reporter, epoch: int, step: int) -> None:
        if (epoch, step) == (1, 3):
            signal.raise_signal(number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reporter, "step", step)
        outcome = cli("draw", "digits", "--out", run, *quick_words)
    assert (outcome.status, outcome.err.splitlines()[-1]) == (
        status,
        f"stopped; go on with: supertickets resume {run}",
    )
    assert signal.getsignal(number) is before
    st.resume(run)
    assert checksums(run / "ticket") == checksums(quick_run / "ticket")


def test_a_diverged_run_goes_back_until_a_rate_works(quick_words: list[str], tmp_path: Path) -> None:
    words = ["--optimizer.name", "sgd", "--optimizer.lr", "1e9", "--optimizer.clip_norm", "null", "--epochs", "1"]
    words += ["--search.interval", "0", "--search.last_epoch", "null", "--prune.ratio", "0", "--lr.warmup_epochs", "0"]
    with pytest.raises(st.UserError, match=r"loss is .* in epoch 1.*also at a learning rate of 2.5e\+08"):
        st.train(load_recipe("digits", [*quick_words, *words]), tmp_path / "fails")
    ticket = st.train(load_recipe("digits", [*quick_words, *words, "--divergence_retries", "60"]), tmp_path / "works")
    events = [json.loads(line) for line in (tmp_path / "works" / "events.jsonl").read_text().splitlines()]
    factors = [event["lr_factor"] for event in events if event["event"] == "diverged"]
    assert factors == [0.5**i for i in range(1, len(factors) + 1)]
    assert 2 < len(factors) < 60
    assert all(value.isfinite().all() for value in ticket.weights.values())


class Tied(nn.Module):
    """A network that uses a layer twice, under two names."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3, padding=1)
        self.again = self.also = nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.last = nn.Linear(6, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.also(self.again(self.first(images)).relu()).relu()
        scores: torch.Tensor = self.last(self.norm(x).mean((2, 3)))
        return scores


def make_tied(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    return Tied(num_classes, in_channels)


def test_a_network_with_a_shared_layer_is_drawn_and_resumed(quick_words: list[str], tmp_path: Path) -> None:
    pairs = zip(quick_words[::2], quick_words[1::2], strict=True)
    words = [word for pair in pairs if not pair[0].startswith("--supernet") for word in pair]
    recipe = load_recipe("digits", [*words, "--supernet.name", f"{__name__}:make_tied"])
    with cut_before_ticket():
        st.draw(recipe, tmp_path / "run")
    st.resume(tmp_path / "run", trust=(__name__,))
    ticket = st.load(tmp_path / "run", trust=(__name__,))
    assert ticket.weights["network.also.weight"].equal(ticket.weights["network.again.weight"])
    assert ticket.cost.sparsity > 0
    own = sum(parameter.numel() for parameter in ticket.module.parameters())
    assert ticket.cost.params == own
    st.prune(ticket, st.prune_recipe(ticket, 0.9), tmp_path / "pruned")
    pruned = st.load(tmp_path / "pruned", trust=(__name__,))
    assert pruned.cost.sparsity == pytest.approx(0.9, abs=0.02)
    assert pruned.weights["network.also.weight"].equal(pruned.weights["network.again.weight"])


@pytest.fixture
def tied() -> st.Ticket:
    """A ticket of `Tied`."""
    spec = create_spec(f"{__name__}:make_tied", num_classes=4, in_channels=1, image_size=(8, 8))
    torch.manual_seed(0)
    how = Preprocessing(1, (8, 8), (0.5,), (0.5,))
    recipe = load_recipe("digits", ["--supernet.name", f"{__name__}:make_tied"]).to_json()
    return st.Ticket(spec, spec.build().state_dict(), {}, tuple("abcd"), how, {"recipe": recipe})


@pytest.mark.parametrize(("form", "name"), [("onnx", "a.onnx"), ("torch", "a.pt2"), ("sparse", "a.sparse")])
def test_a_network_with_a_shared_layer_is_exported(form: str, name: str, tied: st.Ticket, tmp_path: Path) -> None:
    tied.save_pretrained(tmp_path / "ticket")
    loaded = st.load(tmp_path / "ticket", trust=(__name__,))
    assert loaded == tied
    parity = export(loaded, tmp_path / name, form).parity
    assert parity is not None
    assert parity < 1e-5


def test_a_network_with_a_shared_layer_teaches(tied: st.Ticket, quick_words: list[str], tmp_path: Path) -> None:
    """Its average of weights too, in which a tensor has one memory under two names."""
    words = ["--supernet.name", f"{__name__}:make_tied", "--ema_decay", "0.5", "--threads", "1", "--data.limit", "64"]
    words += ["--data.batch", "32", "--epochs", "1"]
    teacher = st.train(load_recipe("digits", words), tmp_path / "teacher")
    assert teacher.weights["network.also.weight"].equal(teacher.weights["network.again.weight"])
    pupil = st.train(load_recipe("digits", [*words, "--distill.teacher", str(tmp_path / "teacher")]), tmp_path / "run")
    assert pupil.weights["network.also.weight"].equal(pupil.weights["network.again.weight"])
    assert not pupil.weights["network.also.weight"].equal(teacher.weights["network.also.weight"])


@pytest.mark.long
def test_a_library_network_with_shared_modules_is_trained(cli: Cli, tmp_path: Path) -> None:
    words = ["--epochs", "1", "--data.limit", "32", "--data.batch", "16", "--data.size", "32", "--threads", "1"]
    words += ["--supernet.name", "timm:coat_lite_tiny", "--supernet.settings.img_size", "32", "--ema_decay", "0.5"]
    assert cli("train", "digits", *words, "--out", tmp_path / "run").status == 0
    ticket = st.load(tmp_path / "run")
    shared = ticket.module.shared_names()
    assert len(shared) > 10
    assert all(ticket.weights[name].equal(ticket.weights[kept]) for name, kept in shared.items())
