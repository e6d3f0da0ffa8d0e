"""Epochs by minutes: what fits, what is said, and that a run which is resumed keeps what was chosen."""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import supertickets as st
from simulate_powercut import cut_at_evaluation
from supertickets import UserError
from supertickets.runs.training_length import EpochTime, affordable_side, enough_epochs, fit_minutes, time_epoch
from supertickets.training import Session

WORDS = [
    *("--supernet.name", "resnet8", "--supernet.settings.width", "4", "--threads", "1", "--data.batch", "256"),
    *("--recalibrate_batches", "1", "--search.interval", "0", "--search.last_epoch", "null", "--search.rho", "0"),
    *("--prune.schedule", "cubic", "--prune.layer_floor", "0"),
]


def pretend(patch: pytest.MonkeyPatch, training: float, evaluation: float = 0.0) -> None:
    patch.setattr("supertickets.runs.session.time_epoch", lambda session: EpochTime(training, evaluation))


@pytest.mark.parametrize(
    ("training", "evaluation", "epochs", "every"),
    [
        (4.0, 0.0, 6, 2),  # of 30 s 25.5 are for 6 epochs
        (4.0, 0.8, 5, 2),  # an evaluation behind every second epoch is a tenth of its training: 25.5 / 4.4
        (4.0, 4.0, 5, 10),  # behind every tenth it is: 25.5 / 4.4
        (40.0, 0.0, 4, 2),
    ],
)
def test_epochs_by_hand(
    training: float,
    evaluation: float,
    epochs: int,
    every: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pretend(monkeypatch, training, evaluation)
    recipe = st.load_recipe("digits", [*WORDS, "--minutes", "0.5"])
    with caplog.at_level(logging.INFO, "supertickets"):
        ticket = st.draw(recipe, tmp_path)
    assert ticket.about["recipe"]["epochs"] == epochs
    assert ticket.about["recipe"]["minutes"] is None
    assert ticket.about["recipe"]["evaluate_every"] == every
    assert f"chosen: {epochs} epochs of 4 steps, about " in caplog.text
    assert ("an evaluation every 10 epochs, since each takes 4 s" in caplog.text) == (every == 10)
    assert ("fewer than 4 would teach little" in caplog.text) == (training == 40)


def photos(folder: Path, side: int) -> Path:
    """Two classes of 20 images."""
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(20):
            pixels = np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize(("steps", "epochs"), [(1000, 10), (100, 10), (50, 20), (2, 300)])
def test_few_images_are_seen_more_often(steps: int, epochs: float) -> None:
    """10 epochs or 1,000 steps, whatever is more, and 300 epochs at most."""
    assert enough_epochs(steps) == epochs


@pytest.mark.parametrize(
    ("minutes", "words", "side", "fewest"),
    [
        (0.6, [], 96, 10),
        (0.12, [], 40, 10),  # 6.1 s of steps are 2.04 epochs: of 10 each has 0.204 of the pixels, sides of 43
        (0.01, [], 32, 4),
        (0.12, ["--data.size", "96"], 96, 4),
    ],
)
def test_images_become_smaller_where_minutes_are_few(
    minutes: float,
    words: list[str],
    side: int,
    fewest: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An epoch takes as long as it has pixels: 3 s for images of 96 a side."""

    def time_epoch(session: Session) -> EpochTime:
        side = session.batches.splits.preprocessing.size[0]
        return EpochTime(3.0 * (side / 96) ** 2)

    monkeypatch.setattr("supertickets.runs.session.time_epoch", time_epoch)
    monkeypatch.setattr("supertickets.runs.training_length._FEW_STEPS", 10)  # an epoch has 3
    data = photos(tmp_path / "data", 96)
    fixed = [
        "--recalibrate_batches",
        "1",
        "--evaluate_every",
        "100",
        "--supernet.settings",
        "{width: 4, blocks: [1, 1, 1], strides: [1, 2, 2], stem_stride: 2}",
    ]
    recipe = ["--data.dir", str(data), "--minutes", str(minutes), "--threads", "1", "--data.workers", "0", *fixed]
    with caplog.at_level(logging.INFO, "supertickets"):
        ticket = st.draw(st.load_recipe("images", [*recipe, *words]), tmp_path / "run")
    assert ticket.preprocessing.size == (side, side)
    assert ticket.about["recipe"]["epochs"] >= fewest
    assert (f"chosen: images of {side} pixels, since" in caplog.text) == (side < 96)


@pytest.mark.parametrize(("minutes", "epochs"), [("0.5", 6), ("inf", 300)])
def test_a_length_has_an_end(minutes: str, epochs: int) -> None:
    recipe = st.load_recipe("digits", [*WORDS, "--minutes", minutes])
    assert fit_minutes(recipe, EpochTime(4.0), 4)[0].epochs == epochs


def test_sides_that_a_network_does_not_take_are_passed_over() -> None:
    """8 epochs of 96 pixels fit; 88 and 80 it does not take, and of 72 there are 10 and more."""
    asked: list[int] = []

    def macs(side: int) -> float:
        asked.append(side)
        return math.inf if side in (88, 80) else side**2

    splits = SimpleNamespace(preprocessing=SimpleNamespace(size=(96, 96)))
    batches = SimpleNamespace(steps_per_epoch=100, splits=splits)
    session: Any = SimpleNamespace(recipe=st.load_recipe("digits", [*WORDS, "--minutes", "1"]), batches=batches)
    assert affordable_side(session, EpochTime(0.85 * 60 / 8), macs) == (
        72,
        "chosen: images of 72 pixels, since --minutes 1 holds 8 epochs of 96 pixels (--data.size)",
    )
    assert asked == [96, 96, 88, 80, 72]
    assert affordable_side(session, EpochTime(0.85 * 60 / 8), lambda side: 1.0 if side == 96 else math.inf) is None


def test_a_directory_that_is_taken_is_refused_before_anything_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, 40.0)
    recipe = st.load_recipe("digits", [*WORDS, "--minutes", "0.5"])
    st.draw(recipe, tmp_path)
    monkeypatch.setattr("supertickets.runs.session.time_epoch", lambda session: pytest.fail("timed"))
    with pytest.raises(UserError, match="holds a finished run"):
        st.draw(recipe, tmp_path)


def test_a_resumed_run_keeps_its_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 4.0)
    with cut_at_evaluation(2):
        st.draw(st.load_recipe("digits", [*WORDS, "--minutes", "0.5"]), tmp_path)
    pretend(monkeypatch, 0.4)
    assert st.resume(tmp_path).about["recipe"]["epochs"] == 6


def test_steps_are_timed_on_the_network_itself_and_leave_no_trace(tmp_path: Path) -> None:
    words = [*WORDS, "--epochs", "4", "--evaluate_every", "100"]
    plain = st.draw(st.load_recipe("digits", words), tmp_path / "plain")
    timed = st.draw(st.load_recipe("digits", [*words, "--minutes", "1e-6"]), tmp_path / "timed")
    assert json.dumps(timed.about["recipe"]) == json.dumps(plain.about["recipe"])
    assert timed == plain


def test_all_parts_of_an_epoch_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8 batches for the batch norms 4 are measured; steps and scores take some time, and no more than this test."""
    measured = []

    def slow_recalibrate(*arguments: object) -> int:
        time.sleep(0.2)
        return 4

    def note(session: Session) -> EpochTime:
        begun = time.perf_counter()
        measured.append((time_epoch(session), time.perf_counter() - begun))
        return EpochTime(100.0)

    monkeypatch.setattr("supertickets.runs.training_length.recalibrate", slow_recalibrate)
    monkeypatch.setattr("supertickets.runs.session.time_epoch", note)
    words = [*WORDS, "--recalibrate_batches", "8", "--data.workers", "0", "--minutes", "1"]
    st.draw(st.load_recipe("digits", words), tmp_path)
    ((epoch, whole),) = measured
    assert 0.4 < epoch.evaluation < whole + 0.2
    assert 0 < epoch.training < whole
