"""The statistics of connections.py: the top of networks, how well shared weights foretell, how far searches come."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr
from torch import Tensor

_EVERY = 10  # samples between the points of a curve


def level_of_top(values: Sequence[float], share: float) -> float:
    """Return the value that this share of all values reaches: the lowest of the top."""
    return sorted(values, reverse=True)[max(1, round(share * len(values))) - 1]


def correlations(
    qualities: Mapping[str, Mapping[str, float]], alone: Mapping[str, Mapping[str, Any]], random: Sequence[str]
) -> dict[str, Any]:
    """Return the correlations of quality with shared weights and accuracy on test when trained alone.

    Args:
        qualities: Of schemes with shared weights, per pre-training and way to judge.
        alone: Schemes that were trained.
        random: Those of them that were not chosen by their quality.
    """
    tables: dict[str, Any] = {}
    for name, schemes in (("random", list(random)), ("all", list(alone))):
        test = [alone[scheme]["test"] for scheme in schemes]
        tables[name] = {
            "schemes": len(schemes),
            "mean": float(np.mean(test)),
            "deviation": float(np.std(test, ddof=1)),
            "lowest": min(test),
            "highest": max(test),
        }
        for key, values in qualities.items():
            shared = [values[scheme] for scheme in schemes]
            r, rho = pearsonr(shared, test), spearmanr(shared, test)
            tables[name][key] = {"pearson": float(r.statistic), "p": float(r.pvalue), "spearman": float(rho.statistic)}
    return tables


def progress(seen: Sequence[Tensor], rewards: Tensor) -> list[float]:
    """Return the mean over searches of the best reward so far, 0 at the mean of all schemes and 1 at the best of all.

    Args:
        seen: Rewards of the samples of every search, in order.
        rewards: Of all schemes.
    """
    best = torch.stack([one.cummax(0).values for one in seen]).mean(0)[_EVERY - 1 :: _EVERY]
    return ((best - rewards.mean()) / (rewards.max() - rewards.mean())).tolist()
