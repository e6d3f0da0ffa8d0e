"""Transfer between data sets and tasks: what is carried over, what is new, what is kept through the fine-tuning."""

from __future__ import annotations

import json
import shutil
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
from generate_streets import IMAGES, SCENES, scene
from simulate_powercut import cut_at_step
from supertickets import Ticket, UserError
from supertickets.algorithms.transfer import join_specs, join_tickets
from supertickets.config.recipe import Recipe, SupernetSettings
from supertickets.data import Preprocessing
from supertickets.models import HRNet, HRNetSpec
from supertickets.models.factory import create_spec
from supertickets.models.hrnet.network import check_join

pytestmark = pytest.mark.long

# Stem and stages of all networks here; heads differ by task.
_STAGES = {
    "channels": "[[8],[8,12]]",
    "blocks": "[[1],[1,1]]",
    "stem_channels": "[8,8]",
    "stem_strides": "[2,1]",
    "expansion": "1",
    "kernels": "[3,5]",
    "tokens": "0",
}
STAGES = [word for name, value in _STAGES.items() for word in (f"--supernet.settings.{name}", value)]
# The recipe `images` has a network of another family, and prunes it in another way.
HRNET = [
    *("--supernet.name", "hrnet_tiny", "--ema_decay", "0.99", "--search.penalty", "proximal", "--search.rho", "null"),
    *("--prune.schedule", "interval", "--prune.pattern", "unstructured", "--prune.stem", "true"),
    *("--prune.depthwise", "true"),
    *("--budget.runtime", "torch", "--optimizer.clip_norm", "1", "--prune.exempt_below", "80"),
]
NAMING = ["--supernet.settings.head_channels", "[8,12]", "--supernet.settings.last_channels", "24"]
DRAWN = [
    *("--search.interval", "1", "--search.last_epoch", "2", "--search.warmup_epochs", "0"),
    *("--search.threshold", "0.8", "--search.floor", "0.6"),
    *("--prune.progressive", "false", "--prune.interval", "2", "--prune.layer_floor", "0.05"),
]


@pytest.fixture(scope="module")
def named(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ticket of a classification at 60%; tests must not write into it."""
    out = tmp_path_factory.mktemp("named") / "run"
    words = ["--data.dir", str(images), "--epochs", "3", *NAMING]
    st.draw(st.load_recipe("images", [*words, *HRNET, *IMAGES, *STAGES, *DRAWN, "--prune.ratio", "0.6"]), out)
    return out


@pytest.fixture(scope="module")
def painted(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ticket of a segmentation at 50%; tests must not write into it."""
    out = tmp_path_factory.mktemp("painted") / "run"
    words = ["--data.dir", str(scenes), "--epochs", "3", "--prune.ratio", "0.5"]
    st.draw(st.load_recipe("camvid", [*words, *SCENES, *STAGES, *DRAWN]), out)
    return out


@pytest.fixture(scope="module")
def moved(named: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classification's features, trained to paint scenes under a fresh head; tests must not write into it."""
    out = tmp_path_factory.mktemp("moved") / "run"
    recipe = st.transfer_recipe(st.load(named), "camvid", scenes_words(scenes, "5"))
    st.transfer(st.load(named), recipe, out)
    return out


def scenes_words(scenes: Path, epochs: str) -> list[str]:
    return ["--data.dir", str(scenes), "--epochs", epochs, *SCENES]


def config(run: Path) -> dict[str, Any]:
    return json.loads((run / "ticket" / "config.json").read_text())


def features_of(ticket: Ticket) -> dict[str, torch.Tensor]:
    return {name: flags for name, flags in ticket.mask.items() if HRNet.is_feature(name)}


def assert_mask_kept(before: dict[str, torch.Tensor], after: Ticket) -> None:
    """The masks are the same, and what they prune is exactly zero."""
    assert before
    for name, flags in before.items():
        assert torch.equal(after.mask[name], flags)
    for name, flags in after.mask.items():
        assert not after.weights[name][~flags].any()


# From task to task ---------------------------------------------------------------------------------------------------


def test_features_of_a_classification_learn_to_paint(named: Path, moved: Path) -> None:
    before, after = st.load(named), st.load(moved)
    assert after.spec.head == "segmentation"
    assert after.about["test"]["miou"] > 40  # some 20 by chance
    assert_mask_kept(features_of(before), after)
    assert sum(map(len, before.spec.unit_groups())) < sum(map(len, before.spec.full().unit_groups()))
    for name, units in before.spec.units.items():
        if not name.startswith("head_"):
            assert after.spec.units[name] == units
    name = "blocks.s1_b0_0.expand.weight"
    assert not torch.equal(before.weights[name], after.weights[name])  # nothing is frozen


def test_a_fresh_head_is_dense_and_counts(named: Path, moved: Path) -> None:
    before, after = st.load(named), st.load(moved)
    head = [flags for name, flags in after.mask.items() if not HRNet.is_feature(name)]
    assert head
    assert all(flags.all() for flags in head)
    maskable = set(after.module.maskable_weights())
    assert set(after.mask) == maskable
    zeros = sum(int((~flags).sum()) for flags in features_of(before).values())
    assert after.cost.sparsity == zeros / sum(after.weights[name].numel() for name in maskable)


def test_the_ticket_records_source_target_and_head(named: Path, moved: Path) -> None:
    about, card = config(moved)["about"], (moved / "ticket" / "README.md").read_text()
    (source,) = about["lineage"]
    assert (source["command"], source["task"], source["data"]) == ("draw", "classification", "folders")
    assert source["digest"] == config(named)["about"]["data"]
    assert source["sparsity"] == pytest.approx(0.6, abs=1e-3)
    assert about["head"] == {"kind": "fresh"}
    assert (about["command"], about["recipe"]["name"]) == ("transfer", "camvid-from-images")
    history = "draw images (classification on folders), then transfer camvid-from-images (segmentation on masks)"
    assert f"| history | {history} |" in card
    assert "| head | fresh, without a mask |" in card
    assert "| task | segmentation, 3 classes |" in card


def test_a_head_is_inherited_with_its_mask(cli: Cli, named: Path, painted: Path, scenes: Path, tmp_path: Path) -> None:
    words = ("--head", painted, "--data", scenes, "--out", tmp_path / "run", "--epochs", "2", *SCENES, "--json")
    outcome = cli("transfer", named, "camvid", *words)
    assert outcome.status == 0, outcome.err
    features, head, after = st.load(named), st.load(painted), st.load(tmp_path / "run")
    behind = {name: flags for name, flags in head.mask.items() if not HRNet.is_feature(name)}
    assert_mask_kept(features_of(features) | behind, after)
    assert set(after.mask) == set(features_of(features)) | set(behind)
    assert after.spec.units["head_transform"] == head.spec.units["head_transform"]
    assert json.loads(outcome.out)["sparsity"] == after.cost.sparsity
    assert [step["task"] for step in after.about["head"]["lineage"]] == ["segmentation"]
    assert "| head | inherited from draw camvid (segmentation on masks) |" in after.card()


def test_features_of_a_segmentation_learn_to_name(cli: Cli, painted: Path, images: Path, tmp_path: Path) -> None:
    words = ("--data", images, "--epochs", "3", "--out", tmp_path / "run", *IMAGES, *NAMING)
    outcome = cli("transfer", painted, "images", *words, "--supernet.settings.head_channels", "[8,12]", "--json")
    assert outcome.status == 0, outcome.err
    after = st.load(tmp_path / "run")
    assert_mask_kept(features_of(st.load(painted)), after)
    assert after.spec.head_channels == (8, 12)
    assert after.spec.last_channels == 24
    assert json.loads(outcome.out)["test"]["top1"] > 60  # a third by chance


def test_it_evaluates_exports_and_is_trained_further(cli: Cli, moved: Path, scenes: Path, tmp_path: Path) -> None:
    measured = json.loads(cli("evaluate", moved, "--data", scenes, "--json").out)
    assert measured == pytest.approx(json.loads((moved / "result.json").read_text())["test"])
    made = json.loads(cli("export", moved, "--format", "torch", "--out", tmp_path / "model.pt2", "--json").out)
    assert made["parity"] < 1e-4
    ticket = st.load(moved)
    pixels, mask = scene(7, height=64, width=80)
    assert ticket.predict([Image.fromarray(pixels)])[0].shape == mask.shape
    again = st.retrain(ticket, st.retrain_recipe(ticket, 1, ["--data.dir", str(scenes)]), tmp_path / "more")
    assert_mask_kept(dict(ticket.mask), again)
    assert [step["command"] for step in again.about["lineage"]] == ["draw", "transfer"]


# From data to data ---------------------------------------------------------------------------------------------------


def test_within_a_task_only_the_classifier_is_new(quick_run: Path, idx_folder: Path, tmp_path: Path) -> None:
    """Digits of ten classes, then of four; and, in a chain, the ten again."""
    before = st.load(quick_run)
    words = ["--threads", "1", "--epochs", "1", "--recalibrate_batches", "2"]
    four = st.transfer_recipe(before, "mnist", [*words, "--data.dir", str(idx_folder), "--data.batch", "8"])
    after = st.transfer(before, four, tmp_path / "four")
    assert after.spec == replace(before.spec, num_classes=4)
    assert_mask_kept(dict(before.mask), after)
    assert set(after.mask) == set(before.mask)
    assert after.weights["classifier.weight"].shape == (4, 24)
    assert after.about["head"] == {"kind": "kept"}
    ten = st.transfer_recipe(after, "digits", words)
    last = st.transfer(after, ten, tmp_path / "ten")
    assert_mask_kept(dict(before.mask), last)
    assert [step["recipe"] for step in last.about["lineage"]] == ["digits", "mnist-from-digits"]
    assert last.about["lineage"][1]["head"] == {"kind": "kept"}
    assert last.about["recipe"]["name"] == "digits-from-mnist-from-digits"


# Taken up again ------------------------------------------------------------------------------------------------------


def test_a_killed_transfer_goes_on_to_the_same_end(named: Path, scenes: Path, tmp_path: Path) -> None:
    def digests(run: Path) -> list[str]:
        events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
        return [event["sha256"] for event in events if event["event"] == "digest"]

    source = tmp_path / "source"  # it may be gone when the run goes on
    shutil.copytree(named / "ticket", source)
    words = [*scenes_words(scenes, "2"), "--checkpoint_seconds", "0", "--evaluate_every", "2"]
    recipe = st.transfer_recipe(st.load(source), "camvid", words)
    st.transfer(st.load(source), recipe, tmp_path / "whole")
    with cut_at_step(1, 2):
        st.transfer(st.load(source), recipe, tmp_path / "cut")
    shutil.rmtree(source)
    torch.manual_seed(12345)
    st.resume(tmp_path / "cut")
    assert len(digests(tmp_path / "cut")) == 2
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
    for name in ("model.safetensors", "mask.safetensors", "config.json", "README.md"):
        assert (tmp_path / "cut/ticket" / name).read_bytes() == (tmp_path / "whole/ticket" / name).read_bytes()


# How it refuses ------------------------------------------------------------------------------------------------------

# The words of a command, {places} filled in, and what its one line must name.
WRONG = [
    ("transfer", "TICKET"),
    ("transfer {named}", "RECIPE"),
    ("transfer {tmp}/nowhere camvid", "{tmp}/nowhere"),
    ("transfer {named} camvd", "did you mean 'camvid'"),
    ("transfer {named} camvid", "--data DIR"),
    ("transfer {named} camvid --data {scenes} --head {tmp}/nowhere {fit}", "{tmp}/nowhere"),
    ("transfer {named} camvid --data {scenes} --prune.ratio 0.5 {fit}", "transfer takes no prune.ratio"),
    ("transfer {named} camvid --data {scenes} --search.rho 0.5 {fit}", "transfer takes no search.rho"),
    ("transfer {named} camvid --data {scenes} --supernet.settings.channels [[8]] {fit}", "supernet.settings.channels"),
    ("transfer {named} images --data {images} --supernet.settings.last_channels 9", "the head too"),
    ("transfer {named} camvid --data {scenes} --epochs few {fit}", "epochs"),
    ("transfer {grey} camvid --data {scenes} {fit}", "take images of 1 channels, those of camvid-from-digits have 3"),
    ("transfer {painted} digits", "take images of 3 channels, those of digits-from-camvid have 1"),
    (
        "transfer {painted} images --data {images} --data.size 64",
        "4 branches (of [36, 72, 144, 320] channels), the ticket's features have 2; set",
    ),
    ("transfer {named} camvid --data {scenes} --head {named} {fit}", "--head is a ticket for classification"),
    ("transfer {painted} images --data {images} --head {grey}", "does not fit the features"),
    ("transfer {named} camvid --data {scenes} --out {named} {fit}", "finished run"),
    ("prune {named}", "--ratio"),
    ("prune {tmp}/nowhere --ratio 0.5", "{tmp}/nowhere"),
    ("prune {named} --ratio 1", "--ratio is 1"),
    ("prune {named} --ratio many", "many"),
    ("prune {named} --ratio 0.7 --criterion gasp", "grasp"),
    ("prune {named} --ratio 0.7 --criterion snip --batches 0 --out {tmp}/x", "prune.batches=0 is out of range"),
    ("prune {named} --ratio 0.7 --criterion snip --prune.normalise rms --out {tmp}/x", "prune.normalise"),
    ("prune {named} --ratio 0.7 --prune.ratio 0.8", "prune takes no prune.ratio"),
    ("prune {named} --ratio 0.7 --epochs 3", "prune takes no epochs: nothing is trained"),
    ("prune {named} --ratio 0.7 --prune.interval 3", "prune takes no prune.interval"),
    ("prune {named} --ratio 0.5 --out {tmp}/x", "pruned already, so the nearest possible is 0.6"),
    ("prune {named} --ratio 0.97 --out {tmp}/x", "nearest possible is 0."),
    ("prune {named} --ratio 0.7 --out {painted}", "finished run"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[words for words, _ in WRONG])
def test_wrong_input_is_refused_in_one_line(
    cli: Cli,
    named: Path,
    painted: Path,
    quick_run: Path,
    images: Path,
    scenes: Path,
    tmp_path: Path,
    words: str,
    message: str,
) -> None:
    places = {"named": named, "painted": painted, "grey": quick_run, "images": images, "scenes": scenes}
    known = {name: str(path) for name, path in (places | {"tmp": tmp_path}).items()}
    if "--out" not in words:
        words += " --out {tmp}/x"
    parts: list[str] = []
    for word in words.split():
        parts += SCENES if word == "{fit}" else [word.format(**known)]
    outcome = cli(*parts)
    assert outcome.status == 2
    assert outcome.out == ""
    *notes, said = outcome.err.splitlines()  # on the data, before the network is looked at
    assert said.startswith("error: "), outcome.err
    assert not any("error" in note or "Traceback" in note for note in notes)
    assert message.format(**known) in said
    assert not (tmp_path / "x" / "run.json").exists()  # nothing was begun


# The join itself -----------------------------------------------------------------------------------------------------

TOY = {"channels": ((4,), (4, 6)), "blocks": ((1,), (1, 1)), "stem_channels": (4, 4), "expansion": 1, "tokens": 2}


def toy(head: str, **more: Any) -> HRNetSpec:
    return create_spec("hrnet_tiny", **TOY | {"head": head, "head_channels": (6, 8), "last_channels": 10} | more)


def made(spec: HRNetSpec, seed: int, density: float | None) -> Ticket:
    """A ticket of random weights, with a random mask if it has a density."""
    torch.manual_seed(seed)
    module = spec.build()
    weights = dict(module.state_dict())
    mask: dict[str, torch.Tensor] = {}
    if density is not None:
        mask = {name: torch.rand_like(weights[name]) < density for name in module.maskable_weights()}
        weights |= {name: weights[name] * flags for name, flags in mask.items()}
    classes = tuple(map(str, range(spec.num_classes)))
    return Ticket(spec, weights, mask, classes, Preprocessing(3, spec.image_size, (0.5,) * 3, (0.5,) * 3), {})


def shrunk(spec: HRNetSpec, seed: int) -> HRNetSpec:
    torch.manual_seed(seed)
    return spec.keep({group.name: torch.rand(len(group)) < 0.6 for group in spec.unit_groups()})


@settings(deadline=None, max_examples=12)
@given(
    seed=some.integers(0, 2**20),
    heads=some.tuples(*[some.sampled_from(["classification", "segmentation"])] * 2),
    densities=some.tuples(*[some.sampled_from([None, 0.0, 0.3, 1.0])] * 2),
    inherited=some.booleans(),
)
def test_every_tensor_comes_from_where_it_should(
    seed: int, heads: tuple[str, str], densities: tuple[float | None, float | None], inherited: bool
) -> None:
    source = made(shrunk(toy(heads[0]), seed), seed, densities[0])
    full = toy(heads[1], num_classes=5, image_size=(12, 16))
    other = made(shrunk(toy(heads[1], num_classes=5), seed + 1), seed + 1, densities[1]) if inherited else None
    shape = replace(source.preprocessing, size=(12, 16))
    joined = join_tickets(full, source, other, tuple("abcde"), shape, seed)
    behind = other or (source if heads[0] == heads[1] else None)
    assert joined.spec.image_size == (12, 16)
    joined.module(torch.zeros(2, 3, 12, 16))  # strict: the weights are those of the spec
    for name, value in joined.weights.items():
        if HRNet.is_feature(name):
            giver = source
        elif name.startswith("classifier."):
            giver = other
        else:
            giver = behind
        if giver is not None:
            assert torch.equal(value, giver.weights[name])
        if name in joined.mask:
            flags = joined.mask[name]
            assert torch.equal(flags, giver.mask[name]) if giver and giver.mask else flags.all()
    masked = [ticket for ticket in (source, behind) if ticket is not None and ticket.mask]
    assert set(joined.mask) == (set(joined.module.maskable_weights()) if masked else set())
    again = join_tickets(full, source, other, tuple("abcde"), shape, seed)
    assert all(torch.equal(value, again.weights[name]) for name, value in joined.weights.items())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"channels": ((4,), (4, 7))}, "channels of the last stage 4x7, theirs has 4x6"),
        ({"channels": ((4,), (4,)), "blocks": ((1,), (1,)), "head_channels": (6,)}, "branches 1, theirs has 2"),
        ({"stem_strides": (2, 2)}, "stem strides 2x2"),
        ({"kernels": (3, 5)}, "kernels 3x5"),
        ({"expansion": 2}, "expansion 2"),
        ({"tokens": 4}, "tokens 4"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_head_over_other_maps_is_refused(more: dict[str, Any], message: str) -> None:
    features = toy("classification")
    check_join(features, toy("segmentation"))
    with pytest.raises(UserError) as error:
        check_join(
            features, toy("segmentation", last_channels=10, **{k: v for k, v in more.items() if k != "last_channels"})
        )
    assert message in str(error.value)


def test_a_fresh_head_is_the_recipes_and_the_stages_are_the_tickets() -> None:
    recipe = Recipe(supernet=SupernetSettings(name="hrnet_cityscapes", settings={"last_channels": 7, "channels": 1}))
    source = made(toy("classification", bn_eps=0.25), 0, 0.5)
    spec = join_specs(source, None, recipe, "segmentation", source.preprocessing)(num_classes=3)
    assert isinstance(spec, HRNetSpec)
    assert spec.channels == ((4,), (4, 6))
    assert (spec.head, spec.last_channels, spec.style.bn_eps) == ("segmentation", 7, 0.25)
