"""Resizing of maps: by hand, and traced for maps of any size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from supertickets.models.resize import resize


def test_a_map_of_the_size_stays() -> None:
    maps = torch.randn(2, 3, 4, 5)
    assert resize(maps, 4, 5) is maps


def test_cells_lie_between_those_of_the_map() -> None:
    """Of two cells, four: at -1/4 (cut off to 0), 1/4, 3/4 and 5/4 (cut off to 1)."""
    assert resize(torch.tensor([[[[0.0, 8.0]]]]), 1, 4).tolist() == [[[[0.0, 2.0, 6.0, 8.0]]]]


def test_a_trace_is_not_tied_to_equal_sizes() -> None:
    class ToThree(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return resize(x, 3, 3) * 2

    for example in (3, 5):
        free = {2: torch.export.Dim("height", min=2), 3: torch.export.Dim("width", min=2)}
        program = torch.export.export(ToThree(), (torch.zeros(1, 1, example, example),), dynamic_shapes=(free,))
        for size in ((3, 3), (5, 5), (3, 7), (2, 3)):
            maps = torch.randn(1, 1, *size)
            assert torch.equal(program.module()(maps), 2 * resize(maps, 3, 3))


@pytest.mark.parametrize("size", [(3, 3), (7, 12), (64, 1)])
def test_resizing_to_its_own_size_changes_nothing(size: tuple[int, int]) -> None:
    """A trace with free sizes interpolates where the network itself leaves a map alone."""
    maps = torch.randn(2, 3, *size)
    assert torch.equal(nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=False), maps)
