"""Weight pruning: criteria, masks, and the sparsity of a run as one value."""

from .criteria import CRITERIA, Criterion, CriterionContext, check_criterion, check_scores, find_criterion
from .masks import NORMALISERS, empty_layers, magnitudes, protected_weights, sensitivities
from .patterns import Pattern
from .scopes import SCOPES, Scope, check_ratio, count_protected, keep_best, magnitude_mask
from .sparse_state import Enforcer, SparseState, mask_sparsity, restore, store_pruned

__all__ = [
    "CRITERIA",
    "NORMALISERS",
    "SCOPES",
    "Criterion",
    "CriterionContext",
    "Enforcer",
    "Pattern",
    "Scope",
    "SparseState",
    "check_criterion",
    "check_ratio",
    "check_scores",
    "count_protected",
    "empty_layers",
    "find_criterion",
    "keep_best",
    "magnitude_mask",
    "magnitudes",
    "mask_sparsity",
    "protected_weights",
    "restore",
    "sensitivities",
    "store_pruned",
]
