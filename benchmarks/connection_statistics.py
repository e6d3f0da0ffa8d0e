"""What connections.py works out: who is a ticket, how well shared weights foretell, what good schemes share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import linregress, pearsonr, spearmanr
from torch import Tensor

from supertickets.search import every_scheme

RATIOS = (0.2, 0.4, 0.6, 0.8)
_EVERY = 10  # samples between the points of a curve
_TOP = 0.05  # share of schemes that count as good, and as bad


def choose(candidates: Sequence[str], alone: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The candidate that is best on the validation split when trained alone; of equals the first; None if none was."""
    trained = [scheme for scheme in candidates if scheme in alone]
    return max(trained, key=lambda scheme: alone[scheme]["validation"], default=None)


def is_ticket(one: Mapping[str, Any], full: Mapping[str, Any]) -> bool:
    """Whether a network is smaller than the one with all connections, and not worse on test."""
    return bool(one["params"] < full["params"] and one["test"] >= full["test"])


def periodicity(scheme: str) -> dict[str, float]:
    """The period of a scheme, from 1 to 4 blocks, by which most blocks are like the one before; and their share."""
    alike = {
        period: sum(one == other for one, other in zip(scheme, scheme[period:], strict=False)) / (len(scheme) - period)
        for period in range(1, 5)
    }
    best = max(alike, key=lambda period: (alike[period], -period))
    return {"period": best, "share": alike[best]}


def correlations(
    qualities: Mapping[str, Mapping[str, float]], alone: Mapping[str, Mapping[str, Any]], random: Sequence[str]
) -> dict[str, Any]:
    """Between a scheme's quality with shared weights and its accuracy on test when trained alone.

    Args:
        qualities: Of schemes with shared weights, per pre-training and way to judge.
        alone: Schemes that were trained.
        random: Those of them that were not chosen by their quality.
    """
    found: dict[str, Any] = {}
    for name, schemes in (("random", list(random)), ("all", list(alone))):
        test = [alone[scheme]["test"] for scheme in schemes]
        found[name] = {
            "schemes": len(schemes),
            "mean": float(np.mean(test)),
            "deviation": float(np.std(test, ddof=1)),
            "lowest": min(test),
            "highest": max(test),
        }
        for key, values in qualities.items():
            shared = [values[scheme] for scheme in schemes]
            r, rho = pearsonr(shared, test), spearmanr(shared, test)
            found[name][key] = {"pearson": float(r.statistic), "p": float(r.pvalue), "spearman": float(rho.statistic)}
    return found


def evidence(quality: Tensor, params: Tensor) -> dict[str, Any]:
    """The study of Sec. III with shared weights: schemes by ratio of connections, and the blocks of good and bad ones.

    Args:
        quality: Of all schemes by binary number, (2^M,).
        params: Of their networks, (2^M,).
    """
    blocks = (len(quality) - 1).bit_length()
    flags = every_scheme(blocks)
    number = flags.sum(1)
    full, plain = quality[-1], quality[0]
    ratios = {}
    for ratio in RATIOS:
        of_ratio = number == int(ratio * blocks)
        some = quality[of_ratio]
        ratios[str(ratio)] = {
            "connections": int(ratio * blocks),
            "schemes": len(some),
            "quality": [float(some.min()), float(some.mean()), float(some.max())],
            "params": [int(params[of_ratio].min()), int(params[of_ratio].max())],
            "above_full": float((some > full).double().mean()),
            "below_plain": float((some < plain).double().mean()),
        }
    order = quality.argsort(descending=True)
    some = max(2, int(_TOP * len(quality)))
    parts = {"best": flags[order[:some]], "worst": flags[order[-some:]]}
    return {
        "full": float(full),
        "plain": float(plain),
        "deviation": float(quality.std()),
        "above_full": float((quality > full).double().mean()),
        "below_plain": float((quality < plain).double().mean()),
        "ratios": ratios,
        "scores": {name: scores(rows) for name, rows in parts.items()},
        "quality_per_connection": line(number.double(), quality),
    }


def scores(flags: Tensor) -> dict[str, Any]:
    """Connection scores of blocks (Eq. 5), and the line through them over the blocks."""
    mean = flags.double().mean(0)
    return {"by_block": mean.tolist(), **line(torch.arange(1, len(mean) + 1).double(), mean)}


def line(x: Tensor, y: Tensor) -> dict[str, float]:
    """Slope of the least-squares line, its standard error, and the chance of such a slope without a trend."""
    found = linregress(x.numpy(), y.numpy())
    return {"slope": float(found.slope), "error": float(found.stderr), "p": float(found.pvalue)}


def progress(seen: Sequence[Tensor], rewards: Tensor) -> list[float]:
    """Mean over searches of the best reward so far, 0 at the mean of all schemes and 1 at the best of all.

    Args:
        seen: Rewards of the samples of every search, in order.
        rewards: Of all schemes.
    """
    best = torch.stack([one.cummax(0).values for one in seen]).mean(0)[_EVERY - 1 :: _EVERY]
    return ((best - rewards.mean()) / (rewards.max() - rewards.mean())).tolist()
