"""The choice of the units that stay: thresholds, blocks, floors, and paths to a cost."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supertickets.models.units import Axis, UnitGroup
from supertickets.nas import WidthRule, select_to_cost, select_units, width_rules
from supertickets.nas.selection import keep_above

VALUES = {"a": torch.tensor([0.9, 0.1, 0.5, 0.4]), "b": torch.tensor([0.2, 0.3])}


def lists(keep: dict[str, torch.Tensor]) -> dict[str, list[bool]]:
    return {name: flags.tolist() for name, flags in keep.items()}


def test_blocks_go_by_their_mean_from_the_best_unit_on() -> None:
    """Of a, (0.9, 0.5) has mean 0.7 and (0.4, 0.1) 0.25; b is one block of mean 0.25."""
    rules = {"a": WidthRule(0, 2), "b": WidthRule(0, 2)}
    assert lists(keep_above(VALUES, 0.26, rules)) == {"a": [True, False, True, False], "b": [False, False]}
    assert all(flags.all() for flags in keep_above(VALUES, 0.24, rules).values())


def test_a_floor_keeps_the_best_and_whole_blocks() -> None:
    keep = keep_above(VALUES, 1.0, {"a": WidthRule(1, 2), "b": WidthRule(1, 1)})
    assert lists(keep) == {"a": [True, False, True, False], "b": [False, True]}


def test_the_remainder_of_a_width_goes_first() -> None:
    values = {"a": torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])}
    rule = {"a": WidthRule(0, 2)}
    assert [int(keep_above(values, t, rule)["a"].sum()) for t in (0.5, 1.0, 2.5, 4.5)] == [5, 4, 2, 0]


def test_without_rules_a_threshold_is_the_papers() -> None:
    assert lists(select_units(VALUES, 0.3, 1)) == {"a": [True, False, True, True], "b": [False, False]}


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(0, 3),
    st.floats(0, 1),
    st.integers(0, 1000),
)
def test_a_path_meets_its_target_with_the_most_that_fits(
    sizes: list[int], block: int, least: int, share: float, seed: int
) -> None:
    """Whatever the target: met if it can be, floors and blocks are kept, and the next threshold would be above it."""
    generator = torch.Generator().manual_seed(seed)
    importance = {str(i): torch.rand(size, generator=generator) for i, size in enumerate(sizes)}
    rules = {name: WidthRule(least, block) for name in importance}

    def cost(keep: dict[str, torch.Tensor]) -> float:
        return float(sum((i + 1) * int(flags.sum()) for i, flags in enumerate(keep.values())))

    target = share * cost({name: torch.ones_like(v, dtype=torch.bool) for name, v in importance.items()})
    keep = select_to_cost(importance, rules, cost, target)  # type: ignore[arg-type]
    smallest = keep_above(importance, 2.0, rules)
    assert cost(keep) <= max(target, cost(smallest))
    for name, flags in keep.items():
        left = int(flags.sum())
        assert left % block == 0 or left == len(flags)
        assert left >= min(least, len(flags))
        if 0 < left < len(flags):  # the best ones stay
            assert importance[name][flags].min() >= importance[name][~flags].max()
    if cost(keep) <= target:  # nothing that went would still fit
        for name, flags in keep.items():
            more = flags.clone()
            more[torch.argsort(importance[name], descending=True)[: int(flags.sum()) + block]] = True
            assert bool(flags.all()) or cost({**keep, name: more}) > target


def test_before_the_last_removal_a_large_block_that_overshoots_stays() -> None:
    """A unit of a costs 25, one of b 5. From 75 to 65: without the least important one, of a, 50 would be left."""
    importance = {"a": torch.tensor([9.0, 0.1]), "b": torch.tensor([9.0, 8.0, 7.0, 1.0, 0.9])}
    costs = {"a": 25, "b": 5}

    def cost(keep: Mapping[str, torch.Tensor]) -> float:
        return float(sum(costs[name] * int(flags.sum()) for name, flags in keep.items()))

    assert cost(select_to_cost(importance, {}, cost, 65, is_last=False)) == 75
    assert cost(select_to_cost(importance, {}, cost, 60, is_last=False)) == 50


def test_at_the_last_removal_smaller_blocks_go_in_place_of_one_that_overshoots() -> None:
    """From 75 to 66: a unit of a would leave 50, two of b leave 65."""
    importance = {"a": torch.tensor([9.0, 0.1]), "b": torch.tensor([9.0, 8.0, 7.0, 1.0, 0.9])}
    costs = {"a": 25, "b": 5}

    def cost(keep: Mapping[str, torch.Tensor]) -> float:
        return float(sum(costs[name] * int(flags.sum()) for name, flags in keep.items()))

    assert lists(select_to_cost(importance, {}, cost, 66)) == {"a": [True] * 2, "b": [True] * 3 + [False] * 2}
    assert cost(select_to_cost(importance, {}, cost, 50)) == 50
    assert cost(select_to_cost(importance, {}, cost, 64)) == 50  # units of 5 end at 60, which is no nearer than 2%


def test_equally_important_blocks_go_one_by_one_from_all_groups() -> None:
    equal = {"a": torch.zeros(4), "b": torch.zeros(4)}
    keep = select_to_cost(equal, {}, lambda keep: float(sum(int(flags.sum()) for flags in keep.values())), 5)
    assert sorted(int(flags.sum()) for flags in keep.values()) == [2, 3]


def test_widths_are_counted_in_channels() -> None:
    """A unit of 4 channels goes in blocks of 2, so that widths are multiples of 8; one of 3 in blocks of 8."""

    def group(name: str, channels: int, units: int) -> UnitGroup:
        owners = tuple(i // channels for i in range(channels * units))
        return UnitGroup(name, "channel", units, (Axis(name, 0, owners),), (Axis(name, 0, owners),))

    class Net:
        def unit_groups(self) -> tuple[UnitGroup, ...]:
            return (group("a", 4, 8), group("b", 3, 16), group("c", 1, 10))

    rules = width_rules(Net().unit_groups(), Net(), 8, 0.3)  # type: ignore[arg-type]
    assert rules == {"a": WidthRule(3, 2), "b": WidthRule(5, 8), "c": WidthRule(3, 8)}


@pytest.mark.parametrize("at_least", [0, 1, 3])
def test_the_network_never_comes_out_empty(at_least: int) -> None:
    keep = select_units(VALUES, 5.0, at_least)
    assert sum(int(flags.sum()) for flags in keep.values()) == at_least
