"""Search for connection schemes: a policy with curiosity (LTH4SA, Sec. IV and Algorithm 1).

A scheme says which blocks stay connected to their attention modules.

Shapes: S schemes, M blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from ..config.search_settings import ConnectSettings
from .controllers import Controller, RecurrentController
from .policy import Baseline
from .rewards import connection_reward

_INSIDE = 32  # of the networks of the distillation
_KEPT, _FIRST = 30, 10  # steps that are kept for reuse, and that pass before it begins
_SHARE, _CLIP = 0.1, 0.1  # of the clipped reuse

Judge = Callable[[Tensor], Tensor]  # bool (S, M) -> quality from 0 to 1, float64 (S,)


class Curiosity:
    """Random network distillation: a scheme is new as far as a network has not learned what a fixed one says of it."""

    def __init__(self, blocks: int, settings: ConnectSettings) -> None:
        self.target = nn.Sequential(*_layers(blocks, _INSIDE, _INSIDE, 4 * blocks)).requires_grad_(False)
        self.predictor = nn.Sequential(*_layers(blocks, _INSIDE, 4 * blocks))
        self.optimizer = make_controller_optimizer(self.predictor, settings)

    def bonus(self, schemes: Tensor) -> Tensor:
        """Return squared distances (S,), from which the predictor has learned afterwards."""
        distances = (self.predictor(schemes.double()) - self.target(schemes.double())).square().sum(1)
        self.optimizer.zero_grad()
        distances.sum().backward()
        self.optimizer.step()
        return distances.detach()


class SearchStep(NamedTuple):
    """A step of the controller, as it saw it.

    Attributes:
        schemes: bool, (S, M).
        quality: (S,).
        reward: Reward of sparsity and quality, (S,).
        bonus: Bonus of curiosity, with its weight, (S,).
        probability: Mean over blocks of the probability of what was sampled, which tells how sure the controller is;
            None if there is none.
    """

    schemes: Tensor
    quality: Tensor
    reward: Tensor
    bonus: Tensor
    probability: float | None = None


@dataclass(frozen=True)
class _Replay:
    """A step that may be learned from again: the log-probability of every answer then, (S, M)."""

    schemes: Tensor
    reward: Tensor
    log_p: Tensor


def policy_search(blocks: int, judge: Judge, settings: ConnectSettings, seed: int) -> list[SearchStep]:
    """Let the controller learn; random numbers are its own.

    Args:
        blocks: Number of blocks, M.
        judge: Function that tells the quality of schemes.
        settings: Rates, weights and number of steps.
        seed: Seed of all random numbers.

    Returns:
        The steps, in order.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        make = RecurrentController if settings.by == "enas" else Controller
        controller, curiosity = make(blocks, settings.temperature), Curiosity(blocks, settings)
    generator = torch.Generator().manual_seed(seed)
    optimizer = make_controller_optimizer(controller, settings)
    baseline: Baseline | None = None
    seen: list[SearchStep] = []
    stored: list[_Replay] = []
    for number in range(settings.steps):
        schemes = controller.sample(settings.samples, generator)
        quality = judge(schemes)
        reward = connection_reward(schemes, quality, settings.sparsity, settings.accuracy)
        bonus = settings.curiosity * curiosity.bonus(schemes)
        total = reward + bonus
        own = controller.answers(schemes)
        average = 0.0
        if settings.baseline is not None:
            baseline = baseline or Baseline(settings.baseline, float(total.mean()), 1.0)
            average = baseline.update(float(total.mean()))
        _ascend(optimizer, ((total - average) * own.sum(1)).mean())
        seen.append(SearchStep(schemes, quality, reward, bonus, float(own.detach().exp().mean())))
        kept = total if settings.reuse == "paper" else reward  # the released code forgets what was new then
        stored = [*stored, _Replay(schemes, kept, own.detach())][-_KEPT:]
        if settings.reuse != "none" and number >= _FIRST:
            past = stored[int(torch.randint(len(stored), (), generator=generator))]
            _ascend(
                optimizer, reuse_factor(controller.answers(past.schemes), past.log_p, past.reward - average, settings)
            )
    return seen


def enas_settings(settings: ConnectSettings) -> ConnectSettings:
    """Return settings of ENAS: a recurrent controller, rewarded for accuracy alone, that learns from steps once."""
    return replace(settings, by="enas", sparsity=0.0, curiosity=0.0, reuse="none")


def reuse_factor(log_p: Tensor, before: Tensor, advantage: Tensor, settings: ConnectSettings) -> Tensor:
    """Return what is climbed when a step is learned from again: answers count by how likely they have become (Eq. 31).

    Args:
        log_p: Log-probabilities of the answers now, with their graph, (S, M).
        before: The same when they were sampled, (S, M).
        advantage: Rewards of the schemes above their average, (S,).
        settings: Settings that say whether ratios are clipped.
    """
    ratio = (log_p.detach() - before).exp()
    plain = (advantage * (ratio * log_p).sum(1)).mean()
    if settings.reuse == "paper":
        return plain
    clipped = (advantage * (ratio.clamp(1 - _CLIP, 1 + _CLIP) * log_p).sum(1)).mean()
    return _SHARE * torch.minimum(plain, clipped)


def make_controller_optimizer(module: nn.Module, settings: ConnectSettings) -> Optimizer:
    """Make the optimizer of controller and distillation."""
    if settings.optimizer == "adam":
        return Adam(module.parameters(), lr=settings.lr)
    return SGD(module.parameters(), lr=settings.lr, momentum=0.9)


def _layers(*widths: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for narrow, wide in itertools.pairwise(widths):
        layers += [nn.Linear(narrow, wide).double(), nn.ReLU()]
    return layers[:-1]


def _ascend(optimizer: Optimizer, height: Tensor) -> None:
    optimizer.zero_grad()
    (-height).backward()
    optimizer.step()
