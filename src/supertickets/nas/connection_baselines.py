"""Baselines of the policy with curiosity, where nothing learns from gradients (LTH4SA, Tables I and III).

Shapes: S schemes, M blocks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from ..config.search_settings import ConnectSettings
from ..errors import UserError
from .connection_policy import Judge, SearchStep
from .rewards import connection_reward

_POPULATION = 20  # schemes that live at a time


def evaluate_schemes(schemes: Tensor, judge: Judge, settings: ConnectSettings) -> SearchStep:
    """Return the record of a step that samples no scheme by a controller."""
    quality = judge(schemes)
    reward = connection_reward(schemes, quality, settings.sparsity, settings.accuracy)
    return SearchStep(schemes, quality, reward, torch.zeros(len(schemes), dtype=torch.float64))


def random_search(blocks: int, judge: Judge, settings: ConnectSettings, seed: int) -> list[SearchStep]:
    """Draw every connection with the same probability."""
    generator = torch.Generator().manual_seed(seed)
    return [
        evaluate_schemes(
            torch.rand(settings.samples, blocks, generator=generator) < settings.probability, judge, settings
        )
        for _ in range(settings.steps)
    ]


def genetic_search(blocks: int, judge: Judge, settings: ConnectSettings, seed: int) -> list[SearchStep]:
    """Search by a genetic algorithm; every step has as many children as a step of the controller has samples.

    A child takes every connection from one of two parents, each the better of two living schemes; then it changes one
    connection in the mean. The best schemes live on. The first ones are drawn at random.
    """
    generator = torch.Generator().manual_seed(seed)
    seen: list[SearchStep] = []
    alive = torch.empty(0, blocks, dtype=torch.bool)
    fitness = torch.empty(0, dtype=torch.float64)

    def pick() -> Tensor:
        pairs = torch.randint(len(alive), (settings.samples, 2), generator=generator)
        return alive[pairs.gather(1, fitness[pairs].argmax(1, keepdim=True))[:, 0]]

    def chance(probability: float) -> Tensor:
        return torch.rand(settings.samples, blocks, generator=generator) < probability

    for _ in range(settings.steps):
        if len(alive) < _POPULATION:
            children = chance(settings.probability)
        else:
            children = torch.where(chance(0.5), pick(), pick()) ^ chance(1 / blocks)
        seen.append(evaluate_schemes(children, judge, settings))
        alive, fitness = torch.cat([alive, children]), torch.cat([fitness, seen[-1].reward])
        alive, places = torch.unique(alive, dim=0, return_inverse=True)  # twins count once
        fitness = torch.empty(len(alive), dtype=torch.float64).scatter_(0, places, fitness)
        best = fitness.argsort(descending=True, stable=True)[:_POPULATION]
        alive, fitness = alive[best], fitness[best]
    return seen


def periodic_scheme(blocks: int, period: int) -> Tensor:
    """Return schemes that connect every ``period``-th block, one for every place to begin, (period, M)."""
    return torch.arange(blocks)[None] % period == torch.arange(period)[:, None]


def every_scheme(blocks: int) -> Tensor:
    """Return all schemes, counted up as binary numbers, the first block first; (2^M, M)."""
    return (torch.arange(2**blocks)[:, None] >> torch.arange(blocks - 1, -1, -1)) % 2 == 1


def keep_largest(scores: Tensor, share: float) -> Tensor:
    """Return the scheme that connects floor(share M) blocks with the largest scores, (M,).

    Raises:
        UserError: The scores are all equal.
    """
    if len(scores) > 1 and bool((scores == scores[0]).all()):
        raise UserError("the attention modules of all blocks have the same score; take another --by")
    scheme = torch.zeros(len(scores), dtype=torch.bool)
    scheme[scores.argsort(descending=True, stable=True)[: int(share * len(scores))]] = True
    return scheme


def schemes_with_ratio(blocks: int, ratio: float, most: int, generator: torch.Generator) -> Tensor:
    """Draw different schemes with a ratio of connections (rounded down); all if there are at most ``most``."""
    number = int(ratio * blocks + 1e-9)
    if math.comb(blocks, number) <= most:
        chosen = itertools.combinations(range(blocks), number)
        return torch.tensor([[block in some for block in range(blocks)] for some in chosen])
    schemes: dict[tuple[bool, ...], None] = {}
    while len(schemes) < most:
        rows = torch.rand(most, blocks, generator=generator).argsort(1) < number
        schemes |= dict.fromkeys(map(tuple, rows.tolist()))
    return torch.tensor(list(schemes)[:most])


def search_by_ratio(blocks: int, judge: Judge, settings: ConnectSettings, seed: int) -> list[SearchStep]:
    """Judge no connection and all of them, then some schemes of every ratio (Sec. III), a step each."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.tensor([[False], [True]]).expand(-1, blocks)
    parts = [schemes_with_ratio(blocks, ratio, settings.each, generator) for ratio in settings.ratios]
    return [evaluate_schemes(schemes, judge, settings) for schemes in (ends, *parts)]


def module_scores(modules: Sequence[Mapping[str, Tensor]], by: Literal["l1", "median"]) -> Tensor:
    """Score modules by their weights (`can_be_scored`); biases and the scales of norms have no say.

    Args:
        modules: Parameters by name, per module.
        by: "l1": the sum of magnitudes. "median": the distances of filters from the others, summed: a filter close to
            the geometric median of a layer is one that the others can replace (He et al., 2019).
    """
    score = _distances if by == "median" else lambda weight: weight.abs().sum()
    sums = [
        sum(score(p.detach().double()) for name, p in module.items() if can_be_scored(name, p)) for module in modules
    ]
    return torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in sums])


def can_be_scored(name: str, parameter: Tensor) -> bool:
    """Return whether a parameter is a weight that modules are scored by."""
    return parameter.dim() > 1 and not name.endswith("bias")


def _distances(weight: Tensor) -> Tensor:
    """Return, summed over filters, the mean distance to all filters of their layer."""
    filters = weight.flatten(1)
    return torch.cdist(filters, filters).mean(1).sum()
