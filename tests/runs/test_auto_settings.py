"""Settings chosen for a recipe that leaves them to the data, by hand and for any number of samples."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

import supertickets as st
from supertickets.config.optimizer_settings import LrSettings, OptimizerSettings
from supertickets.config.recipe import (
    DataSettings,
    PruneSettings,
    Recipe,
    SearchSettings,
)
from supertickets.config.schedule import Prune, Shrink, check_schedule, plan_lines
from supertickets.data.sources import find_source
from supertickets.device import computes_in_bf16
from supertickets.nas import auto_lr
from supertickets.runs.auto_settings import resolve_auto_settings

# Intervals of a search by a penalty, whose strength and length are open.
OPEN = ["--epochs", "0", "--search.rho", "null"]
IMAGES = st.load_recipe("digits", OPEN)


def settled(samples: int, *words: str, side: int = 96) -> Recipe:
    return resolve_auto_settings(st.load_recipe("digits", [*OPEN, *words]), samples, side)[0]


# By hand -------------------------------------------------------------------------------------------------------------


def test_bfloat16_is_for_ordinary_convolutions_on_processors_that_have_it() -> None:
    has = computes_in_bf16(torch.device("cpu"))
    words = ("--precision", "auto", "--device", "cpu", "--supernet.name")
    assert settled(100, *words, "resnet8").precision == ("bf16" if has else "fp32")
    assert settled(100, *words, "mobilenet_v2").precision == "fp32"  # depthwise ones take longer
    assert settled(100, "--precision", "bf16").precision == "bf16"


@pytest.mark.parametrize(
    ("samples", "batch", "epochs"),
    [
        # The batch is the largest power of two with ten steps per epoch, from 8 to the recipe's 64; then some 3,000
        # steps, in 20 to 120 epochs.
        (5, 5, 120),
        (24, 8, 120),
        (80, 8, 120),
        (159, 8, 120),
        (160, 16, 120),
        (700, 64, 120),
        (640, 64, 120),
        (639, 32, 120),
        (1600, 64, 120),  # 25 steps: 120 epochs
        (3200, 64, 60),  # 50 steps
        (6400, 64, 30),
        (9600, 64, 20),
        (200_000, 64, 20),
    ],
)
def test_batch_and_epochs_by_hand(samples: int, batch: int, epochs: int) -> None:
    resolved = settled(samples)
    assert (resolved.data.batch, resolved.epochs) == (batch, epochs)


@pytest.mark.parametrize(
    ("words", "batch"),
    [
        ([], 8),
        (["--epochs", "60"], 8),  # else two steps an epoch would be trained
        (["--data.batch", "32"], 32),
        (["--data.batch", "32", "--epochs", "60"], 32),
        (["--data.batch", "32", "--data.fit_batch", "true"], 8),
    ],
)
def test_a_batch_is_fitted_unless_it_is_given(words: list[str], batch: int) -> None:
    resolved, said = resolve_auto_settings(st.load_recipe("images", words), 138, 32)
    assert (resolved.data.batch, resolved.data.fit_batch or False) == (batch, False)
    assert ("chosen: batch 8, 17 steps an epoch (--data.batch)" in said) == (
        words[:1] == ["--epochs"] or len(words) > 4
    )


def test_small_images_are_trained_on_for_longer() -> None:
    """6,000 steps up to 64 pixels, 3,000 above: of 50 steps per epoch, and at most 120 epochs."""
    assert [settled(3200, side=side).epochs for side in (32, 64, 65, 224)] == [120, 120, 60, 60]
    assert settled(6400, side=64).epochs == 60


@pytest.mark.parametrize(
    ("samples", "epochs", "interval", "last", "warmup"),
    [
        # Intervals are those of 30 epochs: every 3 epochs, the last removal after 9, one epoch of warm-up.
        (6400, 30, 3, 9, 1.0),
        (3200, 60, 6, 18, 2.0),
        (1000, 120, 12, 36, 4.0),
        (9600, 20, 2, 6, 2 / 3),
        (4800, 40, 4, 12, 4 / 3),
        (5333, 36, 4, 12, 1.2),  # 3.6 is rounded to 4; the last removal is the third all the same
    ],
)
def test_intervals_by_hand(samples: int, epochs: int, interval: int, last: int, warmup: float) -> None:
    resolved = settled(samples)
    assert resolved.epochs == epochs
    assert (resolved.search.interval, resolved.search.last_epoch, resolved.prune.interval) == (interval, last, interval)
    assert resolved.search.warmup_epochs == pytest.approx(warmup)


def plain(**search: object) -> Recipe:
    """Two epochs of four steps at a constant rate."""
    return Recipe(
        epochs=2,
        data=DataSettings(batch=8),
        optimizer=OptimizerSettings(lr=0.1, momentum=0.9),
        lr=LrSettings(shape="constant"),
        search=SearchSettings(interval=1, rho=None, **search),  # type: ignore[arg-type]
        prune=PruneSettings(progressive=False, interval=1),
    )


@pytest.mark.parametrize(
    ("search", "rho"),
    [
        # A penalty of rho moves a scale by sum(lr) * rho, times 1 / (1 - momentum) in a gradient; it shall be 2.5.
        ({"penalty": "proximal"}, 2.5 / (8 * 0.1)),
        ({"penalty": "subgradient"}, 2.5 / (8 * 0.1) * (1 - 0.9)),
        ({"penalty": "proximal", "last_epoch": 1}, 2.5 / (4 * 0.1)),
        # In a warm-up of an epoch its four steps count 0, 1/4, 2/4 and 3/4.
        ({"penalty": "proximal", "warmup_epochs": 1}, 2.5 / (0.1 * (1.5 + 4))),
        ({"penalty": "proximal", "last_epoch": 0}, 0.0),
    ],
)
def test_the_penalty_by_hand(search: dict[str, object], rho: float) -> None:
    resolved, said = resolve_auto_settings(plain(**search), 32, 8)
    assert resolved.search.rho == pytest.approx(rho)
    assert dataclasses.replace(resolved, search=dataclasses.replace(resolved.search, rho=None)) == plain(**search)
    assert len(said) == 1
    assert "--search.rho" in said[0]


def test_momentum_counts_for_sgd_alone() -> None:
    recipe = plain(penalty="subgradient")
    recipe = dataclasses.replace(recipe, optimizer=dataclasses.replace(recipe.optimizer, name="rmsprop"))
    assert resolve_auto_settings(recipe, 32, 8)[0].search.rho == pytest.approx(2.5 / (8 * 0.1))


def test_without_a_search_there_is_no_penalty() -> None:
    recipe = plain()
    recipe = dataclasses.replace(recipe, search=dataclasses.replace(recipe.search, interval=0))
    assert resolve_auto_settings(recipe, 32, 8)[0].search.rho == 0


# What is left alone --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(n for n in st.list_recipes() if st.load_recipe(n).epochs))
def test_a_recipe_that_leaves_nothing_open_stays_as_it_is(name: str) -> None:
    recipe = st.load_recipe(name)
    if recipe.search.rho is None:
        recipe = dataclasses.replace(recipe, search=dataclasses.replace(recipe.search, rho=0.5))
    if find_source(recipe.data.source).chooses_size:
        recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, size=28))
    if recipe.precision == "auto":  # which the device decides
        recipe = dataclasses.replace(recipe, precision="fp32")
    assert resolve_auto_settings(recipe, 5000, 28) == (recipe, [])


def test_the_rate_of_a_policy_follows_the_steps() -> None:
    """Of 32 samples in batches of 8, for 10 epochs."""
    words = [
        "--epochs",
        "10",
        "--data.batch",
        "8",
        "--budget.macs",
        "1e6",
        "--prune.ratio",
        "0",
        "--search.interval",
        "0",
    ]
    recipe = st.load_recipe("digits", words)
    settled, said = resolve_auto_settings(recipe, 32, 8)
    assert settled.policy.lr == auto_lr(40, recipe.policy)
    assert any("of the policy (--policy.lr)" in line for line in said)
    own = dataclasses.replace(recipe, policy=dataclasses.replace(recipe.policy, lr=0.5))
    assert resolve_auto_settings(own, 32, 8)[0].policy.lr == 0.5


def test_resolved_settings_stay_as_they_are() -> None:
    once, said = resolve_auto_settings(IMAGES, 3000, 32)
    assert len(said) == 2
    assert resolve_auto_settings(once, 3000, 32) == (once, [])


def test_only_what_is_open_is_chosen() -> None:
    resolved = settled(3000)
    assert dataclasses.replace(
        resolved, epochs=0, data=IMAGES.data, lr=IMAGES.lr, search=IMAGES.search, prune=IMAGES.prune
    ) == dataclasses.replace(IMAGES, epochs=0)
    given_epochs, said = resolve_auto_settings(st.load_recipe("digits", ["--epochs", "20"]), 3000, 32)
    assert (given_epochs.epochs, given_epochs.data.batch, given_epochs.search.interval) == (20, 64, 2)
    assert not any("epochs of" in line for line in said)
    assert settled(3000, "--search.rho", "0.25").search.rho == 0.25


def test_the_side_of_folders_is_written_down() -> None:
    for words, side in (([], 48), (["--data.size", "24"], 24)):
        recipe = st.load_recipe("images", words)
        assert resolve_auto_settings(recipe, 3000, 48)[0].data.size == side
    digits = st.load_recipe("digits")
    assert resolve_auto_settings(digits, 1000, 8)[0].data.size is None


def test_no_search_and_no_pruning_stay_off() -> None:
    resolved = settled(3000, "--search.interval", "0", "--prune.ratio", "0")
    assert (resolved.search.interval, resolved.search.rho) == (0, 0)
    assert resolved.prune.ratio == 0
    assert not plan_lines(resolved)


# For any data --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(samples=some.integers(24, 200_000))
def test_any_number_of_samples_makes_a_run_that_works(samples: int) -> None:
    resolved, _ = resolve_auto_settings(IMAGES, samples, 32)
    check_schedule(resolved)
    assert 20 <= resolved.epochs <= 120
    assert 2 <= resolved.data.batch <= min(64, samples)
    steps = samples // resolved.data.batch
    assert steps >= 3
    assert samples < 160 or steps >= 10
    happens = plan_lines(resolved)
    shrinks = [t for t, events in happens if Shrink() in events]
    prunes = [t for t, events in happens if any(isinstance(event, Prune) for event in events)]
    assert prunes[-1] == resolved.epochs
    assert shrinks
    assert shrinks[-1] < prunes[-1]
    assert shrinks[-1] == resolved.search.last_epoch
    assert resolved.search.rho is not None
    assert 0 < resolved.search.rho < float("inf")


@settings(max_examples=30, deadline=None)
@given(
    samples=some.integers(24, 200_000),
    interval=some.integers(1, 10),
    times=some.integers(1, 3),
    ratio=some.sampled_from([0.0, 0.5, 0.9]),
)
def test_intervals_of_thirty_epochs_fit_any_number_of_epochs(
    samples: int, interval: int, times: int, ratio: float
) -> None:
    recipe = dataclasses.replace(
        IMAGES,
        search=dataclasses.replace(IMAGES.search, interval=interval, last_epoch=interval * times),
        prune=dataclasses.replace(IMAGES.prune, interval=interval, ratio=ratio),
    )
    check_schedule(resolve_auto_settings(recipe, samples, 32)[0])


def test_a_longer_reach_is_a_stronger_penalty() -> None:
    recipe = st.load_recipe("digits", ["--search.rho", "null"])
    once, twice = (
        resolve_auto_settings(
            dataclasses.replace(recipe, search=dataclasses.replace(recipe.search, target_shrinkage=reach)), 1000, 8
        )[0].search.rho
        for reach in (1.5, 3.0)
    )
    assert once is not None
    assert once > 0
    assert twice == pytest.approx(2 * once)
    with pytest.raises(st.UserError, match=r"search\.target_shrinkage=0\.0 is out of range"):
        st.load_recipe("digits", ["--search.target_shrinkage", "0"])
