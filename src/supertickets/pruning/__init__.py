"""Weight pruning: criteria, masks, and the sparsity of a run as one value."""

from .masks import check_ratio, empty_layers, keep_best, magnitude_mask, magnitudes, sensitivities
from .state import Enforcer, SparseState, prune, restore

__all__ = [
    "Enforcer",
    "SparseState",
    "check_ratio",
    "empty_layers",
    "keep_best",
    "magnitude_mask",
    "magnitudes",
    "prune",
    "restore",
    "sensitivities",
]
