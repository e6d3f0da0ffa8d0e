"""Policy searches through the commands: what they find, log, refuse, and where they go on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

import supertickets as st
from cli_outcome import Cli, onnx_file
from simulate_powercut import cut_at_step
from supertickets.algorithms.policy_search import PolicySearch, SampledEval
from supertickets.config.search_settings import PolicySettings
from supertickets.cost import count
from supertickets.cost.budget import Budget
from supertickets.cost.latency_table import LatencyTable, TableSettings
from supertickets.cost.operations import list_operations, network_size
from supertickets.models import MobileSpec, create_mobile
from supertickets.models.factory import spec_from_json
from supertickets.nas import Policy, Space
from supertickets.runs.api import search
from supertickets.runs.derive import NO_SEARCH_NO_PRUNING
from supertickets.training import RunDir, load_checkpoint, read_events
from toy_mobile import SPACE

pytestmark = pytest.mark.long

# Three steps of two networks per epoch, at 8x8 pixels. It learns nothing, but everything happens to it.
_SHORT = """
--threads 1 --epochs 4 --evaluate_every 2 --recalibrate_batches 1 --accumulate 2 --ema_decay 0.9
--data.validation 0.5 --data.batch 32 --data.limit 96
--supernet.name tunas_proxyless --supernet.settings.width 0.1 --supernet.settings.strides [1,1,2,1,1,1,2,1,1]
--policy.images 8 --policy.lr 0.3 --budget.macs 3e5
"""
EPOCHS, STEPS = 4, 3


def recipe(*words: str) -> st.Recipe:
    return st.load_recipe("digits", [*NO_SEARCH_NO_PRUNING, *_SHORT.split(), *words])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "run"
    search(recipe(), folder)
    return folder


def test_the_ticket_is_the_most_probable_network(run: Path) -> None:
    ticket, space = st.load(run), Space(create_mobile("tunas_proxyless", width=0.1).decisions())
    summary = ticket.about["search"]
    assert isinstance(ticket.spec, MobileSpec)
    assert not ticket.spec.is_search_space()
    assert (summary["budget"], summary["target"], summary["cost"]) == ("macs", 3e5, count(ticket.spec).macs)
    assert space.indices(summary["choices"]) == [
        index if name in summary["choices"] else 0 for name, index in zip(space.places, summary["indices"], strict=True)
    ]
    card = ticket.card()
    assert "A small network from a search" in card
    assert f"| searched for | 300,000 MACs; costs {summary['cost']:,} MACs |" in card
    assert "| network | tunas_proxyless |" in card


def test_epoch_events_hold_rewards_and_warmup(run: Path) -> None:
    epochs = [event for event in read_events(run / "events.jsonl") if event["event"] == "epoch"]
    assert [event["epoch"] for event in epochs] == [1, 2, 3, 4]
    assert [event["lr"] > 0 for event in epochs] == [False, True, True, True]  # a quarter of the steps without
    # Fades over the first quarter: three steps, of which the last has a third.
    assert [event["warmup"] for event in epochs] == pytest.approx([1 / 3, 0, 0, 0])
    assert epochs[0]["entropy"] > epochs[1]["entropy"]
    for event in epochs:
        assert 0 <= event["sampled_quality"] <= 1
        reward = event["sampled_quality"] - 0.1 * abs(event["sampled_cost"] / 3e5 - 1)
        assert event["sampled_reward"] <= reward + 1e-9  # a mean of distances is no less than the distance of the mean
        assert event["mean_probability"] > 0
    ticket = st.load(run)
    assert epochs[-1]["cost"] == epochs[-1]["macs"] == ticket.about["search"]["cost"]
    assert ticket.about["samples"] == 4 * 96  # of 96 images; several networks share a batch, and judging is no training


@pytest.mark.parametrize("stop", [(0, 2), (1, 3), (2, 1)])
def test_it_goes_on_as_if_nothing_had_happened(stop: tuple[int, int], run: Path, tmp_path: Path) -> None:
    """Behind some step, in the warm-up and after it; checkpoints are written after every step."""
    with cut_at_step(*stop):
        search(recipe("--checkpoint_seconds", "0"), tmp_path / "run")
    st.resume(tmp_path / "run")
    digests = [
        [event["sha256"] for event in read_events(folder / "events.jsonl") if event["event"] == "digest"]
        for folder in (run, tmp_path / "run")
    ]
    assert digests[0] == digests[1]
    assert len(digests[0]) == EPOCHS
    records = [
        [
            {key: value for key, value in event.items() if key != "seconds"}
            for event in read_events(folder / "events.jsonl")
            if event["event"] == "epoch"
        ]
        for folder in (run, tmp_path / "run")
    ]
    assert records[0] == records[1]
    one, other = st.load(run), st.load(tmp_path / "run")
    assert one.about["search"] == other.about["search"]
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_the_searched_network_is_exported_trained_pruned_and_shown(run: Path, tmp_path: Path, cli: Cli) -> None:
    """It is exported as it is, trained from fresh weights, drawn (pruned), trained further and shown."""
    assert onnx_file(run, tmp_path).exists()
    assert cli("show", run).status == 0
    shared = ("--threads", "1", "--epochs", "2", "--data.limit", "96", "--data.batch", "32", "--data.validation", "0.5")
    words = (*shared, "--supernet.name", f"ticket:{run}")
    assert cli("train", "digits", *words, "--out", tmp_path / "alone").status == 0
    alone = st.load(tmp_path / "alone")
    assert alone.spec == st.load(run).spec
    assert not torch.equal(alone.weights["classifier.weight"], st.load(run).weights["classifier.weight"])
    pruned = ("--prune.ratio", "0.5", "--prune.interval", "1", "--search.interval", "0")
    assert cli("draw", "digits", *words, *pruned, "--out", tmp_path / "drawn").status == 0
    drawn = st.load(tmp_path / "drawn")
    assert drawn.spec == st.load(run).spec
    assert drawn.cost.sparsity == pytest.approx(0.5, abs=1e-3)
    assert cli("retrain", run, "--epochs", "1", "--out", tmp_path / "further").status == 0


def by_macs(spec: MobileSpec, settings: TableSettings, say: object) -> LatencyTable:
    """A latency table by whose clock an operation takes its MACs, in thousands."""
    ms = {str(operation): network_size(operation, spec).macs / 1e3 for operation in list_operations(spec)}
    check = {"networks": 50, "median_error": 0.1}
    return LatencyTable(
        spec=spec, device="a clock", runtime=settings.runtime, threads=settings.threads, ms=ms, check=check
    )


def test_the_command(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a latency table that it measures itself and keeps, and with one that is given."""
    monkeypatch.setattr("supertickets.deploy.measure_latency_table", by_macs)
    words = [*_SHORT.split()[:-2], "--epochs", "1", "--policy.warmup", "0", "--policy.delay", "0"]
    refused = cli("search", "digits", *words, "--out", tmp_path / "run")
    assert refused.status == 2
    assert "a search needs a target: --budget.latency_ms, --budget.macs or --budget.params" in refused.err
    done = cli("search", "digits", *words, "--budget.latency_ms", "300", "--out", tmp_path / "run")
    assert "half of 50 other networks are predicted within 10.0%" in done.err
    assert (tmp_path / "run" / "figure.png").exists()
    ticket = st.load(tmp_path / "run")
    assert ticket.about["search"]["cost"] == pytest.approx(ticket.cost.macs / 1e3)
    table = tmp_path / "run" / "latency.json"
    given = ("--budget.latency_ms", "300", "--budget.table", table)
    monkeypatch.setattr("supertickets.deploy.measure_latency_table", None)
    again = cli("search", "digits", *words, *given, "--out", tmp_path / "again", "--json")
    assert json.loads(again.out)["macs"] == ticket.cost.macs
    assert LatencyTable.load(tmp_path / "again" / "latency.json") == LatencyTable.load(table)
    other = cli("search", "digits", *words, *given, "--supernet.settings.width", "0.3", "--out", tmp_path / "other")
    assert other.status == 2
    assert f"{table} was measured for another space" in other.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--supernet.name", "mobilenet_v2"], "supernet.name mobilenet_v2 leaves nothing open that a policy could"),
        (["--budget.macs", "1e9"], "budget.macs is 1000000000, but networks of tunas_proxyless have"),
        (["--budget.macs", "10"], "budget.macs is 10, but networks of tunas_proxyless have"),
        (["--budget.params", "5"], "a policy search limits one cost, here are macs and params"),
        (["--budget.macs", "-1"], "budget.macs=-1.0 is out of range; use a value above 0."),
        (["--budget.threads", "0"], "budget.threads=0 is out of range; use a value of at least 1."),
        (["--budget.table", "x.json"], "budget.table and budget.measured are for budget.latency_ms"),
        (["--policy.beta", "0.1"], "policy.beta=0.1 is out of range; use a value below 0."),
        (["--policy.images", "0"], "policy.images=0 is out of range"),
        (["--policy.delay", "1"], "policy.delay=1.0 is out of range; use a value from 0 to below 1."),
        (["--policy.warmup", "0.5"], "the nearest possible warm-up is 0.25"),
        (["--policy.lr", "0"], "policy.lr=0.0 is out of range; use a value above 0."),
        (["--prune.ratio", "0.5"], "search takes no prune.ratio: a policy decides"),
        (["--networks", "3"], "--networks is for --by random and evolution"),
        (
            ["--epochs", "1", "--data.limit", "32", "--policy.lr", "null"],
            "in 1 steps the controller has none to learn in",
        ),
        (["--supernet.settings.collapsed", "maybe"], "unknown supernet.settings.collapsed 'maybe'"),
        (["--compile", "true"], "compile cannot serve a policy search"),
        (
            ["--supernet.settings.strides", "[1,2]"],
            "a 1 or 2 for every block, usual is [2, 1, 2, 2, 2, 1",
        ),
    ],
)
def test_impossible_searches_are_refused(words: list[str], named: str, tmp_path: Path, cli: Cli) -> None:
    refused = cli("search", "digits", *_SHORT.split(), *words, "--out", tmp_path / "run")
    assert refused.status == 2
    assert named in refused.err


def test_a_budget_is_for_a_search(tmp_path: Path, cli: Cli) -> None:
    refused = cli("train", "digits", "--budget.macs", "1e6", "--out", tmp_path / "run")
    assert refused.status == 2
    assert "train takes no budget.macs" in refused.err


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("ticket:none", "ticket none does not exist"),
        ("ticket:.", ". is no ticket and no run; give the folder that a draw wrote"),
    ],
)
def test_architectures_that_are_not_there(name: str, named: str, tmp_path: Path, cli: Cli) -> None:
    refused = cli("train", "digits", "--supernet.name", name, "--out", tmp_path / "run")
    assert refused.status == 2
    assert named in refused.err


def test_the_architecture_of_a_supernets_ticket(toy_run: Path, tmp_path: Path) -> None:
    words = ["--threads", "1", "--epochs", "1", "--data.limit", "128", "--supernet.name", f"ticket:{toy_run}"]
    words += ["--search.interval", "0", "--prune.ratio", "0"]
    alone = st.train(st.load_recipe("digits", words), tmp_path / "run")
    assert alone.spec == st.load(toy_run).spec
    assert alone.cost.sparsity == 0
    wrong = st.load_recipe("digits", [*words, "--supernet.settings.tokns", "2"])
    with pytest.raises(st.UserError, match=r"supernet\.settings\.tokns 2 is not for the architecture of a ticket"):
        st.train(wrong, tmp_path / "x")


def test_other_statistics(run: Path, tmp_path: Path) -> None:
    """Networks are the same ones in the first step, weights too; they are judged otherwise."""
    qualities = {}
    for statistics in ("batch", "running", "recalibrated"):
        words = ("--supernet.settings.statistics", statistics, "--epochs", "2", "--policy.images", "100")
        search(recipe(*words), tmp_path / statistics)
        [first, _] = [e for e in read_events(tmp_path / statistics / "events.jsonl") if e["event"] == "epoch"]
        qualities[statistics] = first["sampled_quality"]
        norms = [v for k, v in shared(tmp_path / statistics).items() if k.endswith("running_mean")]
        assert any(bool(value.any()) for value in norms) == (statistics != "batch")
    assert len(set(qualities.values())) == 3


def shared(run: Path) -> dict[str, torch.Tensor]:
    """The weights of all networks of a space."""
    return load_checkpoint(run / "checkpoint.safetensors", recipe(), torch.device("cpu")).module.state_dict()


def test_part_of_a_space(tmp_path: Path) -> None:
    """Choices fixed before the search are part of its result."""
    given = ("--supernet.settings.choices", '{"b2.0.kernel": 3, "b3.0.expansion": 3}')
    choices = search(recipe("--epochs", "2", *given), tmp_path / "run").about["search"]["choices"]
    assert (choices["b2.0.kernel"], choices["b3.0.expansion"]) == (3, 3)
    whole = create_mobile("tunas_proxyless", width=0.1)
    assert Space(whole.decisions()).outside(choices) == []
    wrong = recipe("--supernet.settings.choices", '{"b2.1.skip": true}')
    with pytest.raises(st.UserError, match="may not leave layers out"):
        search(wrong, tmp_path / "other")


def test_broken_images_are_no_hindrance(tmp_path: Path) -> None:
    """Images that are decoded in every epoch: what cannot be read judges nobody."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(40):
            path = tmp_path / "data" / name / f"{i}.png"
            Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
            if i % 4 == 0:
                path.write_bytes(path.read_bytes()[:60])
    words = (
        "--data.source",
        "folders",
        "--data.dir",
        str(tmp_path / "data"),
        "--data.size",
        "12",
        "--data.keep_gb",
        "0",
    )
    ticket = search(
        recipe(*words, "--epochs", "2", "--data.batch", "8", "--policy.images", "1", "--budget.macs", "5e5"),
        tmp_path / "run",
    )
    assert ticket.about["samples"] > 0


def test_a_policy_survives_a_checkpoint(run: Path) -> None:
    """Whatever `tensors` and `to_json` give, `restore` takes."""
    first, again = PolicySearch(), PolicySearch()
    space = spec_from_json(json.loads((run / "run.json").read_text())["supernet"])
    session = SimpleNamespace(recipe=recipe(), supernet=space, run=RunDir(run))
    for algorithm in (first, again):
        algorithm.reopen(session)  # type: ignore[arg-type]
    state = load_checkpoint(run / "checkpoint.safetensors", recipe(), torch.device("cpu"), first)
    first.sampled.append(SampledEval(0.5, 1e5, 0.25, True))
    again.restore(first.tensors(), json.loads(json.dumps(first.to_json())))
    assert first.policy.updates > 0
    assert torch.equal(first.policy.logits, again.policy.logits)
    assert again.sampled == first.sampled
    assert first.deployable(state).spec == again.deployable(state).spec == st.load(run).spec


@pytest.mark.parametrize(("target", "warned"), [(0.5, True), (0.97, True), (0.99, False), (2.0, False)])
def test_a_search_that_misses_its_budget_says_so(target: float, warned: bool) -> None:
    search, lines = PolicySearch(), list[str]()
    search.policy = Policy(Space(SPACE.decisions()), PolicySettings())
    search.budget = Budget("params", target * 1e6, lambda choices: 1e6)
    reporter = SimpleNamespace(say=lines.append)
    session: Any = SimpleNamespace(recipe=st.load_recipe("digits"), reporter=reporter)
    summary = search.finalize(session, cast(Any, None)).summary["search"]
    assert (summary["cost"], summary["target"]) == (1e6, target * 1e6)
    assert [line.startswith("warning: the budget was missed: ") for line in lines] == [True] * warned
