"""A search for a connection scheme from beginning to end, on the digits."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import supertickets as st
from cli_outcome import Cli, onnx_file
from generate_people import crowd
from simulate_powercut import cut_at_step, cut_before_ticket
from supertickets import UserError
from supertickets.algorithms.connection_search import rank_schemes
from supertickets.algorithms.scheme_evaluator import batch_statistics
from supertickets.analysis import scheme_trial
from supertickets.data import Batches, load_splits
from supertickets.models import ResNetSpec, Spec
from supertickets.models.factory import create_spec
from supertickets.nas import SearchStep
from supertickets.runs.api import search
from supertickets.runs.derive import NO_SEARCH_NO_PRUNING
from supertickets.training import Interrupted, Runtime, evaluate, load_checkpoint, read_events

pytestmark = pytest.mark.long

_SHORT = """
--threads 1 --epochs 2 --evaluate_every 2 --recalibrate_batches 2 --accumulate 2 --data.batch 32 --data.limit 96
--supernet.name resnet38 --supernet.settings.attention se --supernet.settings.widths [4,4,8]
--supernet.settings.ratio 4 --connect.steps 12
"""
M = 12


def recipe(*words: str) -> st.Recipe:
    return st.load_recipe("digits", [*NO_SEARCH_NO_PRUNING, *_SHORT.split(), *words])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("connect") / "run"
    search(recipe(), folder)
    return folder


def test_the_ticket_has_the_scheme_with_the_highest_reward(run: Path) -> None:
    ticket = st.load(run)
    summary = ticket.about["connection_search"]
    assert isinstance(ticket.spec, ResNetSpec)
    assert ticket.spec.scheme == summary["scheme"] == summary["candidates"][0]["scheme"]
    assert len(summary["candidates"]) == 3
    with (run / "schemes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 * 3
    assert len({row["scheme"] for row in rows}) == summary["judged"]
    assert max(float(row["reward"]) for row in rows) == summary["reward"]
    for row in rows:
        share = row["scheme"].count("1") / M
        assert float(row["reward"]) == pytest.approx(0.02 * (1 - share) + float(row["quality"]))
        assert 0 <= float(row["quality"]) <= 1
        assert float(row["bonus"]) > 0
        assert 0.3 < float(row["probability"]) < 0.8
    assert f"| connection scheme | {summary['scheme']}, the best of {summary['judged']} (policy) |" in ticket.card()
    assert len(ticket.module.attention) == summary["scheme"].count("1")
    (event,) = (event for event in read_events(run / "events.jsonl") if event["event"] == "connect")
    assert event["scheme"] == summary["scheme"]


def test_every_step_has_schemes_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A scheme per part of a batch, with the wanted probability; images pass once."""
    seen = []

    def forward(self: nn.Module, x: torch.Tensor, choices: dict[str, bool] | None = None) -> torch.Tensor:
        if self.training and choices is not None:
            seen.append(tuple(choices.values()))
        return whole(self, x, choices)

    from supertickets.models import ResNet

    whole = ResNet.forward
    monkeypatch.setattr(ResNet, "forward", forward)
    ticket = search(recipe("--connect.steps", "1", "--connect.probability", "0.8"), tmp_path / "run")
    assert len(seen) == 2 * 3 * 2  # epochs, steps, parts
    assert len(set(seen)) > 8
    assert sum(map(sum, seen)) / (len(seen) * M) == pytest.approx(0.8, abs=0.1)
    assert ticket.about["samples"] == 2 * 96


@pytest.mark.parametrize("cut", [lambda: cut_at_step(1, 2), cut_before_ticket])
def test_it_goes_on_as_if_nothing_had_happened(cut: object, run: Path, tmp_path: Path) -> None:
    """Stopped in the pre-training, and behind the search."""
    with cut():  # type: ignore[operator]
        search(recipe("--checkpoint_seconds", "0"), tmp_path / "run")
    st.resume(tmp_path / "run")
    for name in ("ticket/model.safetensors", "schemes.csv", "ticket/README.md"):
        assert (tmp_path / "run" / name).read_bytes() == (run / name).read_bytes()


def test_the_searched_network_is_exported_trained_pruned_and_shown(run: Path, tmp_path: Path, cli: Cli) -> None:
    """It is exported, trained from fresh weights, drawn (pruned) and shown."""
    assert onnx_file(run, tmp_path).exists()
    assert "attention.s" in cli("show", run).out
    shared = ("--threads", "1", "--epochs", "2", "--data.limit", "96", "--data.batch", "32")
    assert cli("train", "digits", *shared, "--supernet.name", f"ticket:{run}", "--out", tmp_path / "alone").status == 0
    assert st.load(tmp_path / "alone").spec == st.load(run).spec
    pruned = ("--prune.ratio", "0.5", "--prune.interval", "1", "--search.interval", "0")
    words = (*shared, "--supernet.name", f"ticket:{run}", *pruned)
    assert cli("draw", "digits", *words, "--out", tmp_path / "drawn").status == 0
    assert st.load(tmp_path / "drawn").cost.sparsity == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("statistics", ["recalibrated", "batch"])
def test_other_statistics(statistics: str, run: Path, tmp_path: Path) -> None:
    """Schemes are judged otherwise, by weights that are the same."""
    search(recipe("--connect.statistics", statistics), tmp_path / "run")
    tables = []
    for folder in (run, tmp_path / "run"):
        with (folder / "schemes.csv").open() as file:
            tables.append({row["scheme"]: row["quality"] for row in csv.DictReader(file)})
    both = [(tables[0][scheme], tables[1][scheme]) for scheme in tables[0] if scheme in tables[1]]
    assert len(both) >= 3  # those of the first step at least
    assert any(one != other for one, other in both)


@pytest.mark.parametrize("kind", ["se", "dia"])
def test_the_quality_is_that_of_the_network_alone(kind: str, tmp_path: Path) -> None:
    """With modules shared by a stage: the cut of the trained network has the quality that the search told.

    Weights are not averaged, whatever the recipe says: what is judged is what is shared.
    """
    shared = ("--supernet.settings.attention", kind, "--supernet.settings.sharing", "stage", "--ema_decay", "0.9")
    made = recipe(*shared, "--connect.steps", "2", "--connect.candidates", "6")
    ticket = search(made, tmp_path / "run")
    state = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors", made, torch.device("cpu"))
    splits = load_splits(made.data)
    batches = Batches(splits, made.data, made.augment, made.seed)
    for candidate in ticket.about["connection_search"]["candidates"]:
        spec = create_spec(
            **{**_named(state.spec), "attention": kind, "sharing": "stage", "scheme": candidate["scheme"]}
        )
        alone = spec.build()
        alone.load_state_dict({name: state.module.state_dict()[name] for name in alone.state_dict()})
        data = splits.validation
        metrics = evaluate(alone, batches.evaluation(data), data, ticket.task, Runtime(torch.device("cpu")))
        assert metrics["top1"] == pytest.approx(100 * candidate["quality"])


def _named(spec: Spec) -> dict[str, Any]:
    assert isinstance(spec, ResNetSpec)
    fitted = {name: getattr(spec, name) for name in ("num_classes", "in_channels", "image_size", "widths", "ratio")}
    return {"name": "resnet38", **fitted}


def test_statistics_of_the_batch() -> None:
    """Those of batch norms come back as they were."""
    module = nn.Sequential(nn.BatchNorm2d(2)).eval()
    x = 3 + 2 * torch.randn(64, 2, 4, 4)
    before = dict(module.state_dict())
    with batch_statistics(module):
        assert module(x).mean().item() == pytest.approx(0, abs=1e-5)
    assert module(x).mean().item() > 2
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_batches_that_are_normalised_by_themselves_are_mixed() -> None:
    splits = load_splits(recipe().data)
    batches = Batches(splits, recipe().data, recipe().augment, 0)
    plain, mixed, again = (
        torch.cat([labels for _, labels in batches.evaluation(splits.validation, seed)]) for seed in (None, 5, 5)
    )
    assert torch.equal(plain, splits.validation.labels)
    assert torch.equal(mixed, again)
    assert not torch.equal(mixed, plain)
    assert torch.equal(mixed.sort().values, plain.sort().values)


def test_joints_are_searched_and_their_batches_kept(tmp_path: Path) -> None:
    crowd(tmp_path / "people", {"train": 12, "val": 4})
    words = [*NO_SEARCH_NO_PRUNING, "--data.dir", str(tmp_path / "people"), "--epochs", "1", "--threads", "1"]
    words += ["--supernet.name", "resnet38", "--supernet.settings.attention", "se", "--connect.steps", "2"]
    words += [
        "--supernet.settings.widths",
        "[4,4,8]",
        "--data.size",
        "[32,32]",
        "--data.batch",
        "4",
        "--data.workers",
        "0",
    ]
    ticket = search(st.load_recipe("joints", words), tmp_path / "run")
    assert "connection_search" in ticket.about
    with pytest.raises(UserError, match="--by all judges images that go through the network once"):
        search(st.load_recipe("joints", [*words, "--connect.by", "all"]), tmp_path / "all")


def test_equals_are_ranked_by_sparsity() -> None:
    schemes = torch.tensor([[True, True], [True, False], [False, True]])
    figures = torch.tensor([0.5, 0.5, 0.7], dtype=torch.float64)
    step = SearchStep(schemes, figures - 0.1, figures, figures, 0.5)
    assert list(rank_schemes([step])) == [(False, True), (True, False), (True, True)]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--supernet.settings.scheme", "0" * 12], "scheme connects no block; leave it out"),
        (["--supernet.settings", "{}"], "no attention module to connect; set supernet.settings.attention"),
        (["--budget.macs", "1e6"], "a search for connections takes no budget.macs"),
        (["--connect.probability", "1.5"], "connect.probability=1.5 is out of range; use a value from 0 to 1."),
        (["--connect.steps", "0"], "connect.steps=0 is out of range; use a value of at least 1."),
        (["--connect.temperature", "0"], "connect.temperature=0.0 is out of range; use a value above 0."),
        (["--connect.baseline", "1"], "connect.baseline=1.0 is out of range"),
        (["--compile", "true"], "compile cannot serve a search"),
    ],
)
def test_impossible_searches_are_refused(words: list[str], named: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=named):
        search(recipe(*words), tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_the_command(cli: Cli, tmp_path: Path) -> None:
    ran = cli("search", "digits", *_SHORT.split(), "--epochs", "1", "--out", tmp_path / "run", "--json")
    assert ran.status == 0, ran.err
    assert "judged" in ran.err
    assert Path(json.loads(ran.out)["ticket"]).exists()
    assert (tmp_path / "run" / "figure.png").exists()


def shares(run: Path) -> dict[str, float]:
    """Quality of every scheme that a search has seen."""
    with (run / "schemes.csv").open() as file:
        return {row["scheme"]: float(row["quality"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def everything(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All schemes, judged with the weights of another search."""
    folder = tmp_path_factory.mktemp("all") / "run"
    search(recipe("--connect.by", "all"), folder, shared=run)
    return folder


def test_all_schemes_are_judged_as_one_after_the_other(run: Path, everything: Path) -> None:
    """The trained network is taken over, and the schemes that the policy saw have the same quality."""
    one, every = shares(run), shares(everything)
    assert len(every) == 4096
    assert {scheme: every[scheme] for scheme in one} == pytest.approx(one)
    summary, other = st.load(run).about["connection_search"], st.load(everything).about["connection_search"]
    assert other["by"] == "all"
    assert other["reward"] >= summary["reward"]
    assert all(event["event"] != "epoch" for event in read_events(everything / "events.jsonl"))


@pytest.mark.parametrize(
    ("by", "rows", "words"),
    [
        ("enas", 36, ()),
        ("genetic", 36, ()),
        ("random", 36, ()),
        ("darts", 3, ("--connect.epochs", "3")),
        ("every", 3, ("--connect.period", "3")),
        ("ratios", 14, ("--connect.each", "3")),
        ("l1", 1, ("--connect.probability", "0.25")),
        ("median", 1, ("--connect.probability", "0.25")),
    ],
)
def test_other_ways_on_the_same_weights(
    by: str, rows: int, words: tuple[str, ...], run: Path, everything: Path, tmp_path: Path, cli: Cli
) -> None:
    """From the command line; what they judge is what judging all schemes has found."""
    shared = ("--shared", run, "--by", by, "--out", tmp_path / "run", *_SHORT.split(), *words)
    assert cli("search", "digits", *shared).status == 0
    with (tmp_path / "run/schemes.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == rows
    known = shares(everything)
    assert {row["scheme"]: float(row["quality"]) for row in table} == pytest.approx(
        {row["scheme"]: known[row["scheme"]] for row in table}
    )
    assert all((row["probability"] != "") == (by in ("enas", "darts")) for row in table)
    assert (tmp_path / "run/figure.png").exists()
    if by in ("l1", "median"):
        assert table[0]["scheme"].count("1") == 3
    if by == "enas":  # it sees accuracy only
        assert all(row["reward"] == row["quality"] and float(row["bonus"]) == 0 for row in table)


def test_schemes_of_a_search_are_summarised_by_ratio(run: Path, everything: Path, cli: Cli) -> None:
    """All schemes by their ratio; of a search that has not judged both ends there is nothing to say."""
    outcome = cli("schemes", everything, "--times", "1", "--repeats", "2", "--batch", "1", "--json")
    assert outcome.status == 0
    summary = json.loads(outcome.out)
    known = shares(everything)
    assert (summary["full"], summary["plain"]) == (known["1111|1111|1111"], known["0000|0000|0000"])
    assert [row["schemes"] for row in summary["ratios"]] == [math.comb(12, k) for k in range(13)]
    assert [len(row["percent"]) for row in summary["ratios"]] == [0] + [3] * 12
    assert (everything / "schemes.png").stat().st_size > 10_000
    assert "924" in cli("schemes", everything).out
    outcome = cli("schemes", run)
    assert outcome.status == 2
    assert "--by ratios" in outcome.err
    outcome = cli("schemes", everything, "--epochs", "3")
    assert outcome.status == 2
    assert "add --train" in outcome.err


def test_the_searched_network_is_explained_beside_others(run: Path, everything: Path, tmp_path: Path, cli: Cli) -> None:
    """The networks of two schemes, and the one that all share (Fig. 6)."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8), np.uint8)).save(tmp_path / "digit.png")
    words = ("explain", run, tmp_path / "digit.png", "--beside", everything, everything / "shared")
    outcome = cli(*words, "--save", tmp_path / "out", "--json")
    assert outcome.status == 0
    (row,) = json.loads(outcome.out)
    assert [one["ticket"] for one in row["explained"]] == [
        str(path) for path in (run, everything, everything / "shared")
    ]
    assert (tmp_path / "out/digit.png").exists()


def test_candidates_are_tried_alone(everything: Path, cli: Cli) -> None:
    """Each from fresh weights, once; the best on the validation split is held against all connected."""
    words = ("--train", "--epochs", "1", "--evaluate_every", "1", "--repeats", "2", "--batch", "1")
    outcome = cli("schemes", everything, *words, "--json")
    assert outcome.status == 0
    summary = json.loads(outcome.out)
    rows = {row["scheme"]: row for row in summary["networks"]}
    assert [*rows][-2:] == ["1111|1111|1111", "0000|0000|0000"]
    candidates = [row["scheme"] for row in st.load(everything).about["connection_search"]["candidates"]]
    assert [*rows][:-2] == [scheme for scheme in candidates if scheme not in [*rows][-2:]]
    assert summary["chosen"] == max(candidates, key=lambda scheme: rows[scheme]["validation"])
    for scheme, row in rows.items():
        alone = st.load(everything / "alone" / scheme.replace("|", "-"))
        assert alone.spec.scheme == scheme
        assert (row["test"], row["params"]) == (alone.about["test"]["top1"], alone.cost.params)
        assert alone.about["recipe"]["epochs"] == 1
    assert summary["verdict"]["as_accurate"] == (rows[summary["chosen"]]["test"] >= rows["1111|1111|1111"]["test"])
    again = cli("schemes", everything, *words)
    assert again.status == 0
    assert "epoch" not in again.err  # nothing is trained twice
    assert "ticket: " in again.out
    other = cli("schemes", everything, *words[:1], "--epochs", "2", *words[3:])
    assert other.status == 2
    assert "has epochs 1, not 2; remove" in other.err
    assert cli("schemes", everything / "alone" / "0000-0000-0000", "--train").status == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--times", "-1"), "--times is -1; the nearest possible is 0"),
        (("--times", "1", "--repeats", "1"), "--repeats is 1; the nearest possible is 2"),
        (("--train", "--times", "1"), "leave it out"),
        (("--train", "--prune.ratio", "0.5"), "prune.ratio"),
        (("--threads", "0"), "--threads is 0; the nearest possible is 1"),
    ],
)
def test_wrong_options_of_schemes_are_refused(everything: Path, cli: Cli, words: tuple[str, ...], said: str) -> None:
    outcome = cli("schemes", everything, *words)
    assert outcome.status == 2
    assert said in outcome.err


def test_trials_can_be_stopped(everything: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise Interrupted

    monkeypatch.setattr(scheme_trial, "train", stopped)
    monkeypatch.setattr(scheme_trial, "ALONE", "new")
    outcome = cli("schemes", everything, "--train")
    assert outcome.status == 130
    assert "the same command goes on" in outcome.err


def test_a_search_within_the_scheme_of_a_ticket(run: Path, tmp_path: Path, cli: Cli) -> None:
    """Its candidates are parts of that scheme, and what is called all connected is the scheme itself."""
    words, out = _SHORT.split(), tmp_path / "run"
    words = words[: words.index("--supernet.name")]
    within = st.load(run).about["connection_search"]["scheme"]
    by = ("--supernet.name", f"ticket:{run}", "--by", "ratios", "--connect.each", "2", "--out", out)
    assert cli("search", "digits", *words, *by).status == 0
    outcome = cli("schemes", out, "--train", "--epochs", "1", "--evaluate_every", "1", "--repeats", "2", "--json")
    assert outcome.status == 0
    assert json.loads(outcome.out)["networks"][-2]["scheme"] == within


def test_relaxed_connections_lower_the_loss(run: Path, tmp_path: Path) -> None:
    """The scheme of the last pass has a lower validation loss than its opposite."""
    ticket = search(recipe("--connect.by", "darts", "--connect.lr", "0.2"), tmp_path / "run", shared=run)
    with (tmp_path / "run/schemes.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["probability"]) > 0.7
    shared, task = st.load(run / "shared"), ticket.task
    data = load_splits(recipe().data)
    names = [decision.name for decision in shared.spec.decisions()]
    losses = []
    for turn in (False, True):
        flags = [(digit == "1") != turn for digit in last["scheme"].replace("|", "")]
        images, labels = next(iter(Batches(data, recipe().data, recipe().augment, 0).evaluation(data.validation)))
        with torch.no_grad():
            losses.append(float(task.loss(shared.module(images, dict(zip(names, flags, strict=True))), labels)))
    assert losses[0] < losses[1]


def test_other_shared_weights_and_search_spaces_are_refused(run: Path, tmp_path: Path, cli: Cli) -> None:
    out = ("--out", tmp_path / "run")
    outcome = cli("search", "digits", "--shared", tmp_path, *out, *_SHORT.split())
    assert outcome.status == 2
    assert "no search for connections" in outcome.err
    outcome = cli("search", "digits", "--shared", run, *out, *_SHORT.split(), "--supernet.settings.ratio", "2")
    assert outcome.status == 2
    assert "the recipe asks for" in outcome.err
    outcome = cli("search", "digits", "--by", "evolution", *out, *_SHORT.split())
    assert outcome.status == 2
    assert "--by evolution searches a space" in outcome.err
    outcome = cli(
        "search", "digits", "--by", "darts", "--supernet.name", "tunas_proxyless", "--budget.macs", "1e6", *out
    )
    assert outcome.status == 2
    assert "--by darts is for connections" in outcome.err
    outcome = cli("search", "digits", "--shared", run, *out, *_SHORT.split(), "--data.validation", "0.3")
    assert outcome.status == 2
    assert "split otherwise" in outcome.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--by", "l1", "--supernet.settings.sharing", "stage"), "share one"),
        (("--by", "median", "--supernet.settings.attention", "sge"), "sge has none"),
        (("--by", "l1", "--supernet.settings.attention", "torch.nn:BatchNorm2d"), "torch.nn:BatchNorm2d has none"),
        (("--by", "all", "--supernet.name", "resnet164"), "2^54"),
        (
            ("--by", "ratios", "--connect.ratios", "[0.5,1.5]"),
            "connect.ratios=[0.5, 1.5] is out of range; use values from 0 to 1.",
        ),
        (("--by", "ratios", "--connect.each", "0"), "connect.each=0 is out of range"),
        (("--by", "all", "--connect.statistics", "recalibrated"), "set connect.statistics to running"),
        (("--by", "darts", "--connect.statistics", "batch"), "needs connect.statistics running"),
        (("--by", "darts", "--connect.epochs", "0"), "connect.epochs=0 is out of range"),
        (("--by", "every", "--connect.period", "0"), "connect.period=0 is out of range"),
    ],
)
def test_impossible_settings_are_refused_before_anything_trains(
    words: tuple[str, ...], said: str, tmp_path: Path, cli: Cli
) -> None:
    outcome = cli("search", "digits", "--out", tmp_path / "run", *_SHORT.split(), *words)
    assert outcome.status == 2
    assert said in outcome.err
    assert not (tmp_path / "run" / "run.json").exists()
