"""The controller: one categorical distribution per decision, learned by REINFORCE (TuNAS, Sec. 4 and released code).

Shapes: S samples, D decisions, K options of the largest decision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..config.search_settings import PolicySettings
from ..models.base import Choice
from .space import Space

_WAY = 130.0  # of 2,000 steps from 0.003 to 0.3, which found what was known (docs/results.md)

Average = Callable[[Sequence[Tensor]], object]  # over all processes, in place


def lr_at(step: int, steps: int, settings: PolicySettings) -> float:
    """Return the learning rate of a step, counted from 0; ``settings.lr`` is a number."""
    assert settings.lr is not None
    start = settings.delay * steps
    if step < start:
        return 0.0
    return settings.lr * float(settings.growth ** ((step - start) / (steps - start)))


def auto_lr(steps: int, settings: PolicySettings) -> float:
    """Return the rate that lets the logits go as far in any number of steps: the sum of all rates is `_WAY`."""
    rates = sum(lr_at(step, steps, replace(settings, lr=1.0)) for step in range(steps))
    return _WAY / rates if rates else 0.0


def warmup_at(step: int, steps: int, settings: PolicySettings) -> float:
    """Return the probability that a decision is replaced in a step, counted from 0."""
    length = settings.warmup * steps
    return max(0.0, 1 - step / length) if length else 0.0


@dataclass(frozen=True)
class SampledNetworks:
    """Sampled networks.

    Attributes:
        indices: The option of every decision, (S, D).
        replaced: Flags of decisions where warm-up put the mean of all options (op) or the largest one (filters) in
            place, (S, D).
        active: Flags of the decisions that mean anything, (S, D).
    """

    indices: Tensor
    replaced: Tensor
    active: Tensor


@dataclass
class Baseline:
    """A moving average of rewards without the bias of its start at 0.

    Attributes:
        momentum: Share of the past.
        total: Weighted sum of rewards.
        weight: Sum of the weights.
    """

    momentum: float
    total: float = 0.0
    weight: float = 0.0

    def update(self, reward: float) -> float:
        """Take a reward in, and return the average."""
        self.total = self.momentum * self.total + (1 - self.momentum) * reward
        self.weight = self.momentum * self.weight + (1 - self.momentum)
        return self.total / self.weight


@dataclass
class Policy:
    """The distributions and what is needed to go on learning them.

    Attributes:
        space: The decisions.
        settings: Rates and warm-ups.
        logits: (D, K), minus infinity where a decision has fewer options.
        second: Moving mean of squared gradients, (D, K).
        baseline: Moving average of the rewards.
        updates: Number of updates so far; the second moment's bias is corrected by it.
    """

    space: Space
    settings: PolicySettings = field(default_factory=PolicySettings)
    logits: Tensor = field(init=False)
    second: Tensor = field(init=False)
    baseline: Baseline = field(init=False)
    updates: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        counts = torch.tensor([len(decision.options) for decision in self.space.decisions])
        beyond = torch.arange(int(counts.max())) >= counts[:, None]
        self.logits = torch.zeros(beyond.shape, dtype=torch.float64).masked_fill(beyond, -torch.inf)
        self.second = torch.zeros_like(self.logits)
        self.baseline = Baseline(self.settings.baseline_momentum)
        self._is_op = torch.tensor([decision.kind == "op" for decision in self.space.decisions])
        self._largest = torch.tensor([d.options.index(max(d.options)) for d in self.space.decisions])

    def probabilities(self) -> Tensor:
        """Return probabilities (D, K), 0 where there is no option."""
        return self.logits.softmax(dim=1)

    def sample(self, count: int, generator: torch.Generator, warmup: float = 0.0) -> SampledNetworks:
        """Draw networks.

        Args:
            count: Number of networks, S.
            generator: Source of random numbers.
            warmup: Probability that a decision is replaced, each for itself.
        """
        indices = torch.multinomial(self.probabilities(), count, replacement=True, generator=generator).T.contiguous()
        replaced = torch.rand(indices.shape, generator=generator) < warmup
        replaced &= torch.where(self._is_op, self.settings.op_warmup, self.settings.filter_warmup)
        indices = torch.where(replaced & ~self._is_op, self._largest, indices)
        return SampledNetworks(indices, replaced, self.space.active(indices, replaced & self._is_op))

    def choices(self, draws: SampledNetworks) -> list[dict[str, Choice | None]]:
        """Return the answers for a network with shared weights, None where all options are averaged."""
        averaged = (draws.replaced & self._is_op).tolist()
        rows: list[dict[str, Choice | None]] = []
        for row, used, whole in zip(draws.indices.tolist(), draws.active.tolist(), averaged, strict=True):
            answers = zip(self.space.decisions, row, used, whole, strict=True)
            rows.append({d.name: None if mean else d.options[i] for d, i, on, mean in answers if on})
        return rows

    def log_probabilities(self, draws: SampledNetworks, warmup: float = 0.0) -> Tensor:
        """Return the log-probability of samples, (S,): decisions that mean nothing do not count."""
        chosen = self.logits.log_softmax(dim=1).expand(len(draws.indices), -1, -1)
        own = chosen.gather(2, draws.indices[..., None])[..., 0]
        can_be = torch.where(self._is_op, self.settings.op_warmup, self.settings.filter_warmup)
        share = torch.where(can_be, warmup, 0.0).double()
        own = torch.where(draws.replaced, share.log(), own + (1 - share).log())
        return torch.where(draws.active, own, 0.0).sum(dim=1)

    def entropy(self) -> float:
        """Return the entropy of networks in nats: of each decision, times the probability that it means anything."""
        p, log_p = self.probabilities(), self.logits.log_softmax(dim=1)
        own = -torch.where(p > 0, p * log_p, 0.0).sum(dim=1)
        return float((own * self._reached(p)).sum())

    def mean_probability(self) -> float:
        """Return the mean probability of the answers of the most probable network, over its open decisions."""
        best = self.most_probable()
        open_ = torch.tensor([len(decision.options) > 1 for decision in self.space.decisions])
        counts = self.space.active(torch.tensor([best]))[0] & open_
        return float(self.probabilities().max(dim=1).values[counts].mean())

    def _reached(self, p: Tensor) -> Tensor:
        reached = torch.ones(len(p), dtype=p.dtype)
        for place, outer, needed in self.space.parents:
            reached[place] = reached[outer] * p[outer, needed]
        return reached

    def most_probable(self) -> list[int]:
        """Return the most probable option of every decision, as an index list: the result of a search."""
        return [int(i) for i in self.logits.argmax(dim=1)]

    def update(self, draws: SampledNetworks, rewards: Tensor, lr: float, average: Average | None = None) -> float:
        """Learn from rewards; the average and Adam's moment are updated also while the learning rate is 0.

        Gradients are those of single samples, squared before they are averaged, as workers of the released code do.

        Args:
            draws: Sampled networks.
            rewards: Rewards of these, (S,).
            lr: Learning rate.
            average: Function that averages over processes; each has as many samples.

        Returns:
            The moving average of rewards, this one included.
        """
        mean = rewards.double().mean()
        if average is not None:
            average([mean])
        baseline = self.baseline.update(float(mean))
        advantage = rewards.double() - baseline
        counts = (draws.active & ~draws.replaced).double()
        hits = torch.nn.functional.one_hot(draws.indices, self.logits.shape[1])
        # Of -advantage * log-probability; the derivative of a log-softmax is (hit - probability).
        gradients = -advantage[:, None, None] * counts[..., None] * (hits - self.probabilities())
        first, squares = gradients.mean(dim=0), gradients.square().mean(dim=0)
        if average is not None:
            average([first, squares])
        settings = self.settings
        self.updates += 1
        self.second = settings.beta2 * self.second + (1 - settings.beta2) * squares
        size = (self.second / (1 - settings.beta2**self.updates)).sqrt() + settings.eps
        self.logits = self.logits - lr * first / size
        return baseline

    def best(self) -> dict[str, Choice]:
        """Return the most probable network as a genotype."""
        return self.space.genotype(self.most_probable())

    def tensors(self) -> dict[str, Tensor]:
        """Return tensors that are needed to go on."""
        return {"logits": self.logits, "second": self.second}

    def to_json(self) -> dict[str, Any]:
        """Return all else that is needed to go on."""
        return {"updates": self.updates, "baseline": [self.baseline.total, self.baseline.weight]}

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """Go on where `tensors` and `to_json` were written."""
        self.logits, self.second, self.updates = tensors["logits"], tensors["second"], int(data["updates"])
        self.baseline = Baseline(self.settings.baseline_momentum, *data["baseline"])
