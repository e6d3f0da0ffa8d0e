"""A step of a policy search (TuNAS, Sec. 4.1): sampled networks train, are judged, and the controller learns from it.

As in the released code the shared weights move first; the same networks are then judged with the new weights.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..config.recipe import Recipe
from ..cost.budget import Budget
from ..data import Batch, Batches
from ..data.randomness import mix_seed
from ..models import Choices, MobileSpec, Network
from ..nas import Policy, Trend, find_reward, fit_trend, lr_at, warmup_at
from ..tasks import Task
from .evaluate import recalibrate
from .runtime import Runtime
from .state import SampledEval
from .step import Stepper

_DRAWN = 100  # networks whose mean is the expected cost that an epoch tells


class PolicyStep:
    """Takes the steps of a policy search, in one epoch.

    Args:
        stepper: Takes the steps of the weights.
        batches: Where judging images come from.
        task: What is learned.
        budget: What a network costs, and should.
    """

    def __init__(self, stepper: Stepper, batches: Batches, task: Task, budget: Budget) -> None:
        assert stepper.state.policy is not None
        self.stepper, self.policy, self.state = stepper, stepper.state.policy, stepper.state
        self.batches, self.task, self.budget = batches, task, budget
        self.recipe, self.runtime = stepper.recipe, stepper.runtime
        self.reward = find_reward(self.recipe.policy.reward)
        self.steps = self.recipe.epochs * batches.steps_per_epoch
        self.search_eval_batches: Iterator[Batch] | None = None

    def __call__(self, batch: tuple[Tensor, Tensor], epoch: int, step: int) -> Tensor:
        """Takes a step; see `Stepper`."""
        recipe, done = self.recipe, epoch * self.batches.steps_per_epoch + step
        generator = torch.Generator().manual_seed(mix_seed(recipe.seed, epoch, step, self.runtime.rank, 5))
        warmup = warmup_at(done, self.steps, recipe.policy)
        draws = self.policy.sample(recipe.accumulate, generator, warmup)
        choices = self.policy.choices(draws)
        loss = self.stepper(batch, epoch, step, choices)
        quality = torch.tensor(self._qualities(choices, epoch, step), dtype=torch.float64)
        genotypes = self.policy.space.genotypes(draws.indices)
        cost = torch.tensor([self.budget.cost(genotype) for genotype in genotypes], dtype=torch.float64)
        rewards = self.reward.weigh(quality, cost, self.budget.target, recipe.policy.beta)
        average = self.runtime.average_ if self.runtime.world > 1 else None
        self.policy.update(draws, rewards, lr_at(done, self.steps, recipe.policy), average)
        plain = (~(draws.replaced & draws.active).any(dim=1)).tolist()
        self.state.judged += map(SampledEval, quality.tolist(), cost.tolist(), rewards.tolist(), plain)
        return loss

    def _qualities(self, choices: Sequence[Choices], epoch: int, step: int) -> list[float]:
        """Quality of every network on held-out images of its own, from 0 to 1."""
        if self.search_eval_batches is None:
            self.search_eval_batches = self.batches.search_eval_batches(
                epoch, self.recipe.policy.images, len(choices), step
            )
        module, data = self.state.module, self.batches.splits.validation
        found = []
        for chosen in choices:
            network = SubnetView(module, chosen)
            if isinstance(self.state.spec, MobileSpec) and self.state.spec.statistics == "recalibrated":
                calibration = self.batches.calibration(epoch, self.recipe.recalibrate_batches)
                recalibrate(network, calibration, Runtime(self.runtime.device))
            module.eval()
            totals = self.task.totals(network, [next(self.search_eval_batches)], data, self.runtime.device)
            scores = self.task.metrics(totals, data)
            metric = self.task.metric
            # Images without objects judge nothing.
            found.append(metric.quality(scores) if metric.name in scores else 0.0)
        module.train()
        return found


class SubnetView(nn.Module):
    """One network of a space, with the shared weights."""

    def __init__(self, shared: Network, choices: Choices) -> None:
        super().__init__()
        self.shared, self.choices = shared, choices

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.shared(images, self.choices)
        return out


def search_record(
    policy: Policy, judged: list[SampledEval], budget: Budget, recipe: Recipe, done: int, steps: int
) -> dict[str, Any]:
    """What an epoch of a policy search tells.

    Args:
        policy: After the epoch.
        judged: The networks that were sampled in it.
        budget: What networks cost, and should.
        recipe: The settings.
        done: Steps so far.
        steps: Of the whole search.
    """
    drawn = policy.sample(_DRAWN, torch.Generator().manual_seed(0)).indices
    # Under warm-up, quality is that of averaged options, but cost that of one of them.
    plain = [row for row in judged if row.is_plain]
    qualities, costs = torch.tensor([row.quality for row in plain]), torch.tensor([row.cost for row in plain])
    found = fit_trend(qualities, costs, budget.target)
    return {
        "entropy": policy.entropy(),
        "mean_probability": policy.mean_probability(),
        "expected_cost": statistics.fmean(map(budget.cost, policy.space.genotypes(drawn))),
        "budget": budget.name,
        "cost": budget.cost(policy.best()),
        "sampled_networks": len(judged),
        "sampled_quality": statistics.fmean(row.quality for row in judged),
        "sampled_cost": statistics.fmean(row.cost for row in judged),
        "sampled_reward": statistics.fmean(row.reward for row in judged),
        "slope": found.slope,
        "slope_error": found.error if math.isfinite(found.error) else None,
        "lr": lr_at(done - 1, steps, recipe.policy),
        "warmup": warmup_at(done - 1, steps, recipe.policy),
    }


def check_beta(record: Mapping[str, Any], recipe: Recipe) -> str | None:
    """Tells when an absolute reward does not hold a search at its target."""
    if record["slope_error"] is None:
        return None
    beta, found = recipe.policy.beta, Trend(record["slope"], record["slope_error"])
    if not find_reward(recipe.policy.reward).has_slope or not found.exceeds(beta):
        return None
    return (
        f"quality gains {found.slope:.2g} where the cost rises by one target, more than policy.beta {beta:g} takes: "
        f"the search may end beyond its target; try policy.beta {-2 * found.slope:.1g}"
    )
