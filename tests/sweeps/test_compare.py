"""`supertickets compare` from end to end, on digits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import supertickets as st
from cli_outcome import Cli
from supertickets.config.search_settings import BudgetSettings
from supertickets.cost import count
from supertickets.deploy import Bench, BenchSettings
from supertickets.deploy.benchmark import BenchRun, Timing
from supertickets.errors import UserError
from supertickets.sweeps.compare import CompareSettings
from supertickets.sweeps.compare_plan import plan_comparison
from supertickets.training.state import DeployableModel

_FAST = [
    *("--epochs", "2", "--threads", "1", "--prune.ratio", "0", "--search.interval", "1"),
    *("--search.last_epoch", "null", "--data.limit", "128", "--data.batch", "64"),
]
_LARGE = ["--supernet.name", "resnet8", "--supernet.settings.width", "56"]


_WORDS = ["digits", *_FAST, *_LARGE, "--references", "resnet8", "--repeats", "3"]


def fake_bench(tickets: Mapping[str, st.Ticket], settings: BenchSettings) -> Bench:
    """Latencies by MACs, without the exports that take most of the time."""
    latencies = {}
    for name, ticket in tickets.items():
        for runtime, factor in (("torch", 1e-6), ("onnxruntime", 1e-7)):
            latencies[f"{name}/{runtime}"] = Timing(*[factor * ticket.cost.macs] * 6)
    return Bench("a CPU", "AVX2", {}, tuple(tickets), (BenchRun(1, 1, latencies, {}),))


def test_a_comparison_goes_on_and_grows(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supertickets.sweeps.compare.bench", fake_bench)
    out = tmp_path / "cmp"
    ran = cli("compare", *_WORDS, "--out", out, "--json")
    assert ran.status == 0, ran.err
    printed = json.loads(ran.out)
    assert json.loads((out / "compare.json").read_text()) == {k: v for k, v in printed.items() if k != "figure"}
    check_members(printed, out)

    # Again, with the references' equal time: nothing that is there is trained again, what was interrupted goes on.
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/checkpoint.safetensors")}
    (out / "resnet8-16-seed0" / "result.json").unlink()
    ran = cli("compare", *_WORDS, "--out", out, "--equal-time")
    assert ran.status == 0, ran.err
    assert ran.err.count("resuming") == 1
    assert "1 of 6" not in ran.err  # a ticket
    assert len(before) == 6
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "equal latency and training time" in ran.out
    assert ran.out.count("ResNet-8 width 32") == 2
    assert all((out / f"compare.{kind}").stat().st_size > 1000 for kind in ("png", "svg"))

    other = cli("compare", *_WORDS, "--out", out, "--optimizer.lr", "0.05")
    assert other.status == 2
    assert "was made with optimizer.lr 0.1, not 0.05; choose another --out" in other.err


def test_data_may_move_but_not_change(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supertickets.sweeps.compare.bench", fake_bench)
    for i in range(40):
        path = tmp_path / "here" / ("dark", "light")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 40 + 100 * (i % 2) + i).save(path)
    words = ["compare", "images", "--budget.macs", "300000", "--factors", "1", "--references", "resnet8"]
    words += ["--epochs", "1", "--threads", "1", "--data.workers", "0", "--out", str(tmp_path / "cmp")]
    ran = cli(*words, "--data", tmp_path / "here")
    assert ran.status == 0, ran.err

    (tmp_path / "here").rename(tmp_path / "there")
    cut = next((tmp_path / "cmp").glob("resnet8-*-seed0/result.json"))
    cut.unlink()
    ran = cli(*words, "--data", tmp_path / "there")
    assert ran.status == 0, ran.err
    assert ran.err.count("resuming") == 1

    (tmp_path / "there" / "dark" / "0.png").unlink()
    cut.parent.rename(tmp_path / "away")
    ran = cli(*words, "--data", tmp_path / "there")
    assert ran.status == 2
    assert f"{cut.parent} was trained on other data than" in ran.err


@pytest.mark.slow
def test_a_comparison_with_measured_latencies(cli: Cli, tmp_path: Path) -> None:
    ran = cli("compare", *_WORDS, "--out", tmp_path / "cmp", "--seeds", "2", "--json")
    assert ran.status == 0, ran.err
    printed = json.loads(ran.out)
    check_members(printed, tmp_path / "cmp", seeds=2)
    assert all(member["test"]["deviation"] is not None for member in printed["members"])


def check_members(printed: Mapping[str, Any], out: Path, seeds: int = 1) -> None:
    """Check that the members are those that were asked for, with the scores of their runs and their best latencies."""
    assert [member["group"] for member in printed["members"]] == ["tickets"] * 3 + ["references"] * 3
    macs = [ticket["runs"][0]["costs"]["macs"] for ticket in printed["members"][:3]]
    assert macs[0] < macs[1] < macs[2]
    for member in printed["members"]:
        assert member["epochs"] == 2
        results = [json.loads((out / run["run"] / "result.json").read_text()) for run in member["runs"]]
        assert len(results) == seeds
        assert [run["test"] for run in member["runs"]] == [result["test"]["top1"] for result in results]
        assert member["latency_ms"] == min(member["latencies"].values()) > 0


def test_a_budget_is_compared_with_half_and_twice_of_it(quick_words: list[str]) -> None:
    recipe = st.load_recipe("digits", [*quick_words, *_FAST, "--budget.macs", "40000"])
    plan = plan_comparison(recipe, ("resnet8",))
    assert [member.recipe.budget.macs for member in plan.tickets] == [20000, 40000, 80000]
    assert [member.slug for member in plan.references] == ["resnet8-4", "resnet8-8", "resnet8-12", "resnet8-16"]
    assert "0.5, 1, 2 times the budget" in plan.notes[0]
    recipe = st.load_recipe("digits", [*quick_words, *_FAST, "--budget.macs", "100000"])
    plan = plan_comparison(recipe, ("resnet8",))
    assert [member.recipe.budget.macs for member in plan.tickets] == [50000, 100000]
    assert "the supernet has less than 2 times as much" in plan.notes[0]


def test_budgets_may_be_other_multiples(quick_words: list[str]) -> None:
    recipe = st.load_recipe("digits", [*quick_words, *_FAST, "--budget.macs", "40000"])
    plan = plan_comparison(recipe, ("resnet8",), (1,))
    assert [member.recipe.budget.macs for member in plan.tickets] == [40000]
    assert [member.slug for member in plan.references] == ["resnet8-4", "resnet8-8"]  # of its cost, and of twice that
    plan = plan_comparison(recipe, ("resnet8",), (1.5, 0.75, 1.5))
    assert [member.recipe.budget.macs for member in plan.tickets] == [30000, 60000]


@pytest.mark.parametrize(("budget", "fitting"), [("0.4", 3), ("0.8", 2), ("1.2", 1)])
def test_a_latency_is_compared_as_far_as_the_supernet_takes_longer(
    budget: str, fitting: int, monkeypatch: pytest.MonkeyPatch, quick_words: list[str]
) -> None:
    """The supernet takes 1 ms; a budget that it meets is left out, but for the given one, which its draw refuses."""
    monkeypatch.setattr("supertickets.sweeps.compare_plan.measure_network", lambda model, settings: 1.0)
    recipe = st.load_recipe("digits", [*quick_words, *_FAST, "--budget.latency_ms", budget])
    plan = plan_comparison(recipe, ("resnet8",))
    limits = [member.recipe.budget.latency_ms for member in plan.tickets]
    given = float(budget)
    assert limits == ([given] if fitting == 1 else [given / 2, given, 2 * given][:fitting])


def test_tickets_of_a_latency_are_drawn(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every member gets what measures networks, and so does a plan of the draw."""
    monkeypatch.setattr("supertickets.sweeps.compare.bench", fake_bench)
    for place in ("sweeps.compare_plan", "sweeps.compare", "deploy"):
        monkeypatch.setattr(f"supertickets.{place}.measure_network", by_macs)
    words = ["digits", *_FAST, *_LARGE, "--budget.latency_ms", "0.5", "--out", tmp_path / "cmp"]
    ran = cli("compare", *words, "--references", "resnet8", "--json")
    assert ran.status == 0, ran.err
    tickets = [member for member in json.loads(ran.out)["members"] if member["group"] == "tickets"]
    assert [ticket["title"] for ticket in tickets] == ["ticket 0.25 ms", "ticket 0.5 ms", "ticket 1 ms"]
    for ticket, limit in zip(tickets, (0.25, 0.5, 1), strict=True):
        assert 0.95 * limit < ticket["runs"][0]["costs"]["macs"] / 4e6 <= limit
    planned = cli("draw", *words, "--plan")
    assert planned.status == 0, planned.err


def by_macs(model: DeployableModel, settings: BudgetSettings) -> float:
    return count(model.spec).macs / 4e6


def test_budgets_are_the_costs_of_the_plain_network_where_the_supernet_is_larger() -> None:
    plan = plan_comparison(st.load_recipe("digits", [*_FAST, *_LARGE]), ("resnet8", "mobilenet_v2"))
    assert [round(member.recipe.budget.macs / 1e5) for member in plan.tickets] == [8, 30, 68]
    assert len(plan.references) == 6


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UserError, match="recipe digits draws no tickets to a budget"):
        plan_comparison(st.load_recipe("digits", [*_FAST, "--search.interval", "0"]))
    with pytest.raises(UserError, match="give --epochs instead of --minutes"):
        plan_comparison(st.load_recipe("digits", [*_FAST, "--minutes", "1"]))
    with pytest.raises(UserError, match="--factors are multiples of a budget"):
        plan_comparison(st.load_recipe("digits", _FAST), factors=(1,))
    with pytest.raises(UserError, match="--factors has -1"):
        CompareSettings(factors=(1, -1))
    with pytest.raises(UserError, match="--seeds is 0"):
        CompareSettings(seeds=0)
