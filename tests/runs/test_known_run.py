"""Known networks through every command that supernets go through, and what does not apply to them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import supertickets as st
from cli_outcome import Cli, onnx_file
from simulate_powercut import cut_at_step
from supertickets.cli.tables import architecture_table
from supertickets.config.recipe import Recipe
from supertickets.config.schedule import Prune, Reactivate, Recalibrate, Shrink, events, pruning_timeline
from supertickets.deploy import compact
from supertickets.models.traced import TracedSpec
from supertickets.runs.auto_settings import resolve_auto_settings
from supertickets.sweeps.sweep import read_sweep
from supertickets.training import read_events

pytestmark = pytest.mark.long

pytest.importorskip("timm")

MOBILE = ("--supernet.name", "timm:test_efficientnet", "--supernet.settings.drop_rate", "0.2")
# Five steps per epoch.
_QUICK = """
--threads 1 --evaluate_every 3 --recalibrate_batches 1 --ema_decay 0.9 --data.validation 0.5 --data.batch 128
"""
# Dropout and stochastic depth, so that their random numbers count too.
_WORDS = """
--supernet.settings.drop_path_rate 0.2 --epochs 3 --checkpoint_seconds 0 --search.interval 1 --search.last_epoch 2
--prune.progressive false --prune.interval 1 --prune.ratio 0.5
"""


@pytest.fixture(scope="module")
def words() -> list[str]:
    """Overrides of the recipe "digits" for a short draw of a tiny network of timm."""
    return [*MOBILE, *_QUICK.split(), *_WORDS.split()]


@pytest.fixture(scope="module")
def run(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished draw, with a checkpoint at every step."""
    folder = tmp_path_factory.mktemp("known") / "run"
    st.draw(st.load_recipe("digits", words), folder)
    return folder


def test_a_draw_searches_traced_units_and_prunes(run: Path) -> None:
    rest = ("digest", "epoch", "recalibrate")
    events = list(read_events(run / "events.jsonl"))
    changes = [(e["event"], e["epoch"]) for e in events if e["event"] not in rest]
    due = [("shrink", 1), ("prune", 1), ("shrink", 2), ("reactivate", 2), ("prune", 2), ("prune", 3)]
    assert changes == [("trace", 0), *[change for change in due if change in changes]]
    assert [change for change in due if change not in changes] in ([], [("reactivate", 1)])
    ticket = st.load(run)
    assert isinstance(ticket.spec, TracedSpec)
    assert events[0]["groups"] == len(ticket.spec.unit_groups()) > 10
    assert ticket.spec.network.settings == {"drop_rate": 0.2, "drop_path_rate": 0.2}
    zeros = sum(int((~flags).sum()) for flags in ticket.mask.values())
    assert zeros == round(0.5 * sum(flags.numel() for flags in ticket.mask.values()))
    assert all(not ticket.weights[name][~flags].any() for name, flags in ticket.mask.items())
    assert "network.classifier.weight" in ticket.weights
    assert "network.classifier.weight" not in ticket.mask
    assert ticket.cost.masked_macs < ticket.cost.macs
    assert "| network | timm:test_efficientnet |" in ticket.card()
    assert "A small network, searched and pruned in one training run." in ticket.card()
    assert "timm" in ticket.about["versions"]


def test_a_resumed_run_equals_an_uninterrupted_one(words: list[str], run: Path, tmp_path: Path) -> None:
    """Stopped amid the second epoch, with a mask."""
    other = tmp_path / "run"
    with cut_at_step(1, 3):
        st.draw(st.load_recipe("digits", words), other)
    torch.manual_seed(12345)  # a resumed run finds the process's own generator anywhere
    st.resume(other)
    for name in ("model.safetensors", "mask.safetensors", "config.json", "README.md"):
        assert (other / "ticket" / name).read_bytes() == (run / "ticket" / name).read_bytes()
    digests = [[e["sha256"] for e in read_events(r / "events.jsonl") if e["event"] == "digest"] for r in (run, other)]
    assert len(digests[0]) == 3
    assert digests[0] == digests[1]


def test_a_ticket_is_pruned_retrained_shown_and_exported(run: Path, tmp_path: Path, cli: Cli) -> None:
    """Pruned further, trained further, shown, measured and exported."""
    before = st.load(run)
    in_one_shot = ("--ratio", "0.8", "--criterion", "snip", "--batches", "1")
    assert cli("prune", run, *in_one_shot, "--out", tmp_path / "p").status == 0
    pruned = st.load(tmp_path / "p")
    assert pruned.cost.sparsity == pytest.approx(0.8, abs=1e-4)
    assert all(not (pruned.mask[name] & ~flags).any() for name, flags in before.mask.items())
    assert cli("retrain", tmp_path / "p", "--epochs", "1", "--out", tmp_path / "r").status == 0
    after = st.load(tmp_path / "r")
    assert all(torch.equal(after.mask[name], flags) for name, flags in pruned.mask.items())
    assert not torch.equal(after.weights["network.conv_stem.weight"], pruned.weights["network.conv_stem.weight"])
    assert (tmp_path / "r" / "figure.png").exists()
    assert json.loads(cli("show", tmp_path / "r", "--json").out)["spec"]["family"] == "timm"
    scores = json.loads(cli("evaluate", tmp_path / "r", "--json").out)
    assert scores["top1"] == pytest.approx(after.about["test"]["top1"])
    assert compact(after).spec.network == after.spec.network
    assert onnx_file(tmp_path / "r", tmp_path).exists()


def test_its_features_move_to_other_classes(run: Path, tmp_path: Path, cli: Cli) -> None:
    """Architecture and mask stay, the classifier is fresh, whatever network the recipe names."""
    words = ("--epochs", "1", *_QUICK.split(), "--data.class_names", "[A,B,C,D,E,F,G,H,I,J]")
    outcome = cli("transfer", run, "digits", "--out", tmp_path / "t", *words)
    assert outcome.status == 0, outcome.err
    before, after = st.load(run), st.load(tmp_path / "t")
    assert after.classes == tuple("ABCDEFGHIJ")
    assert after.about["recipe"]["supernet"]["name"] == "timm:test_efficientnet"
    assert after.spec == before.spec
    assert after.about["head"] == {"kind": "kept"}
    assert after.mask.keys() == before.mask.keys()
    assert all(torch.equal(after.mask[name], flags) for name, flags in before.mask.items())
    assert all(not after.weights[name][~flags].any() for name, flags in after.mask.items())


def test_the_table_has_a_row_per_group_and_per_layer_without_units(run: Path) -> None:
    ticket = st.load(run)
    table = architecture_table(ticket.spec, ticket.mask, ticket.cost)
    assert [column.header for column in table.columns] == ["block", "channels", "MACs", "masked", "density"]
    rows = {*(group.name for group in ticket.spec.unit_groups()), *(layer.name for layer in ticket.cost.layers)}
    assert table.row_count == len(rows)


def test_a_network_of_torchvision_is_trained_as_it_is(tmp_path: Path) -> None:
    name = ("--supernet.name", "torchvision:shufflenet_v2_x0_5")
    short = ("--epochs", "1", "--search.last_epoch", "1", "--prune.ratio", "0")
    ticket = st.train(st.load_recipe("digits", [*name, *_QUICK.split(), *short]), tmp_path)
    assert (ticket.mask, ticket.spec.input_shape) == ({}, (1, 8, 8))
    assert ticket.cost.masked_macs == ticket.cost.macs
    digit = Image.fromarray(load_digits().images[0].astype("uint8"))
    said = st.load(tmp_path).predict([digit])[0]
    assert len(said) == 5
    assert {name for name, _ in said} < set("0123456789")


# Recipes -------------------------------------------------------------------------------------------------------------


def recipe(*words: str) -> Recipe:
    return st.load_recipe("tiny_imagenet", [*MOBILE, *words])


def test_a_recipe_searches_any_network() -> None:
    resolved, said = resolve_auto_settings(recipe("--epochs", "30", "--prune.schedule", "interval"), 6400, 64)
    assert [line.split(" ")[:2] for line in said] == [["chosen:", "penalty"]]
    assert resolved.search.rho
    assert events(3, resolved) == [Shrink(), Reactivate(), Prune(0.9), Recalibrate()]
    assert events(12, resolved) == [Prune(0.9), Recalibrate()]


def test_the_architecture_of_a_ticket_is_not_searched_again() -> None:
    """Weights come back when a supernet's units would go: after epochs 3, 6 and 9."""
    words = ("--supernet.name", "ticket:somewhere", "--epochs", "30", "--prune.schedule", "interval")
    resolved, said = resolve_auto_settings(st.load_recipe("tiny_imagenet", words), 6400, 64)
    assert said == ["ticket:somewhere was searched before: only weights are pruned; a budget removes units again"]
    assert resolved.search.rho == 0
    assert events(3, resolved) == [Reactivate(), Prune(0.9), Recalibrate()]
    assert not any(isinstance(event, Shrink) for epoch in pruning_timeline(resolved) for event in epoch)


def test_settings_of_a_supernet_stay_with_it(tmp_path: Path) -> None:
    """The recipe of MNIST has settings for its multi-resolution supernet, which mean nothing to others."""
    assert "channels" in st.load_recipe("mnist").supernet.settings
    assert st.load_recipe("mnist", MOBILE).supernet.settings == {"drop_rate": 0.2}
    again = st.load_recipe("mnist", ["--supernet.name", "hrnet_tiny", "--supernet.settings.tokens", "3"])
    assert again.supernet.settings["tokens"] == 3
    assert "channels" in again.supernet.settings
    own = tmp_path / "own.yaml"
    own.write_text("prune: {ratio: 0}\nsupernet: {name: 'timm:resnet18', settings: {drop_rate: 0.1}}")
    assert st.load_recipe(str(own), ["--supernet.name", "timm:resnet18"]).supernet.settings == {"drop_rate": 0.1}
    assert st.load_recipe(str(own), ["--supernet.name", "hrnet_tiny"]).supernet.settings == {}


def test_a_sweep_has_supernets_and_known_networks(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "recipe: mnist\nratios: [0.5, 0.8]\nmethods:\n  two-in-one: {}\n"
        "  shuffle: {train: true, settings: {supernet.name: 'torchvision:shufflenet_v2_x0_5'}}\n"
        "  mobile: {settings: {supernet: {name: 'timm:mobilenetv2_035', settings: {drop_rate: 0.1}}}}\n"
    )
    plan = read_sweep(file)
    assert [(p.method, p.ratio) for p in plan.points] == [
        *(("two-in-one", ratio) for ratio in (0.5, 0.8)),
        ("shuffle", 0.0),
        *(("mobile", ratio) for ratio in (0.5, 0.8)),
    ]
    recipes = {job.key: job.recipe for job in plan.jobs}
    settings = {p.method: planned.supernet.settings for p in plan.points if (planned := recipes[p.key]) is not None}
    assert settings["shuffle"] == {}
    assert settings["mobile"] == {"drop_rate": 0.1}
    assert "channels" in settings["two-in-one"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--supernet.name torchvision:alexnet", "does not take images of 8 x 8 pixels"),
        ("--supernet.name timm:resnet18 --supernet.settings.num_classes 3", "num_classes follows from the data"),
        ("--supernet.settings.transformer false", "set supernet.transformer instead"),
    ],
)
def test_impossible_settings_are_refused_before_anything_starts(
    cli: Cli, tmp_path: Path, words: str, said: str
) -> None:
    outcome = cli("draw", "digits", "--out", tmp_path / "run", *words.split())
    assert outcome.status == 2
    assert said in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert not (tmp_path / "run" / "run.json").exists()
