"""The sections of a report as blocks: from the short answer to every single number."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..sweeps.results import format_ratio
from .claims import (
    NONE,
    Claim,
    Pair,
    check_claims,
    choose_front,
    claim_verdict,
    compare_methods,
    format_difference,
    format_score,
    format_signed,
    method_means,
    reference_method,
    rows_with_ratio,
    summarize_column,
    training_costs,
    training_savings,
)
from .collect import Comparison, Run, Study
from .details import describe_run, example_runs
from .page import Block, Cell, Command, Figures, Fold, Heading, Link, Table, Text
from .roles import describe_method, differing_settings
from .svg_figure import format_short
from .ticket_latencies import RUNTIMES, MeasuredLatencies
from .tradeoff_figure import Axis, draw_tradeoff

_AXES = (
    Axis("masked_macs", "MACs under the mask, per layer (log)", True, "macs"),
    Axis("paper_macs", "MACs as the paper counts (log)", True, "paper-macs"),
    *(Axis(f"latency_{name}", f"measured latency, {name}, ms", False, name) for name in RUNTIMES),
)
_MANY = 8  # rows from which on a table is folded
_READING = (
    "Scores are from the test split, unless a table says validation; accuracies are in percent. The test split was "
    "read once, when each ticket was emitted, and nothing was chosen by it: what is on the Pareto front is decided by "
    "the validation split. ± is the standard deviation over seeds; the number of seeds stands in parentheses. "
    "Differences between methods are taken seed by seed. A difference is called clear if it is more than twice its "
    "standard error, which says little of two or three seeds."
)
_READING_ONE = "The test split was read once, when the ticket was emitted, and nothing was chosen by it."
_MACS = (
    "MACs are multiply-accumulates of one image, counted layer by layer under the mask. The paper's own figure is the "
    "MACs before the mask times one global density. Zeros alone make nothing faster on common runtimes; latency tells."
)


def build_page(
    study: Study, said: str, measured: MeasuredLatencies | None, trust: Sequence[str] = ()
) -> tuple[str, list[Block]]:
    """Return the whole report.

    Args:
        study: Runs and comparisons.
        said: Command that makes this report.
        measured: Latencies, which the rows have already.
        trust: Modules that may be imported if a ticket names them.

    Returns:
        Title and blocks.
    """
    runs, anchors = study.runs, _anchors(study)
    title = f"{runs[0].row['recipe']}: {runs[0].method}" if len(runs) == 1 else f"Report on {len(runs)} runs"
    reading = _READING if len(runs) > 1 else _READING_ONE
    blocks: list[Block] = [Heading(title, 1), Text(f"Made by: {said}"), Text(reading), Text(_MACS)]
    if study.left_out:
        lines = [Text(line) for line in study.left_out]
        blocks.append(Fold(f"Left out: {len(lines)}", lines, is_open=len(lines) < _MANY))
    for i, comparison in enumerate(study.comparisons):
        blocks += _comparison(comparison, f"r{i + 1}", anchors, measured, trust)
    blocks.append(Heading("Commands"))
    blocks.append(Text(_COMMANDS))
    commands = [Command(anchor, label, text) for anchor, label, text in anchors.values()]
    blocks.append(Fold(_count(len(commands), "command"), commands, is_open=len(commands) < _MANY))
    return title, blocks


_COMMANDS = (
    "Each makes one run again, from the settings that the run recorded: the shipped recipe and what differs from it. "
    "TICKET and HEAD stand for tickets whose directory was not recorded; a file NAME.yaml is a recipe of your own."
)


def _anchors(study: Study) -> dict[str, tuple[str, str, str]]:
    """Return by directory: an anchor, the label of the command, and the command; parents before children."""
    anchors: dict[str, tuple[str, str, str]] = {}
    for run in study.runs:
        for folder, text in run.commands:
            seed = f"{folder}, seed {run.seed}"
            anchors.setdefault(folder, (f"c{len(anchors) + 1}", f"c{len(anchors) + 1}: {seed}", text))
    return anchors


def _comparison(
    comparison: Comparison,
    name: str,
    anchors: Mapping[str, tuple[str, str, str]],
    measured: MeasuredLatencies | None,
    trust: Sequence[str],
) -> list[Block]:
    methods, runs = comparison.methods, comparison.runs
    blocks: list[Block] = [Heading(f"{comparison.title}: {comparison.metric.display_name}")]
    if len(runs) > 1:
        blocks.append(Text(_scope(comparison)))
    if len(methods) > 1:
        blocks += _in_short(comparison)
    if len(runs) > 1:
        blocks += _figures(comparison, name, measured)
        blocks += _ablation(comparison)
    if len(methods) > 1:
        blocks += _at_equal(comparison)
        blocks += _training(comparison)
        blocks += _methods(comparison)
    picked = example_runs(comparison)
    if len(runs) > 1:
        blocks += [Heading("Single runs", 3), Text(_describe_selection(comparison, picked))]
    for i, run in enumerate(picked):
        blocks += describe_run(run, comparison, f"{name}-{i + 1}", alone=len(picked) == 1, trust=trust)
    blocks.append(_all_results(comparison, anchors))
    return blocks


def _scope(comparison: Comparison) -> str:
    ratios = [format_ratio(ratio) for ratio in comparison.ratios if ratio]
    seeds = ", ".join(map(str, comparison.seeds))
    text = f"{_count(len(comparison.runs), 'run')} of {_count(len(comparison.methods), 'method')}"
    text += f"; sparsity {', '.join(ratios)}" if ratios else ""
    text += f"; seed{'s' if len(comparison.seeds) > 1 else ''} {seeds}."
    return text + (" With one seed there is no deviation, and no difference is clear." if not seeds.count(",") else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# In short ------------------------------------------------------------------------------------------------------------


def _in_short(comparison: Comparison) -> list[Block]:
    answers = check_claims(comparison)
    costs = _saved(comparison)
    if not answers and not costs:
        return []
    blocks: list[Block] = [Heading("The paper's claims, and these runs", 3), Text(_AT_EQUAL)]
    for claim in answers:
        blocks += [Heading(claim.text, 4), Text(claim_verdict(claim)), *_claim(claim, comparison)]
    return blocks + costs


_AT_EQUAL = (
    "By how much the score of the first method is better than that of the second (higher, or lower if it is an error), "
    "at the MACs which the second needs at each ratio; the first one's curve is interpolated between its own points, "
    "linear in the logarithm of MACs, for every seed. A dash: the first one's curve does not go there."
)


def _claim(claim: Claim, comparison: Comparison) -> list[Block]:
    ratios = sorted({at.ratio for each in claim.pairs for at in each.at})
    rows = [[p.ours, p.theirs, *_cells(p, ratios), _range(_savings(p))] for p in claim.pairs]
    head = ["method", "over", *(f"at {format_ratio(ratio)}" for ratio in ratios), "MACs saved at the same score"]
    table = Table(head, rows)
    blocks: list[Block] = [Fold(_count(len(rows), "pair"), [table])] if len(rows) > _MANY else [table]
    settings = comparison.settings()
    notes = []
    for each in claim.pairs:
        names = [n for n in differing_settings([settings[each.ours], settings[each.theirs]]) if n not in _ASKED]
        if names:
            notes.append(f"{each.ours} and {each.theirs}: {', '.join(names)}")
    if notes:
        blocks.append(Fold("Other settings in which these pairs differ", [Text(note) for note in notes]))
    return blocks


# What such pairs differ in by their nature.
_ASKED = ("prune.progressive", "prune.reactivate", "prune.restore")


def _cells(each: Pair, ratios: Sequence[float]) -> list[str]:
    known = {at.ratio: at.gain for at in each.at}
    return [format_difference(known.get(ratio)) for ratio in ratios]


def _savings(each: Pair) -> list[float]:
    return [at.saved.mean for at in each.at if at.saved is not None]


def _range(shares: Iterable[float | None]) -> str:
    """Return the least and the largest of the known shares as text."""
    known = [share for share in shares if share is not None]
    if not known:
        return NONE
    low, high = _share(min(known)), _share(max(known))
    return low if low == high else f"{low} to {high}"


def _saved(comparison: Comparison) -> list[Block]:
    savings = training_savings(training_costs(comparison), comparison)
    if not savings:
        return []
    rows = [[ours, theirs, _range([samples]), _range([seconds])] for ours, theirs, samples, seconds in savings]
    passes, time = (_range(column) for column in list(zip(*savings, strict=True))[2:])
    text = "What a ticket without retraining saves against searching, pruning and retraining, on the whole way to it: "
    text += f"{passes} of the image passes, {'an unknown share' if time == NONE else time} of the time."
    table = Table(["method", "against", "image passes saved", "training time saved"], rows)
    heading = Heading("One run costs less than search, train, prune and retrain", 4)
    return [heading, Text(text), Fold(_count(len(rows), "pair"), [table]) if len(rows) > _MANY else table]


def _share(value: float) -> str:
    return f"{format_signed(100 * value, 0)}%"


# Figures and tables -------------------------------------------------------------------------------------------------


def _figures(comparison: Comparison, name: str, measured: MeasuredLatencies | None) -> list[Block]:
    axes = [axis for axis in _AXES if len({run.row.get(axis.column) for run in comparison.runs} - {None}) > 1]
    blocks: list[Block] = [Heading("Score against cost", 3)]
    blocks.append(
        Text(
            "Large marks are means over seeds with their deviation, small ones single seeds; dashed and hollow: "
            "retrained. Rings: on the Pareto front by the validation split."
        )
    )
    blocks.append(Figures([draw_tradeoff(comparison, axis, f"{name}-{axis.name}") for axis in axes]))
    if measured is None:
        blocks.append(Text("Latency is not measured; supertickets report RUN... --latency times every ticket here."))
    else:
        timed = sum(f"latency_{RUNTIMES[0]}" in run.row for run in comparison.runs)
        blocks.append(Text(f"Latency of {timed} of {len(comparison.runs)} tickets on {measured.said}."))
    blocks.append(Fold("The points of these figures", [_points(comparison, axes)]))
    return blocks


def _points(comparison: Comparison, axes: Sequence[Axis]) -> Table:
    """Return a table with a row per large mark of the figures."""
    best = {(p.method, p.ratio) for p in choose_front(method_means(comparison, "masked_macs"), comparison.metric.sign)}
    test, validation = (f"{split}_{comparison.metric.name}" for split in ("test", "validation"))
    rows = []
    for method, runs in comparison.methods.items():
        for ratio, some in rows_with_ratio(runs, "masked_macs").items():
            cells = [format_score(summarize_column(some, name)) for name in (test, validation)]
            costs = [_mean(some, axis) for axis in axes]
            rows.append([method, format_ratio(ratio), *cells, *costs, "yes" if (method, ratio) in best else ""])
    head = ["method", "ratio", f"{comparison.metric.display_name}, test", "validation", *(axis.label for axis in axes)]
    return Table([*head, "front (MACs under the mask)"], rows)


def _mean(rows: Sequence[Mapping[str, Any]], axis: Axis) -> str:
    values = [row[axis.column] for row in rows if row.get(axis.column) is not None]
    return format_short(statistics.mean(values)) if values else NONE


def _ablation(comparison: Comparison) -> list[Block]:
    metric = comparison.metric
    others = [
        name.removeprefix("test_")
        for name in dict.fromkeys(name for run in comparison.runs for name in run.row)
        if name.startswith("test_") and name not in (f"test_{metric.name}", "test_loss")
    ]
    rest = [Fold("The same on the validation split", [_by_ratio(comparison, f"validation_{metric.name}")])]
    rest += [Fold(f"Test {name}", [_by_ratio(comparison, f"test_{name}")]) for name in others]
    heading, caption = Heading("Ablation: methods by ratio", 3), f"Test {metric.display_name}{metric.unit} (seeds)."
    return [heading, _by_ratio(comparison, f"test_{metric.name}", caption), *rest]


def _by_ratio(comparison: Comparison, column: str, caption: str = "") -> Table:
    ratios = comparison.ratios
    rows: list[list[Cell]] = []
    for method, runs in comparison.methods.items():
        cells = rows_with_ratio(runs, column)
        rows.append([method, *(format_score(summarize_column(cells[r], column)) if r in cells else "" for r in ratios)])
    return Table(["method", *map(format_ratio, ratios)], rows, caption)


def _at_equal(comparison: Comparison) -> list[Block]:
    first = reference_method(comparison)
    if first is None:
        return []
    names = [first, *(name for name in comparison.methods if name != first)]
    folds = [
        Fold(f"Against {name}", tables, is_open=name == first)
        for name in names
        if (tables := _against(comparison, name))
    ]
    text = "Every method beside another: at the other's MACs, at its score, and at the same ratio. Means over seeds of "
    text += (
        "differences seed by seed. A dash, and methods that are not listed: no curve goes where the other's point is."
    )
    return [Heading("At equal MACs, at equal score, at equal ratio", 3), Text(text), *folds]


def _against(comparison: Comparison, name: str) -> list[Table]:
    """Return up to three tables; rows and tables without a number are left out."""
    pairs = [compare_methods(comparison, other, name) for other in comparison.methods if other != name]
    points = pairs[0].at
    head = ["method", *(f"{format_ratio(p.ratio)}: {format_short(p.cost)}, {abs(p.score):.2f}" for p in points)]
    gains = [[p.ours, *(format_difference(at.gain) for at in p.at)] for p in pairs]
    savings = [[p.ours, *(format_difference(at.saved, share=True) for at in p.at)] for p in pairs]
    ratios = sorted({ratio for p in pairs for ratio in p.paired})
    same = [[p.ours, *(format_difference(p.paired.get(ratio)) for ratio in ratios)] for p in pairs]
    called = comparison.metric.display_name
    tables = (
        (head, gains, f"Test {called} gained at the MACs of {name} (its ratio, MACs and score above)."),
        (head, savings, f"Share of the MACs of {name} that is saved at its score; negative: more are needed."),
        (["method", *map(format_ratio, ratios)], same, f"Test {called} gained at the same ratio, at unequal MACs."),
    )
    known = [
        (names, [row for row in rows if set(row[1:]) > {NONE} or NONE not in row], said) for names, rows, said in tables
    ]
    return [Table(names, rows, said) for names, rows, said in known if rows]


def _training(comparison: Comparison) -> list[Block]:
    rows = []
    for cost in training_costs(comparison):
        seconds = NONE if cost.seconds is None else f"{cost.seconds.mean:,.0f}"
        spread = "" if cost.seconds is None or cost.seconds.deviation is None else f"{cost.seconds.deviation:,.0f}"
        together = f"{cost.together:,} for {cost.tickets}"
        rows.append([cost.method, f"{cost.samples.mean:,.0f}", seconds, spread, together])
    text = (
        "Image passes and training time on the whole way to one ticket, searching and retraining included, means over "
        "all ratios and seeds. Search-then-prune can prune one search to many ratios: the last column counts what "
        "tickets have in common once, but draws from a common trunk as if each had been trained alone."
    )
    head = ["method", "image passes to a ticket", "seconds", "±", "image passes to all tickets"]
    return [Heading("What training costs", 3), Text(text), Table(head, rows)]


def _methods(comparison: Comparison) -> list[Block]:
    settings = comparison.settings()
    names = differing_settings(list(settings.values()))
    rows = [
        [method, describe_method(runs[0].about), *(_format_setting(settings[method], name) for name in names)]
        for method, runs in comparison.methods.items()
    ]
    blocks: list[Block] = [Table(["method", "how", *names], rows, "Settings in which the methods differ.")]
    return [Fold("What the methods are", blocks)]


def _format_setting(settings: Mapping[str, Any], name: str) -> str:
    value = settings.get(name, NONE)
    return value if isinstance(value, str) else json.dumps(value)


# Single runs ---------------------------------------------------------------------------------------------------------


def _describe_selection(comparison: Comparison, picked: Sequence[Run]) -> str:
    if len(picked) == len(comparison.runs):
        return "What became of every run."
    return (
        f"What became of {len(picked)} of {len(comparison.runs)} runs: of every method in a sweep the one at the "
        "middle ratio and seed, whatever its score; twelve at most. supertickets report DIR shows any other."
    )


def _all_results(comparison: Comparison, anchors: Mapping[str, tuple[str, str, str]]) -> Fold:
    metrics = [
        name
        for name in dict.fromkeys(name for run in comparison.runs for name in run.row)
        if name.startswith(("test_", "validation_"))
    ]
    timed = [name for name in (f"latency_{each}" for each in RUNTIMES) if any(name in r.row for r in comparison.runs)]
    head = ["method", "ratio", "seed", *(name.replace("_", " ", 1) for name in metrics)]
    head += ["sparsity", "parameters", "not zero", "MACs", "under the mask", "as the paper counts"]
    head += ["image passes", "seconds", *(f"{name.replace('_', ', ')}, ms" for name in timed), "made by"]
    rows: list[list[Cell]] = []
    for run in comparison.runs:
        row, folder = run.row, run.commands[-1][0]
        cells: list[Cell] = [run.method, format_ratio(run.ratio) if run.ratio else NONE, str(run.seed)]
        cells += [NONE if name not in row else f"{row[name]:.4g}" for name in metrics]
        cells += [f"{row['sparsity']:.2%}"]
        cells += [f"{row[n]:,}" for n in ("params", "nonzero_params", "macs", "masked_macs", "paper_macs", "samples")]
        cells += [NONE if row["seconds"] is None else f"{row['seconds']:,.0f}"]
        cells += [f"{row[name]:.3g}" if name in row else NONE for name in timed]
        rows.append([*cells, Link(anchors[folder][0], anchors[folder][0])])
    return Fold(f"All results of {comparison.title}: {_count(len(rows), 'run')}", [Table(head, rows)])
