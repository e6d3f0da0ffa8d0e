"""What the figures say: differences between methods, the paper's claims one by one, the front, what training costs."""

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
# What is asked of the methods, as the paper claims it, and which pairs of methods (ours, theirs) answer it.
Answers = Callable[[Role, Role], bool]


@dataclass(frozen=True)
class MethodMean:
    """All seeds of a method at a ratio.

    Attributes:
        method: Its name.
        ratio: The ratio.
        cost: Mean cost.
        score: The score on the split that is shown.
        chosen_by: Mean score on the validation split.
    """

    method: str
    ratio: float
    cost: float
    score: Summary
    chosen_by: float


def method_means(comparison: Comparison, cost: str) -> list[MethodMean]:
    """A point per method and ratio.

    Args:
        comparison: The runs.
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
    """Rows that have a column, by ratio from low to high."""
    have = [run.row for run in runs if run.row.get(column) is not None]
    return dict(sorted(group_rows(have, lambda row: row["ratio"]).items()))


def choose_front(points: Sequence[MethodMean], sign: int = 1) -> list[MethodMean]:
    """The Pareto front by the validation split, from cheap to dear, so that the test split chooses nothing.

    Args:
        points: What is compared.
        sign: See `Metric.sign`.
    """
    best = pareto_front((point.cost, sign * point.chosen_by) for point in points)
    return sorted((p for p in points if (p.cost, sign * p.chosen_by) in best), key=lambda point: point.cost)


# Pairs of methods ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """A method beside another.

    Attributes:
        ours: Name of the one.
        theirs: Name of the other.
        at: The one along the other's curve, by the other's ratio (`statistics.compare_at_equal_score`); errors are
            negative there, so that more is better.
        paired: Differences, likewise, at the same ratio, seed by seed, by that ratio.
    """

    ours: str
    theirs: str
    at: tuple[EqualScore, ...]
    paired: Mapping[float, Summary]


def compare_methods(comparison: Comparison, ours: str, theirs: str, cost: str = "masked_macs") -> Pair:
    """Puts one method beside another, by the test split."""
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
    """The method that the others are compared with first, by what it is and not by its score.

    Search-then-prune by magnitude without retraining, as in the paper; else any search-then-prune; else the first.
    """
    roles = comparison.roles()
    plain = [name for name, role in roles.items() if role.way == "search-then-prune" and not role.retrained]
    usual = [name for name in plain if roles[name].criterion == "magnitude"]
    return next(iter([*usual, *plain, *roles]), None) if len(roles) > 1 else None


# The paper's claims --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and what these runs say of it.

    Attributes:
        text: The claim.
        pairs: The methods that it is about.
    """

    text: str
    pairs: tuple[Pair, ...]

    @property
    def gains(self) -> list[Summary]:
        """All differences at equal cost."""
        return [at.gain for pair in self.pairs for at in pair.at if at.gain is not None]


def _our_claims(role: Role) -> bool:
    return role.way == "two-in-one" and not role.retrained


def _variants(one: Role, other: Role) -> bool:
    return one.way == other.way == "two-in-one" and one.retrained == other.retrained


def _reacts(one: Role, other: Role) -> bool:
    if not _variants(one, other) or one.progressive != other.progressive:
        return False
    if one.reactivate == other.reactivate != "none":
        return (one.restore, other.restore) == ("stored", "zero")
    order = ("search", "prune", "none")
    return one.reactivate in order and order.index(one.reactivate) < order.index(other.reactivate)


_CLAIMS: tuple[tuple[str, Answers], ...] = (
    (
        "Two-in-one training is better than search-then-prune",
        lambda a, b: _our_claims(a) and b.way == "search-then-prune" and not b.retrained,
    ),
    (
        "Progressive pruning (PP) helps, at high ratios above all",
        lambda a, b: _variants(a, b) and a.reactivate == b.reactivate and a.progressive and not b.progressive,
    ),
    ("Reactivation helps: with the search (IR-S) more than after each prune (IR-P), and that more than none", _reacts),
    (
        "Two-in-one tickets as they are beat search-then-prune with retraining",
        lambda a, b: _our_claims(a) and b.way == "search-then-prune" and b.retrained,
    ),
    (
        "Retraining improves two-in-one tickets further",
        lambda a, b: a.retrained and a.way == "two-in-one" and a == dataclasses.replace(b, retrained=True) != b,
    ),
)


def check_claims(comparison: Comparison, cost: str = "masked_macs") -> list[Claim]:
    """The claims of the paper that these methods can speak to, by what the methods are, not by their names."""
    roles = comparison.roles()
    answered = []
    for text, answers in _CLAIMS:
        names = [(a, b) for a in roles for b in roles if a != b and answers(roles[a], roles[b])]
        if names:
            answered.append(Claim(text, tuple(compare_methods(comparison, a, b, cost) for a, b in names)))
    return answered


def claim_verdict(claim: Claim) -> str:
    """What the differences at equal cost say, in one sentence."""
    gains = claim.gains
    if not gains:
        return "The curves of these methods do not reach each other's cost, so nothing can be said at equal cost."
    better, worse = ([gain for gain in gains if sign * gain.mean > 0] for sign in (1, -1))
    text = f"Better in {len(better)} of {len(gains)} comparisons at equal MACs{_clear(better)}, "
    text += f"worse in {len(worse)}{_clear(worse)}. "
    values = [gain.mean for gain in gains]
    return (
        text + f"Mean difference {format_signed(statistics.mean(values))} "
        f"({format_signed(min(values))} to {format_signed(max(values))})."
    )


def _clear(gains: Sequence[Summary]) -> str:
    if not gains:
        return ""
    clear = sum(gain.error is not None and abs(gain.mean) > CLEAR * gain.error for gain in gains)
    return f" ({clear} clearly)"


# Training ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingCost:
    """What the tickets of a method cost.

    Attributes:
        method: Its name.
        samples: Image passes to a ticket, all steps included.
        seconds: Training time likewise, where it is known.
        together: Image passes to all tickets, what they have in common counted once.
        tickets: How many these are.
    """

    method: str
    samples: Summary
    seconds: Summary | None
    together: int
    tickets: int


def training_costs(comparison: Comparison) -> list[TrainingCost]:
    """What it costs to come to a ticket, by method."""
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
    """Share of image passes and seconds that two-in-one training saves against search-then-prune with retraining."""
    roles, by_name = comparison.roles(), {each.method: each for each in costs}
    rows = []
    for ours in (name for name, role in roles.items() if _our_claims(role)):
        for theirs in (name for name, role in roles.items() if role.way == "search-then-prune" and role.retrained):
            mine, other = by_name[ours], by_name[theirs]
            known = mine.seconds is not None and other.seconds is not None and other.seconds.mean > 0
            seconds = 1 - mine.seconds.mean / other.seconds.mean if known else None  # type: ignore[union-attr]
            rows.append((ours, theirs, 1 - mine.samples.mean / other.samples.mean, seconds))
    return rows


# As text -------------------------------------------------------------------------------------------------------------


def format_signed(value: float, digits: int = 2) -> str:
    """With its sign."""
    return f"{value:+.{digits}f}"


def format_difference(summary: Summary | None, share: bool = False) -> str:
    """A difference over seeds, how many there were; a dash for none."""
    if summary is None:
        return NONE
    if share:
        spread = "" if summary.deviation is None else f" ± {100 * summary.deviation:.0f}"
        return f"{format_signed(100 * summary.mean, 0)}{spread}% ({summary.count})"
    spread = "" if summary.deviation is None else f" ± {summary.deviation:.2f}"
    return f"{format_signed(summary.mean)}{spread} ({summary.count})"


def format_score(summary: Summary | None) -> str:
    """A score over seeds, how many there were; a dash for none."""
    return NONE if summary is None else f"{summary} ({summary.count})"


def summarize_column(rows: Iterable[Row], column: str) -> Summary | None:
    """A column over seeds; rows without it do not count."""
    return summarize(row[column] for row in rows if row.get(column) is not None)
