"""A run that was interrupted anywhere ends like one that was not, to the bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import supertickets as st
from simulate_powercut import Crash, Cut, cut_at_evaluation, cut_at_step, cut_before_ticket, cut_by
from supertickets import load_recipe
from supertickets.cli.main import main
from supertickets.models import tensor_file
from supertickets.training import Reporter, RunDir

pytestmark = pytest.mark.long

STEPS, EPOCHS = 5, 4
# Units are removed after epochs 1 and 2, weights pruned after every epoch and reactivated after epoch 2.


def digests(run: Path) -> list[str]:
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [event["sha256"] for event in events if event["event"] == "digest"]


def lasting_events(run: Path) -> list[dict[str, object]]:
    """All events, less the time they took."""
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [{key: value for key, value in event.items() if key != "seconds"} for event in events]


def assert_same(run: Path, reference: Path) -> None:
    assert len(digests(run)) == EPOCHS
    assert digests(run) == digests(reference)
    assert lasting_events(run) == lasting_events(reference)
    for name in ("model.safetensors", "mask.safetensors", "config.json", "README.md"):
        assert (run / "ticket" / name).read_bytes() == (reference / "ticket" / name).read_bytes()


@pytest.fixture(scope="module")
def reference(quick_run: Path) -> Path:
    """A run that nothing interrupted, without workers and with a checkpoint per epoch."""
    return quick_run


@pytest.fixture(scope="module")
def helped_reference(quick_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with two loader workers."""
    folder = tmp_path_factory.mktemp("helped") / "run"
    st.draw(load_recipe("digits", [*quick_words, "--data.workers", "2"]), folder)
    return folder


def test_everything_happened_to_the_reference(reference: Path) -> None:
    """The other tests rely on every kind of event."""
    events = lasting_events(reference)
    for epoch in (1, 2):
        (shrink,) = (e for e in events if e["event"] == "shrink" and e["epoch"] == epoch)
        assert shrink["removed_channels"] != 0
    assert sum(int(str(e["removed_tokens"])) for e in events if e["event"] == "shrink") > 0
    assert [e["epoch"] for e in events if e["event"] == "prune"] == [1, 2, 3, 4]
    assert [e["epoch"] for e in events if e["event"] == "reactivate"] == [2]
    ticket = st.load(reference)
    assert ticket.about["steps"] == STEPS * EPOCHS
    assert ticket.spec.dropout > 0


def test_workers_change_nothing(reference: Path, helped_reference: Path) -> None:
    assert digests(helped_reference) == digests(reference)


@pytest.mark.parametrize(
    ("every_step", "workers", "cut"),
    [
        pytest.param(True, 0, partial(cut_at_step, 0, 1), id="first step"),
        pytest.param(True, 0, partial(cut_at_step, 0, 3), id="amid the first epoch"),
        pytest.param(True, 0, partial(cut_at_step, 0, STEPS), id="last step of an epoch"),
        pytest.param(True, 0, partial(cut_at_step, 1, 1), id="first step behind shrink and prune"),
        pytest.param(True, 0, partial(cut_at_evaluation, 2), id="between shrink, prune and their checkpoint"),
        pytest.param(True, 0, partial(cut_at_step, 2, 3), id="amid an epoch with a mask"),
        pytest.param(False, 0, partial(cut_at_step, 1, 3), id="amid an epoch without a checkpoint of its own"),
        pytest.param(False, 0, partial(cut_at_evaluation, 1), id="at the end of such an epoch"),
        pytest.param(False, 0, cut_before_ticket, id="before the ticket"),
        pytest.param(True, 2, partial(cut_at_step, 1, 3), id="amid an epoch with workers"),
        pytest.param(True, 2, partial(cut_at_evaluation, 2), id="at the end of an epoch with workers"),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    quick_words: list[str],
    reference: Path,
    helped_reference: Path,
    tmp_path: Path,
    every_step: bool,
    workers: int,
    cut: Cut,
) -> None:
    words = [*quick_words, "--data.workers", str(workers)]
    if every_step:
        words += ["--checkpoint_seconds", "0"]
    with cut():
        st.draw(load_recipe("digits", words), tmp_path / "run")
    torch.manual_seed(12345)  # a resumed run finds the process's own generator anywhere
    resumed = st.resume(tmp_path / "run")
    compared = helped_reference if workers else reference
    if not every_step:
        assert_same(tmp_path / "run", compared)
    assert digests(tmp_path / "run") == digests(compared)
    # The recipe in config.json tells how often checkpoints are written; all else is the same.
    for name in ("model.safetensors", "mask.safetensors", "README.md"):
        assert (tmp_path / "run" / "ticket" / name).read_bytes() == (compared / "ticket" / name).read_bytes()
    assert resumed.about["test"] == st.load(compared).about["test"]
    assert lasting_events(tmp_path / "run") == lasting_events(compared)


def test_a_run_that_is_stopped_again_and_again(
    quick_words: list[str], reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    count = 0

    def step(self: Reporter, epoch: int, step: int) -> None:
        nonlocal count
        count += 1
        if count % 4 == 0:
            raise Crash

    stops = 0
    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "step", step)
        with pytest.raises(Crash):
            st.draw(load_recipe("digits", [*quick_words, "--checkpoint_seconds", "0"]), run)
        while not (run / "result.json").exists():
            try:
                st.resume(run)
            except Crash:
                stops += 1
    assert stops > 3
    assert digests(run) == digests(reference)
    assert (run / "ticket/model.safetensors").read_bytes() == (reference / "ticket/model.safetensors").read_bytes()


def test_a_checkpoint_is_the_old_or_the_new(
    quick_words: list[str], reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill while the third checkpoint is written leaves the second, and the run goes on from there."""
    written = 0
    save_file = tensor_file.save_file

    def half_written(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
        nonlocal written
        written += 1
        save_file(tensors, path, metadata)
        if written == 3:
            os.truncate(path, os.path.getsize(path) // 2)
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(tensor_file, "save_file", half_written)
        with pytest.raises(Crash):
            st.draw(load_recipe("digits", quick_words), tmp_path / "run")
    assert len(digests(tmp_path / "run")) == 2  # the log is ahead of the checkpoint now
    st.resume(tmp_path / "run")
    assert_same(tmp_path / "run", reference)


def test_a_draw_that_was_killed_before_its_first_checkpoint_starts_again(
    quick_words: list[str], reference: Path, tmp_path: Path
) -> None:
    with cut_by(RunDir, "create", lambda about: True):
        st.draw(load_recipe("digits", quick_words), tmp_path / "run")
    with pytest.raises(st.UserError, match="not a run directory"):
        st.resume(tmp_path / "run")
    st.draw(load_recipe("digits", quick_words), tmp_path / "run")
    assert_same(tmp_path / "run", reference)


def test_resuming_does_not_depend_on_the_threads_of_the_process(quick_words: list[str], tmp_path: Path) -> None:
    """A run without a number of threads gets the same one again, and the recipe in the ticket stays as it was."""
    words = [*quick_words, "--threads", "null"]
    whole = st.draw(load_recipe("digits", words), tmp_path / "whole")
    with cut_at_step(1, 2):
        st.draw(load_recipe("digits", words), tmp_path / "run")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        resumed = st.resume(tmp_path / "run")
        assert torch.get_num_threads() == threads + 1  # the process gets its own number back
    finally:
        torch.set_num_threads(threads)
    assert digests(tmp_path / "run") == digests(tmp_path / "whole")
    assert resumed.about == whole.about


def test_ctrl_c_saves_and_says_how_to_go_on(
    quick_words: list[str],
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    run = tmp_path / "run"
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in the background
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, inherited))

    def step(self: Reporter, epoch: int, step: int) -> None:
        if epoch * STEPS + step == STEPS + 3:
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "step", step)
        try:
            status = main(["draw", "digits", "--out", str(run), *quick_words])
        except SystemExit as stop:
            status = int(stop.code or 0)
    assert status == 130
    said = capsys.readouterr()
    assert said.err.splitlines()[-1] == f"stopped; go on with: supertickets resume {run}"
    assert "Traceback" not in said.err
    assert signal.getsignal(signal.SIGINT) is handler
    # The step under way was finished and saved: three of the second epoch.
    position = json.loads((safe_open(run / "checkpoint.safetensors", "pt").metadata())["state"])["position"]
    assert (position["epoch"], position["step"]) == (1, 3)
    assert main(["resume", str(run)]) == 0
    assert_same(run, reference)


# Kills from outside ---------------------------------------------------------------------------------------------------


def start(*words: str | Path, session: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "supertickets", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=session,
    )


def go_on(run: Path, words: list[str]) -> subprocess.Popen[str]:
    """Starts what a person would: resume if there is something to resume, else draw."""
    if (run / "run.json").exists():
        return start("resume", run)
    return start("draw", "digits", "--out", run, *words)


def kill(process: subprocess.Popen[str], seconds: float) -> bool:
    """Kills a process after some time; returns whether it was still running."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    # Its loader workers share the pipe and live a little longer, so nothing is read from it.
    assert process.wait(60) in (0, -signal.SIGKILL)
    return process.returncode != 0


def finish(run: Path, words: list[str]) -> None:
    if not (run / "result.json").exists():
        process = go_on(run, words)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err


def wait_until_free(run: Path) -> None:
    """Waits for the loader workers of a killed process; that they hold the lock is another test's concern."""
    for _ in range(200):
        try:
            with RunDir(run):
                return
        except st.UserError:
            time.sleep(0.1)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.01)


def wait_for_checkpoint(run: Path, process: subprocess.Popen[str], before: int) -> None:
    while process.poll() is None and (run / "checkpoint.safetensors").stat().st_mtime_ns == before:
        time.sleep(0.01)


def test_two_kills_at_random(quick_words: list[str], reference: Path, tmp_path: Path) -> None:
    run, chance = tmp_path / "run", random.Random(0)
    words = [*quick_words, "--checkpoint_seconds", "0"]
    process = start("draw", "digits", "--out", run, *words)
    wait_for(run / "run.json", process)
    kills = int(kill(process, chance.uniform(0, 0.5)))
    before = (run / "checkpoint.safetensors").stat().st_mtime_ns
    process = go_on(run, words)
    wait_for_checkpoint(run, process, before)
    kills += kill(process, chance.uniform(0, 0.2))
    assert kills > 0
    if not (run / "result.json").exists():
        assert main(["resume", str(run)]) == 0
    assert digests(run) == digests(reference)
    assert (run / "ticket/model.safetensors").read_bytes() == (reference / "ticket/model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("workers", [0, 2])
def test_ten_kills_at_random(
    quick_words: list[str], reference: Path, helped_reference: Path, tmp_path: Path, workers: int
) -> None:
    chance = random.Random(workers)
    words = [*quick_words, "--checkpoint_seconds", "0", "--data.workers", str(workers)]
    compared = helped_reference if workers else reference
    begin = time.monotonic()
    finish(tmp_path / "measured", words)
    whole = time.monotonic() - begin
    kills = 0
    for trial in range(40):
        run = tmp_path / f"run{trial}"
        # Importing takes much of the time and is the same for all, so most kills fall into its second part.
        while kills < 10 and not (run / "result.json").exists():
            hit = kill(go_on(run, words), chance.uniform(0.3 * whole, whole))
            wait_until_free(run)
            kills += hit
            whole *= 1 if hit else 0.9  # the machine has become faster
        finish(run, words)
        assert digests(run) == digests(compared)
        assert (run / "ticket/model.safetensors").read_bytes() == (compared / "ticket/model.safetensors").read_bytes()
        if kills == 10:
            return
    pytest.fail(f"only {kills} kills hit a running process")


def test_a_killed_run_with_workers_can_be_resumed_at_once(quick_words: list[str], tmp_path: Path) -> None:
    """Workers of a killed process live on for some seconds; they must not hold the run's lock."""
    words = [*quick_words, "--data.workers", "2", "--data.batch", "4"]
    process = start("draw", "digits", "--out", tmp_path / "run", *words)
    wait_for(tmp_path / "run" / "run.json", process)
    assert kill(process, 0.5)
    with RunDir(tmp_path / "run"):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_in_a_terminal(quick_words: list[str], tmp_path: Path, workers: int) -> None:
    """A terminal sends it to every process, loader workers too."""
    run = tmp_path / "run"
    words = [*quick_words, "--data.batch", "4", "--data.workers", str(workers)]
    process = start("draw", "digits", "--out", run, *words, session=True)
    wait_for(run / "run.json", process)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == f"stopped; go on with: supertickets resume {run}"
    assert "Traceback" not in err
