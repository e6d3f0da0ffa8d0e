"""Criteria against scores worked out by hand on small networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supertickets import UserError
from supertickets.config.recipe import PruneSettings
from supertickets.pruning import CRITERIA, Criterion, CriterionContext, check_criterion, check_scores, find_criterion


class Two(nn.Module):
    """y = v relu(W x) with two inputs, two hidden channels and one output; all weights positive but one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(2)
        self.second = nn.Conv2d(2, 1, 1, bias=False)
        self.first.weight.data = torch.tensor([[1.0, 2.0], [3.0, -1.0]]).view(2, 2, 1, 1)
        self.second.weight.data = torch.tensor([[2.0, 5.0]]).view(1, 2, 1, 1)
        # Statistics and scales that would show in a score.
        self.norm.weight.data = torch.tensor([7.0, -7.0])
        self.norm.bias.data = torch.tensor([1.0, 2.0])
        assert self.norm.running_mean is not None
        self.norm.running_mean.fill_(3.0)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.second(torch.relu(self.norm(self.first(x_BCHW))))


def probe(module: nn.Module, losses: list[Tensor] | None = None, names: tuple[str, ...] = ()) -> CriterionContext:
    def again() -> Iterator[Tensor]:
        if losses is None:
            raise AssertionError("this criterion needs no data")
        yield from losses

    weights = {name: module.get_parameter(name) for name in names or ("first.weight", "second.weight")}
    return CriterionContext(
        module=module.eval(),
        weights=weights,
        losses=again,
        average_=lambda tensors: None,
        input_shape=(2, 1, 1),
        settings=PruneSettings(),
        seed=3,
    )


def rounded(scores: dict[str, Tensor]) -> dict[str, list[float]]:
    return {name: [round(v, 5) for v in score.flatten().tolist()] for name, score in scores.items()}


def test_synflow_by_hand() -> None:
    """R = sum over paths of |v_j| |w_ji|: 2 * (1 + 2) + 5 * (3 + 1) = 26; a weight's score is what its paths carry."""
    module = Two()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    scores = CRITERIA["synflow"].score(probe(module))
    by_hand = {"first.weight": [2.0, 4.0, 15.0, 5.0], "second.weight": [6.0, 20.0]}
    assert rounded(dict(scores)) == {name: [v / 20 for v in values] for name, values in by_hand.items()}
    assert sum(by_hand["first.weight"]) == sum(by_hand["second.weight"]) == 26  # every layer carries the same flow
    after = module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_synflow_sees_what_is_pruned() -> None:
    """Without w_11 its path is gone: the other weights of its way lose that flow."""
    module = Two()
    module.first.weight.data[1, 0] = 0
    scores = CRITERIA["synflow"].score(probe(module))
    by_hand = {"first.weight": [2.0, 4.0, 0.0, 5.0], "second.weight": [6.0, 5.0]}
    assert rounded(dict(scores)) == {name: [round(v / 6, 5) for v in values] for name, values in by_hand.items()}


class Gated(nn.Module):
    """y = v (x s(g x)) behind an activation that saturates; large weights, so that both would."""

    def __init__(self, saturating: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.saturating = saturating
        self.first = nn.Conv2d(2, 2, 1, bias=False)
        self.gate = nn.Conv2d(2, 2, 1, bias=False)
        self.second = nn.Conv2d(2, 1, 1, bias=False)
        self.first.weight.data = torch.tensor([[10.0, 20.0], [30.0, 10.0]]).view(2, 2, 1, 1)
        self.gate.weight.data = torch.tensor([[100.0, 0.0], [300.0, 300.0]]).view(2, 2, 1, 1)
        self.second.weight.data = torch.tensor([[2.0, 5.0]]).view(1, 2, 1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.saturating(self.first(x_BCHW))
        return self.second(x_BCHW * torch.sigmoid(self.gate(x_BCHW)))


@pytest.mark.parametrize("saturating", [F.relu6, F.hardswish, F.silu, F.gelu, nn.ReLU6(), nn.LayerNorm((2, 1, 1))])
def test_synflow_passes_what_saturates(saturating: Callable[[Tensor], Tensor]) -> None:
    """R = 2 * 30 + 5 * 40 = 260 through open gates; each gate's weights share what flows through it, by size.

    Gate 1 reads the first channel alone, gate 2 300 * 30 and 300 * 40. Channel 1 carries 60 itself, 60 as all that
    opens gate 1, and 200 * 30 / 70 of gate 2; channel 2 carries 200 and 200 * 40 / 70; shared by its two weights.
    """
    scores = CRITERIA["synflow"].score(probe(Gated(saturating), names=("first.weight", "gate.weight", "second.weight")))
    one, two = 120 + 200 * 3 / 7, 200 + 200 * 4 / 7
    by_hand = {
        "first.weight": [one / 3, one * 2 / 3, two * 3 / 4, two / 4],
        "gate.weight": [60.0, 0.0, 200 * 3 / 7, 200 * 4 / 7],
        "second.weight": [60.0, 200.0],
    }
    highest = two * 3 / 4
    assert rounded(dict(scores)) == {name: [round(v / highest, 5) for v in values] for name, values in by_hand.items()}


def test_synflow_shares_attention_as_queries_and_keys_meet() -> None:
    """Values 1 and 3 at keys 1 and 3, of a query of 1: shares 1/4 and 3/4, so that R = 1/4 + 9/4 = 5/2.

    All of R goes through the query; through the keys too, by the same parts: 1/4 and 9/4.
    """

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Parameter(torch.tensor([[[[2.0]]]]))
            self.key = nn.Parameter(torch.tensor([[[[1.0], [3.0]]]]))
            self.value = nn.Parameter(torch.tensor([[[[1.0], [3.0]]]]))

        def forward(self, x_BCHW: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(self.query, self.key, self.value)

    scores = CRITERIA["synflow"].score(probe(Attending(), names=("query", "key", "value")))
    assert rounded(dict(scores)) == {"query": [1.0], "key": [0.1, 0.9], "value": [0.1, 0.9]}


def test_synflow_says_what_it_cannot_follow() -> None:
    """One minus ten thousand times the layer, cut at zero: nothing flows, though there are weights."""

    class Turned(Two):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            return self.second(torch.relu(1 - 1e4 * self.first(x_BCHW)))

    with pytest.raises(UserError, match=r"synflow cannot follow what flows through first.weight; take another"):
        CRITERIA["synflow"].score(probe(Turned()))


def test_snip_and_grasp_by_hand() -> None:
    """L = (a b)^2 + 3 a, at a = 2, b = -1: g = (2 a b^2 + 3, 2 a^2 b) = (7, -8), H = ((2 b^2, 4 a b), (4 a b, 2 a^2)).

    H g = (2 * 7 + (-8) * (-8), (-8) * 7 + 8 * (-8)) = (78, -120); scores w * (H g) = (156, 120).
    """
    module = nn.Module()
    module.a, module.b = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([-1.0]))

    class Losses:
        """The loss, anew in every pass."""

        def __call__(self) -> Iterator[Tensor]:
            yield ((module.a * module.b) ** 2 + 3 * module.a).sum()

    at = probe(module, names=("a", "b"))
    at = CriterionContext(**{**at.__dict__, "losses": Losses()})
    assert rounded(dict(CRITERIA["snip"].score(at))) == {"a": [14.0], "b": [8.0]}
    assert rounded(dict(CRITERIA["grasp"].score(at))) == {"a": [156.0], "b": [120.0]}


def test_grasp_averages_gradient_and_hessian_over_batches() -> None:
    """Losses a^2 and 2 a at a = 3: mean gradient (6 + 2) / 2 = 4, mean Hessian (2 + 0) / 2 = 1; score 3 * 4 * 1."""
    module = nn.Module()
    module.a = nn.Parameter(torch.tensor([3.0]))

    def losses() -> Iterator[Tensor]:
        yield (module.a**2).sum()
        yield (2 * module.a).sum()

    at = CriterionContext(**{**probe(module, names=("a",)).__dict__, "losses": losses})
    assert rounded(dict(CRITERIA["grasp"].score(at))) == {"a": [12.0]}
    assert rounded(dict(CRITERIA["snip"].score(at))) == {"a": [12.0]}  # |3 * 4|


def test_grasp_predicts_how_gradient_flow_changes() -> None:
    """To first order, taking a weight out changes |g|^2 by -2 * score (an independent finite difference)."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x, y = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 1, dtype=torch.float64)

    def losses() -> Iterator[Tensor]:
        yield ((module(x) - y) ** 2).mean()

    names = ("0.weight", "2.weight")
    at = CriterionContext(**{**probe(module, names=names).__dict__, "losses": losses})
    scores = CRITERIA["grasp"].score(at)

    def flow() -> float:
        (loss,) = losses()
        return sum(float(g.square().sum()) for g in torch.autograd.grad(loss, list(at.weights.values())))

    step = 1e-6
    for name, weight in at.weights.items():
        for i in range(weight.numel()):
            flat = weight.data.view(-1)
            kept, before = float(flat[i]), flow()
            flat[i] = kept * (1 - step)
            change = (flow() - before) / step
            flat[i] = kept
            assert change == pytest.approx(-2 * float(scores[name].flatten()[i]), abs=1e-4)


def test_random_scores_follow_the_seed_alone() -> None:
    module = Two()
    first, again = (CRITERIA["random"].score(probe(module)) for _ in range(2))
    other = CRITERIA["random"].score(CriterionContext(**{**probe(module).__dict__, "seed": 4}))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["first.weight"], other["first.weight"])


def test_magnitude_needs_no_data() -> None:
    scores = CRITERIA["magnitude"].score(probe(Two()))
    assert rounded(dict(scores)) == {"first.weight": [1, 2, 3, 1], "second.weight": [2, 5]}


def test_scores_may_be_views_of_anything() -> None:
    """They are averaged in place over processes: neither the weights nor an expanded tensor may suffer from it."""
    weight = torch.ones(2, 3)
    for given in (weight, torch.ones(2, 1).expand(2, 3)):
        scores = check_scores({"w": given}, {"w": weight}, "own")["w"]
        scores += torch.arange(6.0).view(2, 3)
        assert torch.equal(weight, torch.ones(2, 3))
        assert torch.equal(scores, 1 + torch.arange(6.0).view(2, 3))


def test_scores_come_in_the_weights_order() -> None:
    weights = {"b": torch.zeros(2), "a": torch.zeros(1)}
    assert list(check_scores({"a": torch.ones(1), "b": torch.ones(2), "more": torch.ones(3)}, weights, "own")) == [
        "b",
        "a",
    ]


OWN = """
from supertickets.pruning import Criterion

def plain(context):
    return {}

def declared(context):
    return {}
declared.needs_data, declared.default_rounds = False, 3

class Made:
    uses_magnitudes = True
    def __call__(self, context):
        return {}

whole = Criterion("any", plain, default_rounds=2)
nothing = 3
"""


def test_a_criterion_of_ones_own_declares_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "declared_criteria.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)

    def needs(name: str) -> tuple[str, bool, int, bool]:
        own = find_criterion(f"declared_criteria:{name}")
        return own.name.partition(":")[2], own.needs_data, own.default_rounds, own.uses_magnitudes

    assert needs("plain") == ("plain", True, 1, False)
    assert needs("declared") == ("declared", False, 3, False)
    assert needs("Made") == ("Made", True, 1, True)
    assert needs("whole") == ("whole", True, 2, False)
    with pytest.raises(UserError, match="criterion declared_criteria:nothing cannot be called; make it a function"):
        find_criterion("declared_criteria:nothing")


def test_shipped_criteria_declare_data_rounds_and_magnitudes() -> None:
    assert [name for name, criterion in CRITERIA.items() if criterion.needs_data] == ["snip", "grasp"]
    assert {name: c.default_rounds for name, c in CRITERIA.items() if c.default_rounds > 1} == {"synflow": 100}
    assert [name for name, criterion in CRITERIA.items() if criterion.uses_magnitudes] == ["magnitude"]
    assert all(isinstance(criterion, Criterion) and criterion.name == name for name, criterion in CRITERIA.items())


def test_only_magnitudes_are_divided() -> None:
    assert check_criterion(PruneSettings(normalise="lamp")).name == "magnitude"
    with pytest.raises(UserError, match=r"prune\.normalise divides magnitudes; set it to none for criterion snip"):
        check_criterion(PruneSettings(criterion="snip", normalise="lamp"))
