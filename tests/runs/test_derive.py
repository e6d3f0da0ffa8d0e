"""Recipes restated for what begins with a ticket."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import supertickets as st
from supertickets import UserError
from supertickets.config.lr_schedule import lr_factor
from supertickets.config.optimizer_settings import LrSettings
from supertickets.config.stretch import stretch_schedule
from supertickets.runs.derive import prune_recipe, retrain_recipe


@pytest.mark.parametrize(
    "lr",
    [
        LrSettings(shape="step", milestones=(80, 90)),
        LrSettings(shape="exponential", gamma=0.5, decay_epochs=20),
        LrSettings(shape="cosine", warmup_epochs=10),
        LrSettings(shape="one_cycle"),
        LrSettings(shape="constant", warmup_epochs=20, warmup_from=0.5),
    ],
)
@pytest.mark.parametrize("epochs", [50, 200])
def test_a_schedule_has_the_same_course_over_other_epochs(lr: LrSettings, epochs: int) -> None:
    """At the same share of the run the factor is the same, for every shape: 100 epochs of ten steps against others."""
    other = stretch_schedule(lr, epochs / 100)
    for share in (0.0, 0.05, 0.15, 0.5, 0.79, 0.85, 0.95):
        before = lr_factor(round(share * 1000), 1000, 10, lr)
        after = lr_factor(round(share * 10 * epochs), 10 * epochs, 10, other)
        assert after == pytest.approx(before, abs=0.02 if lr.shape == "one_cycle" else 1e-9)  # that counts single steps


def test_milestones_of_a_short_run_by_hand() -> None:
    assert stretch_schedule(LrSettings(milestones=(170, 200)), 50 / 210).milestones == (40, 48)
    assert stretch_schedule(LrSettings(milestones=(170, 200)), 1 / 210).milestones == (1, 1)


def test_what_searches_nothing_takes_no_budget(toy_run: Path, tmp_path: Path) -> None:
    ticket = st.load(toy_run)
    recipe = retrain_recipe(ticket, 1, ["--budget.macs", "1000"])
    with pytest.raises(UserError, match=r"retrain takes no budget.macs; leave it out"):
        st.retrain(ticket, recipe, tmp_path / "run")
    for words in (["--policy.beta", "0.1"], ["--connect.by", "ea"]):
        with pytest.raises(UserError, match="retrain takes no"):
            retrain_recipe(ticket, 1, words)


def test_pruning_needs_no_teacher(toy_run: Path) -> None:
    ticket = st.load(toy_run)
    made = {**ticket.about, "recipe": {**ticket.about["recipe"], "distill": {"teacher": "gone"}}}
    assert prune_recipe(dataclasses.replace(ticket, about=made), 0.5).distill.teacher is None


def test_only_searches_for_connections_share_a_network() -> None:
    with pytest.raises(UserError, match="--shared is for searches for attention connections"):
        st.search(st.load_recipe("tunas_proxyless", ["--budget.macs", "1e6"]), shared="nowhere")
