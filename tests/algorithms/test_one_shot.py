"""Search, then prune: criteria by hand, exact ratios, what is pruned already, and the command itself."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import supertickets as st
from cli_outcome import Cli
from simulate_powercut import cut_before_ticket
from supertickets import Ticket
from supertickets.algorithms.one_shot import prune_once
from supertickets.algorithms.ranking import pruning_ratios
from supertickets.config.recipe import PruneSettings
from supertickets.data import Batches, load_splits
from supertickets.runs.derive import recipe_of
from supertickets.training import Runtime, Session, TrainState, read_events


@pytest.fixture(scope="module")
def searched(quick_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was searched only; tests must not write into it."""
    out = tmp_path_factory.mktemp("searched") / "run"
    words = ["--prune.ratio", "0", "--epochs", "2", "--search.floor", "0.3", "--prune.layer_floor", "0.05"]
    st.draw(st.load_recipe("digits", [*quick_words, *words]), out)
    return out


def pruned(source: Path, out: Path, ratio: float, criterion: str = "magnitude", **more: int) -> Ticket:
    ticket = st.load(source)
    words = [word for name, value in more.items() for word in (f"--prune.{name}", str(value))]
    return st.prune(ticket, st.prune_recipe(ticket, ratio, criterion, words), out)


def zeros(mask: dict[str, Tensor]) -> int:
    return sum(int((~flags).sum()) for flags in mask.values())


@pytest.mark.parametrize("criterion", ["magnitude", "snip"])
@pytest.mark.parametrize("ratio", [0.33, 0.8])
def test_exactly_the_asked_share_is_zero(searched: Path, tmp_path: Path, criterion: str, ratio: float) -> None:
    before, after = st.load(searched), pruned(searched, tmp_path / "run", ratio, criterion, batches=2)
    assert after.spec == before.spec
    assert set(after.mask) == set(before.module.maskable_weights())
    total = sum(before.weights[name].numel() for name in after.mask)
    assert zeros(dict(after.mask)) == round(ratio * total)
    for name, flags in after.mask.items():
        assert torch.equal(after.weights[name], before.weights[name] * flags)  # nothing is trained
        assert int(flags.sum()) >= 0.05 * flags.numel()  # the floor of the recipe
    (event,) = (e for e in read_events(tmp_path / "run" / "events.jsonl") if e["event"] == "prune")
    assert event["sparsity"] == pytest.approx(ratio, abs=1 / total)


def test_statistics_are_measured_anew(searched: Path, tmp_path: Path) -> None:
    before, after = st.load(searched), pruned(searched, tmp_path / "run", 0.8)
    name = "last_bn.running_var"
    assert not torch.equal(before.weights[name], after.weights[name])
    assert after.about["samples"] == 0


def test_sensitivity_equals_an_independent_computation(searched: Path, tmp_path: Path) -> None:
    """|w * mean of the gradients| over the batches, of the network in eval mode; then a plain sort."""
    before = st.load(searched)
    after = pruned(searched, tmp_path / "run", 0.5, "snip", batches=3)
    recipe = recipe_of(before)
    splits = load_splits(recipe.data)
    batches = list(Batches(splits, recipe.data, recipe.augment, recipe.seed).calibration(0, 3))
    module = before.spec.build()
    module.load_state_dict(dict(before.weights))
    module.eval()
    named = {name: module.get_parameter(name) for name in module.maskable_weights()}
    for images, labels in batches:
        (nn.functional.cross_entropy(module(images), labels) / len(batches)).backward()
    scores = {
        name: (w * (torch.zeros_like(w) if w.grad is None else w.grad)).abs().detach() for name, w in named.items()
    }
    by_layer = {name: flags for name, flags in after.mask.items() if flags.numel() >= 20}
    assert by_layer
    kept = torch.cat([scores[name][flags] for name, flags in by_layer.items()])
    gone = torch.cat([scores[name][~flags] for name, flags in by_layer.items()])
    # The floor keeps a twentieth of every layer whatever it is worth; all else is one threshold.
    spared = sum(-(-flags.numel() // 20) for flags in after.mask.values())
    assert int((kept < gone.max() * (1 - 1e-4)).sum()) <= spared
    assert kept.median() > gone.max() > 0


def test_a_network_that_ranks_and_prunes_by_hand() -> None:
    """Scores y = w1 x1 + w2 x2 + w3 x3 + w4 x4 of a loss 2 y: gradients are 2 x."""

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 1, bias=False)
            self.layer.weight.data = torch.tensor([[0.1, -3.0, 2.0, 1.0]])

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)

        def maskable_weights(self, *, transformer: bool = False, classifier: bool = False) -> list[str]:
            return ["layer.weight"]

    def session(settings: PruneSettings) -> tuple[Session, TrainState]:
        module = Line()
        recipe = st.Recipe(prune=settings)

        class Data:
            def calibration(self, epoch: int, count: int) -> list[tuple[Tensor, Tensor]]:
                first = (torch.tensor([[10.0, 0.1, 3.0, 1.0]]), torch.zeros(1))
                return [first, (torch.tensor([[10.0, 0.1, -3.0, 1.0]]), torch.zeros(1))][:count]

        class Task:
            def loss(self, scores: Tensor, target: Tensor) -> Tensor:
                return 2 * scores.sum()

        class Run:
            def append(self, record: object) -> None: ...

        spec = SimpleNamespace(input_shape=(4, 1, 1))
        state = TrainState(spec, module, torch.optim.SGD(module.parameters(), 0.1), None)  # type: ignore[arg-type]
        parts = (recipe, None, Data(), Task(), Runtime(torch.device("cpu")), Run(), None)
        return Session(*parts), state  # type: ignore[arg-type]

    def left(criterion: str, ratio: float, batches: int, rounds: int = 1) -> list[float]:
        at, state = session(PruneSettings(ratio=ratio, criterion=criterion, batches=batches, rounds=rounds))
        prune_once(at, state)
        stored = state.sparse.stored["layer.weight"] + state.module.layer.weight
        assert torch.equal(stored, torch.tensor([[0.1, -3.0, 2.0, 1.0]]))  # what went is kept as it was trained
        return [round(value, 3) for value in state.module.layer.weight.flatten().tolist()]

    assert left("magnitude", 0.5, 0) == [0, -3, 2, 0]
    assert left("magnitude", 0.5, 0, rounds=7) == [0, -3, 2, 0]
    # |w g|: 0.1 * 20 = 2, 3 * 0.2 = 0.6, 2 * 6 = 12, 1 * 2 = 2; of equals the earlier goes.
    assert left("snip", 0.5, 1) == [0, 0, 2, 1]
    # With both batches the third gradient is (6 - 6) / 2 = 0.
    assert left("snip", 0.25, 2) == [0.1, -3, 0, 1]
    assert left("snip", 0.5, 2) == [0.1, 0, 0, 1]


def test_rounds_shrink_what_lives_by_one_factor() -> None:
    assert pruning_ratios(0.0, 0.75, 2) == [0.5, 0.75]
    assert pruning_ratios(0.5, 0.9375, 3) == pytest.approx([0.75, 0.875, 0.9375])
    assert pruning_ratios(0.2, 0.9, 1) == [0.9]
    assert pruning_ratios(0.0, 0.9, 100)[-1] == 0.9


@pytest.mark.parametrize("criterion", ["random", "grasp", "synflow"])
def test_every_criterion_prunes_exactly_and_says_so(searched: Path, tmp_path: Path, criterion: str) -> None:
    after = pruned(searched, tmp_path / "run", 0.6, criterion, batches=1)
    total = sum(flags.numel() for flags in after.mask.values())
    assert zeros(dict(after.mask)) == round(0.6 * total)
    assert after.about.get("batches") == (1 if criterion == "grasp" else None)
    assert after.about.get("rounds") == (100 if criterion == "synflow" else None)
    assert f"{criterion}, in {'100 rounds' if criterion == 'synflow' else 'one shot'}" in after.card()


def test_each_layer_gives_up_the_same_share(cli: Cli, searched: Path, tmp_path: Path) -> None:
    words = ("--ratio", "0.5", "--scope", "layer", "--prune.layer_floor", "0")
    assert cli("prune", searched, *words, "--out", tmp_path / "run").status == 0
    mask = st.load(tmp_path / "run").mask
    assert all(abs(int(flags.sum()) - flags.numel() / 2) <= 1 for flags in mask.values())
    words = ("--ratio", "0.5", "--scope", "group")
    assert cli("prune", searched, *words, "--out", tmp_path / "groups").status == 0
    after = st.load(tmp_path / "groups")
    for flags in after.mask.values():
        by_input = flags.movedim(1, -1).flatten(0, -2)
        assert all(int(part.sum(1).max()) <= 2 for part in by_input.split(4, dim=1))
    assert 0 < after.cost.sparsity <= 0.5


def test_the_classifier_is_pruned_on_request_alone(searched: Path, tmp_path: Path) -> None:
    ticket = st.load(searched)
    recipe = st.prune_recipe(ticket, 0.5, overrides=["--prune.classifier", "true"])
    st.prune(ticket, recipe, tmp_path / "with")
    after = st.load(tmp_path / "with")
    assert set(after.mask) - set(ticket.module.maskable_weights()) == {"classifier.weight"}
    assert not after.weights["classifier.weight"][~after.mask["classifier.weight"]].any()
    with pytest.raises(st.UserError, match=r"classifier is pruned already; set prune\.classifier to true"):
        st.prune(after, st.prune_recipe(after, 0.7, overrides=["--prune.classifier", "false"]), tmp_path / "no")


@pytest.mark.parametrize(("setting", "part"), [("stem", "first layer"), ("depthwise", "depthwise part")])
def test_layers_stay_whole_on_request(searched: Path, tmp_path: Path, setting: str, part: str) -> None:
    """The first layer sees one channel of a grey image, and yet is not depthwise."""
    ticket = st.load(searched)
    first, *rest = ticket.module.maskable_weights()
    depthwise = {name for name in rest if ticket.weights[name].shape[1] == 1}
    assert ticket.weights[first].shape[1] == 1
    assert 0 < len(depthwise) < len(rest)
    words = [f"--prune.{setting}", "false"]
    after = st.prune(ticket, st.prune_recipe(ticket, 0.5, overrides=words), tmp_path / "without")
    assert {first, *rest} - set(after.mask) == ({first} if setting == "stem" else depthwise)
    assert zeros(dict(after.mask)) == round(0.5 * sum(flags.numel() for flags in after.mask.values()))
    whole = st.prune(ticket, st.prune_recipe(ticket, 0.5), tmp_path / "with")
    with pytest.raises(st.UserError, match=rf"{part} is pruned already; set prune\.{setting} to true"):
        st.prune(whole, st.prune_recipe(whole, 0.7, overrides=words), tmp_path / "no")


OWN = """
import torch

class Largest:
    '''The largest weights go.'''
    def __call__(self, probe):
        return {name: -w.abs() for name, w in probe.weights.items()}

def forgetful(probe):
    return {}

def smallest_output_channels(probe):
    norms = {name: w.abs().flatten(1).sum(1) for name, w in probe.weights.items()}
    return {name: norms[name].view(-1, 1, 1, 1).expand_as(w) for name, w in probe.weights.items()}

def flat(probe):
    return {name: w.flatten() for name, w in probe.weights.items()}

def undefined(probe):
    return {name: w / 0 for name, w in probe.weights.items()}
"""


def test_a_criterion_of_ones_own(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_criteria.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    ticket = st.load(searched)
    recipe = st.prune_recipe(ticket, 0.5, "own_criteria:Largest", ["--prune.layer_floor", "0"])
    after = st.prune(ticket, recipe, tmp_path / "run")
    kept = torch.cat([ticket.weights[name][flags].abs() for name, flags in after.mask.items()])
    gone = torch.cat([ticket.weights[name][~flags].abs() for name, flags in after.mask.items()])
    assert kept.max() <= gone.min()
    channels = pruned(searched, tmp_path / "channels", 0.5, "own_criteria:smallest_output_channels")
    assert any(not rows.any(1).all() for rows in (flags.flatten(1) for flags in channels.mask.values()))
    for name, message in {
        "forgetful": r"gives no score for stem\.0\.",
        "flat": r"gives \d+ scores for stem\.0\..* it has \(",
        "undefined": "no numbers",
    }.items():
        with pytest.raises(st.UserError, match=message):
            pruned(searched, tmp_path / name, 0.5, f"own_criteria:{name}")
    for name, message in {
        "own_criteria:Larget": "cannot be imported.*PYTHONPATH",
        "no_such_module:x": "cannot be imported",
        "own_criteria.Largest": r"unknown criterion .*; your own is written with a colon: own_criteria:Largest",
        "magnitud": "did you mean 'magnitude'",
    }.items():
        with pytest.raises(st.UserError, match=message):
            pruned(searched, tmp_path / "none", 0.5, name)
        assert not (tmp_path / "none").exists()


def test_pruned_weights_stay_pruned(searched: Path, tmp_path: Path) -> None:
    first = pruned(searched, tmp_path / "first", 0.4, "snip", batches=1)
    second = pruned(tmp_path / "first", tmp_path / "second", 0.7, "magnitude")
    assert all(not (second.mask[name] & ~flags).any() for name, flags in first.mask.items())
    assert [step.get("criterion") for step in second.about["lineage"]] == [None, "snip"]


def test_the_command_and_its_followers(cli: Cli, searched: Path, tmp_path: Path) -> None:
    words = ("--ratio", "0.6", "--criterion", "snip", "--batches", "2", "--prune.layer_floor", "0", "--json")
    outcome = cli("prune", searched, *words, "--out", tmp_path / "run")
    assert outcome.status == 0, outcome.err
    result = json.loads(outcome.out)
    after = st.load(tmp_path / "run")
    assert result["sparsity"] == after.cost.sparsity == pytest.approx(0.6, abs=1e-3)
    assert Path(result["figure"]).is_file()
    assert (after.about["criterion"], after.about["batches"]) == ("snip", 2)
    assert "| criterion | snip, in one shot |" in after.card()
    assert "| history | draw digits (classification on digits), then prune digits-pruned" in after.card()
    assert json.loads(cli("evaluate", tmp_path / "run", "--json").out) == pytest.approx(result["test"])
    assert cli("retrain", tmp_path / "run", "--epochs", "1", "--out", tmp_path / "more").status == 0
    more = st.load(tmp_path / "more")
    assert all(torch.equal(flags, more.mask[name]) for name, flags in after.mask.items())
    assert all(not more.weights[name][~flags].any() for name, flags in more.mask.items())


def test_a_killed_pruning_goes_on_to_the_same_end(searched: Path, tmp_path: Path) -> None:
    pruned(searched, tmp_path / "whole", 0.5, "snip", batches=2)
    with cut_before_ticket():
        pruned(searched, tmp_path / "cut", 0.5, "snip", batches=2)
    st.resume(tmp_path / "cut")
    for name in ("ticket/model.safetensors", "ticket/mask.safetensors", "ticket/config.json", "events.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
