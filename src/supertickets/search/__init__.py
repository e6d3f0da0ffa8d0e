"""Search: which units of a supernet stay, and which answers to open decisions are best."""

from .connections import Step, explore
from .penalty import Penalty, reach, rho_at, unit_weights
from .policy import Baseline, Draws, Policy, lr_at, lr_for, warmup_at
from .rewards import Trend, connection_reward, reward, trend
from .rivals import Window, evolve, random_networks
from .shrink import fold_constants, select_units, slice_tensors, units_at_least
from .space import Genotype, Space

__all__ = [
    "Baseline",
    "Draws",
    "Genotype",
    "Penalty",
    "Policy",
    "Space",
    "Step",
    "Trend",
    "Window",
    "connection_reward",
    "evolve",
    "explore",
    "fold_constants",
    "lr_at",
    "lr_for",
    "random_networks",
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
