"""Weight pruning: criteria, masks, and the sparsity of a run as one value."""

from .criteria import CRITERIA, WITHOUT_DATA, Criterion, Probe, checked, find_criterion
from .masks import check_ratio, empty_layers, keep_best, magnitude_mask, magnitudes, sensitivities
from .state import Enforcer, SparseState, prune, restore

__all__ = [
    "CRITERIA",
    "WITHOUT_DATA",
    "Criterion",
    "Enforcer",
    "Probe",
    "SparseState",
    "check_ratio",
    "checked",
    "empty_layers",
    "find_criterion",
    "keep_best",
    "magnitude_mask",
    "magnitudes",
    "prune",
    "restore",
    "sensitivities",
]
