"""Weight pruning: criteria, masks, and the sparsity of a run as one value."""

from .magnitude import check_ratio, empty_layers, magnitude_mask
from .state import Enforcer, SparseState, prune, restore

__all__ = ["Enforcer", "SparseState", "check_ratio", "empty_layers", "magnitude_mask", "prune", "restore"]
