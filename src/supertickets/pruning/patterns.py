"""Patterns of zeros: single weights, or blocks of output channels that share an input channel and a kernel position."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pattern:
    """The weights that are zero together.

    A weight (O, I, ...) is parted into blocks of neighbours along O. A layer with one input channel per output, as
    depthwise convolutions are, has no blocks: its outputs share no input.

    Attributes:
        block: Number of output channels of a block; 1 for single weights.
    """

    block: int = 1

    def pool_scores(self, scores: Tensor) -> Tensor:
        """Return the scores with every weight's replaced by the root mean square of its block's.

        Squares keep their signs, so that a block of scores below zero is below every other.

        Args:
            scores: Scores of a layer, shaped like its weight.
        """
        if not self._has_blocks(scores):
            return scores
        blocks = _split(scores, self.block)
        sizes = _split(torch.ones_like(scores), self.block).sum(1, keepdim=True)
        means = (blocks * blocks.abs()).sum(1, keepdim=True) / sizes
        return _join((means.sign() * means.abs().sqrt()).expand_as(blocks), scores)

    def complete(self, flags: Tensor) -> Tensor:
        """Return the flags of weights that stay, with the whole block of each.

        Args:
            flags: Flags of a layer, shaped like its weight.
        """
        if not self._has_blocks(flags):
            return flags
        blocks = _split(flags, self.block)
        return _join(blocks.any(1, keepdim=True).expand_as(blocks), flags)

    def _has_blocks(self, weight: Tensor) -> bool:
        return self.block > 1 and weight.ndim > 1 and weight.shape[1] > 1


def _split(values: Tensor, block: int) -> Tensor:
    """Return (blocks, block, I, ...) of (O, I, ...), filled up with zeros."""
    missing = -values.shape[0] % block
    filled = torch.cat([values, values.new_zeros(missing, *values.shape[1:])]) if missing else values
    return filled.unflatten(0, (-1, block))


def _join(blocks: Tensor, like: Tensor) -> Tensor:
    return blocks.flatten(0, 1)[: like.shape[0]].clone()
