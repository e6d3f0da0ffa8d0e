"""Epochs by minutes: what fits, what is said, and that a run which is resumed keeps what was chosen."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

import supertickets as st
from simulate_powercut import cut_at_evaluation

WORDS = [
    *("--supernet.name", "resnet8", "--supernet.settings.width", "4", "--threads", "1", "--data.batch", "256"),
    *("--recalibrate_batches", "1", "--search.interval", "0", "--search.last_epoch", "null", "--search.rho", "0"),
    *("--prune.schedule", "cubic", "--prune.layer_floor", "0"),
]


def pretend(patch: pytest.MonkeyPatch, seconds: float) -> None:
    patch.setattr("supertickets.runs.training_length.time_step", lambda session, spec: seconds)


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
