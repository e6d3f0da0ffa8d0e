"""The plain ResNet that is chosen by images and budget: strides by hand, widths by costs, and what is left alone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

import supertickets as st
from supertickets.cost import count
from supertickets.models.factory import create_spec
from supertickets.runs.auto_network import fit_network, strides_for
from supertickets.runs.auto_settings import resolve_auto_settings


@pytest.mark.parametrize(
    ("side", "stem", "strides"),
    [
        (16, 1, [1, 2, 2]),  # 16 -> 4
        (28, 1, [1, 2, 2]),  # 28 -> 7
        (32, 2, [1, 2, 2]),  # 32 -> 4
        (48, 2, [1, 2, 2]),  # 48 -> 6
        (96, 2, [1, 2, 2, 2]),  # 96 -> 6
        (224, 4, [1, 2, 2, 2]),  # 224 -> 7
    ],
)
def test_strides_by_hand(side: int, stem: int, strides: list[int]) -> None:
    settings = strides_for(side)
    assert (settings["stem_stride"], settings["strides"]) == (stem, strides)


@given(some.integers(8, 256))
def test_the_last_map_is_neither_fine_nor_a_point(side: int) -> None:
    settings = strides_for(side)
    cells = side / settings["stem_stride"] / math.prod(settings["strides"])
    assert 2 <= cells <= 8
    create_spec("resnet8", image_size=(side, side), **settings)


def test_without_a_budget_the_width_is_the_usual_one() -> None:
    recipe, said = fit_network(st.load_recipe("images"), 48)
    assert recipe.supernet.settings["width"] == 32
    assert "resnet8 of width 32, 3 stages, for images of 48 pixels that become 6, by their size" in said[0]
    assert fit_network(recipe, 48) == (recipe, [])


@pytest.mark.parametrize("name", ["macs", "params", "size_kb", "latency_ms"])
def test_a_larger_budget_has_a_wider_network_of_which_little_is_left(name: str) -> None:
    widths = []
    for factor in (1, 4, 16):
        budget = factor * {"macs": 4e5, "params": 8e3, "size_kb": 32, "latency_ms": 0.01}[name]
        recipe, said = fit_network(st.load_recipe("images", [f"--budget.{name}", str(budget)]), 48)
        settings = recipe.supernet.settings
        widths.append(settings["width"])
        assert "by the budget" in said[0]
        if name == "macs" and widths[-1] < 96:
            whole = count(create_spec("resnet8", image_size=(48, 48), **settings)).macs
            assert 0.05 * whole < budget < 0.16 * whole or widths[-1] == 16
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_what_is_given_stays_and_other_networks_are_left_alone() -> None:
    given = st.load_recipe("images", ["--supernet.settings.width", "8", "--supernet.settings.stem_stride", "1"])
    settings = fit_network(given, 48)[0].supernet.settings
    assert (settings["width"], settings["stem_stride"]) == (8, 1)
    for words in (["--supernet.name", "hrnet_tiny"], ["--supernet.pretrained", "weights.pt"]):
        other = st.load_recipe("images", words)
        assert fit_network(other, 48) == (other, [])


def test_a_run_says_what_it_picked() -> None:
    recipe, said = resolve_auto_settings(st.load_recipe("images", ["--precision", "fp32"]), 5000, 96)
    assert recipe.data.size == 96
    assert not recipe.supernet.fit
    assert [line.split()[1] for line in said] == ["resnet8", str(recipe.epochs)]
    assert resolve_auto_settings(recipe, 5000, 96) == (recipe, [])
