"""Search for the units of a supernet that stay, and for the best answers to open decisions."""

from .baselines import CostRange, Evolution, evolve, random_networks
from .connection_baselines import (
    can_be_scored,
    evaluate_schemes,
    every_scheme,
    genetic_search,
    keep_largest,
    module_scores,
    periodic_scheme,
    random_search,
    search_by_ratio,
)
from .connection_policy import Judge, SearchStep, enas_settings, policy_search
from .importance import IMPORTANCES, gate_gradients, rank_within_groups, scale_magnitudes
from .penalty import Penalty, expected_shrinkage, rho_at, unit_weights
from .policy import Baseline, Policy, SampledNetworks, auto_lr, lr_at, warmup_at
from .rewards import REWARDS, Reward, Trend, connection_reward, find_reward, fit_trend
from .selection import WidthRule, min_units, select_to_cost, select_units, width_rules
from .shrink import fold_constants, slice_tensors
from .space import Genotype, Space

__all__ = [
    "IMPORTANCES",
    "REWARDS",
    "Baseline",
    "CostRange",
    "Evolution",
    "Genotype",
    "Judge",
    "Penalty",
    "Policy",
    "Reward",
    "SampledNetworks",
    "SearchStep",
    "Space",
    "Trend",
    "WidthRule",
    "auto_lr",
    "can_be_scored",
    "connection_reward",
    "enas_settings",
    "evaluate_schemes",
    "every_scheme",
    "evolve",
    "expected_shrinkage",
    "find_reward",
    "fit_trend",
    "fold_constants",
    "gate_gradients",
    "genetic_search",
    "keep_largest",
    "lr_at",
    "min_units",
    "module_scores",
    "periodic_scheme",
    "policy_search",
    "random_networks",
    "random_search",
    "rank_within_groups",
    "rho_at",
    "scale_magnitudes",
    "search_by_ratio",
    "select_to_cost",
    "select_units",
    "slice_tensors",
    "unit_weights",
    "warmup_at",
    "width_rules",
]
