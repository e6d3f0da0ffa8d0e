"""Search: which units of a supernet stay, and which answers to open decisions are best."""

from .connections import Judge, Step, enas_settings, explore
from .penalty import Penalty, reach, rho_at, unit_weights
from .policy import Baseline, Draws, Policy, lr_at, lr_for, warmup_at
from .rewards import Trend, connection_reward, reward, trend
from .rivals import Window, evolve, random_networks
from .schemes import (
    by_ratio,
    can_be_scored,
    every_scheme,
    genetic,
    judged,
    keep_largest,
    module_scores,
    periodic,
    random_schemes,
)
from .shrink import fold_constants, select_units, slice_tensors, units_at_least
from .space import Genotype, Space

__all__ = [
    "Baseline",
    "Draws",
    "Genotype",
    "Judge",
    "Penalty",
    "Policy",
    "Space",
    "Step",
    "Trend",
    "Window",
    "by_ratio",
    "can_be_scored",
    "connection_reward",
    "enas_settings",
    "every_scheme",
    "evolve",
    "explore",
    "fold_constants",
    "genetic",
    "judged",
    "keep_largest",
    "lr_at",
    "lr_for",
    "module_scores",
    "periodic",
    "random_networks",
    "random_schemes",
    "reach",
    "reward",
    "rho_at",
    "select_units",
    "slice_tensors",
    "trend",
    "unit_weights",
    "units_at_least",
    "warmup_at",
]
