"""The controller: one categorical distribution per decision, learned by REINFORCE (TuNAS, Sec. 4 and released code).

Shapes: S samples, D decisions, K options of the largest decision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..supernets.spec import Choice
from .space import Space

Average = Callable[[Sequence[Tensor]], object]  # over all processes, in place


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """How the controller learns.

    Attributes:
        lr: Learning rate when it begins to learn.
        growth: What the learning rate grows to by the end, as a multiple, exponentially; 1 keeps it constant. With a
            constant rate the distributions stay broad, so that the most probable network costs less than the target
            though the sampled ones meet it on average (Sec. 4.2).
        delay: Share of the steps in which only shared weights learn, and the controller does not.
        warmup: Share of the steps over which op and filter warm-up fade from 1 to 0; at most ``delay``.
        op_warmup: Whether decisions of kind "op" are replaced by the mean of all options.
        filter_warmup: Whether decisions of kind "filters" are replaced by the largest option.
        baseline_momentum: Of the moving average of rewards.
        beta2: Of Adam's second moment; there is no first (beta1 = 0).
        eps: Of Adam.
    """

    lr: float = 0.0048
    growth: float = 10.0
    delay: float = 0.25
    warmup: float = 0.25
    op_warmup: bool = True
    filter_warmup: bool = True
    baseline_momentum: float = 0.95
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if self.warmup > self.delay:
            raise UserError(f"the warm-up's share {self.warmup:g} is more than the delay's, {self.delay:g}; shorten it")

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of a step, counted from 0."""
        start = self.delay * steps
        if step < start:
            return 0.0
        return self.lr * float(self.growth ** ((step - start) / (steps - start)))

    def warmup_at(self, step: int, steps: int) -> float:
        """Probability that a decision is replaced in a step, counted from 0."""
        length = self.warmup * steps
        return max(0.0, 1 - step / length) if length else 0.0


@dataclass(frozen=True)
class Draws:
    """Sampled networks.

    Attributes:
        indices: The option of every decision, (S, D).
        replaced: Where warm-up put the mean of all options (op) or the largest one (filters) in place, (S, D).
        active: Which decisions mean anything, (S, D).
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
        """Takes a reward in, and returns the average."""
        self.total = self.momentum * self.total + (1 - self.momentum) * reward
        self.weight = self.momentum * self.weight + (1 - self.momentum)
        return self.total / self.weight


@dataclass
class Policy:
    """The distributions and what is needed to go on learning them.

    Attributes:
        space: The decisions.
        settings: How to learn.
        logits: (D, K), minus infinity where a decision has fewer options.
        second: Moving mean of squared gradients, (D, K).
        baseline: Of the rewards.
        updates: So far; the second moment's bias is corrected by it.
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
        """(D, K), 0 where there is no option."""
        return self.logits.softmax(dim=1)

    def sample(self, count: int, generator: torch.Generator, warmup: float = 0.0) -> Draws:
        """Draws networks.

        Args:
            count: S.
            generator: Of random numbers.
            warmup: Probability that a decision is replaced, each for itself.
        """
        indices = torch.multinomial(self.probabilities(), count, replacement=True, generator=generator).T.contiguous()
        replaced = torch.rand(indices.shape, generator=generator) < warmup
        replaced &= torch.where(self._is_op, self.settings.op_warmup, self.settings.filter_warmup)
        indices = torch.where(replaced & ~self._is_op, self._largest, indices)
        return Draws(indices, replaced, self.space.active(indices, replaced & self._is_op))

    def choices(self, draws: Draws) -> list[dict[str, Choice | None]]:
        """What a network with shared weights is told, None where all options are averaged."""
        averaged = (draws.replaced & self._is_op).tolist()
        rows: list[dict[str, Choice | None]] = []
        for row, used, whole in zip(draws.indices.tolist(), draws.active.tolist(), averaged, strict=True):
            answers = zip(self.space.decisions, row, used, whole, strict=True)
            rows.append({d.name: None if mean else d.options[i] for d, i, on, mean in answers if on})
        return rows

    def log_probabilities(self, draws: Draws, warmup: float = 0.0) -> Tensor:
        """Log-probability of samples, (S,): decisions that mean nothing do not count."""
        chosen = self.logits.log_softmax(dim=1).expand(len(draws.indices), -1, -1)
        own = chosen.gather(2, draws.indices[..., None])[..., 0]
        can_be = torch.where(self._is_op, self.settings.op_warmup, self.settings.filter_warmup)
        share = torch.where(can_be, warmup, 0.0).double()
        own = torch.where(draws.replaced, share.log(), own + (1 - share).log())
        return torch.where(draws.active, own, 0.0).sum(dim=1)

    def entropy(self) -> float:
        """Entropy of the networks, in nats: of each decision, times the probability that it means anything."""
        p, log_p = self.probabilities(), self.logits.log_softmax(dim=1)
        own = -torch.where(p > 0, p * log_p, 0.0).sum(dim=1)
        return float((own * self._reached(p)).sum())

    def mean_probability(self) -> float:
        """Mean over the open decisions of the most probable network of the probability of their answers."""
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
        """The result of a search: the most probable option of every decision, as an index list."""
        return [int(i) for i in self.logits.argmax(dim=1)]

    def update(self, draws: Draws, rewards: Tensor, lr: float, average: Average | None = None) -> float:
        """Learns from rewards; the average and Adam's moment are updated also while the learning rate is 0.

        Gradients are those of single samples, squared before they are averaged, as workers of the released code do.

        Args:
            draws: Sampled networks.
            rewards: Theirs, (S,).
            lr: Learning rate.
            average: Averages over processes; each has as many samples.

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

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on."""
        return {
            "logits": self.logits,
            "second": self.second,
            "updates": self.updates,
            "baseline": [self.baseline.total, self.baseline.weight],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self.logits, self.second, self.updates = state["logits"], state["second"], int(state["updates"])
        self.baseline = Baseline(self.settings.baseline_momentum, *state["baseline"])
