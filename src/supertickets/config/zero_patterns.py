"""Names of the patterns of zeros; plain, so that recipes are checked without PyTorch."""

from __future__ import annotations

import re

from ..errors import UserError

_LARGEST = 64  # output channels of a block


def pattern_block(name: str) -> int:
    """Return the number of output channels that are zero together in a pattern; 1 for "unstructured".

    Args:
        name: "unstructured", or "block:N".

    Raises:
        UserError: There is no such pattern.
    """
    if name == "unstructured":
        return 1
    if (match := re.fullmatch(r"block:(\d+)", name)) and 2 <= (block := int(match[1])) <= _LARGEST:
        return block
    raise UserError(
        f"prune.pattern={name} is unknown; use unstructured, or block:N with N output channels from 2 to {_LARGEST}"
    )
