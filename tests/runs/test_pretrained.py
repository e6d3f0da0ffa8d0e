"""Runs that begin with weights that others trained: what is loaded, what stays fresh, and how images are prepared."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

import odd_data
import supertickets as st
from cli_outcome import Cli
from generate_streets import IMAGES
from simulate_powercut import cut_at_step
from supertickets import UserError
from supertickets.config.recipe import Recipe
from supertickets.models import Spec, create_spec
from supertickets.runs.api import fork_run, train_shared_prefix
from supertickets.runs.pretrained import load_prepared_splits, load_pretrained
from supertickets.training import TrainState, initial_state

CPU = torch.device("cpu")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
RGB = {"in_channels": 3, "image_size": (32, 32)}
SHUFFLE = "torchvision:shufflenet_v2_x0_5"


class Convolutions(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.scores = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.scores(self.body(images).mean((2, 3)))


def make_network(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    return Convolutions(in_channels, num_classes)


def random_weights(spec: Spec) -> dict[str, Tensor]:
    torch.manual_seed(9)
    values = spec.build().state_dict()
    return {name: torch.randn_like(v).abs() if v.is_floating_point() else v for name, v in values.items()}


def load_into(spec: Spec, recipe: Recipe) -> tuple[TrainState, dict[str, Any], list[str]]:
    """Return a state before its first step with the recipe's weights, the record, and the lines that were said."""
    state, lines = initial_state(spec, recipe, CPU), list[str]()
    session: Any = SimpleNamespace(recipe=recipe, reporter=SimpleNamespace(say=lines.append))
    return state, load_pretrained(state, session), lines


def recipe_with(name: str, weights: Path | str, *words: str) -> Recipe:
    words = ("--supernet.name", name, "--supernet.pretrained", str(weights), "--ema_decay", "0.99", *words)
    return st.load_recipe("images", words)


# What is loaded ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "fresh"),
    [
        ("timm:resnet10t", {}, "network.fc"),
        (SHUFFLE, {}, "network.fc"),
        (f"{__name__}:make_network", {}, "network.scores"),
        ("hrnet_tiny", {}, "classifier"),
        ("resnet38", {"attention": "se"}, "classifier"),
        ("mobilenet_v2", {}, "classifier"),
        ("resnet8", {}, "classifier"),
    ],
)
@pytest.mark.parametrize("classes", [7, 3])
def test_all_but_another_classifier_is_the_files(
    name: str, settings: dict[str, Any], fresh: str, classes: int, tmp_path: Path
) -> None:
    """With as many classes the classifier too; the average begins with the same; what is fresh is the seed's."""
    if name.startswith("timm"):
        pytest.importorskip("timm")
    path = tmp_path / "weights.pth"
    values = random_weights(create_spec(name, num_classes=7, **RGB, **settings))
    torch.save({name.removeprefix("network."): value for name, value in values.items()}, path)
    spec, recipe = create_spec(name, num_classes=classes, **RGB, **settings), recipe_with(name, path)
    state, record, (line,) = load_into(spec, recipe)
    plain = initial_state(spec, recipe, CPU).module.state_dict()
    names = [] if classes == 7 else [f"{fresh}.weight", f"{fresh}.bias"]
    for key, value in state.module.state_dict().items():
        assert torch.equal(value, plain[key] if key in names else values[key])
    assert state.ema is not None
    assert all(torch.equal(value, state.module.state_dict()[key]) for key, value in state.ema.tensors.items())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert record == {"source": "weights.pth", "sha256": sha256, "fresh": names}
    assert line.startswith(f"begun with {len(values) - len(names)} tensors of weights.pth (sha256 {sha256[:12]})")
    assert (f"; fresh: {fresh}.weight is (7, " in line) == (classes == 3)


@pytest.mark.parametrize("name", ["resnet8", SHUFFLE, "timm:resnet10t"])
def test_features_go_under_a_head_for_maps(name: str, tmp_path: Path) -> None:
    """A file of a classification, behind which a segmentation has a head of its own; what it leaves is named."""
    if name.startswith("timm"):
        pytest.importorskip("timm")
    values = random_weights(create_spec(name, num_classes=7, **RGB))
    bare = {name.removeprefix("network."): value for name, value in values.items()}
    save_file(bare, tmp_path / "weights.safetensors")
    spec = create_spec(name, num_classes=4, head="segmentation", in_channels=3, image_size=(64, 64))
    state, record, (line,) = load_into(spec, recipe_with(name, tmp_path / "weights.safetensors"))
    weights = state.module.state_dict()
    assert all(name.startswith(("head.", "classifier.")) for name in record["fresh"])
    assert all(torch.equal(value, values[name]) for name, value in weights.items() if state.module.is_feature(name))
    assert "head." in line


def test_older_files_lack_the_counters_of_batch_norms(tmp_path: Path) -> None:
    spec = create_spec("resnet8", num_classes=7, **RGB)
    values = {n: v for n, v in random_weights(spec).items() if not n.endswith("num_batches_tracked")}
    torch.save(values | {"aux.weight": torch.ones(2)}, tmp_path / "a.pt")
    _, record, (line,) = load_into(spec, recipe_with("resnet8", tmp_path / "a.pt"))
    assert record["fresh"] == []
    assert line.endswith("; not used: aux.weight")


def test_features_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    values = random_weights(create_spec("resnet8", num_classes=7, **RGB))
    torch.save(values, tmp_path / "a.pt")
    wide = create_spec("resnet8", num_classes=7, width=24, **RGB)
    with pytest.raises(UserError) as error:
        load_into(wide, recipe_with("resnet8", tmp_path / "a.pt"))
    text = str(error.value)
    assert text.startswith("supernet.pretrained a.pt does not fit resnet8: ")
    assert " is (" in text
    assert "and " in text
    assert "more; take weights of the same network and settings, or false" in text
    with pytest.raises(UserError, match="is missing"):
        load_into(create_spec("mobilenet_v2", num_classes=7, **RGB), recipe_with("mobilenet_v2", tmp_path / "a.pt"))


def test_weights_of_a_deeper_network_are_refused(tmp_path: Path) -> None:
    """All that the network asks for is there; what follows in its stages would be left out."""
    save_file(torchvision.models.resnet34().state_dict(), tmp_path / "a.safetensors")
    spec = create_spec("torchvision:resnet18", num_classes=1000, **RGB)
    with pytest.raises(UserError, match=r"is of a larger network than torchvision:resnet18, which has no layer1\.2\."):
        load_into(spec, recipe_with("torchvision:resnet18", tmp_path / "a.safetensors"))


def test_published_weights_are_loaded_by_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """By torchvision's own functions, in place of the download; its 1,000 classes are left out."""
    values = random_weights(create_spec(SHUFFLE))
    bare = {name.removeprefix("network."): value for name, value in values.items()}
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: bare)
    recipe = recipe_with(f"{SHUFFLE}.IMAGENET1K_V1", "true")
    assert recipe.supernet.pretrained is True
    assert recipe.supernet.architecture == SHUFFLE
    state, record, _ = load_into(create_spec(recipe.supernet.architecture, num_classes=7, **RGB), recipe)
    assert record["source"] == f"{SHUFFLE}.IMAGENET1K_V1"
    assert record["fresh"] == ["network.fc.weight", "network.fc.bias"]
    assert all(torch.equal(v, values[n]) for n, v in state.module.state_dict().items() if n not in record["fresh"])


def test_timms_weights_are_adapted_to_grey_by_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm sums the filters of the first convolution over the colours."""
    pytest.importorskip("timm")
    values = random_weights(create_spec("timm:resnet10t", num_classes=1000, **RGB))
    bare = {name.removeprefix("network."): value for name, value in values.items()}
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(bare))
    recipe = recipe_with("timm:resnet10t.c3_in1k", "true")
    spec = create_spec(recipe.supernet.architecture, num_classes=7, in_channels=1, image_size=(32, 32))
    state, record, _ = load_into(spec, recipe)
    assert record["fresh"] == ["network.fc.weight", "network.fc.bias"]
    first = state.module.state_dict()["network.conv1.0.weight"]
    torch.testing.assert_close(first, bare["conv1.0.weight"].sum(1, keepdim=True))


# How images are prepared ---------------------------------------------------------------------------------------------


def test_images_are_prepared_as_for_the_weights(images: Path) -> None:
    """Normalisation, size, filter and share of ShuffleNet's own configuration, where the recipe leaves them open."""
    recipe, splits = load_prepared_splits(recipe_with(SHUFFLE, "w.pt", "--data.dir", str(images)))
    chosen = splits.preprocessing
    assert (chosen.size, chosen.mean, chosen.std) == ((224, 224), *IMAGENET)
    assert (chosen.fit, chosen.share, chosen.resample) == ("crop", 224 / 256, "bilinear")
    assert (recipe.data.size, recipe.data.mean, recipe.data.std) == (224, *IMAGENET)
    (note,) = (note for note in splits.notes if "normalised" in note)
    assert note.startswith("normalised by torchvision's configuration of shufflenet_v2_x0_5: mean [0.485, 0.456")
    again, same = load_prepared_splits(recipe)  # as a resumed run does
    assert (again, same.preprocessing) == (recipe, chosen)


def test_settings_of_the_recipe_win(images: Path) -> None:
    words = ("--data.dir", str(images), "--data.size", "16", "--data.resample", "bicubic", "--data.crop_share", "0.5")
    _, splits = load_prepared_splits(recipe_with(SHUFFLE, "w.pt", *words))
    chosen = splits.preprocessing
    assert (chosen.size, chosen.mean, chosen.share, chosen.resample) == ((16, 16), IMAGENET[0], 0.5, "bicubic")
    assert (
        "images have 16 x 16 pixels, by torchvision's configuration of shufflenet_v2_x0_5 they would have"
        in (splits.notes[-1])
    )
    words = ("--data.dir", str(images), "--data.mean", "[0.1,0.2,0.3]", "--data.std", "[1,1,1]")
    _, splits = load_prepared_splits(recipe_with(SHUFFLE, "w.pt", *words))
    assert (splits.preprocessing.mean, splits.preprocessing.std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))


def test_fresh_weights_and_grey_images_are_normalised_by_themselves(images: Path) -> None:
    fresh = st.load_recipe("images", ["--supernet.name", SHUFFLE, "--data.dir", str(images)])
    recipe, splits = load_prepared_splits(fresh)
    assert recipe == fresh
    assert splits.preprocessing.mean != IMAGENET[0]
    of_own = recipe_with("resnet8", "w.pt", "--data.dir", str(images))  # whose file says nothing
    assert load_prepared_splits(of_own)[1].preprocessing == splits.preprocessing
    grey = st.load_recipe("digits", ["--supernet.name", SHUFFLE, "--supernet.pretrained", "w.pt"])
    recipe, splits = load_prepared_splits(grey)
    assert (
        recipe.data.mean
        == splits.preprocessing.mean
        == load_prepared_splits(st.load_recipe("digits"))[1].preprocessing.mean
    )
    assert any("is for images of 3 channels, these have 1: normalised anew" in note for note in splits.notes)


def test_the_middle_of_photographs_in_memory_is_seen_behind_random_crops(tmp_path: Path) -> None:
    """Nothing else changes it: glyphs, images that are not cropped, and shares that are given stay as they are."""
    words = ("--data.dir", str(odd_data.tiny_imagenet(tmp_path)), "--data.validation", "0.34")
    recipe = st.load_recipe("tiny_imagenet", list(words))
    chosen, splits = load_prepared_splits(recipe)
    assert (recipe.data.crop_share, chosen.data.crop_share, splits.preprocessing.share) == (None, 0.875, 0.875)
    again, same = load_prepared_splits(chosen)  # as a resumed run does
    assert (again, same.preprocessing) == (chosen, splits.preprocessing)
    for more, share in ((("--augment.crop", "1"), 1.0), (("--data.crop_share", "0.6"), 0.6)):
        _, splits = load_prepared_splits(st.load_recipe("tiny_imagenet", [*words, *more]))
        assert splits.preprocessing.share == share
    _, splits = load_prepared_splits(st.load_recipe("digits", ["--augment.crop", "0.5"]))
    assert splits.preprocessing.share == 1


def test_images_in_memory_are_seen_whole() -> None:
    """They are evaluated as they were read, whatever share of a file would be seen."""
    words = (
        "--supernet.pretrained",
        "false",
        "--data.crop_share",
        "0.5",
        "--data.mean",
        "[0.5]",
        "--data.std",
        "[0.2]",
    )
    _, splits = load_prepared_splits(st.load_recipe("digits", list(words)))
    assert (splits.preprocessing.share, splits.preprocessing.mean) == (1.0, (0.5,))
    with pytest.raises(UserError, match="has 3 values, the images have 1 channels"):
        load_prepared_splits(st.load_recipe("digits", ["--data.mean", "[1,1,1]", "--data.std", "[1,1,1]"]))


# Settings that cannot work -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--supernet.name hrnet_tiny --supernet.pretrained true", "not for hrnet_tiny; give a file of weights"),
        ("--supernet.pretrained ''", "supernet.pretrained '' is"),
        ("--data.mean [0.5]", "data.std None; give both"),
        ("--data.mean [0.5,0.5] --data.std [0.5]", "with a value per channel each"),
        ("--data.mean [0.5] --data.std [0]", "data.std=[0.0] is out of range"),
        ("--optimizer.layer_decay 0", "optimizer.layer_decay=0.0 is out of range"),
        ("--supernet.name timm:resnet10t.c3_in1k --data.size 32", "set supernet.pretrained to true"),
        ("--supernet.name timm:resnet10t.c3_in1k --supernet.pretrained w.pt --data.size 32", "leave out what follows"),
        (f"--supernet.name {SHUFFLE} --supernet.pretrained none.pt --data.size 32", "none.pt does not exist"),
    ],
)
def test_what_cannot_work_is_named(words: str, said: str, cli: Cli, tmp_path: Path, images: Path) -> None:
    if "timm" in words:
        pytest.importorskip("timm")
    outcome = cli("draw", "images", "--data", images, *words.split(), "--out", tmp_path / "run")
    assert outcome.status == 2
    assert (said if "''" not in words else "does not exist") in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run" / "run.json").exists()


# Whole runs ----------------------------------------------------------------------------------------------------------


def _draw_words(weights: Path, images: Path) -> list[str]:
    short = "--epochs 3 --checkpoint_seconds 0 --search.interval 0 --search.last_epoch null --optimizer.layer_decay 0.5"
    pruned = "--prune.progressive false --prune.interval 1 --prune.ratio 0.5 --lr.warmup_epochs 0 --optimizer.lr 0.01"
    network = ["--supernet.name", SHUFFLE, "--supernet.pretrained", str(weights), "--data.dir", str(images)]
    return [*network, *IMAGES, *short.split(), *pruned.split(), "--data.size", "32"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "shuffle.safetensors"
    torch.manual_seed(2)
    module = create_spec(SHUFFLE, num_classes=5, **RGB).build().network
    assert isinstance(module, nn.Module)
    save_file(module.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def run(weights: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrained") / "run"
    st.draw(st.load_recipe("images", _draw_words(weights, images)), out)
    return out


@pytest.mark.long
def test_a_ticket_says_what_it_began_with(run: Path, weights: Path) -> None:
    ticket = st.load(run)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    fresh = ["network.fc.weight", "network.fc.bias"]
    assert ticket.about["pretrained"] == {"source": weights.name, "sha256": sha256, "fresh": fresh}
    assert (
        f"| began with | weights of shuffle.safetensors (sha256 {sha256}); fresh were network.fc.weight"
        in ticket.card()
    )
    assert (ticket.preprocessing.mean, ticket.preprocessing.size) == (IMAGENET[0], (32, 32))
    assert ticket.cost.sparsity == pytest.approx(0.5, abs=1e-3)


@pytest.mark.long
def test_a_run_goes_on_without_the_file(run: Path, weights: Path, images: Path, tmp_path: Path) -> None:
    """Killed amid the second epoch, with a mask and rates by depth; equal to the bit."""
    copy = tmp_path / weights.name
    copy.write_bytes(weights.read_bytes())
    recipe = st.load_recipe("images", _draw_words(copy, images))
    with cut_at_step(1, 2):
        st.draw(recipe, tmp_path / "run")
    copy.unlink()
    st.resume(tmp_path / "run")
    for name in ("model.safetensors", "mask.safetensors"):
        assert (tmp_path / "run" / "ticket" / name).read_bytes() == (run / "ticket" / name).read_bytes()
    ticket, whole = st.load(tmp_path / "run"), st.load(run)
    assert ticket.about["pretrained"] == whole.about["pretrained"]
    assert ticket.preprocessing == whole.preprocessing


@pytest.mark.long
def test_channels_go_from_a_file_of_an_own_network_across_a_kill(images: Path, tmp_path: Path) -> None:
    """The shipped recipe with a budget of half the MACs; killed behind the first removal, resumed without the file."""
    path, own = tmp_path / "own.pt", f"{__name__}:make_network"
    torch.save({"state_dict": random_weights(create_spec(own, num_classes=7, **RGB))}, path)
    words = ["--supernet.name", own, "--supernet.pretrained", str(path), "--data.dir", str(images), *IMAGES]
    words += ["--data.size", "32", "--epochs", "6", "--budget.macs", "1e5", "--search.importance", "gate"]
    words += ["--search.last_epoch", "4", "--prune.ratio", "0.2", "--search.end", "0.6", "--checkpoint_seconds", "0"]
    recipe = st.load_recipe("finetune", words)
    whole = st.draw(recipe, tmp_path / "whole")
    with cut_at_step(3, 1):
        st.draw(recipe, tmp_path / "cut")
    path.unlink()
    again = st.resume(tmp_path / "cut", trust=[__name__])
    assert again.weights["network.body.0.weight"].shape[0] < 8
    assert whole.cost.macs <= 1e5
    assert again.weights.keys() == whole.weights.keys()
    assert all(torch.equal(value, whole.weights[name]) for name, value in again.weights.items())
    assert again.about["pretrained"] == whole.about["pretrained"]


@pytest.mark.long
def test_draws_with_a_shared_prefix_begin_with_the_same_weights(weights: Path, images: Path, tmp_path: Path) -> None:
    recipe = st.load_recipe("images", [*_draw_words(weights, images), "--epochs", "2"])
    train_shared_prefix(recipe, tmp_path / "prefix", 1)
    fork_run(tmp_path / "prefix", recipe, tmp_path / "draw")
    forked, alone = st.resume(tmp_path / "draw"), st.draw(recipe, tmp_path / "alone")
    assert forked.about["pretrained"] == alone.about["pretrained"]
    assert forked == alone


@pytest.mark.long
def test_what_is_made_of_a_ticket_needs_no_file(run: Path, images: Path, tmp_path: Path) -> None:
    """It keeps the normalisation and the record; on other data the features are the ticket's, the rest is its own."""
    ticket = st.load(run)
    recipe = st.retrain_recipe(ticket, 1)
    again = st.retrain(ticket, dataclasses.replace(recipe, threads=1), tmp_path / "again")
    assert again.preprocessing == ticket.preprocessing
    assert again.about["pretrained"] == ticket.about["pretrained"]
    words = ["--data.dir", str(images), *IMAGES, "--data.size", "32", "--epochs", "1"]
    moved = st.transfer(ticket, st.transfer_recipe(ticket, "images", words), tmp_path / "moved")
    assert moved.about["recipe"]["supernet"]["pretrained"] is False
    assert moved.preprocessing.mean != IMAGENET[0]
    assert moved.about["lineage"][0]["pretrained"] == ticket.about["pretrained"]


@pytest.mark.long
def test_a_ticket_gives_weights_and_preprocessing(run: Path, images: Path, tmp_path: Path) -> None:
    """Its zeros are where a run begins, not a mask; a step without a rate changes nothing but statistics."""
    words = _draw_words(run, images)
    still = ["--optimizer.lr", "1e-12", "--optimizer.weight_decay", "0", "--epochs", "1", "--prune.ratio", "0"]
    after = st.train(st.load_recipe("images", [*words, *still, "--ema_decay", "0"]), tmp_path / "run")
    before = st.load(run)
    assert after.preprocessing == before.preprocessing
    assert after.mask == {}
    assert after.about["pretrained"]["fresh"] == []
    for name, value in after.weights.items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(value, before.weights[name], atol=1e-6, rtol=0)


@pytest.mark.long
def test_timms_weights_learn_digits_at_32_pixels(tmp_path: Path) -> None:
    """Weights that were trained on all digits are worth something to a run on some of them."""
    pytest.importorskip("timm")
    quick = "--threads 1 --recalibrate_batches 1 --data.validation 0.3 --data.batch 64 --data.size 32 --ema_decay 0"
    network = "--supernet.name timm:test_resnet --optimizer.lr 0.05 --search.last_epoch null --search.interval 0"
    pruned = "--prune.ratio 0.5 --prune.progressive false --prune.interval 1"
    shared = [*quick.split(), *network.split(), *pruned.split()]
    taught = st.train(st.load_recipe("digits", [*shared, "--epochs", "4"]), tmp_path / "taught")
    bare = {name.removeprefix("network."): value.contiguous() for name, value in taught.weights.items()}
    save_file(bare, tmp_path / "w.safetensors")
    words = [*shared, "--epochs", "1", "--data.limit", "128"]
    given = ["--supernet.pretrained", str(tmp_path / "w.safetensors")]
    begun = st.draw(st.load_recipe("digits", [*words, *given]), tmp_path / "a")
    fresh = st.draw(st.load_recipe("digits", words), tmp_path / "b")
    assert begun.about["test"]["top1"] > fresh.about["test"]["top1"] + 20
