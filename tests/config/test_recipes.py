"""Recipe files: what ships is whole; overrides win; what is wrong is named."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import supertickets
from supertickets import Recipe, UserError, list_recipes, load_recipe
from supertickets.analysis.description import describe
from supertickets.config.loading import override_settings, recipe_from_json
from supertickets.config.recipe import flatten, setting_names
from supertickets.config.schedule import Prune, Shrink, plan_lines
from supertickets.config.validation import check_recipe
from supertickets.models.factory import create_spec
from supertickets.runs.auto_settings import resolve_auto_settings

FOLDER = Path(supertickets.__file__).parent / "recipes"
SHIPPED = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def refused(words: list[str], source: str = "digits") -> str:
    with pytest.raises(UserError) as error:
        load_recipe(source, words)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_recipe_is_listed_with_what_it_does() -> None:
    assert list(list_recipes()) == SHIPPED != []
    for description in list_recipes().values():
        assert len(description) > 20
        assert "\n" not in description


@pytest.mark.parametrize("name", SHIPPED)
def test_every_recipe_works(name: str) -> None:
    recipe = load_recipe(name)
    assert check_recipe(recipe) is recipe
    assert recipe.name == name
    recipe, _ = resolve_auto_settings(recipe, 1000, 32)
    check_recipe(recipe)
    spec = describe(name).spec
    assert spec.build().maskable_weights()
    happens = [event for _, events in plan_lines(recipe) for event in events]
    if not recipe.search.interval and not recipe.prune.ratio:
        assert happens == []  # it is for search or train
        return
    assert Shrink() in happens or not recipe.search.interval
    assert happens[-2] == Prune(recipe.prune.ratio)  # recalibration comes last


@pytest.mark.parametrize("name", [name for name in SHIPPED if load_recipe(name).epochs])
@pytest.mark.parametrize("share", [0.5, 2])
def test_another_number_of_epochs_keeps_the_shape_of_a_training(name: str, share: float) -> None:
    """As many removals, up to rounding, and the same shares of warm-up."""
    recipe = load_recipe(name)
    epochs = round(share * recipe.epochs)
    other = load_recipe(name, ["--epochs", str(epochs)])
    assert other.lr.warmup_epochs == pytest.approx(recipe.lr.warmup_epochs * epochs / recipe.epochs)
    for settings in ("search", "prune"):
        interval, stretched = getattr(recipe, settings).interval, getattr(other, settings).interval
        assert abs(stretched - interval * epochs / recipe.epochs) <= 0.5 or stretched == 1
    own, moved = (
        [type(event) for _, events in plan_lines(one) for event in events if isinstance(event, Shrink)]
        for one in (recipe, other)
    )
    assert bool(own) == bool(moved)


def test_what_is_given_beside_epochs_is_not_stretched() -> None:
    other = load_recipe("digits", ["--epochs", "60", "--search.interval", "5", "--lr.warmup_epochs", "1"])
    assert (other.search.interval, other.lr.warmup_epochs) == (5, 1)
    assert (other.prune.interval, other.search.last_epoch) == (6, 18)
    assert override_settings(other, []) == other


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100", "tiny_imagenet"])
@pytest.mark.parametrize("size", [14, 20, 40])
def test_networks_for_small_images_take_other_sizes(name: str, size: int) -> None:
    settings = load_recipe(name).supernet
    spec = create_spec(settings.name, image_size=(size, size), **settings.settings)
    assert spec.build()(torch.zeros(2, spec.in_channels, size, size)).shape == (2, 10)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_value_of_a_file_arrives(name: str) -> None:
    recipe = flatten(load_recipe(name).to_json())
    written = flatten(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))
    assert written.pop("format_version") == 2
    for key, value in written.items():
        expected = float(value) if isinstance(recipe[key], float) else value
        assert recipe[key] == (tuple(value) if isinstance(value, list) else expected), key


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_comes_back_from_json(name: str) -> None:
    recipe = load_recipe(name, ["--lr.milestones", "[3,5]", "--optimizer.betas", "[0.5,0.9]"])
    assert recipe_from_json(recipe.to_json()) == recipe
    assert override_settings(recipe, []) == recipe


@pytest.mark.parametrize(
    ("words", "setting", "value"),
    [
        (["--prune.ratio", "0.5"], "prune.ratio", 0.5),
        (["--prune.ratio=0.5"], "prune.ratio", 0.5),
        (["--prune.ratio", "0.5", "--prune.ratio", "0.6"], "prune.ratio", 0.6),
        (["--prune.criterion", "random"], "prune.criterion", "random"),
        (["--search.last_epoch", "null"], "search.last_epoch", None),
        (["--optimizer.name", "rmsprop"], "optimizer.name", "rmsprop"),
        (["--optimizer.weight_decay", "1e-3"], "optimizer.weight_decay", 1e-3),
        (["--optimizer.clip_norm", "null"], "optimizer.clip_norm", None),
        (["--distill.teacher", "some/folder"], "distill.teacher", "some/folder"),
        (["--supernet.settings.tokens", "4"], "supernet.settings", {"tokens": 4}),
        (["--name", "mine"], "name", "mine"),
    ],
)
def test_overrides_win_over_the_file(words: list[str], setting: str, value: Any) -> None:
    before, after = flatten(load_recipe("digits").to_json()), flatten(load_recipe("digits", words).to_json())
    assert after.pop(setting) == value != before.pop(setting)
    assert after == before  # and nothing else changes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--optimizer.lr abc", "optimizer.lr=abc is not valid; use a number above 0."),
        ("--epochs 3.5", "epochs=3.5 is not valid; use a whole number from 0 to 100000."),
        ("--channels_last 7", "channels_last=7 is not valid; use true or false."),
        ("--data.size abc", "data.size=abc is not valid; use a whole number, or 2 whole numbers, [a, b], or null."),
        ("--lr.milestones 3", "lr.milestones=3 is not valid; use a list of whole numbers, [a, b, ...]"),
        ("--lr.shape cosin", "lr.shape=cosin is not valid; use one of constant, step, cosine"),
        ("--supernet.settings 3", "supernet.settings=3 is not valid; use names and values, {name: value, ...}"),
        ("--lr 0.1", "'lr' is a group of settings: lr.shape, "),
    ],
)
def test_values_of_another_kind_are_named_in_words(words: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        load_recipe("digits", words.split())


def test_an_override_of_one_supernet_setting_keeps_the_others() -> None:
    recipe = load_recipe("mnist", ["--supernet.settings.tokens", "4"])
    assert recipe.supernet.settings == {**load_recipe("mnist").supernet.settings, "tokens": 4}


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 9\nprune: {interval: 1, ratio: 0.9}\noptimizer: {lr: 2e-2}\n")
    recipe = load_recipe(str(path))
    assert recipe == dataclasses.replace(
        Recipe(name="mine", epochs=9),
        prune=dataclasses.replace(Recipe().prune, interval=1),
        optimizer=dataclasses.replace(Recipe().optimizer, lr=0.02),
    )


def test_names_of_settings() -> None:
    names = setting_names()
    assert len(set(names)) == len(names)
    assert {"epochs", "prune.ratio", "supernet.settings", "data.split_seed"} <= set(names)
    assert set(names) == flatten(Recipe().to_json()).keys()


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("epocs", "epochs"), ("prune.rato", "prune.ratio"), ("optimizer.learning_rate", "known"), ("prune.tokens", "")],
)
def test_an_unknown_setting_is_named_with_the_nearest(wrong: str, meant: str) -> None:
    text = refused([f"--{wrong}", "1"])
    assert f"'{wrong}'" in text
    assert meant in text
    assert f"'{wrong}'" in refused([f"--{wrong}=1"])


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--epochs many", "epochs"),
        ("--epochs 2.5", "epochs"),
        ("--epochs null", "epochs"),
        ("--optimizer.lr fast", "optimizer.lr"),
        ("--optimizer.name adagrad", "adamw"),
        ("--data.source cifer", "did you mean 'cifar1"),
        ("--lr.milestones 3", "lr.milestones"),
        ("--prune.progressive maybe", "prune.progressive"),
        ("--prune.ratio", "prune.ratio"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(words: str, named: str) -> None:
    assert named in refused(words.split())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--epochs -1", "epochs=-1 is out of range; use a value from 0 to 100000."),
        ("--prune.ratio 1.5", "prune.ratio=1.5 is out of range; use a value from 0 to below 1."),
        ("--prune.ratio -0.1", "prune.ratio=-0.1 is out of range"),
        ("--prune.ratio 1", "prune.ratio=1.0 is out of range"),
        ("--prune.interval 0", "prune.interval"),
        ("--prune.layer_floor -0.1", "prune.layer_floor"),
        ("--search.interval -1", "search.interval"),
        ("--search.last_epoch 31", "30"),
        ("--search.last_epoch -1", "search.last_epoch"),
        ("--search.floor 1", "search.floor"),
        ("--search.rho -1", "search.rho"),
        ("--optimizer.lr 0", "optimizer.lr"),
        ("--optimizer.momentum 1", "optimizer.momentum"),
        (
            "--optimizer.name adam --optimizer.betas [0.9,2]",
            "optimizer.betas=[0.9, 2.0] is out of range; use values from 0",
        ),
        ("--lr.shape step", "lr.milestones"),
        ("--lr.shape exponential --lr.decay_epochs 0", "lr.decay_epochs"),
        ("--evaluate_every 0", "evaluate_every"),
        ("--recalibrate_batches 0", "recalibrate_batches"),
        ("--data.workers -1", "data.workers"),
        ("--threads 0", "threads"),
        ("--ema_decay 1", "ema_decay"),
        ("--label_smoothing 1", "label_smoothing"),
        ("--seed 99999999999999999999", "seed"),
    ],
)
def test_a_value_that_cannot_work_is_refused(words: str, named: str) -> None:
    assert named in refused(words.split())


def test_a_ratio_out_of_reach_is_refused_with_the_fewest_epochs() -> None:
    slowly = ["--prune.progressive", "true", "--prune.interval", "2"]
    text = refused([*slowly, "--epochs", "16", "--prune.ratio", "0.9"])
    assert "the fewest are 18" in text
    refused([*slowly, "--epochs", "17"])
    assert load_recipe("digits", [*slowly, "--epochs", "18"]).epochs == 18  # what the message says works
    assert load_recipe("digits", [*slowly, "--epochs", "16", "--prune.interval", "1"]).epochs == 16


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "name: value"),
        (b"[1, 2]", "name: value"),
        (b"a: [", "not YAML"),
        (b"\xff\xfe\0", "not YAML"),
        (b"epocs: 3", "did you mean 'epochs'"),
        (b"prune:\n  rato: 3", "did you mean 'prune.ratio'"),
        (b"epochs: many", "epochs"),
        (b"prune: 5", "'prune'"),
        (b"1: 2", "'1'"),
        (b"supernet: {settings: 5}", "supernet.settings"),
        (b"prune: {ratio: 1.5}", "prune.ratio"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    assert named in refused([], str(path))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("search: {reach: 2}", "'search.reach' is called 'search.target_shrinkage' since format 2; rename it"),
        ("format_version: 1\nprune: {meet: search_only}", "'prune.meet' is called 'prune.on_conflict' since format 2"),
        ("format_version: 3\nepochs: 3", "mine.yaml has format_version 3, this version of supertickets reads up to 2"),
        ("format_version: two\nepochs: 3", "mine.yaml has format_version two"),
    ],
)
def test_a_file_of_another_format_is_refused_with_what_to_do(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    assert named in refused([], str(path))


@pytest.mark.parametrize("version", ["", "format_version: 1\n", "format_version: 2\n"])
def test_a_file_whose_settings_are_known_is_read(tmp_path: Path, version: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"{version}epochs: 9\nprune: {{interval: 1}}\n")
    assert load_recipe(str(path)).epochs == 9


def test_renamed_settings_are_named_on_the_command_line_and_in_stored_recipes() -> None:
    assert "called 'search.target_shrinkage'" in refused(["--search.reach", "2"])
    stored = Recipe().to_json()
    stored["prune"]["meet"] = stored["prune"].pop("on_conflict")
    with pytest.raises(UserError, match=r"'prune\.meet' is called 'prune\.on_conflict' since format 2"):
        recipe_from_json(stored)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    assert "did you mean 'digits'" in refused([], "digit")
    assert "does not exist" in refused([], str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("recipe", "words", "schedule"),
    [
        ("digits", [], "cubic"),
        ("digits", ["--prune.interval", "2"], "interval"),
        ("digits", ["--prune.progressive", "false", "--prune.schedule", "cubic"], "cubic"),
        ("camvid", ["--prune.steps", "5"], "cubic"),
    ],
)
def test_a_setting_of_one_schedule_chooses_it(recipe: str, words: list[str], schedule: str) -> None:
    assert load_recipe(recipe, words).prune.schedule == schedule


def test_settings_of_two_schedules_are_refused() -> None:
    text = refused(["--prune.steps", "5", "--prune.interval", "2"])
    assert "prune.interval and prune.steps are for different schedules of prunes; say which by --prune.schedule" in text
