"""Search units as data: owners, runs, and what is left of groups that share tensors."""

from __future__ import annotations

import json

import torch
from hypothesis import given
from hypothesis import strategies as st

from supertickets.models.units import Axis, UnitGroup, axis_flags, decode_owners, encode_owners, slice_groups

A = UnitGroup(
    "a",
    "channel",
    3,
    (Axis("a.weight", 0, (0, 1, 2)), Axis("joint.weight", 1, (0, 1, 2, -1, -1))),
    (Axis("a.weight", 0, (0, 1, 2)),),
    reads=(Axis("joint.weight", 1, (0, 1, 2, -1, -1)),),
)
B = UnitGroup("b", "channel", 2, (Axis("b.weight", 0, (0, 1)), Axis("joint.weight", 1, (-1, -1, -1, 0, 1))))


@given(st.lists(st.integers(-1, 6), max_size=40))
def test_owners_come_back_from_runs(owners: list[int]) -> None:
    assert decode_owners(json.loads(json.dumps(encode_owners(owners)))) == tuple(owners)


def test_owners_in_a_row_are_one_run() -> None:
    assert encode_owners(range(100)) == [[0, 100, 1]]
    assert encode_owners([-1] * 8 + [4, 5, 6]) == [[-1, 8, 0], [4, 3, 1]]


def test_groups_that_share_a_dimension_are_cut_together() -> None:
    keep = {"a": torch.tensor([True, False, True]), "b": torch.tensor([False, True])}
    assert axis_flags((A, B), keep)["joint.weight", 1].tolist() == [True, False, True, False, True]
    left = slice_groups((A, B), keep)
    assert [len(group) for group in left] == [2, 1]
    assert [axis.owners for axis in left[0].axes] == [(0, 1), (0, 1, -1)]
    assert [axis.owners for axis in left[1].axes] == [(0,), (-1, -1, 0)]
    assert (left[0].gates, left[0].reads) == (left[0].axes[:1], left[0].axes[1:])
    assert left[0].gates == (left[0].axes[0],)


def test_a_group_that_is_not_named_stays_whole_but_its_shared_dimension() -> None:
    left = slice_groups((A, B), {"a": torch.tensor([True, False, False])})
    assert [len(group) for group in left] == [1, 2]
    assert left[1].axes[1].owners == (-1, 0, 1)


def test_json_comes_back_equal() -> None:
    assert UnitGroup.from_json(json.loads(json.dumps(A.to_json()))) == A


def test_scales_are_gates_beside_a_running_variance() -> None:
    every = (0, 1)
    axes = tuple(Axis(name, 0, every) for name in ("n.weight", "n.bias", "n.running_var", "c.weight"))
    group = UnitGroup("n", "channel", 2, axes, (axes[0], axes[1], axes[3]))
    assert group.scales == (axes[0],)


def test_sums_by_unit_leave_out_what_nobody_owns() -> None:
    axis = Axis("w", 0, (1, -1, 0, 1))
    assert axis.sum_by_unit(torch.tensor([1.0, 10.0, 100.0, 1000.0]), 2).tolist() == [100.0, 1001.0]
