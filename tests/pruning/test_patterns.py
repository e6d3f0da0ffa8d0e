"""Patterns of zeros: blocks are whole, ranked by their root mean square, and no more goes than is asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import supertickets
from simulate_powercut import cut_at_step
from supertickets import UserError
from supertickets.config.recipe import PruneSettings
from supertickets.config.schedule import Prune, cubic_ratio, pruning_timeline
from supertickets.config.zero_patterns import pattern_block
from supertickets.pruning import Pattern, keep_best, magnitude_mask
from supertickets.training import read_events


def blocks_of(flags: Tensor, block: int) -> list[Tensor]:
    """Flags by block, one position after the other."""
    return [flags[start : start + block, i] for start in range(0, len(flags), block) for i in range(flags.shape[1])]


def test_a_block_is_worth_its_root_mean_square() -> None:
    """Of four outputs and two inputs in blocks of two: 3, 4 -> sqrt(12.5); the rest is 1."""
    scores = torch.tensor([[3.0, 1.0], [4.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    pooled = Pattern(2).pool_scores(scores)
    assert pooled[:, 0].tolist() == pytest.approx([12.5**0.5, 12.5**0.5, 1, 1])
    assert pooled[:, 1].tolist() == [1, 1, 1, 1]


def test_a_block_of_scores_below_zero_is_worth_less_than_any_other() -> None:
    """-5, -5 -> -5 and 1, -3 -> -2: the root of the mean of 1 and -9."""
    pooled = Pattern(2).pool_scores(torch.tensor([[-5.0, 1], [-5, 1], [1, 0], [-3, 0]]))
    assert pooled[:, 0].tolist() == pytest.approx([-5, -5, -2, -2])
    assert pooled[:, 1].tolist() == [1, 1, 0, 0]


def test_the_last_block_may_be_smaller() -> None:
    pooled = Pattern(4).pool_scores(torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 0], [5, 2]]))
    assert pooled[4].tolist() == [5, 2]
    assert Pattern(4).complete(torch.tensor([[False, False]] * 4 + [[True, False]])).tolist()[3:] == [
        [False, False],
        [True, False],
    ]


def test_depthwise_layers_have_no_blocks() -> None:
    scores = torch.rand(8, 1, 3, 3)
    assert torch.equal(Pattern(4).pool_scores(scores), scores)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(2, 5), st.sampled_from([1, 3])), min_size=1, max_size=4),
    st.sampled_from([2, 4, 8]),
    st.floats(0, 0.99),
    st.sampled_from(["global", "layer"]),
    st.integers(0, 99),
)
def test_blocks_are_whole_and_the_ratio_is_met_within_one_block(
    shapes: list[tuple[int, int, int]], block: int, ratio: float, scope: str, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = {str(i): torch.randn(o, n, k, k, generator=generator) for i, (o, n, k) in enumerate(shapes)}
    settings = PruneSettings(pattern=f"block:{block}", scope=scope)  # type: ignore[arg-type]
    mask = magnitude_mask(weights, ratio, settings)
    for flags in mask.values():
        for part in blocks_of(flags, block):
            assert (part == part[:1]).all()
    wanted = round(ratio * sum(w.numel() for w in weights.values()))
    gone = sum(int((~flags).sum()) for flags in mask.values())
    cuts = len(weights) if scope == "layer" else 1
    assert wanted - cuts * block < gone <= wanted


def test_what_is_pruned_stays_so_and_other_blocks_follow() -> None:
    weights = {"w": torch.randn(8, 6, generator=torch.Generator().manual_seed(0))}
    settings = PruneSettings(pattern="block:4")
    half = magnitude_mask(weights, 0.5, settings)
    more = keep_best({"w": (weights["w"] * half["w"]).abs()}, 0.75, settings)
    assert not (more["w"] & ~half["w"]).any()
    assert int((~more["w"]).sum()) == 36


@pytest.mark.parametrize("name", ["block", "block:1", "block:65", "blocks:4", "2:4", ""])
def test_unknown_patterns_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="use unstructured, or block:N"):
        pattern_block(name)


def test_blocks_and_groups_exclude_each_other() -> None:
    with pytest.raises(UserError, match=r"prune.pattern=block:4 has no place in prune.scope=group"):
        supertickets.load_recipe("digits", ["--prune.pattern", "block:4", "--prune.scope", "group"])


# The cubic path ------------------------------------------------------------------------------------------------------


def test_a_cubic_path_rises_fast_at_first() -> None:
    """To 0.8 between 0.1 and 0.6: at half of it 0.8 (1 - 1/8)."""
    prune = PruneSettings(ratio=0.8, begin=0.1, end=0.6)
    assert [cubic_ratio(done, prune) for done in (0.0, 0.1, 0.35, 0.6, 1.0)] == pytest.approx([0, 0, 0.7, 0.8, 0.8])


def test_draws_that_differ_in_the_path_part_where_it_begins() -> None:
    words = ["--prune.schedule", "cubic", "--epochs", "10", "--search.interval", "0", "--search.last_epoch", "null"]
    recipe = supertickets.load_recipe("digits", [*words, "--prune.begin", "0.3"])
    other = dataclasses.replace(recipe, prune=dataclasses.replace(recipe.prune, ratio=0.5))
    pairs = zip(pruning_timeline(recipe), pruning_timeline(other), strict=True)
    assert [mine == theirs for mine, theirs in pairs] == [True] * 3 + [False] * 7
    assert Prune(0.9) in pruning_timeline(recipe)[9]


@pytest.mark.long
def test_a_draw_follows_the_path_and_goes_on_along_it(tmp_path: Path) -> None:
    words = [
        *("--supernet.name", "resnet8", "--threads", "1", "--epochs", "5", "--evaluate_every", "5"),
        *("--data.batch", "64", "--recalibrate_batches", "1", "--checkpoint_seconds", "0", "--search.interval", "0"),
        *("--search.last_epoch", "null", "--prune.schedule", "cubic", "--prune.steps", "7", "--prune.stem", "false"),
        *("--prune.pattern", "block:4", "--prune.ratio", "0.8", "--prune.normalise", "rms"),
        *("--prune.layer_floor", "0", "--prune.exempt_below", "0"),
    ]
    recipe = supertickets.load_recipe("digits", words)
    ticket = supertickets.draw(recipe, tmp_path / "whole")
    rows = [e for e in read_events(tmp_path / "whole" / "events.jsonl") if e["event"] == "prune"]
    ratios = [row["ratio"] for row in rows]
    assert len(rows) > 4
    assert ratios == sorted(ratios)
    assert all(row["ratio"] - 0.001 < row["sparsity"] <= row["ratio"] for row in rows)
    assert ticket.cost.sparsity == pytest.approx(0.8, abs=1e-3)
    assert "stem.weight" not in ticket.mask
    for flags in ticket.mask.values():
        for part in blocks_of(flags, 4):
            assert (part == part[:1]).all()
    with cut_at_step(1, 9):
        supertickets.draw(recipe, tmp_path / "killed")
    again = supertickets.resume(tmp_path / "killed")
    assert all(torch.equal(again.mask[name], flags) for name, flags in ticket.mask.items())
    assert all(torch.equal(again.weights[name], value) for name, value in ticket.weights.items())
