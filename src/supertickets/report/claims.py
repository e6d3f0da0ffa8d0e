"""Comparisons of methods: differences, the paper's claims one by one, the Pareto front, costs of training."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..analysis.statistics import (
    EqualScore,
    Summary,
    compare_at_equal_score,
    group_rows,
    paired_differences,
    pareto_front,
    summarize,
)
from .collect import Comparison, Run
from .roles import Role

Row = Mapping[str, Any]
NONE = "\N{EN DASH}"  # where there is no figure
CLEAR = 2  # standard errors from which on a difference is called clear
# Whether a pair of methods (ours, theirs) answers a question that a claim of the paper asks.
Answers = Callable[[Role, Role], bool]


@dataclass(frozen=True)
class MethodMean:
    """Means over all seeds of a method at a ratio.

    Attributes:
        method: Name of the method.
        ratio: Sparsity that was asked for.
        cost: Mean cost.
        score: Score on the test split.
        chosen_by: Mean score on the validation split.
    """

    method: str
    ratio: float
    cost: float
    score: Summary
    chosen_by: float


def method_means(comparison: Comparison, cost: str) -> list[MethodMean]:
    """Return a point per method and ratio.

    Args:
        comparison: Runs of all methods.
        cost: Column, e.g. "masked_macs"; runs without it do not count.
    """
    test, validation = (f"{split}_{comparison.metric.name}" for split in ("test", "validation"))
    points = []
    for method, runs in comparison.methods.items():
        for ratio, rows in rows_with_ratio(runs, cost).items():
            score = summarize(row[test] for row in rows)
            assert score is not None
            of_cost, of_choice = (statistics.mean(row[name] for row in rows) for name in (cost, validation))
            points.append(MethodMean(method, ratio, of_cost, score, of_choice))
    return points


def rows_with_ratio(runs: Sequence[Run], column: str) -> dict[float, list[Row]]:
    """Return the rows that have a column, by ratio from low to high."""
    have = [run.row for run in runs if run.row.get(column) is not None]
    return dict(sorted(group_rows(have, lambda row: row["ratio"]).items()))


def choose_front(points: Sequence[MethodMean], sign: int = 1) -> list[MethodMean]:
    """Return the Pareto front by the validation split, from cheap to dear; the test split chooses nothing.

    Args:
        points: Methods at ratios.
        sign: 1 if more is better, -1 if less is; see `Metric.sign`.
    """
    best = pareto_front((point.cost, sign * point.chosen_by) for point in points)
    return sorted((p for p in points if (p.cost, sign * p.chosen_by) in best), key=lambda point: point.cost)


# Pairs of methods ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """A method beside another.

    Attributes:
        ours: Name of the first method.
        theirs: Name of the second.
        at: The first along the other's curve, by the other's ratio (`statistics.compare_at_equal_score`); errors are
            negative there, so that more is better.
        paired: Differences, likewise, at the same ratio, seed by seed, by that ratio.
    """

    ours: str
    theirs: str
    at: tuple[EqualScore, ...]
    paired: Mapping[float, Summary]


def compare_methods(comparison: Comparison, ours: str, theirs: str, cost: str = "masked_macs") -> Pair:
    """Compare one method with another, by the test split."""
    score, sign = f"test_{comparison.metric.name}", comparison.metric.sign
    mine, others = (
        [{**run.row, score: sign * run.row[score]} for run in comparison.methods[name]] for name in (ours, theirs)
    )
    same = {
        ratio: paired_differences(rows, others, score)
        for ratio, rows in group_rows(mine, lambda row: row["ratio"]).items()
    }
    known = {ratio: summary for ratio, summary in sorted(same.items()) if summary is not None}
    return Pair(ours, theirs, tuple(compare_at_equal_score(mine, others, cost, score)), known)


def reference_method(comparison: Comparison) -> str | None:
    """Return the method that the others are compared with first, chosen by its settings and not by its score.

    Search-then-prune by magnitude without retraining, as in the paper; else any search-then-prune; else the first.
    """
    roles = comparison.roles()
    plain = [name for name, role in roles.items() if role.way == "search-then-prune" and not role.retrained]
    usual = [name for name in plain if roles[name].criterion == "magnitude"]
    return next(iter([*usual, *plain, *roles]), None) if len(roles) > 1 else None


# The paper's claims --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and the methods that test it.

    Attributes:
        text: Sentence.
        pairs: Pairs of methods that it is about.
    """

    text: str
    pairs: tuple[Pair, ...]

    @property
    def gains(self) -> list[Summary]:
        """All differences at equal cost."""
        return [at.gain for pair in self.pairs for at in pair.at if at.gain is not None]


def _is_plain_two_in_one(role: Role) -> bool:
    return role.way == "two-in-one" and not role.retrained


def _are_variants(one: Role, other: Role) -> bool:
    return one.way == other.way == "two-in-one" and one.retrained == other.retrained


def _reactivates_more(one: Role, other: Role) -> bool:
    if not _are_variants(one, other) or one.progressive != other.progressive:
        return False
    if one.reactivate == other.reactivate != "none":
        return (one.restore, other.restore) == ("stored", "zero")
    order = ("search", "prune", "none")
    return one.reactivate in order and order.index(one.reactivate) < order.index(other.reactivate)


_CLAIMS: tuple[tuple[str, Answers], ...] = (
    (
        "Two-in-one training is better than search-then-prune",
        lambda a, b: _is_plain_two_in_one(a) and b.way == "search-then-prune" and not b.retrained,
    ),
    (
        "Progressive pruning (PP) helps, at high ratios above all",
        lambda a, b: _are_variants(a, b) and a.reactivate == b.reactivate and a.progressive and not b.progressive,
    ),
    (
        "Reactivation helps: with the search (IR-S) more than after each prune (IR-P), and that more than none",
        _reactivates_more,
    ),
    (
        "Two-in-one tickets as they are beat search-then-prune with retraining",
        lambda a, b: _is_plain_two_in_one(a) and b.way == "search-then-prune" and b.retrained,
    ),
    (
        "Retraining improves two-in-one tickets further",
        lambda a, b: a.retrained and a.way == "two-in-one" and a == dataclasses.replace(b, retrained=True) != b,
    ),
)


def check_claims(comparison: Comparison, cost: str = "masked_macs") -> list[Claim]:
    """Return the claims of the paper that these methods can test, by their settings, not by their names."""
    roles = comparison.roles()
    answered = []
    for text, answers in _CLAIMS:
        names = [(a, b) for a in roles for b in roles if a != b and answers(roles[a], roles[b])]
        if names:
            answered.append(Claim(text, tuple(compare_methods(comparison, a, b, cost) for a, b in names)))
    return answered


def claim_verdict(claim: Claim) -> str:
    """Return one sentence on the differences at equal cost."""
    gains = claim.gains
    if not gains:
        return "The curves of these methods do not reach each other's cost, so nothing can be said at equal cost."
    better, worse = ([gain for gain in gains if sign * gain.mean > 0] for sign in (1, -1))
    text = f"Better in {len(better)} of {len(gains)} comparisons at equal MACs{_count_clear(better)}, "
    text += f"worse in {len(worse)}{_count_clear(worse)}. "
    values = [gain.mean for gain in gains]
    return (
        text + f"Mean difference {format_signed(statistics.mean(values))} "
        f"({format_signed(min(values))} to {format_signed(max(values))})."
    )


def _count_clear(gains: Sequence[Summary]) -> str:
    if not gains:
        return ""
    clear = sum(gain.error is not None and abs(gain.mean) > CLEAR * gain.error for gain in gains)
    return f" ({clear} clearly)"


# Training ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingCost:
    """Costs of training the tickets of a method.

    Attributes:
        method: Name of the method.
        samples: Image passes to a ticket, all steps included.
        seconds: Training time likewise, where it is known.
        together: Image passes to all tickets, what they have in common counted once.
        tickets: Number of these tickets.
    """

    method: str
    samples: Summary
    seconds: Summary | None
    together: int
    tickets: int


def training_costs(comparison: Comparison) -> list[TrainingCost]:
    """Return the costs of training a ticket, by method."""
    costs = []
    for method, runs in comparison.methods.items():
        samples = summarize(run.row["samples"] for run in runs)
        assert samples is not None
        seconds = summarize(run.row["seconds"] for run in runs if run.row["seconds"] is not None)
        steps = {step.key: step.samples for run in runs for step in run.steps}
        costs.append(TrainingCost(method, samples, seconds, sum(steps.values()), len(runs)))
    return costs


def training_savings(
    costs: Sequence[TrainingCost], comparison: Comparison
) -> list[tuple[str, str, float, float | None]]:
    """Return the shares that two-in-one training saves against search-then-prune with retraining.

    Returns:
        (ours, theirs, share of image passes, share of seconds or None) for every pair of such methods.
    """
    roles, by_name = comparison.roles(), {each.method: each for each in costs}
    rows = []
    for ours in (name for name, role in roles.items() if _is_plain_two_in_one(role)):
        for theirs in (name for name, role in roles.items() if role.way == "search-then-prune" and role.retrained):
            mine, other = by_name[ours], by_name[theirs]
            known = mine.seconds is not None and other.seconds is not None and other.seconds.mean > 0
            seconds = 1 - mine.seconds.mean / other.seconds.mean if known else None  # type: ignore[union-attr]
            rows.append((ours, theirs, 1 - mine.samples.mean / other.samples.mean, seconds))
    return rows


# As text -------------------------------------------------------------------------------------------------------------


def format_signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign."""
    return f"{value:+.{digits}f}"


def format_difference(summary: Summary | None, share: bool = False) -> str:
    """Return a difference over seeds and the number of seeds as text; a dash for none."""
    if summary is None:
        return NONE
    if share:
        spread = "" if summary.deviation is None else f" ± {100 * summary.deviation:.0f}"
        return f"{format_signed(100 * summary.mean, 0)}{spread}% ({summary.count})"
    spread = "" if summary.deviation is None else f" ± {summary.deviation:.2f}"
    return f"{format_signed(summary.mean)}{spread} ({summary.count})"


def format_score(summary: Summary | None) -> str:
    """Return a score over seeds and the number of seeds as text; a dash for none."""
    return NONE if summary is None else f"{summary} ({summary.count})"


def summarize_column(rows: Iterable[Row], column: str) -> Summary | None:
    """Return mean and deviation of a column over seeds; rows without it do not count."""
    return summarize(row[column] for row in rows if row.get(column) is not None)
