"""Removal of units of any network: down to a budget, across kills, on two processes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import supertickets as st
from cli_outcome import Cli
from generate_people import crowd
from simulate_powercut import cut_at_evaluation, cut_at_step
from supertickets import UserError
from supertickets.algorithms.budget_limits import path_cost
from supertickets.config.schedule import Shrink, path_progress, plan_lines
from supertickets.cost import MaskCosts, WidthCosts, count, unit_params
from supertickets.models.factory import create_spec
from supertickets.models.traced import TracedSpec, trace_spec
from supertickets.training import read_events

TO_BUDGET = [
    *("--threads", "1", "--epochs", "5", "--evaluate_every", "5", "--recalibrate_batches", "1"),
    *("--data.batch", "128", "--data.validation", "0.5", "--checkpoint_seconds", "0", "--prune.ratio", "0"),
    *("--search.interval", "1", "--search.begin", "0.1", "--search.end", "0.7"),
]
FILES = ("model.safetensors", "config.json", "README.md")


class Net(nn.Module):
    """Convolutions without batch norms, a sum, and a linear layer that reads flattened maps."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 12, 3, padding=1)
        self.inside = nn.Conv2d(12, 20, 3, padding=1)
        self.outside = nn.Conv2d(20, 12, 3, padding=1)
        self.down = nn.Conv2d(12, 6, 3, stride=2, padding=1)
        self.last = nn.Linear(6 * 16, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images).relu()
        x = x + self.outside(self.inside(x).relu())
        out: Tensor = self.last(self.down(x).relu().flatten(1))
        return out


def make_net(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    assert image_size == (8, 8)
    return Net(num_classes, in_channels)


def test_a_path_falls_fast_at_first() -> None:
    """From 100 to 20: at half of the way 20 + 80 / 8."""
    assert [path_cost(100, 20, u) for u in (0, 0.5, 1)] == [100, 30, 20]


def test_removals_lie_between_begin_and_the_first_epoch_that_reaches_the_end() -> None:
    words = ["--budget.macs", "1e6", "--epochs", "10", "--search.interval", "2", "--prune.ratio", "0"]
    recipe = st.load_recipe("digits", [*words, "--search.begin", "0.2", "--search.end", "0.5"])
    due = {
        epoch: event.progress for epoch, events in plan_lines(recipe) for event in events if isinstance(event, Shrink)
    }
    assert due == {4: pytest.approx(2 / 3), 6: 1.0}
    assert path_progress(2, recipe) == 0


@pytest.mark.parametrize(
    ("epochs", "interval", "end", "shares"),
    [
        (3, 2, "1", {2: 1.0}),  # no removal follows the second epoch
        (7, 3, "1", {3: pytest.approx((3 / 7 - 0.2) / (6 / 7 - 0.2)), 6: 1.0}),
        (5, 4, "0.9", {4: 1.0}),
        (10, 3, "0.8", {3: pytest.approx(1 / 6), 6: pytest.approx(2 / 3), 9: 1.0}),
    ],
)
def test_the_last_removal_is_the_end_of_the_way(epochs: int, interval: int, end: str, shares: dict[int, float]) -> None:
    words = ["--budget.macs", "1e6", "--epochs", str(epochs), "--search.interval", str(interval), "--prune.ratio", "0"]
    recipe = st.load_recipe("digits", [*words, "--search.begin", "0.2", "--search.end", end])
    due = {epoch: event.progress for epoch, row in plan_lines(recipe) for event in row if isinstance(event, Shrink)}
    assert due == shares


def test_costs_with_zeros_by_hand() -> None:
    """Half of the first layer's weights cost nothing, as under a mask that leaves every other one."""
    spec = create_spec("resnet8", image_size=(16, 16), width=8)
    name = next(row.weight for row in count(spec).layers if row.weight is not None)
    size = next(p.numel() for key, p in spec.build().named_parameters() if key == name)
    uses = next(row.uses for row in count(spec).layers if row.weight == name)
    dense, half = WidthCosts(spec), WidthCosts(spec, {name: 0.5})
    assert half.params({}) == dense.params({}) - size / 2
    assert half.macs({}) == dense.macs({}) - size / 2 * uses
    mask = {name: torch.arange(size).remainder(2) == 0}
    for cost in ("macs", "params", "size_kb"):
        assert half.measure(cost, {}) == pytest.approx(MaskCosts(spec).measure(cost, mask))


def test_costs_without_building_are_those_of_the_network() -> None:
    spec, _ = trace_spec(create_spec("resnet8", num_classes=7, image_size=(16, 16)))
    generator = torch.Generator().manual_seed(0)
    keep = {group.name: torch.rand(len(group), generator=generator) < 0.7 for group in spec.unit_groups()}
    costs, left = WidthCosts(spec), count(spec.keep(keep))
    assert (costs.macs(keep), costs.params(keep)) == (left.macs, left.params)
    assert (costs.macs({}), costs.params({})) == (count(spec).macs, count(spec).params)
    one = {group.name: torch.arange(len(group)) > 0 for group in spec.unit_groups()[:1]}
    [name] = one
    assert unit_params(spec)[name][0] == costs.params({}) - costs.params(one)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "words", "importance"),
    [
        ("timm:resnet10t", ["--budget.macs", "2e6", "--search.multiple", "8"], "gate"),
        ("resnet8", ["--budget.params", "3e4", "--ema_decay", "0.9"], "scale"),
        (f"{__name__}:make_net", ["--budget.macs", "1.2e5", "--search.group_floor", "0.2"], "gate"),
    ],
)
def test_the_budget_is_met_and_a_kill_between_removals_changes_nothing(
    name: str, words: list[str], importance: str, tmp_path: Path
) -> None:
    recipe = st.load_recipe("digits", ["--supernet.name", name, *TO_BUDGET, *words, "--search.importance", importance])
    ticket = st.draw(recipe, tmp_path / "whole")
    [(cost, budget)] = recipe.budget.given.items()
    reached = getattr(ticket.cost, cost)
    assert 0.9 * budget < reached <= budget
    assert isinstance(ticket.spec, TracedSpec)
    if (multiple := recipe.search.multiple) and multiple > 1:
        wholes = {group.name: len(group) for group in ticket.spec.units}
        assert all(len(g) % multiple == 0 or len(g) == wholes[g.name] for g in ticket.spec.unit_groups())
    removals = [e for e in read_events(tmp_path / "whole" / "events.jsonl") if e["event"] == "shrink"]
    assert sum(e["removed_channels"] > 0 for e in removals) >= 2
    with cut_at_evaluation(2):
        st.draw(recipe, tmp_path / "killed")
    with cut_at_step(3, 1):
        st.resume(tmp_path / "killed", trust=(__name__,))
    torch.manual_seed(99)
    st.resume(tmp_path / "killed", trust=(__name__,))
    for file in FILES:
        assert (tmp_path / "whole/ticket" / file).read_bytes() == (tmp_path / "killed/ticket" / file).read_bytes()


@pytest.mark.long
def test_several_budgets_hold_together_and_the_tightest_is_met(tmp_path: Path) -> None:
    words = ["--supernet.name", "resnet8", *TO_BUDGET, "--budget.macs", "3e5", "--budget.size_kb", "120"]
    ticket = st.draw(st.load_recipe("digits", [*words, "--search.importance", "gate"]), tmp_path / "run")
    shares = ticket.cost.macs / 3e5, 4 * ticket.cost.params / 1000 / 120
    assert 0.98 < max(shares) <= 1


def test_the_architecture_of_a_ticket_is_drawn_to_a_budget(tmp_path: Path) -> None:
    words = ["--supernet.name", "resnet8", "--supernet.settings.width", "8", *TO_BUDGET, "--epochs", "2"]
    whole = st.train(st.load_recipe("digits", words), tmp_path / "whole")
    target = whole.cost.macs / 2
    words = [
        "--supernet.name",
        f"ticket:{tmp_path / 'whole'}",
        *TO_BUDGET,
        "--epochs",
        "2",
        "--budget.macs",
        f"{target:.0f}",
    ]
    ticket = st.draw(st.load_recipe("digits", words), tmp_path / "half")
    assert 0.9 * target < ticket.cost.macs <= target


@pytest.mark.long
def test_units_of_a_pose_network_go_through_its_head(tmp_path: Path) -> None:
    people = crowd(tmp_path / "people", {"train2017": 40, "val2017": 8})
    words = [
        *("--data.dir", str(people), "--supernet.name", "resnet8", "--supernet.settings.width", "8"),
        *("--threads", "1", "--epochs", "4", "--evaluate_every", "4", "--recalibrate_batches", "1"),
        *("--data.size", "[32,24]", "--data.batch", "12", "--data.validation", "0.1", "--data.workers", "0"),
        *("--search.interval", "1", "--search.end", "0.7", "--prune.ratio", "0", "--checkpoint_seconds", "0"),
        *("--search.importance", "gate", "--budget.params", "1.2e4"),
    ]
    plain = [word for word in st.load_recipe("fashion_pose").supernet.settings if word]
    assert plain  # those of the recipe's own network are left out with it
    recipe = st.load_recipe("fashion_pose", words)
    ticket = st.draw(recipe, tmp_path / "whole")
    assert 0.8 * 1.2e4 < ticket.cost.params <= 1.2e4
    assert any("head" in group.name and len(group) for group in ticket.spec.unit_groups())
    with cut_at_evaluation(2):
        st.draw(recipe, tmp_path / "killed")
    st.resume(tmp_path / "killed")
    for file in FILES:
        assert (tmp_path / "whole/ticket" / file).read_bytes() == (tmp_path / "killed/ticket" / file).read_bytes()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--budget.macs", "1e9"], "leaves nothing to remove"),
        (["--budget.macs", "10"], "cannot be met: the smallest network has"),
        (["--budget.latency_ms", "1"], "needs a function that times networks"),
        (["--budget.macs", "1e5", "--search.interval", "0"], "needs a search that removes units"),
        (["--budget.macs", "1e5", "--search.begin", "0.9"], "holds no removal"),
    ],
)
def test_a_budget_that_cannot_be_met_is_refused(words: list[str], line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=line):
        st.draw(st.load_recipe("digits", ["--supernet.name", "resnet8", *TO_BUDGET, *words]), tmp_path / "run")


@pytest.mark.long
def test_what_was_removed_stays_away_in_all_that_follows(tmp_path: Path, cli: Cli) -> None:
    """Trained further, moved to other classes, exported and measured, with its widths."""
    words = ["--supernet.name", "resnet8", *TO_BUDGET, "--budget.params", "3e4", "--search.importance", "gate"]
    assert cli("draw", "digits", "--out", tmp_path / "d", *words).status == 0
    drawn = st.load(tmp_path / "d")
    assert cli("retrain", tmp_path / "d", "--epochs", "1", "--out", tmp_path / "r").status == 0
    assert st.load(tmp_path / "r").spec == drawn.spec
    names = ("--epochs", "1", "--data.class_names", "[A,B,C,D,E,F,G,H,I,J]")
    moved = cli("transfer", tmp_path / "d", "digits", "--out", tmp_path / "t", *names)
    assert moved.status == 0, moved.err
    assert st.load(tmp_path / "t").spec.unit_groups() == drawn.spec.unit_groups()
    exported = cli("export", tmp_path / "d", "--format", "onnx", "--out", tmp_path / "n.onnx")
    assert exported.status == 0, exported.err
    assert json.loads(cli("show", tmp_path / "d", "--json").out)["params"] == drawn.cost.params <= 3e4
