"""The way to a budget in two-in-one training: which units and weights stay at a point of it, and what is measured."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..config.recipe import Recipe
from ..cost import LatencyLine, MaskCosts, WidthCosts, meet_latency
from ..cost.budget import format_cost, format_setting
from ..cost.latency import device_name
from ..models import Spec
from ..training import Session, TrainState
from ..training.state import DeployableModel
from .budget_checks import MOST_ZEROS, check_latency, narrowest
from .budget_limits import Limits, final_limits, mask_limits, tightest_share, unit_limits
from .latency_budget import LatencyBudget
from .ranking import choose_mask, expected_zeros, largest_ratio
from .unit_removal import choose_units

Tensors = dict[str, Tensor]
_FIRST_ZEROS = (0.0, 0.5, 0.85, 0.97)  # of the networks that are measured before the training, in shares
_FIRST_MACS = (1.0, 0.5, 0.2, 0.0)  # likewise, where units decide: shares of the supernet's
_CORRECTIONS = (0.5, 0.8)  # of the way, where the network in training is measured
_SLACK = 1.05  # on the way: what a measurement at its end may still give back


class BudgetPath:
    """The way to a budget. Without one, units go by their threshold, and weights by their ratio.

    Attributes:
        latency: What was measured for a budget of latency.
        corrections: Number of networks that were measured on the way.
        is_met: Whether the mask is at its end.
        measured_ms: Latency of the network there.
    """

    def __init__(self) -> None:
        self.latency = LatencyBudget()
        self.corrections = 0
        self.is_met = False
        self.measured_ms: float | None = None

    def check(self, recipe: Recipe) -> None:
        """Check that the budget can be measured.

        Raises:
            UserError: It cannot.
        """
        self.latency.check(recipe.budget)

    def begin(self, session: Session, state: TrainState) -> None:
        """Measure the first networks, if the latency is limited, and check that it can be met.

        Raises:
            UserError: It cannot; names the nearest that can.
        """
        budget_ms = session.recipe.budget.latency_ms
        if budget_ms is None:
            return
        session.reporter.say(f"measuring latencies in {session.recipe.budget.runtime}, one image")
        make = _pruned_network if session.recipe.prunes_to_budget else _narrowed_network
        shares = _FIRST_ZEROS if session.recipe.prunes_to_budget else _FIRST_MACS
        points = dict(self.latency.time(session, make(session, state, share)) for share in shares)
        self.latency.line = LatencyLine(tuple(points.items()))
        check_latency(session.recipe, state.spec, min(points.values()), max(points.values()))

    def choose_units(self, session: Session, state: TrainState, gates: Tensors, progress: float | None) -> Tensors:
        """Flag the units that stay.

        Args:
            session: What stays the same.
            state: The network.
            gates: Running means of the gates' squared gradients, by group.
            progress: Share of the way; None without a budget.
        """
        recipe = session.recipe
        choose = partial(choose_units, session, state, gates, is_last=progress == 1)
        if progress is None:
            return choose(None)
        supernet = WidthCosts(session.supernet, expected_zeros(state, recipe))
        goal = partial(unit_limits, supernet, progress=progress)
        final = final_limits(recipe, self.latency.line)
        if self.latency.line is None or recipe.prunes_to_budget:
            return choose(goal(final))
        assert recipe.budget.latency_ms is not None

        def attempt(limit: float) -> tuple[Tensors, float, float]:
            keep = choose(goal({**final, "macs": min(limit, _given_macs(recipe))}))
            return keep, *self.latency.time(session, _fresh(state.spec.keep(keep)))

        if progress == 1:
            self.latency.line, keep, self.measured_ms = meet_latency(
                self.latency.line, recipe.budget.latency_ms, attempt
            )
            return keep
        keep = choose(goal(_loosened(final)))
        self._correct(session, _fresh(state.spec.keep(keep)), progress)
        return keep

    def choose_mask(self, session: Session, state: TrainState, epoch: int, progress: float) -> Tensors:
        """Return the mask at a point of the way; none before it begins, and when the budget is met.

        Args:
            session: What stays the same.
            state: The network.
            epoch: Number of the epoch.
            progress: Share of the way.
        """
        recipe, line = session.recipe, self.latency.line
        if progress <= 0 or self.is_met:
            return {}
        costs, final = MaskCosts(state.spec), final_limits(recipe, line)

        def choose(limits: Limits) -> Tensors:
            share = partial(tightest_share, costs.measure, limits)
            mask = choose_mask(session, state, epoch, MOST_ZEROS, state.sparse.mask, share)
            if progress < 1 or share(mask) <= 1 or (most := largest_ratio(state, recipe)) <= MOST_ZEROS:
                return mask
            return choose_mask(session, state, epoch, most, state.sparse.mask, share)

        self.is_met = progress >= 1
        if line is None:
            return choose(mask_limits(session.supernet, final, progress))
        assert recipe.budget.latency_ms is not None
        if progress < 1:
            mask = choose(mask_limits(session.supernet, _loosened(final), progress))
            self._correct(session, _masked(state, mask), progress)
            return mask

        def attempt(limit: float) -> tuple[Tensors, float, float]:
            mask = choose({**final, "macs": min(limit, _given_macs(recipe))})
            return mask, *self.latency.time(session, _masked(state, mask))

        self.latency.line, mask, self.measured_ms = meet_latency(line, recipe.budget.latency_ms, attempt)
        return mask

    def missed(self, session: Session, state: TrainState) -> str | None:
        """Return a warning that names a budget that the network costs more than; a latency was measured."""
        recipe = session.recipe
        costs, mask = MaskCosts(state.spec), state.sparse.mask if recipe.prunes_to_budget else {}
        for name, limit in recipe.budget.given.items():
            if name != "latency_ms" and (cost := costs.measure(name, mask)) > limit:
                return (
                    f"warning: budget.{name}={format_setting(limit)} was missed: the ticket has "
                    f"{format_cost(name, cost)}; give a larger one, or take a narrower network"
                )
        return None

    def summary(self, session: Session) -> dict[str, Any]:
        """Return entries for the ticket's record: the budget, and the latency that was measured for it."""
        budget = session.recipe.budget
        if not budget.given:
            return {}
        record: dict[str, Any] = {"budget": {**budget.given, "runtime": budget.runtime}}
        if self.measured_ms is not None:
            record["budget"] |= {
                "measured_ms": self.measured_ms,
                "threads": budget.threads,
                "device": device_name(),
            }
        return record

    def to_json(self) -> dict[str, Any]:
        """Return how far it is, as plain JSON."""
        own = {"corrections": self.corrections, "is_met": self.is_met, "measured_ms": self.measured_ms}
        return own | self.latency.to_json()

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take back what `to_json` gave."""
        self.corrections, self.is_met = data.get("corrections", 0), data.get("is_met", False)
        self.measured_ms = data.get("measured_ms")
        self.latency.restore(data)

    def _correct(self, session: Session, model: DeployableModel, progress: float) -> None:
        """Measure the network in training at some points of the way."""
        if self.corrections < sum(progress > share for share in _CORRECTIONS):
            assert self.latency.line is not None
            self.corrections += 1
            self.latency.line = self.latency.line.add(*self.latency.time(session, model))


def _given_macs(recipe: Recipe) -> float:
    return recipe.budget.given.get("macs", float("inf"))


def _loosened(limits: Limits) -> Limits:
    return {name: limit * _SLACK for name, limit in limits.items()}


def _masked(state: TrainState, mask: Tensors) -> DeployableModel:
    weights = dict(state.module.state_dict())
    return DeployableModel(state.spec, {**weights, **{name: weights[name] * mask[name] for name in mask}}, mask)


def _fresh(spec: Spec) -> DeployableModel:
    """Return a network with weights that nobody trained, which is as slow as a trained one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DeployableModel(spec, spec.build().state_dict(), {})


def _pruned_network(session: Session, state: TrainState, zeros: float) -> DeployableModel:
    return _masked(state, choose_mask(session, state, 0, zeros, {}) if zeros else {})


def _narrowed_network(session: Session, state: TrainState, share: float) -> DeployableModel:
    costs = WidthCosts(state.spec)
    keep = narrowest(state.spec, session.supernet, session.recipe, costs.macs, share * costs.macs({}))
    return _fresh(state.spec.keep(keep))
