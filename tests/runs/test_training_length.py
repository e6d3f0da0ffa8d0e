"""Epochs by minutes: what fits, what is said, and that a run which is resumed keeps what was chosen."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import supertickets as st
from simulate_powercut import cut_at_evaluation
from supertickets.runs.training_length import enough_epochs
from supertickets.training import Session

WORDS = [
    *("--supernet.name", "resnet8", "--supernet.settings.width", "4", "--threads", "1", "--data.batch", "256"),
    *("--recalibrate_batches", "1", "--search.interval", "0", "--search.last_epoch", "null", "--search.rho", "0"),
    *("--prune.schedule", "cubic", "--prune.layer_floor", "0"),
]


def pretend(patch: pytest.MonkeyPatch, seconds: float) -> None:
    patch.setattr("supertickets.runs.session.time_step", lambda session: seconds)


@pytest.mark.parametrize(
    ("seconds", "minutes", "epochs"),
    [
        (1.0, 0.5, 6),  # 4 steps an epoch: of 30 s 25.5 are for 6 epochs
        (10.0, 0.5, 4),
    ],
)
def test_epochs_by_hand(
    seconds: float,
    minutes: float,
    epochs: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pretend(monkeypatch, seconds)
    recipe = st.load_recipe("digits", [*WORDS, "--minutes", str(minutes)])
    with caplog.at_level(logging.INFO, "supertickets"):
        ticket = st.draw(recipe, tmp_path)
    assert ticket.about["recipe"]["epochs"] == epochs
    assert ticket.about["recipe"]["minutes"] is None
    assert f"chosen: {epochs} epochs of 4 steps, about " in caplog.text
    assert ("fewer than 4 would teach little" in caplog.text) == (seconds == 10)


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

    def time_step(session: Session) -> float:
        side = session.batches.splits.preprocessing.size[0]
        return 3.0 * (side / 96) ** 2 / session.batches.steps_per_epoch

    monkeypatch.setattr("supertickets.runs.session.time_step", time_step)
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


def test_a_resumed_run_keeps_its_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 1.0)
    with cut_at_evaluation(2):
        st.draw(st.load_recipe("digits", [*WORDS, "--minutes", "0.5"]), tmp_path)
    pretend(monkeypatch, 0.1)
    assert st.resume(tmp_path).about["recipe"]["epochs"] == 6


def test_steps_are_timed_on_the_network_itself_and_leave_no_trace(tmp_path: Path) -> None:
    words = [*WORDS, "--epochs", "4"]
    plain = st.draw(st.load_recipe("digits", words), tmp_path / "plain")
    timed = st.draw(st.load_recipe("digits", [*words, "--minutes", "1e-6"]), tmp_path / "timed")
    assert json.dumps(timed.about["recipe"]) == json.dumps(plain.about["recipe"])
    assert timed == plain
