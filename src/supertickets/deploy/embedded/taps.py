"""Weights that are not zero, as the C kernels take them: 16-bit steps from one to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_LARGEST = 2**16 - 1


@dataclass(frozen=True)
class Steps:
    """Taps of several blocks.

    Attributes:
        begins: First tap of every block, and the end of the last (blocks + 1).
        starts: Offset of the first tap of every block (blocks,).
        steps: Difference of the offset of every tap to that of the one before it; 0 for the first of a block (taps,).
        weights: Weights of every tap (taps, channels of a block).
    """

    begins: Array
    starts: Array
    steps: Array
    weights: Array


def encode_taps(begins: Array, offsets: Array, weights: Array) -> Steps:
    """Return taps in the order of their offsets; taps of weight zero stand where a step would not fit into 16 bits."""
    counts = np.diff(begins)
    block = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((offsets, block))
    offsets, weights = offsets[order].astype(np.int64), weights[order]
    first = np.flatnonzero(np.diff(block, prepend=-1))
    starts = np.zeros(len(counts), np.int32)
    starts[block[first]] = offsets[first]
    gaps = np.diff(offsets, prepend=0)
    gaps[first] = 0
    extra = np.maximum(gaps - 1, 0) // _LARGEST
    last = np.cumsum(extra + 1) - 1
    steps = np.full(int((extra + 1).sum()), _LARGEST, np.uint16)
    steps[last] = gaps - extra * _LARGEST
    filled = np.zeros((len(steps), weights.shape[1]), np.float32)
    filled[last] = weights
    ends = np.cumsum(np.bincount(block, extra + 1, len(counts)).astype(np.int64))
    return Steps(np.concatenate([[0], ends]).astype(np.int32), starts, steps, filled)


def encode_matrix(matrix: Array) -> Steps:
    """Return the weights of a matrix (inputs, outputs) that are not zero by column; all start at the first row."""
    column, row = np.nonzero(matrix.T)
    counts = np.bincount(column, minlength=matrix.shape[1])
    begins = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    steps = np.diff(row, prepend=0)
    first = begins[:-1][counts > 0]
    steps[first] = row[first]
    return Steps(begins, np.zeros(len(counts), np.int32), steps.astype(np.uint16), matrix[row, column][:, None])
