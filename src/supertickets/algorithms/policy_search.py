"""Policy search (TuNAS): sampled networks share weights, and a controller learns from their quality and cost.

A step (Sec. 4.1) trains sampled networks, evaluates them and lets the controller learn from it. As in the released
code the shared weights move first; the same networks are then evaluated with the new weights.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..config.recipe import Recipe
from ..cost.budget import Budget, format_cost, format_setting, make_budget
from ..cost.latency_table import LatencyTable, TableSettings
from ..data import Batch
from ..data.randomness import mix_seed
from ..errors import UserError
from ..models import Choices, MobileSpec, Network, require_mobile, slice_state_dict
from ..nas import Policy, Space, Trend, find_reward, fit_trend, lr_at, warmup_at
from ..training import Algorithm, Outcome, Runtime, Session, TrainState, recalibrate
from ..training.algorithm import NetworkStep, Step
from ..training.state import DeployableModel

_OVER = 0.02  # of the target; a search that ends further above it says so
LATENCY_FILE = "latency.json"  # in the directory of a search
_DRAWN = 100  # networks whose mean is the expected cost that an epoch tells

# Times the operations of a space.
MeasureTable = Callable[[MobileSpec, TableSettings, Callable[[str], None]], LatencyTable]


class SampledEval(NamedTuple):
    """The evaluation of a network that a policy sampled, with shared weights.

    Attributes:
        quality: From 0 to 1.
        cost: Cost of its answers, in the unit of the budget.
        reward: Reward for both.
        is_plain: Whether warm-up put nothing in the place of an answer.
    """

    quality: float
    cost: float
    reward: float
    is_plain: bool


class PolicySearch(Algorithm):
    """The search of a space by a policy, to a budget.

    Args:
        measure: Function that makes a latency table where the budget needs one and the recipe names none.

    Attributes:
        space: The networks to search.
        budget: Cost of networks, and its target.
        policy: The controller.
        sampled: Evaluations of the epoch under way.
    """

    name = "policy_search"
    space: MobileSpec
    budget: Budget
    policy: Policy
    sampled: list[SampledEval]

    def __init__(self, measure: MeasureTable | None = None) -> None:
        self.measure = measure

    def check(self, recipe: Recipe) -> None:
        """Check that there is such a reward."""
        find_reward(recipe.policy.reward)

    def init(self, session: Session, state: TrainState) -> TrainState:
        """Save the latency table that the budget needs, and check that the target can be met."""
        recipe, runtime = session.recipe, session.runtime
        if runtime.world > 1 and recipe.budget.latency_ms is not None and recipe.budget.table is None:
            raise UserError(
                "several processes cannot measure latencies; make a table first (supertickets latency-table)"
            )
        table = find_latency_table(recipe, require_mobile(session.supernet), self.measure, session.reporter.say)
        if table is not None and runtime.is_main:
            table.save(session.run.path / LATENCY_FILE)
        runtime.barrier()
        self.reopen(session)
        check_budget_reachable(self.budget, self.space, recipe)
        return state

    def reopen(self, session: Session) -> None:
        """Make the budget, and a policy that knows nothing yet."""
        self.space = require_mobile(session.supernet)
        self.budget = make_budget(session.recipe.budget, self.space, session.run.path / LATENCY_FILE)
        self.policy = Policy(Space(self.space.decisions()), session.recipe.policy)
        self.sampled = []

    def make_step(self, session: Session, state: TrainState, take: NetworkStep) -> Step:
        """Return a step of shared weights and controller."""
        return PolicyStep(session, state, self, take)

    def deployable(self, state: TrainState) -> DeployableModel:
        """Return the most probable network, with the shared weights."""
        best = self.policy.best()
        weights = slice_state_dict(self.space, best, state.deployable().weights)
        return DeployableModel(self.space.select(best), weights, {})

    def epoch_record(self, session: Session, epoch: int) -> dict[str, Any]:
        """Return the figures of the epoch, and warn if the reward is too weak for the target."""
        sampled = [row for rows in session.runtime.from_all(self.sampled) for row in rows]
        self.sampled = []
        done = epoch * session.batches.steps_per_epoch
        record = search_record(self.policy, sampled, self.budget, session.recipe, done, session.total_steps)
        if (warning := check_beta(record, session.recipe)) is not None:
            session.reporter.say(f"warning: epoch {epoch}: {warning}")
        return record

    def progress(self, record: Mapping[str, Any]) -> str:
        """Return the cost of the most probable network, and the policy's entropy in nats."""
        return f"cost {format_cost(record['budget'], record['cost'])}, entropy {record['entropy']:.1f}"

    def finalize(self, session: Session, state: TrainState) -> Outcome:
        """Return the decisions of the search, for the ticket's record."""
        best = self.policy.best()
        cost, target = self.budget.cost(best), self.budget.target
        if cost > (1 + _OVER) * target:
            session.reporter.say(
                f"warning: the budget was missed: {format_cost(self.budget.name, cost)} where "
                f"{format_cost(self.budget.name, target)} were asked for, {cost / target - 1:.0%} more; "
                f"train longer, or make policy.beta steeper, e.g. {3 * session.recipe.policy.beta:g}"
            )
        search = {
            "budget": self.budget.name,
            "target": target,
            "cost": cost,
            "choices": {**session.recipe.supernet.settings.get("choices", {}), **best},
            "indices": self.policy.most_probable(),
        }
        return Outcome(state, {"search": search})

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the policy."""
        return self.policy.tensors()

    def to_json(self) -> dict[str, Any]:
        """Return the rest of the policy, and the evaluations of the epoch under way."""
        return {"policy": self.policy.to_json(), "sampled": self.sampled}

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """Take back what `tensors` and `to_json` gave."""
        self.policy.restore(tensors, data["policy"])
        self.sampled = [SampledEval(*row) for row in data["sampled"]]


class PolicyStep:
    """The steps of a policy search, in one epoch.

    Args:
        session: Settings, task, processes and images to evaluate on.
        state: The network whose weights all networks of the space share.
        search: The policy and the budget.
        take: A step of the weights.
    """

    def __init__(self, session: Session, state: TrainState, search: PolicySearch, take: NetworkStep) -> None:
        self.session, self.state, self.search, self.take = session, state, search, take
        self.reward = find_reward(session.recipe.policy.reward)
        self.search_eval_batches: Iterator[Batch] | None = None

    def __call__(self, batch: Batch, epoch: int, step: int) -> Tensor:
        """Take a step; see `Stepper`."""
        recipe, runtime, policy = self.session.recipe, self.session.runtime, self.search.policy
        done, budget = epoch * self.session.batches.steps_per_epoch + step, self.search.budget
        generator = torch.Generator().manual_seed(mix_seed(recipe.seed, epoch, step, runtime.rank, 5))
        warmup = warmup_at(done, self.session.total_steps, recipe.policy)
        draws = policy.sample(self.session.parts, generator, warmup)
        choices = policy.choices(draws)
        loss: Tensor = self.take(batch, epoch, step, choices)
        quality = torch.tensor(self._qualities(choices, epoch, step), dtype=torch.float64)
        genotypes = policy.space.genotypes(draws.indices)
        cost = torch.tensor([budget.cost(genotype) for genotype in genotypes], dtype=torch.float64)
        rewards = self.reward.weigh(quality, cost, budget.target, recipe.policy.beta)
        average = runtime.average_ if runtime.world > 1 else None
        policy.update(draws, rewards, lr_at(done, self.session.total_steps, recipe.policy), average)
        plain = (~(draws.replaced & draws.active).any(dim=1)).tolist()
        self.search.sampled += map(SampledEval, quality.tolist(), cost.tolist(), rewards.tolist(), plain)
        return loss

    def _qualities(self, choices: Sequence[Choices], epoch: int, step: int) -> list[float]:
        """Return the quality of every network on held-out images of its own, from 0 to 1."""
        recipe, batches = self.session.recipe, self.session.batches
        task, device = self.session.task, self.session.runtime.device
        if self.search_eval_batches is None:
            self.search_eval_batches = batches.search_eval_batches(epoch, recipe.policy.images, len(choices), step)
        module, data = self.state.module, batches.splits.validation
        qualities = []
        for chosen in choices:
            network = SubnetView(module, chosen)
            if self.search.space.statistics == "recalibrated":
                recalibrate(network, batches.calibration(epoch, recipe.recalibrate_batches), Runtime(device))
            module.eval()
            totals = task.totals(network, [next(self.search_eval_batches)], data, device)
            scores = task.metrics(totals, data)
            # Images without objects judge nothing.
            qualities.append(task.metric.quality(scores) if task.metric.name in scores else 0.0)
        module.train()
        return qualities


class SubnetView(nn.Module):
    """A network of a space, with the shared weights."""

    def __init__(self, shared: Network, choices: Choices) -> None:
        super().__init__()
        self.shared, self.choices = shared, choices

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.shared(images, self.choices)
        return out


def search_record(
    policy: Policy, sampled: list[SampledEval], budget: Budget, recipe: Recipe, done: int, steps: int
) -> dict[str, Any]:
    """Return the figures of an epoch of a policy search.

    Args:
        policy: The policy after the epoch.
        sampled: The networks that were sampled in it.
        budget: Cost of networks, and its target.
        recipe: The settings.
        done: Number of steps so far.
        steps: Number of steps of the whole search.
    """
    drawn = policy.sample(_DRAWN, torch.Generator().manual_seed(0)).indices
    # Under warm-up, quality is that of averaged options, but cost that of one of them.
    plain = [row for row in sampled if row.is_plain]
    qualities, costs = torch.tensor([row.quality for row in plain]), torch.tensor([row.cost for row in plain])
    trend = fit_trend(qualities, costs, budget.target)
    return {
        "entropy": policy.entropy(),
        "mean_probability": policy.mean_probability(),
        "expected_cost": statistics.fmean(map(budget.cost, policy.space.genotypes(drawn))),
        "budget": budget.name,
        "cost": budget.cost(policy.best()),
        "sampled_networks": len(sampled),
        "sampled_quality": statistics.fmean(row.quality for row in sampled),
        "sampled_cost": statistics.fmean(row.cost for row in sampled),
        "sampled_reward": statistics.fmean(row.reward for row in sampled),
        "slope": trend.slope,
        "slope_error": trend.error if math.isfinite(trend.error) else None,
        "lr": lr_at(done - 1, steps, recipe.policy),
        "warmup": warmup_at(done - 1, steps, recipe.policy),
    }


def check_beta(record: Mapping[str, Any], recipe: Recipe) -> str | None:
    """Return a warning if an absolute reward does not hold a search at its target."""
    if record["slope_error"] is None:
        return None
    beta, trend = recipe.policy.beta, Trend(record["slope"], record["slope_error"])
    if not find_reward(recipe.policy.reward).has_slope or not trend.exceeds(beta):
        return None
    return (
        f"quality gains {trend.slope:.2g} where the cost rises by one target, more than policy.beta {beta:g} takes: "
        f"the search may end beyond its target; try policy.beta {-2 * trend.slope:.1g}"
    )


def find_latency_table(
    recipe: Recipe, spec: MobileSpec, measure: MeasureTable | None, say: Callable[[str], None]
) -> LatencyTable | None:
    """Return the latency table of a search that begins, if it needs one: that of the recipe, or a new one.

    Args:
        recipe: The settings; ``budget`` names the figure that is limited.
        spec: The space.
        measure: Function that makes a new one.
        say: Function that shows a line.

    Raises:
        UserError: There is none, or it is of another space.
    """
    budget = recipe.budget
    if budget.latency_ms is None or budget.measured:
        return None
    if budget.table:
        table = LatencyTable.load(budget.table)
        table.check_serves(spec, budget.table)
        return table
    if measure is not None:
        table = measure(spec, TableSettings(runtime=budget.runtime, threads=budget.threads), say)
        say(f"half of {table.check['networks']} other networks are predicted within {table.check['median_error']:.1%}")
        return table
    raise UserError("budget.latency_ms needs budget.table: make it with supertickets latency-table")


def check_budget_reachable(budget: Budget, spec: MobileSpec, recipe: Recipe) -> None:
    """Check that some network of a space is likely to meet the target.

    Args:
        budget: The target.
        spec: The space.
        recipe: The settings: name of the space, and whether its networks are timed.

    Raises:
        UserError: Networks of the space cost more, or less.
    """
    space = Space(spec.decisions())
    drawn = space.sample(8 if recipe.budget.measured else 200, torch.Generator().manual_seed(0))
    # The smallest and the largest come first; of times they need not be the least and the most.
    some = [spec.extreme(largest=False), spec.extreme(largest=True), *space.genotypes(drawn)]
    costs = [budget.cost(choices) for choices in some]
    low, high = min(costs), max(costs)
    if not low <= budget.target <= high:
        places = 3 if budget.name == "latency_ms" else 0
        nearest = math.ceil(low * 10**places) if budget.target < low else math.floor(high * 10**places)
        reach = f"{format_cost(budget.name, low)} to {format_cost(budget.name, high)}"
        raise UserError(
            f"budget.{budget.name} is {format_setting(budget.target)}, but networks of {recipe.supernet.name} have "
            f"{reach}; the nearest possible is {nearest / 10**places:.{places}f}, or set supernet.settings.width"
        )
