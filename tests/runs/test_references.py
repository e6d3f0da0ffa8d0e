"""References: which networks, at which settings, on which terms."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

import supertickets as st
from cli_outcome import Cli
from supertickets.config.recipe import Recipe
from supertickets.errors import UserError
from supertickets.models import create_mobile
from supertickets.runs.pretrained import load_prepared_splits
from supertickets.runs.references import (
    make_references,
    nearest_widths,
    stretch_training,
    tell_counterpart,
    usual_references,
)


def widths(recipe: Recipe, network: str, sides: tuple[int, int]) -> list[dict[str, object]]:
    return [one.recipe.supernet.settings for one in make_references(recipe, sides, [network])]


@pytest.mark.parametrize(
    ("recipe", "sides", "networks"),
    [
        ("digits", (8, 8), ("resnet8", "mobilenet_v2", "mobilenet_v3_large")),
        ("imagenet", (224, 224), ("resnet18", "mobilenet_v2", "mobilenet_v3_large")),
        ("camvid", (180, 240), ("resnet8",)),
        ("finetune", (224, 224), ("torchvision:resnet18",)),
    ],
)
def test_the_usual_references(recipe: str, sides: tuple[int, int], networks: tuple[str, ...]) -> None:
    assert usual_references(st.load_recipe(recipe), sides) == networks


def test_a_recipe_with_a_plain_network_is_compared_with_that_one() -> None:
    recipe = st.load_recipe("digits", ["--supernet.name", "resnet14", "--supernet.settings.stem_stride", "2"])
    assert usual_references(recipe, (32, 32))[0] == "resnet14"
    assert widths(recipe, "resnet14", (32, 32))[0] == {"stem_stride": 2, "width": 16}
    assert widths(recipe, "resnet8", (32, 32))[0] == {"stem_stride": 1, "width": 16}


def test_references_differ_from_the_recipe_in_the_network_alone() -> None:
    recipe = st.load_recipe("digits", ["--budget.macs", "1e6", "--search.last_epoch", "null"])
    reference = make_references(recipe, (8, 8), ["resnet8"])[1]
    assert (reference.title, reference.slug) == ("ResNet-8 width 32", "resnet8-32")
    own, plain = reference.recipe, recipe
    assert not own.budget.given
    assert (own.search.interval, own.prune.ratio, own.search.rho) == (0, 0.0, 0.0)
    for name in ("epochs", "optimizer", "lr", "data", "augment", "ema_decay", "seed", "label_smoothing"):
        assert getattr(own, name) == getattr(plain, name)


def test_widths_that_a_recipe_names_one_by_one_are_scaled() -> None:
    first, same, last = widths(st.load_recipe("camvid_fpn"), "resnet8", (180, 240))
    assert same["widths"] == [32, 48, 96, 192]
    assert (first["widths"], first["head_width"]) == ([16, 24, 48, 96], 24)
    assert (last["widths"], last["head_width"]) == ([48, 72, 144, 288], 72)
    assert all(one["strides"] == [2, 2, 2, 2] for one in (first, same, last))


@pytest.mark.parametrize(("side", "cells"), [(8, 2), (32, 4), (64, 4), (224, 7)])
def test_small_images_are_not_strided_away(side: int, cells: int) -> None:
    for network in ("mobilenet_v2", "mobilenet_v3_large"):
        settings = widths(st.load_recipe("digits"), network, (side, side))[0]
        spec = create_mobile(network, image_size=(side, side), num_classes=10, **settings)
        assert side // math.prod(block.layers[0].stride for block in spec.blocks) == cells


def test_another_network_is_taken_as_it_is() -> None:
    recipe = st.load_recipe("digits")
    [reference] = make_references(recipe, (8, 8), ["timm:resnet10t"])
    assert (reference.title, reference.slug) == ("timm:resnet10t", "timm-resnet10t")
    assert reference.recipe.supernet.pretrained is False
    with pytest.raises(UserError, match="unknown supernet 'resnet9'"):
        make_references(recipe, (8, 8), ["resnet9"])


def test_widths_near_budgets() -> None:
    """Each budget has a width of its own; near is meant by ratio: 40 is nearer to 64 than to 24."""
    costs = {4: 4.0, 8: 16.0, 12: 24.0, 16: 64.0, 24: 144.0}
    assert nearest_widths(costs, [16, 40, 150]) == [8, 16, 24]
    assert nearest_widths(costs, [1, 2, 3]) == [4, 8, 12]
    assert nearest_widths(costs, [20]) == [12]


def test_a_stretched_training_keeps_its_schedule() -> None:
    recipe = st.load_recipe("digits", ["--lr.warmup_epochs", "2", "--evaluate_every", "3"])
    longer = stretch_training(recipe, 2.5)
    assert (longer.epochs, longer.lr.warmup_epochs, longer.evaluate_every) == (75, 5.0, 8)
    assert stretch_training(recipe, 1e-6).epochs == 1
    assert dataclasses.replace(longer, epochs=30, lr=recipe.lr, evaluate_every=3) == recipe


WIDE = ["--supernet.name", "resnet8", "--supernet.settings.width", "32", "--search.interval", "0"]


@pytest.mark.parametrize(
    ("words", "width"),
    [
        (["--prune.ratio", "0.75"], 16),  # a quarter of the MACs, that is half of the width
        (["--prune.ratio", "0.94"], 8),
        (["--budget.macs", "4e4", "--budget.runtime", "sparse"], 4),
        (["--budget.macs", "4e5", "--budget.params", "5e3", "--budget.runtime", "sparse"], 4),  # the tighter one
        (["--prune.ratio", "0.999"], None),  # the narrowest costs far more
        (["--prune.ratio", "0"], None),  # it is a plain network itself
        (["--search.interval", "3"], None),  # what a search by a penalty leaves is not known
    ],
)
def test_a_draw_names_the_plain_network_of_its_cost(words: list[str], width: int | None) -> None:
    recipe, splits = load_prepared_splits(st.load_recipe("digits", [*WIDE, *words]))
    line = tell_counterpart(recipe, splits)
    assert line == ([] if width is None else [line[0]])
    if width is not None:
        assert line[0].startswith(
            f"without zeros, a ResNet-8 of width {width} costs about as much: supertickets compare"
        )


def test_a_counterpart_of_stages_is_named_by_the_widths_that_it_has() -> None:
    words = [*WIDE[:2], "--search.interval", "0", "--supernet.settings.widths", "[32, 40, 48]", "--prune.ratio", "0.9"]
    recipe, splits = load_prepared_splits(st.load_recipe("digits", words))
    [line] = tell_counterpart(recipe, splits)
    assert line.startswith("without zeros, a ResNet-8 of widths 8-8-16 costs about as much")  # a quarter, rounded


def test_titles_have_the_widths_that_a_network_really_has() -> None:
    recipe = st.load_recipe("digits", [*WIDE[:2], "--supernet.settings.widths", "[32, 40, 48]"])
    made = make_references(recipe, (8, 8), ["resnet8"], {"resnet8": (4, 16)})
    assert [one.title for one in made] == ["ResNet-8 widths 8-8-8", "ResNet-8 widths 16-16-24"]
    [mobile] = make_references(recipe, (8, 8), ["mobilenet_v2"], {"mobilenet_v2": (0.5,)})
    assert mobile.title == "MobileNetV2 x0.5"


def test_card_and_report_of_a_ticket_name_what_one_would_train_instead(cli: Cli, tmp_path: Path) -> None:
    words = [*WIDE, "--prune.ratio", "0.75", "--prune.schedule", "cubic", "--epochs", "1", "--data.batch", "256"]
    ticket = st.draw(st.load_recipe("digits", [*words, "--search.last_epoch", "null"]), tmp_path / "run")
    assert ticket.about["instead"] == "ResNet-8 of width 16"
    assert "| what one would train instead | a plain ResNet-8 of width 16," in (
        tmp_path / "run/ticket/README.md"
    ).read_text(encoding="utf-8")
    assert cli("report", tmp_path / "run", "--out", tmp_path / "report").status == 0
    assert "a plain ResNet-8 of width 16 costs about as much" in (tmp_path / "report/report.md").read_text("utf-8")
