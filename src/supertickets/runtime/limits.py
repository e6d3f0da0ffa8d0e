"""The largest values of a graph: a file must not ask for more memory than there is."""

from __future__ import annotations

import math
from collections.abc import Sequence

LARGEST = 2**28  # elements of a value


def check_count(shape: Sequence[int]) -> None:
    """Refuse a shape with too many elements.

    Raises:
        ValueError: There are more than `LARGEST`.
    """
    if math.prod(shape) > LARGEST:
        raise ValueError(f"a value of {' x '.join(map(str, shape))} is too large")
