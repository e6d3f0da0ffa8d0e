"""A search for a connection scheme from beginning to end, on the digits."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import supertickets as st
from outcome import Cli, onnx_file
from powercut import cut_at_step, cut_before_ticket
from supertickets import UserError
from supertickets.connect import ranked
from supertickets.data import Batches, load_splits
from supertickets.restate import OFF
from supertickets.runs import search
from supertickets.scheme_judge import batch_statistics
from supertickets.search import Step
from supertickets.supernets import ResNetSpec, Spec, create_spec
from supertickets.training import Runtime, evaluate, load_checkpoint, read_events

_SHORT = """
--threads 1 --epochs 2 --evaluate_every 2 --recalibrate_batches 2 --accumulate 2 --data.batch 32 --data.limit 96
--supernet.name resnet38 --supernet.settings.attention se --supernet.settings.widths [4,4,8]
--supernet.settings.ratio 4 --connect.steps 12
"""
M = 12


def recipe(*words: str) -> st.Recipe:
    return st.load_recipe("digits", [*OFF, *_SHORT.split(), *words])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("connect") / "run"
    search(recipe(), folder)
    return folder


def test_the_ticket_has_the_scheme_with_the_highest_reward(run: Path) -> None:
    ticket = st.load(run)
    told = ticket.about["connected"]
    assert isinstance(ticket.spec, ResNetSpec)
    assert ticket.spec.scheme == told["scheme"] == told["candidates"][0]["scheme"]
    assert len(told["candidates"]) == 3
    with (run / "schemes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 * 3
    assert len({row["scheme"] for row in rows}) == told["judged"]
    assert max(float(row["reward"]) for row in rows) == told["reward"]
    for row in rows:
        share = row["scheme"].count("1") / M
        assert float(row["reward"]) == pytest.approx(0.02 * (1 - share) + float(row["quality"]))
        assert 0 <= float(row["quality"]) <= 1
        assert float(row["bonus"]) > 0
        assert 0.3 < float(row["probability"]) < 0.8
    assert f"| connection scheme | {told['scheme']}, the best of {told['judged']} |" in ticket.card()
    assert len(ticket.module.attention) == told["scheme"].count("1")
    (event,) = (event for event in read_events(run / "events.jsonl") if event["event"] == "connect")
    assert event["found"] == told["scheme"]


def test_every_step_has_schemes_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A scheme per part of a batch, with the wanted probability; images pass once."""
    seen = []

    def forward(self: nn.Module, x: torch.Tensor, choices: dict[str, bool] | None = None) -> torch.Tensor:
        if self.training and choices is not None:
            seen.append(tuple(choices.values()))
        return whole(self, x, choices)

    from supertickets.supernets import ResNet

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


def test_what_is_done_with_what_was_found(run: Path, tmp_path: Path, cli: Cli) -> None:
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
@pytest.mark.parametrize("ema", ["0", "0.9"])
def test_the_quality_is_that_of_the_network_alone(kind: str, ema: str, tmp_path: Path) -> None:
    """With modules shared by a stage: the cut of the trained network has the quality that the search told."""
    shared = ("--supernet.settings.attention", kind, "--supernet.settings.sharing", "stage", "--ema_decay", ema)
    made = recipe(*shared, "--connect.steps", "2", "--connect.candidates", "6")
    ticket = search(made, tmp_path / "run")
    state = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors", made, torch.device("cpu"))
    splits = load_splits(made.data)
    batches = Batches(splits, made.data, made.augment, made.seed)
    for told in ticket.about["connected"]["candidates"]:
        spec = create_spec(**{**_named(state.spec), "attention": kind, "sharing": "stage", "scheme": told["scheme"]})
        alone = spec.build()
        alone.load_state_dict({name: state.module.state_dict()[name] for name in alone.state_dict()})
        data = splits.validation
        found = evaluate(alone, batches.evaluation(data), data, ticket.task, Runtime(torch.device("cpu")))
        assert found["top1"] == pytest.approx(100 * told["quality"])


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


def test_equals_are_ranked_by_sparsity() -> None:
    schemes = torch.tensor([[True, True], [True, False], [False, True]])
    figures = torch.tensor([0.5, 0.5, 0.7], dtype=torch.float64)
    step = Step(schemes, figures - 0.1, figures, figures, 0.5)
    assert list(ranked([step])) == [(False, True), (True, False), (True, True)]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--supernet.settings.scheme", "0" * 12], "scheme connects no block; leave it out"),
        (["--supernet.settings", "{}"], "no attention module to connect; set supernet.settings.attention"),
        (["--budget.macs", "1e6"], "a search for connections takes no budget.macs"),
        (["--connect.probability", "1.5"], "connect.probability is 1.5"),
        (["--connect.steps", "0"], "connect.steps is 0; the nearest possible is 1"),
        (["--connect.temperature", "0"], "connect.temperature is 0; it must be above 0"),
        (["--connect.baseline", "1"], "connect.baseline is 1"),
        (["--compile", "true"], "compile cannot serve a search"),
    ],
)
def test_what_cannot_be_searched(words: list[str], named: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=named):
        search(recipe(*words), tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_the_command(cli: Cli, tmp_path: Path) -> None:
    ran = cli("search", "digits", *_SHORT.split(), "--epochs", "1", "--out", tmp_path / "run", "--json")
    assert ran.status == 0, ran.err
    assert "judged" in ran.err
    assert Path(json.loads(ran.out)["ticket"]).exists()
    assert (tmp_path / "run" / "picture.png").exists()
