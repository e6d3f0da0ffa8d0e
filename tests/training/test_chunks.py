"""Parts of a list of tensors that fit into the caches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supertickets.training import chunks as passes
from supertickets.training.chunks import foreach_chunks


def test_parts_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_CACHED", 10)
    tensors = [torch.zeros(size) for size in (4, 6, 1, 30, 2, 2)]
    assert foreach_chunks(tensors) == [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 6)]
    assert foreach_chunks([]) == []
    assert foreach_chunks([torch.zeros(size) for size in (0, 11)]) == [slice(0, 1), slice(1, 2)]


def test_elsewhere_there_is_one_part() -> None:
    assert foreach_chunks([torch.empty(10**6, device="meta")] * 3) == [slice(0, 3)]


@given(st.lists(st.integers(0, 80_000), max_size=12))
def test_every_tensor_is_in_one_part(sizes: list[int]) -> None:
    tensors = [torch.empty(size) for size in sizes]
    parts = foreach_chunks(tensors)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(len(sizes)))
    for part in parts:
        assert part.stop - part.start == 1 or sum(sizes[part]) <= passes._CACHED
