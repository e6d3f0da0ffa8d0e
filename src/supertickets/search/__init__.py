"""Search: which units of a supernet stay."""

from .penalty import Penalty, reach, rho_at, unit_weights
from .shrink import fold_constants, select_units, slice_tensors, units_at_least

__all__ = [
    "Penalty",
    "fold_constants",
    "reach",
    "rho_at",
    "select_units",
    "slice_tensors",
    "unit_weights",
    "units_at_least",
]
