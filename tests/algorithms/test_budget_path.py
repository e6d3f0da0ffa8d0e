"""Drawing to a budget for a runtime that skips zeros, and to a latency: what is met, resumed, and refused."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import supertickets as st
from simulate_powercut import cut_at_evaluation, cut_at_step
from supertickets import UserError
from supertickets.algorithms.budget_limits import tightest_share
from supertickets.algorithms.budget_path import BudgetPath
from supertickets.algorithms.ranking import choose_mask, least_ratio, maskable
from supertickets.config.search_settings import BudgetSettings
from supertickets.cost import MaskCosts, count
from supertickets.cost.budget import format_setting
from supertickets.models.factory import create_spec
from supertickets.pruning import SparseState
from supertickets.training import initial_state
from supertickets.training.runtime import Runtime
from supertickets.training.state import DeployableModel

FILES = ("model.safetensors", "config.json", "mask.safetensors", "README.md")
WORDS = [
    *("--supernet.name", "resnet8", "--threads", "1", "--epochs", "5", "--evaluate_every", "5"),
    *("--recalibrate_batches", "1", "--data.batch", "128", "--data.validation", "0.5", "--checkpoint_seconds", "0"),
    *("--search.interval", "1", "--search.end", "0.5", "--prune.schedule", "cubic", "--prune.normalise", "rms"),
    *("--prune.pattern", "block:4", "--prune.steps", "2", "--prune.stem", "false", "--search.rho", "0"),
    *("--prune.layer_floor", "0", "--search.last_epoch", "null"),
]
SPARSE = [*WORDS, "--budget.runtime", "sparse"]


def pretend(model: DeployableModel, budget: BudgetSettings) -> float:
    """Return a latency that is no line of the MACs, and other for every runtime."""
    mask = model.mask if budget.runtime == "sparse" else {}
    return 0.01 + (MaskCosts(model.spec).macs(mask) / 1e6) ** 0.8


def test_the_least_ratio_is_found_of_a_cost_that_bends() -> None:
    asked: list[float] = []

    def cost(ratio: float) -> float:
        asked.append(ratio)
        return 5 * (1 - ratio) ** 1.5

    ratio = least_ratio(cost, 0.1, 0.99, cost(0.99))
    assert 0.999 <= cost(ratio) <= 1
    assert len(asked) < 12
    assert least_ratio(cost, 0.8, 0.99, cost(0.99)) == 0.8


@pytest.mark.parametrize(("criterion", "rounds"), [("magnitude", 1), ("magnitude", 5), ("synflow", 10)])
def test_rounds_end_where_the_budget_is_met(criterion: str, rounds: int) -> None:
    """Behind it, scores of what is gone already are all zero, and whole layers would go by their places."""
    spec = create_spec("resnet8", image_size=(16, 16), width=8, stem_stride=1)
    words = ["--prune.pattern", "unstructured", "--prune.normalise", "none", "--search.interval", "0"]
    words += ["--budget.macs", str(round(0.3 * count(spec).macs)), "--prune.criterion", criterion]
    masks = {}
    for number in {1, rounds}:
        recipe = st.load_recipe("numbers", [*words, "--prune.rounds", str(number)])
        session = SimpleNamespace(recipe=recipe, runtime=Runtime(torch.device("cpu"), 0, 1), batches=None)
        state = initial_state(spec, recipe, torch.device("cpu"))
        share = partial(tightest_share, MaskCosts(spec).measure, recipe.budget.given)
        masks[number] = choose_mask(session, state, 1, 0.99, {}, share)  # type: ignore[arg-type]
        assert 0.99 < share(masks[number]) <= 1
    if criterion == "magnitude":  # which is the same in every round
        assert all(torch.equal(flags, masks[1][name]) for name, flags in masks[rounds].items())
    densities = [float(flags.float().mean()) for flags in masks[rounds].values()]
    assert max(densities) < 0.95


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "cost", "limit"),
    [
        (["--budget.macs", "2e5"], "macs", 2e5),
        (["--budget.macs", "3e4", "--prune.ratio", "0.7"], "macs", 3e4),
        (["--budget.params", "2e4", "--budget.macs", "1e9"], "params", 2e4),
        (["--budget.size_kb", "60"], "size_kb", 60),
    ],
)
def test_what_is_not_zero_meets_the_budget(words: list[str], cost: str, limit: float, tmp_path: Path) -> None:
    ticket = st.draw(st.load_recipe("digits", [*SPARSE, *words]), tmp_path / "run")
    assert 0.98 * limit < MaskCosts(ticket.spec).measure(cost, ticket.mask) <= limit
    assert ticket.about["budget"]["runtime"] == "sparse"


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        ["--budget.macs", "9e4"],  # at 99 % zeros by magnitude it has more
        ["--search.interval", "1", "--budget.params", "1000"],  # much of which no mask can take
        ["--search.interval", "1", "--budget.size_kb", "10"],
    ],
)
def test_a_very_small_budget_is_met_too(words: list[str], tmp_path: Path) -> None:
    own = ["--epochs", "3", "--data.limit", "300", "--threads", "1", "--data.workers", "0", "--evaluate_every", "9"]
    recipe = st.load_recipe("numbers", [*own, "--recalibrate_batches", "1", *words])
    ticket = st.draw(recipe, tmp_path / "run")
    [(cost, limit)] = recipe.budget.given.items()
    assert 0.98 * limit < MaskCosts(ticket.spec).measure(cost, ticket.mask) <= limit


def test_a_missed_budget_is_told() -> None:
    """Nobody may fill a budget that is below what no mask takes: said at the end of the run."""
    recipe = st.load_recipe("numbers", ["--budget.macs", "86000", "--search.interval", "0"])
    spec = create_spec("resnet8", image_size=(16, 16), width=8, stem_stride=1)
    session = SimpleNamespace(recipe=recipe, runtime=Runtime(torch.device("cpu"), 0, 1), batches=None)
    state = initial_state(spec, recipe, torch.device("cpu"))
    said = BudgetPath().missed(session, state)  # type: ignore[arg-type]
    assert said is not None
    assert said.startswith("warning: budget.macs=86000 was missed: the ticket has ")
    state.sparse = SparseState({name: torch.zeros_like(w) > 0 for name, w in maskable(state, recipe).items()})
    assert BudgetPath().missed(session, state) is None  # type: ignore[arg-type]


@pytest.mark.long
def test_units_go_only_where_zeros_do_not_suffice(tmp_path: Path) -> None:
    wide = st.draw(st.load_recipe("digits", [*SPARSE, "--budget.macs", "2e5"]), tmp_path / "wide")
    narrow = st.draw(st.load_recipe("digits", [*SPARSE, "--budget.macs", "2e4"]), tmp_path / "narrow")
    assert wide.cost.macs > narrow.cost.macs
    assert sum(map(len, wide.spec.unit_groups())) > sum(map(len, narrow.spec.unit_groups()))
    assert wide.cost.masked_macs > 0.1 * wide.cost.macs  # the recipe's ratio is 0.9


@pytest.mark.long
@pytest.mark.parametrize("runtime", ["sparse", "onnxruntime"])
def test_a_latency_is_met_and_a_kill_on_the_way_changes_nothing(runtime: str, tmp_path: Path) -> None:
    words = [*WORDS, "--budget.runtime", runtime, "--budget.latency_ms", "0.3"]
    words += [] if runtime == "sparse" else ["--prune.ratio", "0"]
    recipe = st.load_recipe("digits", words)
    ticket = st.draw(recipe, tmp_path / "whole", pretend)
    ms = pretend(DeployableModel(ticket.spec, dict(ticket.weights), dict(ticket.mask)), recipe.budget)
    assert 0.98 * 0.3 <= ms <= 0.3
    assert ticket.about["budget"]["measured_ms"] == ms
    with cut_at_evaluation(2):
        st.draw(recipe, tmp_path / "killed", pretend)
    with cut_at_step(3, 1):
        st.resume(tmp_path / "killed", measure=pretend)
    known = json.loads((tmp_path / "killed/measured.json").read_text())
    st.resume(tmp_path / "killed", measure=lambda model, budget: pretend(model, budget))
    assert known.items() <= json.loads((tmp_path / "killed/measured.json").read_text()).items()
    for file in FILES:
        if (tmp_path / "whole/ticket" / file).exists():
            assert (tmp_path / "whole/ticket" / file).read_bytes() == (tmp_path / "killed/ticket" / file).read_bytes()


def test_a_figure_is_measured_once_in_the_life_of_a_run(tmp_path: Path) -> None:
    figures = iter([1.5, 2.5])
    with st.training.RunDir(tmp_path) as run:
        assert [run.recall("a", lambda: next(figures)) for _ in range(2)] == [1.5, 1.5]
        assert run.recall("b", lambda: next(figures)) == 2.5


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([*SPARSE, "--budget.macs", "1e9"], "leaves nothing to remove"),
        ([*SPARSE, "--budget.macs", "10"], "cannot be met: the smallest network has"),
        ([*SPARSE, "--budget.macs", "1e5", "--prune.ratio", "0"], "met by zeros; set prune.ratio"),
        ([*SPARSE, "--budget.macs", "1e5", "--prune.schedule", "interval"], "set prune.schedule to cubic"),
        (
            [*SPARSE, "--budget.macs", "1e5", "--prune.scope", "group", "--prune.pattern", "unstructured"],
            "set prune.scope to global, not group",
        ),
        ([*SPARSE, "--budget.latency_ms", "0.001"], "latency_ms=0.001 cannot be met: the smallest network takes"),
        ([*SPARSE, "--budget.latency_ms", "1e3"], "latency_ms=1000 leaves nothing to remove"),
        ([*SPARSE, "--budget.latency_ms", "1", "--budget.table", "t.json"], "are for search"),
    ],
)
def test_a_budget_of_zeros_that_cannot_be_met_is_refused(words: list[str], line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=line):
        st.draw(st.load_recipe("digits", words), tmp_path / "run", pretend)


@pytest.mark.parametrize(
    ("latency_ms", "macs"),
    [("0.1", "1e12"), ("1e3", "1e5")],
)
def test_a_budget_that_is_met_already_does_not_stand_in_the_way_of_another(
    latency_ms: str, macs: str, tmp_path: Path
) -> None:
    words = [*SPARSE, "--budget.latency_ms", latency_ms, "--budget.macs", macs]
    ticket = st.draw(st.load_recipe("digits", words), tmp_path / "run", pretend)
    model = DeployableModel(ticket.spec, ticket.module.state_dict(), ticket.mask)
    assert pretend(model, BudgetSettings(runtime="sparse")) <= float(latency_ms)
    assert ticket.cost.masked_macs <= float(macs)
    both = ["--budget.latency_ms", "1e3", "--budget.macs", "1e12"]
    with pytest.raises(UserError, match="leaves nothing to remove"):
        st.draw(st.load_recipe("digits", [*SPARSE, *both]), tmp_path / "other", pretend)


def test_protected_weights_are_counted_before_anything_trains(tmp_path: Path) -> None:
    words = [*SPARSE, "--budget.params", "6000", "--search.interval", "0", "--prune.ratio", "0.4"]
    with pytest.raises(UserError, match=r"cannot be met: .*or lower prune.layer_floor or prune.exempt_below"):
        st.draw(st.load_recipe("digits", [*words, "--prune.layer_floor", "0.5"]), tmp_path / "run")


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large"])
def test_mobile_networks_are_drawn_to_a_budget(name: str, tmp_path: Path) -> None:
    words = [*SPARSE, "--supernet.name", name, "--supernet.settings.width", "0.1", "--epochs", "2"]
    words += ["--budget.params", "24000", "--prune.pattern", "unstructured", "--search.interval", "0"]
    ticket = st.draw(st.load_recipe("digits", words), tmp_path / "run")
    assert 0.97 * 24000 <= ticket.cost.nonzero_params <= 24000


@pytest.mark.parametrize(
    ("least", "typed"), [(96.15234, "96.16"), (96.15, "96.15"), (1234.2, "1235"), (0.012341, "0.01235"), (8, "8")]
)
def test_the_least_that_can_be_met_is_not_rounded_below_it(least: float, typed: str) -> None:
    assert format_setting(least, up=True) == typed


def test_a_latency_needs_a_function_that_measures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give draw measure=measure_network"):
        st.draw(st.load_recipe("digits", [*SPARSE, "--budget.latency_ms", "1"]), tmp_path / "run")


def test_a_policy_search_cannot_be_for_the_sparse_runtime() -> None:
    words = ["--budget.runtime", "sparse", "--budget.macs", "1e6", "--search.interval", "0", "--prune.ratio", "0"]
    with pytest.raises(UserError, match="is for draw, which prunes"):
        st.load_recipe("tunas_mobilenetv3", words)
