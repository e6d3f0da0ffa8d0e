"""Weights that come back on the cubic path: when they may, when they may not, and across kills."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import supertickets as st
from simulate_powercut import cut_at_evaluation, cut_at_step
from supertickets import UserError
from supertickets.algorithms.two_in_one import disable_weights

REGROW = [
    *("--supernet.name", "resnet8", "--threads", "1", "--epochs", "6", "--evaluate_every", "6", "--ema_decay", "0"),
    *("--recalibrate_batches", "1", "--data.batch", "32", "--data.validation", "0.5", "--checkpoint_seconds", "0"),
    *("--search.interval", "0", "--search.last_epoch", "null", "--search.rho", "0", "--prune.schedule", "cubic"),
    *("--prune.steps", "1", "--prune.ratio", "0.8", "--prune.layer_floor", "0", "--prune.pattern", "block:2"),
    *("--prune.regrow", "true"),
]


def masks_of_a_run(words: list[str], out: Path, patch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Draw, and return all masks in the order in which they were set."""
    masks: list[dict[str, Tensor]] = []

    def keep(*args: Any) -> None:
        masks.append({name: flags.clone() for name, flags in args[3].items()})
        disable_weights(*args)

    patch.setattr("supertickets.algorithms.two_in_one.disable_weights", keep)
    st.draw(st.load_recipe("digits", words), out)
    return masks


@pytest.mark.long
def test_pruned_weights_come_back_only_if_they_may_and_only_before_the_path_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, words in (("may", REGROW), ("not", [*REGROW, "--prune.regrow", "false"])):
        masks = masks_of_a_run(words, tmp_path / name, monkeypatch)
        back = [sum(int((new[key] & ~old[key]).sum()) for key in old) for old, new in itertools.pairwise(masks)]
        assert (sum(back) > 0) == (name == "may")
        assert back[-1] == 0  # the prune at the end of the run finds the mask as the path left it
        total = sum(flags.numel() for flags in masks[-1].values())
        zeros = total - sum(int(flags.sum()) for flags in masks[-1].values())
        assert 0.79 < zeros / total <= 0.8


@pytest.mark.long
def test_a_kill_between_weights_that_come_back_changes_nothing(tmp_path: Path) -> None:
    recipe = st.load_recipe("digits", REGROW)
    whole = st.draw(recipe, tmp_path / "whole")
    with cut_at_step(1, 3):
        st.draw(recipe, tmp_path / "killed")
    with cut_at_evaluation(3):
        st.resume(tmp_path / "killed")
    assert st.resume(tmp_path / "killed") == whole


def test_weights_come_back_by_magnitude_alone() -> None:
    with pytest.raises(UserError, match=r"prune\.regrow is for prune\.schedule=cubic and prune\.criterion=magnitude"):
        st.load_recipe("digits", ["--prune.regrow", "true"])
