"""Forms of boxes: what is x, y, width, height is never refused, and what is another form is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertickets import UserError
from supertickets.data.box_forms import check_boxes
from supertickets.data.geometry import Floats

PATH = Path("boxes.json")


def check(boxes: Floats, sizes: Floats, areas: Floats | None = None) -> list[str]:
    return check_boxes(boxes, sizes, [f"annotation {i}" for i in range(len(boxes))], PATH, areas)


def random_boxes(seed: int, count: int = 40) -> tuple[Floats, Floats]:
    """Return boxes inside images of 20 to 2000 pixels, and the sizes of these."""
    random = np.random.default_rng(seed)
    sizes = random.integers(20, 2000, (count, 2)).astype(float)
    ends = np.sort(random.uniform(0, 1, (count, 2, 2)), axis=1) * sizes[:, None]
    low, high = np.floor(ends[:, 0]), np.ceil(ends[:, 1])
    return np.hstack((low, high - low)), sizes


@given(st.integers(0, 10**6))
def test_boxes_inside_are_never_refused(seed: int) -> None:
    boxes, sizes = random_boxes(seed)
    assert check(boxes, sizes, np.prod(boxes[:, 2:], 1)) == []
    assert check(boxes, sizes, 0.6 * np.prod(boxes[:, 2:], 1)) == []  # of outlines


@given(st.integers(0, 10**6))
def test_other_forms_are_named(seed: int) -> None:
    boxes, sizes = random_boxes(seed)
    low, wide = boxes[:, :2], boxes[:, 2:]
    for other, named in (
        (boxes / np.hstack((sizes, sizes)), "as if in shares of it"),
        (np.hstack((low, low + wide)), "as if they were x1, y1, x2, y2"),
        (np.hstack((low + wide / 2, wide)), "as if they were x and y of the centre, width, height"),
    ):
        with pytest.raises(UserError, match=named):
            check(other, sizes)


def test_a_few_strange_boxes_are_noted() -> None:
    boxes, sizes = random_boxes(0)
    boxes[0], boxes[1] = [0.1, 0.2, 0.3, 0.4], [5, 5, 9999, 9999]
    assert check(boxes, sizes) == [
        "boxes.json has 1 of 40 boxes in the first pixel of their image, as if in shares of it",
        "boxes.json has 1 of 40 boxes that reach outside their image; they are cut off",
    ]


def test_percent_is_noted() -> None:
    boxes, sizes = random_boxes(0)
    shares = boxes / np.hstack((sizes, sizes))
    assert any("make sure that they are not percent" in note for note in check(100 * shares, sizes))
    assert check(boxes[:0], sizes[:0]) == []


def test_whole_numbers_in_the_first_pixel_are_no_shares() -> None:
    assert check(np.tile([0.0, 0, 1, 1], (3, 1)), np.full((3, 2), 30.0)) == []
