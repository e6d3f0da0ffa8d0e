"""Two processes under torchrun: one run, one ticket, every sample counted once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import supertickets as st
from supertickets.config.loading import recipe_from_json
from supertickets.data import load_splits
from supertickets.runs.evaluate import evaluate_ticket

pytestmark = pytest.mark.long

# The second process is late at the door, as a busy machine may make it.
_LATE = """
import os, sys, time
from supertickets.cli.main import main
from supertickets.training import RunDir

check = RunDir.check_free
def late(self):
    time.sleep(5 * int(os.environ["RANK"]))
    check(self)
RunDir.check_free = late
raise SystemExit(main(sys.argv[1:]))
"""


def launch(*words: str | Path, script: Path | None = None) -> subprocess.Popen[str]:
    target = ["-m", "supertickets"] if script is None else [str(script)]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *target]
        + [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def kill(process: subprocess.Popen[str]) -> None:
    """Kills torchrun and its two processes, which are in sessions of their own."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in (process.pid, *map(int, children)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        out, err = process.communicate(timeout=240)
    finally:
        if process.poll() is None:
            kill(process)
    assert process.returncode == 0, err
    return out, err


def events(run: Path, kind: str) -> list[dict[str, object]]:
    records = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [event for event in records if event["event"] == kind]


@pytest.fixture(scope="module")
def pair(quick_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A run of two processes: its directory, and what was printed."""
    run = tmp_path_factory.mktemp("pair") / "run"
    out, err = ended(launch("draw", "digits", "--out", run, "--json", *quick_words))
    return run, out, err


def test_two_processes_make_one_run(pair: tuple[Path, str, str]) -> None:
    run, _, _ = pair
    written = {path.name for path in run.iterdir()} - {".lock"}
    assert written == {
        "run.json",
        "events.jsonl",
        "checkpoint.safetensors",
        "ticket",
        "result.json",
        "figure.png",
    }
    assert {path.name for path in run.parent.iterdir()} == {"run"}
    assert st.load(run).about["processes"] == 2
    assert [event["epoch"] for event in events(run, "epoch")] == [1, 2, 3, 4]
    assert len(events(run, "shrink")) == 2
    assert len(events(run, "prune")) == 4


def test_the_states_were_compared_after_every_epoch(pair: tuple[Path, str, str]) -> None:
    digests = events(pair[0], "digest")
    assert [event["epoch"] for event in digests] == [1, 2, 3, 4]
    assert len({event["sha256"] for event in digests}) == 4


def test_only_the_first_process_talks(pair: tuple[Path, str, str]) -> None:
    run, out, err = pair
    assert err.count("epoch   1/4") == 1
    assert json.loads(out)["ticket"] == str(run / "ticket")


def test_every_sample_is_counted_once(pair: tuple[Path, str, str]) -> None:
    """Two processes sum up the metrics that one process computes."""
    ticket = st.load(pair[0])
    splits = load_splits(recipe_from_json(ticket.about["recipe"]).data)
    for split, data in (("test", splits.test), ("validation", splits.validation)):
        together = ticket.about[split]
        assert len(data) % 2 == 1 or split == "validation"  # the shares are unequal
        assert together == pytest.approx(evaluate_ticket(ticket, split=split), abs=1e-6)
        hits = together["top1"] * len(data) / 100
        assert hits == pytest.approx(round(hits), abs=1e-9)
    assert ticket.about["samples"] == 4 * 5 * 128


def test_the_search_saw_the_samples_of_both_processes(pair: tuple[Path, str, str], quick_words: list[str]) -> None:
    """The mean of both losses, over a whole epoch of both shares, is near what one process sees."""
    alone = st.load_recipe("digits", quick_words)
    first = events(pair[0], "epoch")[0]
    assert first["samples"] == 5 * alone.data.batch
    assert 2.2 < float(str(first["train_loss"])) < 2.6  # about ln 10


@pytest.mark.slow
def test_a_late_process_joins_the_run(quick_words: list[str], tmp_path: Path) -> None:
    script = tmp_path / "late.py"
    script.write_text(_LATE)
    run = tmp_path / "run"
    words = [*quick_words, "--epochs", "1", "--search.last_epoch", "1"]
    ended(launch("draw", "digits", "--out", run, *words, script=script))
    assert (run / "result.json").exists()


@pytest.fixture(scope="module")
def calm_words(quick_words: list[str]) -> list[str]:
    """Epochs 1 and 4 change neither architecture nor mask, so that BN statistics stay those of the training."""
    return [*quick_words, "--search.interval", "2", "--prune.interval", "3", "--epochs", "5"]


@pytest.fixture(scope="module")
def calm_pair(calm_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("calm") / "run"
    ended(launch("draw", "digits", "--out", run, *calm_words))
    return run


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("checkpoint_seconds", ["300", "0"])
def test_a_killed_pair_goes_on(calm_pair: Path, calm_words: list[str], tmp_path: Path, checkpoint_seconds: str) -> None:
    words = [*calm_words, "--checkpoint_seconds", checkpoint_seconds]
    chance, kills = random.Random(0), 0
    for trial in range(6):
        run = tmp_path / f"run{trial}"
        process = launch("draw", "digits", "--out", run, *words)
        while not (run / "run.json").exists():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(chance.uniform(0.2, 1.5))
        kill(process)
        if (run / "result.json").exists():
            continue
        kills += 1
        ended(launch("resume", run))
        losses = [[event["train_loss"] for event in events(r, "epoch")] for r in (run, calm_pair)]
        assert losses[0] == losses[1]
        assert events(run, "digest") == events(calm_pair, "digest")
        model = "ticket/model.safetensors"
        assert (run / model).read_bytes() == (calm_pair / model).read_bytes()
        if kills == 2:
            return
    assert kills > 0


@pytest.mark.parametrize("statistics", [pytest.param("batch", marks=pytest.mark.slow), "recalibrated"])
def test_two_processes_search_as_one(statistics: str, tmp_path: Path) -> None:
    """Each samples networks of its own; what is learned is the same on both, which every epoch checks."""
    words = ["--threads", "1", "--epochs", "2", "--evaluate_every", "2", "--recalibrate_batches", "1"]
    words += ["--accumulate", "4", "--data.validation", "0.5", "--data.batch", "64", "--data.limit", "192"]
    words += ["--supernet.name", "tunas_proxyless", "--supernet.settings.width", "0.1", "--policy.images", "4"]
    words += ["--supernet.settings.statistics", statistics, "--budget.params", "40000", "--policy.lr", "0.3"]
    run = tmp_path / "run"
    ended(launch("search", "digits", "--out", run, *words))
    assert len(events(run, "digest")) == 2
    assert st.load(run).about["processes"] == 2
    steps, networks = 3, 4
    assert [event["sampled_networks"] for event in events(run, "epoch")] == [steps * networks] * 2


def test_two_processes_remove_the_same_units(tmp_path: Path) -> None:
    """Of a traced network, by gradients that both have averaged; the states are compared after every epoch."""
    words = [
        *("--supernet.name", "resnet8", "--threads", "1", "--epochs", "4", "--evaluate_every", "4"),
        *("--data.batch", "128", "--data.validation", "0.5", "--recalibrate_batches", "1", "--prune.ratio", "0.5"),
        *("--search.interval", "1", "--search.end", "0.7", "--prune.interval", "2", "--prune.progressive", "false"),
        *("--search.importance", "gate", "--budget.params", "4e4"),
    ]
    ended(launch("draw", "digits", "--out", tmp_path / "run", *words))
    assert len(events(tmp_path / "run", "digest")) == 4
    assert sum(bool(e["removed_channels"]) for e in events(tmp_path / "run", "shrink")) >= 2
    assert 0.8 * 4e4 < st.load(tmp_path / "run").cost.params <= 4e4
