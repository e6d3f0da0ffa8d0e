"""Weight pruning: criteria, masks, and the sparsity of a run as one value."""

from .criteria import CRITERIA, Criterion, CriterionContext, check_criterion, check_scores, find_criterion
from .masks import check_ratio, empty_layers, keep_best, magnitude_mask, magnitudes, sensitivities
from .sparse_state import Enforcer, SparseState, prune, restore

__all__ = [
    "CRITERIA",
    "Criterion",
    "CriterionContext",
    "Enforcer",
    "SparseState",
    "check_criterion",
    "check_ratio",
    "check_scores",
    "empty_layers",
    "find_criterion",
    "keep_best",
    "magnitude_mask",
    "magnitudes",
    "prune",
    "restore",
    "sensitivities",
]
