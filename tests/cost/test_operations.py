"""Mobile networks as lists of operations, whose figures add up; and budgets made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from supertickets import UserError
from supertickets.config.search_settings import BudgetSettings
from supertickets.cost import count
from supertickets.cost.budget import make_budget
from supertickets.cost.latency_table import LatencyTable
from supertickets.cost.operations import additive_cost, list_operations, network_size, operations_of
from supertickets.models import Choice, MobileSpec
from supertickets.models.factory import create_spec
from supertickets.nas import Space
from toy_mobile import DETECTOR, SPACE

NOWHERE = Path("none.json")


def some(count: int) -> list[dict[str, Choice]]:
    return some_of(SPACE, count)


def some_of(spec: MobileSpec, count: int) -> list[dict[str, Choice]]:
    space = Space(spec.decisions())
    return space.genotypes(space.sample(count, torch.Generator().manual_seed(0)))


def test_operations_by_hand() -> None:
    """Maps are halved and rounded up; a layer that is left out is none."""
    network = SPACE.select(
        {
            "b1.0.kernel": 5,
            "b1.0.expansion": 4,
            "b1.0.se": True,
            "b1.1.skip": True,
            "b1.filters": 16,
            "last.filters": 24,
        }
    )
    assert [str(operation) for operation in operations_of(network)] == [
        "conv k3 s2 relu 3->8 at 15x12",
        "bottleneck k5 e4 se s2 relu 8->16 at 8x6",
        "tail 16->24 at 4x3",
    ]


def test_all_operations() -> None:
    """Stem 1; bottleneck 2 x 2 x 2 for both widths; residual layer for both widths; tail 2 x 2."""
    operations = list_operations(SPACE)
    assert len(operations) == len(set(map(str, operations))) == 1 + 8 * 2 + 2 + 4


@pytest.mark.parametrize("name", ["tunas_proxyless", "tunas_proxyless_enlarged"])
def test_every_network_consists_of_them(name: str) -> None:
    spec = create_spec(name)
    assert isinstance(spec, MobileSpec)
    known = set(map(str, list_operations(spec)))
    space = Space(spec.decisions())
    for choices in space.genotypes(space.sample(20, torch.Generator().manual_seed(0))):
        assert {str(operation) for operation in operations_of(spec.select(choices))} <= known


def test_operations_hold_all_of_a_network() -> None:
    space = Space(SPACE.decisions())
    for choices in space.genotypes(space.sample(5, torch.Generator().manual_seed(0))):
        network = SPACE.select(choices)
        cost = count(network)
        sizes = [network_size(operation, SPACE) for operation in operations_of(network)]
        assert tuple(map(sum, zip(*sizes, strict=True))) == (cost.params, cost.macs)


@pytest.mark.long
def test_a_detector_is_the_last_operation() -> None:
    """It looks at the map in front of the last halving too; both widths may be open."""
    network = DETECTOR.select(some_of(DETECTOR, 1)[0])
    width = network.blocks[1].filters[0]
    assert str(operations_of(network)[-1]) == f"detector 8+{width} at 32x32"
    known = list_operations(DETECTOR)
    assert [str(operation) for operation in known[-2:]] == ["detector 8+8 at 32x32", "detector 8+16 at 32x32"]
    space = create_spec("tunas_mobilenetv3", head="detection", width=0.25, image_size=(96, 96), num_classes=3)
    assert isinstance(space, MobileSpec)
    for spec in (DETECTOR, space):
        known = list_operations(spec)
        for choices in some_of(spec, 4):
            network, cost = spec.select(choices), count(spec.select(choices))
            assert set(operations_of(network)) <= set(known)
            sizes = [network_size(operation, spec) for operation in operations_of(network)]
            assert tuple(map(sum, zip(*sizes, strict=True))) == (cost.params, cost.macs)


def test_an_additive_cost_measures_every_operation_once() -> None:
    asked = []

    def figure(operation: object) -> float:
        asked.append(str(operation))
        return 1.0

    cost = additive_cost(SPACE, figure)
    assert [cost(choices) for choices in some(8)] == [3.0 + (not choices["b1.1.skip"]) for choices in some(8)]
    assert len(asked) == len(set(asked))


def test_budgets_of_macs_and_parameters_are_those_of_the_network() -> None:
    for choices in some(4):
        cost = count(SPACE.select(choices))
        assert make_budget(BudgetSettings(macs=1), SPACE, NOWHERE).cost(choices) == cost.macs
        assert make_budget(BudgetSettings(params=1), SPACE, NOWHERE).cost(choices) == cost.params


def test_a_budget_of_predicted_latency(tmp_path: Path) -> None:
    ms = {str(operation): 1.0 for operation in list_operations(SPACE)}
    table = LatencyTable(
        spec=SPACE, device="a", runtime="torch", threads=1, ms=ms, bias=0.5, scale=2.0, check={"networks": 0}
    )
    table.save(tmp_path / "table.json")
    budget = make_budget(BudgetSettings(latency_ms=3.0), SPACE, tmp_path / "table.json")
    assert (budget.name, budget.target) == ("latency_ms", 3.0)
    assert [budget.cost(choices) for choices in some(4)] == [
        0.5 + 2 * len(operations_of(SPACE.select(choices))) for choices in some(4)
    ]
    other = create_spec("tunas_proxyless", image_size=(32, 32), num_classes=3)
    assert isinstance(other, MobileSpec)
    with pytest.raises(UserError, match=r"was measured for another space, size of images \(32 x 32 are wanted\)"):
        make_budget(BudgetSettings(latency_ms=3.0), other, tmp_path / "table.json")


def test_a_budget_of_measured_latency() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    settings = BudgetSettings(latency_ms=1.0, measured=True)
    assert 0 < make_budget(settings, SPACE, NOWHERE).cost(some(1)[0]) < 1000
    assert torch.equal(before, torch.get_rng_state())
