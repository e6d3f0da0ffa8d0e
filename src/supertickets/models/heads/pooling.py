"""The head of a classifier: the mean of the last map over its places."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class GlobalPool(nn.Module):
    """The mean of the last map.

    Shapes: input maps (B, C_i, H_i, W_i), finest first; output (B, C) of the last one.

    Args:
        dropout: Share of the means that a training step leaves out.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        means: Tensor = self.dropout(maps[-1].mean((2, 3)))
        return means
