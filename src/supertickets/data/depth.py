"""Images of 10 to 14 bits that are stored in 16: they would become nearly black images of a few levels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError
from .preprocessing import BrokenImage, open_file

_LOOKED_AT = 32  # images of a set
_DARK = 1 << 13  # values below this fill no more than an eighth of 16 bits


def check_depth(paths: Sequence[Path]) -> None:
    """Check that 16-bit images of a set use their range; some, spread over all, are looked at.

    Raises:
        UserError: None of them has a value of more than 13 bits.
    """
    check_values_of(_opened(paths[:: -(-len(paths) // _LOOKED_AT) or 1]))


def check_values_of(images: Iterable[tuple[object, Image.Image]]) -> None:
    """Check images that are given with their names; see `check_depth`."""
    largest = {name: int(np.asarray(image).max(initial=0)) for name, image in images if image.mode.startswith("I;16")}
    if not largest or (most := max(largest.values())) >= _DARK:
        return
    bits = max(most, 1).bit_length()
    raise UserError(
        f"images of 16 bits, such as {next(iter(largest))}, hold values up to {most} only, {bits} of their bits: "
        f"they would be nearly black; multiply them by {1 << 16 - bits}, so that white is 65535"
    )


def _opened(paths: Iterable[Path]) -> Iterator[tuple[Path, Image.Image]]:
    for path in paths:
        with contextlib.suppress(BrokenImage), open_file(path) as image:
            if image.mode.startswith("I;16"):
                image.load()
                yield path, image
