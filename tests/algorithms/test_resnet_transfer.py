"""Transfer of ResNets with attention modules: what is carried over, what is new, what is kept through the training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

import supertickets as st
from cli_outcome import Cli
from generate_streets import IMAGES, SCENES, plain, scene
from supertickets import Ticket, UserError
from supertickets.algorithms.transfer import head_settings, join_specs, join_tickets
from supertickets.config.recipe import Recipe, SupernetSettings
from supertickets.data import Preprocessing
from supertickets.models import Head, ResNet, ResNetSpec, create_resnet
from supertickets.models.factory import create_spec

pytestmark = pytest.mark.long

SCHEME = "1010|0110|0001"
NARROW = {"widths": "[4,8,8]", "ratio": "4"}


@pytest.fixture(scope="module")
def named(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ticket of a classification with a connection scheme, at 60%; tests must not write into it."""
    out = tmp_path_factory.mktemp("named") / "run"
    words = [word for name, value in NARROW.items() for word in (f"--supernet.settings.{name}", value)]
    words += ["--supernet.name", "resnet38", "--supernet.settings.attention", "se"]
    words += ["--supernet.settings.scheme", SCHEME, "--data.dir", str(images), "--epochs", "3"]
    words += ["--prune.ratio", "0.6", "--prune.progressive", "false", "--prune.interval", "2"]
    words += ["--prune.layer_floor", "0.05", "--search.interval", "0"]
    st.draw(st.load_recipe("images", [*words, *IMAGES]), out)
    return out


@pytest.fixture(scope="module")
def moved(named: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classification's features, trained to paint scenes; tests must not write into it."""
    out = tmp_path_factory.mktemp("moved") / "run"
    words = ["--data.dir", str(scenes), "--epochs", "4", "--supernet.settings.output_stride", "2", *SCENES]
    st.transfer(st.load(named), st.transfer_recipe(st.load(named), "camvid", words), out)
    return out


def assert_features_kept(before: Ticket, after: Ticket) -> None:
    """Scheme and mask are the same, what the mask prunes is exactly zero, and nothing else is frozen."""
    assert isinstance(before.spec, ResNetSpec)
    assert isinstance(after.spec, ResNetSpec)
    assert (after.spec.scheme, after.spec.attention) == (before.spec.scheme, before.spec.attention)
    own = {name for name in before.weights if ResNet.is_feature(name)}
    assert own == {name for name in after.weights if ResNet.is_feature(name)}
    masked = own & set(before.mask)
    assert any(name.startswith("attention.") for name in masked)
    for name in masked:
        flags = before.mask[name]
        assert torch.equal(after.mask[name], flags)
        assert not after.weights[name][~flags].any()
        assert not torch.equal(after.weights[name], before.weights[name]) or not flags.any()


# From task to task ---------------------------------------------------------------------------------------------------


def test_features_of_a_classification_learn_to_paint(named: Path, moved: Path) -> None:
    before, after = st.load(named), st.load(moved)
    assert_features_kept(before, after)
    assert (after.spec.head, after.spec.num_classes) == ("segmentation", 3)
    assert isinstance(after.spec, ResNetSpec)
    assert after.spec.coarsest_stride == 2
    test = after.about["test"]
    assert test["miou"] > 40  # some 20 by chance
    assert {"macc", "aacc"} <= set(test)
    head = [flags for name, flags in after.mask.items() if not ResNet.is_feature(name)]
    assert len(head) == 1
    assert head[0].all()  # dense, and it counts
    zeros = sum(int((~flags).sum()) for flags in after.mask.values())
    assert after.cost.sparsity == zeros / sum(flags.numel() for flags in after.mask.values()) < 0.6


def test_the_ticket_records_source_and_network(named: Path, moved: Path) -> None:
    ticket = st.load(moved)
    (source,) = ticket.about["lineage"]
    assert (source["command"], source["task"]) == ("draw", "classification")
    assert ticket.about["head"] == {"kind": "fresh"}
    own = st.load(named).about["recipe"]["supernet"]
    supernet = ticket.about["recipe"]["supernet"]
    assert supernet["name"] == "resnet38"
    assert supernet["settings"] == own["settings"] | {"output_stride": 2}
    assert "| network | resnet38 |" in ticket.card()
    assert "| head | fresh, without a mask |" in ticket.card()


def test_it_comes_back_to_other_classes(cli: Cli, moved: Path, tmp_path: Path) -> None:
    """From maps to two classes of images, where the stride is the head's own again; then on, within the task."""
    data = plain(tmp_path / "data", ("sky", "road"), each=16)
    words = ("--data", data, "--epochs", "1", *IMAGES, "--data.batch", "8", "--json")
    outcome = cli("transfer", moved, "images", *words, "--out", tmp_path / "back")
    assert outcome.status == 0, outcome.err
    assert json.loads(outcome.out)["sparsity"] > 0
    back = st.load(tmp_path / "back")
    assert_features_kept(st.load(moved), back)
    assert isinstance(back.spec, ResNetSpec)
    assert (back.spec.head, back.spec.num_classes, back.spec.coarsest_stride) == ("classification", 2, 4)
    assert "output_stride" not in back.about["recipe"]["supernet"]["settings"]
    recipe = st.transfer_recipe(back, "images", ["--data.dir", *map(str, words[1:-1])])
    on = st.transfer(back, recipe, tmp_path / "on")
    assert_features_kept(back, on)
    assert on.about["head"] == {"kind": "kept"}
    assert [step["command"] for step in on.about["lineage"]] == ["draw", "transfer", "transfer"]


def test_it_evaluates_and_is_trained_further(cli: Cli, moved: Path, scenes: Path, tmp_path: Path) -> None:
    measured = json.loads(cli("evaluate", moved, "--data", scenes, "--json").out)
    assert measured == pytest.approx(json.loads((moved / "result.json").read_text())["test"])
    ticket = st.load(moved)
    pixels, mask = scene(7, height=51, width=80)
    assert ticket.predict([Image.fromarray(pixels)])[0].shape == mask.shape
    again = st.retrain(ticket, st.retrain_recipe(ticket, 1, ["--data.dir", str(scenes)]), tmp_path / "more")
    assert_features_kept(ticket, again)


# Without a transfer --------------------------------------------------------------------------------------------------


def test_scenes_are_learned_and_pruned_from_fresh_weights(cli: Cli, scenes: Path, tmp_path: Path) -> None:
    words = ["--supernet.name", "resnet38", "--supernet.settings.attention", "sge", "--supernet.settings.head"]
    words += ["segmentation", "--supernet.settings.widths", "[4,8,8]", "--search.interval", "0", "--prune.ratio", "0.5"]
    words += ["--search.last_epoch", "null", "--prune.progressive", "false", "--prune.interval", "2", "--epochs", "4"]
    outcome = cli("draw", "camvid", "--data", scenes, *SCENES, *words, "--out", tmp_path / "run", "--json")
    assert outcome.status == 0, outcome.err
    result = json.loads(outcome.out)
    assert set(result["test"]) == {"loss", "miou", "macc", "aacc"}
    assert result["test"]["miou"] > 35  # some 20 by chance
    assert result["sparsity"] == pytest.approx(0.5, abs=1e-3)


# The join itself -----------------------------------------------------------------------------------------------------


def made(spec: ResNetSpec, density: float | None) -> Ticket:
    """A ticket of random weights, with a random mask if it has a density."""
    module = spec.build()
    weights = dict(module.state_dict())
    mask: dict[str, torch.Tensor] = {}
    if density is not None:
        mask = {name: torch.rand_like(weights[name]) < density for name in module.maskable_weights()}
        weights |= {name: weights[name] * flags for name, flags in mask.items()}
    classes = tuple(map(str, range(spec.num_classes)))
    prepare = Preprocessing(3, spec.image_size, (0.5,) * 3, (0.5,) * 3)
    return Ticket(spec, weights, mask, classes, prepare, {"recipe": Recipe().to_json()})


def toy(head: Head, attention: str | None, num_classes: int) -> ResNetSpec:
    scheme = None if attention is None else SCHEME
    return create_resnet(
        "resnet38",
        **{"widths": (2, 4, 4), "ratio": 4, "groups": 4, "image_size": (8, 8)},
        **{"head": head, "num_classes": num_classes},
        **{"attention": attention, "sharing": "stage" if attention == "dia" else "none", "scheme": scheme},
    )


HEADS: tuple[Head, ...] = ("classification", "segmentation", "density")


@settings(deadline=None, max_examples=15)
@given(
    seed=some.integers(0, 2**20),
    heads=some.tuples(some.sampled_from(HEADS), some.sampled_from(HEADS)),
    attention=some.sampled_from([None, "se", "sge", "dia"]),
    density=some.sampled_from([None, 0.0, 0.3, 1.0]),
)
def test_every_tensor_comes_from_where_it_should(
    seed: int, heads: tuple[Head, Head], attention: str | None, density: float | None
) -> None:
    torch.manual_seed(seed)
    source = made(toy(heads[0], attention, 1 if heads[0] == "density" else 3), density)
    classes = ("a",) if heads[1] == "density" else tuple("abcde")
    shape = replace(source.preprocessing, size=(9, 12))
    full = join_specs(source, None, Recipe(), heads[1], shape)(
        num_classes=len(classes), in_channels=3, image_size=shape.size
    )
    after = join_tickets(full, source, None, classes, shape, seed)
    x = torch.randn(2, 3, 9, 12)
    before_map = source.module.features(x, {})[-1]
    torch.testing.assert_close(after.module.features(x, {})[-1], before_map)  # nothing of the features is new
    for name, value in after.weights.items():
        kept = ResNet.is_feature(name) or (heads[0] == heads[1] and name.startswith("head."))
        if kept:
            assert torch.equal(value, source.weights[name])
        if name in after.mask:
            flags = after.mask[name]
            assert torch.equal(flags, source.mask[name]) if kept else flags.all()
    assert set(after.mask) == (set(after.module.maskable_weights()) if source.mask else set())
    shapes = {"classification": (2, 5), "segmentation": (2, 5, 3, 3), "density": (2, 1, 3, 3)}
    assert after.module(x).shape == shapes[heads[1]]


def test_a_large_stem_dilates_for_maps_unless_the_recipe_says_otherwise() -> None:
    source = made(create_resnet("resnet50", widths=(1, 1, 1, 1), attention="se", ratio=4), None)

    def stride(wanted: Head, given: dict[str, Any]) -> int:
        recipe = Recipe(supernet=SupernetSettings(name="resnet50", settings={"widths": (8,) * 4, **given}))
        spec = join_specs(source, None, recipe, wanted, source.preprocessing)(num_classes=1)
        assert isinstance(spec, ResNetSpec)
        assert (spec.widths, spec.attention) == ((1, 1, 1, 1), "se")  # the ticket's
        return spec.coarsest_stride

    assert stride("segmentation", {}) == 8
    assert stride("density", {"output_stride": 16}) == 16
    assert stride("classification", {"output_stride": 16}) == 32  # the head too is the ticket's


@pytest.mark.parametrize(("neck", "stride"), [("dilated", 8), ("fpn", 32)])
def test_a_head_for_joints_is_fresh(neck: str, stride: int) -> None:
    """Its neck is the recipe's; maps that are joined need no dilation."""
    source = made(toy("classification", "se", 3), None)
    recipe = Recipe(supernet=SupernetSettings(settings={"neck": neck}))
    spec = join_specs(source, None, recipe, "keypoints", source.preprocessing)(num_classes=3)
    assert isinstance(spec, ResNetSpec)
    assert (spec.head, spec.neck, spec.output_stride) == ("keypoints", neck, stride)


def test_no_part_of_other_families() -> None:
    source = made(toy("classification", "se", 3), None)
    with pytest.raises(UserError, match="transfer parts a network into features and head, which it cannot do with"):
        head_settings(replace(source, spec=create_spec("mobilenet_v2")))


# How it refuses ------------------------------------------------------------------------------------------------------

# The words of a command, {places} filled in, and what its one line must name.
WRONG = [
    ("transfer {named} camvid --data {scenes} --head {named} {fit}", "is fresh, leave --head out"),
    ("transfer {named} camvid --data {scenes} --supernet.settings.widths [8,8,8] {fit}", "but the head, is the tick"),
    ("transfer {named} camvid --data {scenes} --supernet.settings.output_stride 3 {fit}", "take one of 1, 2, 4, 8"),
    ("transfer {moved} camvid --data {scenes} --supernet.settings.output_stride 1 {fit}", "the head too"),
    ("transfer {named} camvid --data {scenes} --supernet.name resnet50 {fit}", "transfer takes no supernet.name"),
    ("transfer {named} digits", "take images of 3 channels, those of digits-from-images have 1"),
    ("transfer {grey} voc_resnet50 --data {scenes}", "is not laid out like VOC"),  # its network does not matter
    ("transfer {grey} camvid --data {scenes} --head {named} {fit}", "give --head a ticket of a supernet"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[words for words, _ in WRONG])
def test_wrong_input_is_refused_in_one_line(
    cli: Cli, named: Path, moved: Path, quick_run: Path, scenes: Path, tmp_path: Path, words: str, message: str
) -> None:
    places = {"named": named, "moved": moved, "grey": quick_run, "scenes": scenes}
    parts: list[str] = ["--out", str(tmp_path / "x")]
    for word in words.split():
        parts += SCENES if word == "{fit}" else [word.format(**places)]
    outcome = cli(*parts[2:], *parts[:2])
    assert outcome.status == 2
    *_, said = outcome.err.splitlines()  # behind notes on the data
    assert said.startswith("error: "), outcome.err
    assert message in said
    assert not (tmp_path / "x" / "run.json").exists()
