"""The outcome of a comparison of tickets and references: scores, latencies, and gains at equal latency."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..analysis.equal_latency import gain_at_equal_latency, score_front
from ..analysis.statistics import Summary, summarize
from ..tasks import Metric

TICKETS, REFERENCES, EQUAL_TIME = "tickets", "references", "references of equal time"
_TERMS = {REFERENCES: "equal latency and epochs", EQUAL_TIME: "equal latency and training time"}


@dataclass(frozen=True, kw_only=True)
class MemberRun:
    """A training of a member.

    Attributes:
        seed: Its seed.
        run: Name of its directory.
        validation: Score on the validation split.
        test: Score on the test split.
        costs: Costs of the network and of its training.
        latency_ms: Median latency of its network, in the member's runtime.
    """

    seed: int
    run: str
    validation: float
    test: float
    costs: Mapping[str, float]
    latency_ms: float


@dataclass(frozen=True, kw_only=True)
class MemberResult:
    """A member with all that was measured.

    Attributes:
        title: Name for people to read.
        group: Members that are compared with others together.
        kind: Kind of network.
        epochs: Epochs of its training.
        runtime: Runtime in which it is the fastest here.
        latencies: Median latencies by runtime, in ms; means over the seeds of a ticket.
        runs: Trainings, one per seed.
        gains: Groups of references -> how much better it is than their front at its latency, over the seeds.
    """

    title: str
    group: str
    kind: str
    epochs: int
    runtime: str
    latencies: Mapping[str, float]
    runs: tuple[MemberRun, ...]
    gains: Mapping[str, Summary] = field(default_factory=dict)

    @property
    def latency_ms(self) -> float:
        """Latency in its runtime."""
        return self.latencies[self.runtime]

    @property
    def test(self) -> Summary:
        """Score on the test split over the seeds."""
        summary = summarize(run.test for run in self.runs)
        assert summary is not None  # a member has a run
        return summary

    @property
    def seconds(self) -> float:
        """Mean training time."""
        return statistics.mean(run.costs["seconds"] for run in self.runs)

    @property
    def point(self) -> tuple[float, float]:
        """Latency and mean score."""
        return self.latency_ms, self.test.mean

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(self), "latency_ms": self.latency_ms, "test": asdict(self.test)}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The outcome of a comparison.

    Attributes:
        recipe: Name of the recipe.
        data: Folder or name of the data.
        metric: Score that is compared.
        device: Name of the processor that latencies are measured on; one thread, one image.
        versions: Versions of the libraries.
        members: Tickets, then references.
    """

    recipe: str
    data: str
    metric: Metric
    device: str
    versions: Mapping[str, str]
    members: tuple[MemberResult, ...]

    def list_group(self, group: str) -> list[MemberResult]:
        """Return the members of a group."""
        return [member for member in self.members if member.group == group]

    def front(self, *groups: str) -> list[tuple[float, float]]:
        """Return the Pareto front of some groups, or of all: latency and score, fastest first."""
        points = (member.point for member in self.members if not groups or member.group in groups)
        return score_front(points, self.metric.sign)

    @property
    def headlines(self) -> list[str]:
        """Sentences on the worth of the tickets, one per group of references."""
        groups = [group for group in _TERMS if self.list_group(group)]
        return [describe_gains(self.list_group(TICKETS), group, self.metric) for group in groups]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        front = self.front()
        return {
            "recipe": self.recipe,
            "data": self.data,
            "metric": self.metric.name,
            "less_is_better": self.metric.is_error,
            "device": self.device,
            "threads": 1,
            "batch": 1,
            "versions": dict(self.versions),
            "headlines": self.headlines,
            "members": [{**member.to_json(), "on_front": member.point in front} for member in self.members],
        }


def with_gains(members: Sequence[MemberResult], metric: Metric) -> list[MemberResult]:
    """Return members, tickets with their gains over every group of references, seed by seed.

    A ticket of a seed is compared with the references of that seed, at its own latency. The front is that of the scores
    on the test split, which favours references: the best of several is chosen by what it is judged by.
    """
    groups = {group: [one for one in members if one.group == group] for group in _TERMS}

    def gains(ticket: MemberResult) -> dict[str, Summary]:
        known = {}
        for group, others in groups.items():
            values = [
                gain_at_equal_latency(
                    (run.latency_ms, run.test),
                    [(r.latency_ms, r.test) for other in others for r in other.runs if r.seed == run.seed],
                    metric.sign,
                )
                for run in ticket.runs
            ]
            if (summary := summarize(value for value in values if value is not None)) is not None:
                known[group] = summary
        return known

    return [dataclasses.replace(one, gains=gains(one)) if one.group == TICKETS else one for one in members]


def describe_gains(tickets: Sequence[MemberResult], group: str, metric: Metric) -> str:
    """Return in a sentence how tickets compare with references at equal latency, also where they are worse.

    Args:
        tickets: Tickets with their gains.
        group: Group of references.
        metric: Score that is compared.
    """
    gains = sorted(ticket.gains[group].mean for ticket in tickets if group in ticket.gains)
    if not gains:
        return f"Every ticket is faster than all {group}, so that none is to be had at its latency"
    low, high = gains[0], gains[-1]
    if low * high < 0:
        said = f"between {format_gain(low, metric)} and {format_gain(high, metric)} than"
    elif len(gains) == 1 or format_gain(low, metric) == format_gain(high, metric):
        said = f"{format_gain(low, metric)} than"
    else:
        near, far = (low, high) if low >= 0 else (high, low)
        said = f"{format_amount(near, metric)} to {format_gain(far, metric)} than"
    faster = len(tickets) - len(gains)
    tail = f"; {faster} of {len(tickets)} are faster than any" if faster else ""
    return f"Tickets are {said} the references at {_TERMS[group]}{tail}"


def format_gain(gain: float, metric: Metric) -> str:
    """Return a gain for people to read, e.g. "3.8 points better"."""
    unit = metric.display_name if metric.is_error else "points"
    return f"{format_amount(gain, metric)} {unit} {'better' if gain >= 0 else 'worse'}"


def format_amount(gain: float, metric: Metric) -> str:
    """Return the size of a gain."""
    return f"{abs(gain):.{2 if metric.is_error else 1}f}"
