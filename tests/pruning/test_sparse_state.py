"""Weights and moments when a mask is set, changed and removed; worked out by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from supertickets.pruning import Enforcer, SparseState, restore, store_pruned


def flags(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


def lists(tensors: dict[str, Tensor]) -> dict[str, list[float]]:
    return {name: value.tolist() for name, value in tensors.items()}


def test_a_new_network_is_dense() -> None:
    state = SparseState()
    assert (state.mask, state.stored, state.ratio, state.sparsity) == ({}, {}, 0.0, 0.0)


def test_prune_stores_what_it_takes_out() -> None:
    tensors = {"w": torch.tensor([1.0, -2.0, 3.0, 4.0]), "exp_avg_sq/w": torch.tensor([0.1, 0.2, 0.3, 0.4])}
    state = store_pruned(SparseState(), {"w": flags(1, 0, 0, 1)}, tensors, 0.5)
    assert lists(state.stored) == {"w": [0, -2, 3, 0], "exp_avg_sq/w": pytest.approx([0, 0.2, 0.3, 0])}
    assert (state.ratio, state.sparsity) == (0.5, 0.5)
    assert state.mask["w"].tolist() == [True, False, False, True]
    assert tensors["w"].tolist() == [1, -2, 3, 4]


def test_stored_values_survive_another_prune() -> None:
    """A weight that was pruned at 3 is 0 now; its stored 3 stays, and a weight pruned now is stored as it is now."""
    before = store_pruned(SparseState(), {"w": flags(1, 1, 0, 0)}, {"w": torch.tensor([1.0, 2, 3, 4])}, 0.5)
    now = {"w": torch.tensor([10.0, 20, 0, 0]), "square_avg/w": torch.tensor([5.0, 6, 7, 8])}
    after = store_pruned(before, {"w": flags(0, 1, 0, 0)}, now, 0.75)
    # The optimizer had no second moments at the first prune, so all are as they are now.
    assert lists(after.stored) == {"w": [10, 0, 3, 4], "square_avg/w": [5, 0, 7, 8]}
    later = {"w": torch.tensor([0.0, 30, 0, 0]), "square_avg/w": torch.tensor([50.0, 60, 70, 80])}
    last = store_pruned(after, {"w": flags(0, 0, 0, 0)}, later, 1.0)
    assert lists(last.stored) == {"w": [10, 30, 3, 4], "square_avg/w": [5, 60, 7, 8]}
    assert last.sparsity == 1.0


def test_a_weight_that_comes_back_in_a_prune_is_not_stored_any_more() -> None:
    before = store_pruned(SparseState(), {"w": flags(0, 1)}, {"w": torch.tensor([1.0, 2.0])}, 0.5)
    after = store_pruned(before, {"w": flags(1, 0)}, {"w": torch.tensor([0.0, 5.0])}, 0.5)
    assert lists(after.stored) == {"w": [0, 5]}


def test_restore_puts_back_what_was_taken_out() -> None:
    tensors = {"w": torch.tensor([1.0, -2.0, 3.0]), "exp_avg_sq/w": torch.tensor([0.5, 0.25, 0.125])}
    state = store_pruned(SparseState(), {"w": flags(1, 0, 0)}, tensors, 0.66)
    now = {"w": torch.tensor([9.0, 0.0, 0.0]), "exp_avg_sq/w": torch.tensor([8.0, 7.0, 6.0]), "bias": torch.ones(1)}
    assert lists(restore(state, now)) == {"w": [9, -2, 3], "exp_avg_sq/w": [8, 0.25, 0.125]}
    assert now["w"].tolist() == [9, 0, 0]


def test_sparsity_counts_all_layers_together() -> None:
    assert SparseState({"a": flags(0, 0, 1), "b": flags(1)}).sparsity == 0.5
    assert SparseState({"a": flags(0)}).sparsity == 1.0


@settings(deadline=None)
@given(
    values=st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=8),
    masks=st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=1, max_size=4),
)
def test_any_prunes_and_one_reactivation_lose_nothing(values: list[float], masks: list[list[bool]]) -> None:
    """Without training in between, and with masks that only grow, restoring gives the first weights back."""
    first = torch.tensor(values)
    weight, state = first.clone(), SparseState()
    alive = torch.ones(len(values), dtype=torch.bool)
    for drawn in masks:
        alive = alive & torch.tensor(drawn[: len(values)])
        state = store_pruned(state, {"w": alive}, {"w": weight}, 0.5)
        weight = weight * alive
    assert torch.equal(restore(state, {"w": weight})["w"], first)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_enforcer_masks_gradients_and_weights(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(2, 3, 2, 2).to(memory_format=memory_format))
    other = torch.nn.Parameter(torch.ones(2))
    weight.grad, other.grad = torch.ones_like(weight), torch.ones(2)
    mask = torch.rand(2, 3, 2, 2) < 0.5
    before = copy.deepcopy(weight.detach())
    enforcer = Enforcer({"w": weight, "other": other}, {"w": mask})
    assert enforcer.masks[0].stride() == weight.stride()
    enforcer.mask_gradients()
    assert torch.equal(weight.grad, mask.float())
    assert torch.equal(weight.detach(), before)
    enforcer.mask_weights()
    assert torch.equal(weight.detach(), torch.where(mask, before, torch.zeros(())))
    assert torch.equal(other.detach(), torch.ones(2))
    assert torch.equal(other.grad, torch.ones(2))


def test_enforcer_without_a_mask_does_nothing() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    enforcer = Enforcer({"w": weight}, {})
    enforcer.mask_gradients()
    enforcer.mask_weights()
    assert weight.tolist() == [1.0, 1.0]


def test_states_are_equal_by_value() -> None:
    """Neither equality nor hash raises, whatever differs: ratio, values, shapes, types, names."""

    def state(values: tuple[int, ...] = (1, 0), stored: float = 2.0, ratio: float = 0.5) -> SparseState:
        return SparseState({"w": flags(*values)}, {"w": torch.tensor([0.0, stored])}, ratio)

    assert state() == state()
    assert hash(state()) == hash(state())
    assert len({state(), state(), SparseState()}) == 2
    for other in (state((0, 1)), state((1, 0, 0)), state(stored=3.0), state(ratio=0.6), SparseState(), "state"):
        assert state() != other
    assert state() != SparseState({"w": torch.ones(2)}, state().stored, 0.5)
