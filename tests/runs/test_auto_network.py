"""The plain ResNet that is chosen by images and budget: strides by hand, widths by costs, and what is left alone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

import supertickets as st
from supertickets.cost import count
from supertickets.errors import UserError
from supertickets.models.factory import create_spec
from supertickets.runs.auto_network import fit_network, scale_widths, scaled_settings, strides_for
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


def test_minutes_take_a_narrower_network_for_a_budget() -> None:
    """1.8 M MACs at 32 pixels: 15% of width 32, 57% of width 16."""
    budget = ["--budget.macs", "1780608"]
    wide, _ = fit_network(st.load_recipe("images", budget), 32)
    narrow, _ = fit_network(st.load_recipe("images", [*budget, "--minutes", "5"]), 32)
    assert (wide.supernet.settings["width"], narrow.supernet.settings["width"]) == (32, 16)


def test_minutes_without_a_budget_take_that_of_the_usual_ticket() -> None:
    """15% of width 32; nothing changes where channels go, where nothing does, or where the width is given."""
    recipe, said = fit_network(st.load_recipe("images", ["--minutes", "5"]), 48)
    usual = count(create_spec("resnet8", image_size=(48, 48), **(recipe.supernet.settings | {"width": 32}))).macs
    assert recipe.supernet.settings["width"] == 16
    assert recipe.budget.macs == round(0.15 * usual)
    assert isinstance(recipe.budget.macs, float)  # as it is when it is read again
    assert said[0].startswith(f"chosen: a budget of {usual * 15e-8:.3g} M MACs, what 85% zeros leave of width 32 (")
    for words in (
        ["--budget.runtime", "onnxruntime"],
        ["--search.interval", "1"],
        ["--prune.ratio", "0"],
        ["--prune.ratio", "0.1"],  # of which a wider network would be left
        ["--prune.schedule", "interval"],
        ["--supernet.settings.width", "32"],
    ):
        recipe, _ = fit_network(st.load_recipe("images", ["--minutes", "5", *words]), 48)
        assert (recipe.budget.given, recipe.supernet.settings["width"]) == ({}, 32)


def test_what_is_given_stays_and_other_networks_are_left_alone() -> None:
    given = st.load_recipe("images", ["--supernet.settings.width", "8", "--supernet.settings.stem_stride", "1"])
    settings = fit_network(given, 48)[0].supernet.settings
    assert (settings["width"], settings["stem_stride"]) == (8, 1)
    for words in (["--supernet.name", "hrnet_tiny"], ["--supernet.pretrained", "weights.pt"]):
        other = st.load_recipe("images", words)
        assert fit_network(other, 48) == (other, [])


def test_scaled_widths_by_hand() -> None:
    settings = {"widths": [32, 48, 96], "head_width": 48, "stem_stride": 2}
    assert scaled_settings(settings, 0.375) == {"widths": [16, 16, 32], "head_width": 16, "stem_stride": 2}
    assert scaled_settings({"width": 16}, 0.1) == {"width": 8}  # never none
    assert scaled_settings(settings, 1.0) == settings
    wrong = {"width": None, "widths": ["a", 8]}  # is left to the network to refuse
    assert scaled_settings(wrong, 2.0) == {"width": None, "widths": ["a", 16]}


def test_a_given_factor_scales_the_widths_of_any_recipe() -> None:
    recipe, said = scale_widths(st.load_recipe("camvid_fpn", ["--supernet.width_factor", "0.5"]), 180)
    whole = st.load_recipe("camvid_fpn").supernet.settings
    assert recipe.supernet.settings["widths"] == [width // 2 for width in whole["widths"]]
    assert (recipe.supernet.width_factor, said) == (1, [])
    with pytest.raises(UserError, match=r"supernet.width_factor has nothing to multiply: hrnet_tiny has no"):
        scale_widths(st.load_recipe("digits", ["--supernet.width_factor", "2"]), 8)
    mobile = ["--supernet.name", "mobilenet_v2", "--supernet.settings.width", "0.5", "--supernet.width_factor", "2"]
    with pytest.raises(UserError, match="mobilenet_v2 has no"):  # its width is a factor itself
        scale_widths(st.load_recipe("digits", mobile), 8)


@pytest.mark.parametrize("network", ["hrnet_tiny", "mobilenet_v2", "resnet38"])
def test_a_budget_leaves_networks_without_such_widths_as_they_are(network: str) -> None:
    recipe = st.load_recipe("masks", ["--budget.macs", "1e6", "--supernet.name", network])
    scaled, said = scale_widths(recipe, 256)
    assert (scaled.supernet.settings, scaled.supernet.width_factor, said) == (recipe.supernet.settings, 1, [])


@pytest.mark.parametrize("name", ["joints", "masks", "points", "boxes"])
def test_networks_with_a_head_follow_the_budget(name: str) -> None:
    whole = st.load_recipe(name)
    assert scale_widths(whole, 256)[0].supernet.settings == whole.supernet.settings
    firsts = []
    for budget in (1e6, 1e7, 1e8):
        recipe, said = scale_widths(st.load_recipe(name, ["--budget.macs", str(budget)]), 256)
        firsts.append(recipe.supernet.settings["widths"][0])
        assert "by the budget (--supernet.width_factor" in said[0]
        assert scale_widths(recipe, 256) == (recipe, [])
    assert firsts == sorted(firsts)
    assert firsts[0] < firsts[-1]


@pytest.mark.parametrize(
    "words",
    [
        ["--supernet.settings.head_width", "64"],
        ["--supernet.settings", "{widths: [64, 64, 64], blocks: [1, 1, 1], strides: [2, 2, 2]}"],
        ["--supernet.settings", "{head_width: 48}"],
    ],
)
def test_settings_of_widths_that_are_given_stay(words: list[str]) -> None:
    recipe = st.load_recipe("joints", ["--budget.macs", "1e6", *words])
    assert scale_widths(recipe, 128)[0].supernet.settings == recipe.supernet.settings


def test_one_width_takes_the_place_of_one_for_each_stage() -> None:
    settings = st.load_recipe("masks", ["--supernet.settings.width", "16"]).supernet.settings
    assert create_spec("resnet8", **settings).widths == (16, 32, 64, 128)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--supernet.settings.strides 2", r"supernet.settings.strides is 2; give one number per stage"),
        ("--supernet.settings.widths 32", r"supernet.settings.widths is 32; give one number per stage"),
        ("--supernet.settings.width null", r"supernet.settings.width is None; give a number of channels"),
    ],
)
def test_settings_that_are_none_are_refused_in_one_line(words: str, named: str) -> None:
    with pytest.raises(UserError, match=named):
        resolve_auto_settings(st.load_recipe("images", words.split()), 1000, 32)


def test_widths_that_are_given_are_not_scaled() -> None:
    words = ["--budget.macs", "1e6", "--supernet.settings.widths", "[64, 64, 64, 64]"]
    recipe, said = scale_widths(st.load_recipe("joints", words), 128)
    assert recipe.supernet.settings["widths"] == [64] * 4
    assert said == []
    both = st.load_recipe("joints", [*words, "--supernet.width_factor", "0.5"])
    assert scale_widths(both, 128)[0].supernet.settings["widths"] == [32] * 4


def test_a_run_says_what_it_picked() -> None:
    recipe, said = resolve_auto_settings(st.load_recipe("images", ["--precision", "fp32"]), 5000, 96)
    assert recipe.data.size == 96
    assert not recipe.supernet.fit
    assert [line.split()[1] for line in said] == ["resnet8", str(recipe.epochs)]
    assert resolve_auto_settings(recipe, 5000, 96) == (recipe, [])
