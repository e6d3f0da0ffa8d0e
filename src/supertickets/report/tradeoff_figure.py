"""The score of methods along a cost: a figure of a comparison."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes

from ..sweeps.results import format_ratio
from ..visualization.style import GRID, INK, MUTED, style_axes
from .claims import MethodMean, choose_front, method_means, rows_with_ratio
from .collect import Comparison
from .svg_figure import FIGURE_STYLE, PAPER, Figure, format_short, new_figure, show_plain_numbers

# Colours that people with any colour vision tell apart (after Okabe, Ito and Tol): cool ones for two-in-one training,
# warm ones for search-then-prune. What is retrained is dashed, its marks hollow.
_COLORS = {
    "two-in-one": ("#0072b2", "#56b4e9", "#009e73", "#8571d8", "#7fc8b4"),
    "search-then-prune": ("#d55e00", "#e69f00", "#cc79a7", "#b8476f", "#a6a13a"),
    "other": (MUTED, "#a07155", "#b8860b", "#4f9a4f", "#b06cb5"),
}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")


@dataclass(frozen=True)
class Look:
    """The look of a method's curve.

    Attributes:
        color: Colour of lines and marks.
        marker: Marker of matplotlib.
        retrained: Whether the method is retrained: dashed, with hollow marks.
    """

    color: str
    marker: str
    retrained: bool

    @property
    def fill(self) -> str:
        """Colour inside the marks."""
        return PAPER if self.retrained else self.color


@dataclass(frozen=True)
class Axis:
    """A cost to draw along.

    Attributes:
        column: Column of the rows.
        label: Label with its unit.
        log: Whether it is logarithmic.
        name: Part of the file's name.
    """

    column: str
    label: str
    log: bool
    name: str


def draw_tradeoff(comparison: Comparison, axis: Axis, name: str) -> Figure:
    """Draw the score of every method along a cost: means and deviations over seeds, every seed, and the front."""
    with matplotlib.rc_context(FIGURE_STYLE):
        methods, points = comparison.methods, method_means(comparison, axis.column)
        columns = _count_columns(methods)
        lines = sum(_wrap(method).count("\n") for method in methods)
        figure, plot = new_figure(3.5 + 0.21 * (-(-(len(methods) + 1) // columns) + lines))
        drawing = Figure(name, f"Test {comparison.metric.display_name} against {axis.label}, by method", figure)
        chosen = choose_front(points, comparison.metric.sign)
        score = f"test_{comparison.metric.name}"
        for (method, runs), look in zip(methods.items(), _choose_looks(comparison), strict=True):
            for rows in rows_with_ratio(runs, axis.column).values():
                for row in rows:
                    (dot,) = plot.plot(
                        row[axis.column], row[score], look.marker, color=look.color, ms=3, alpha=0.45, mew=0
                    )
                    drawing.annotate(dot, _describe_row(comparison, row, axis))
            _draw_curve(plot, drawing, [p for p in points if p.method == method], axis, look)
        (ring,) = plot.plot(
            [p.cost for p in chosen], [p.score.mean for p in chosen], "o", ms=13, mfc="none", mec=INK, mew=0.8, ls=""
        )
        ring.set_label("on the Pareto front (by validation)")
        plot.set(xlabel=axis.label, ylabel=f"{comparison.metric.display_name}{comparison.metric.unit} (test)")
        if axis.log:
            plot.set_xscale("log")
            low, high = min(p.cost for p in points), max(p.cost for p in points)
            plot.set_xticks(_ticks(low, high))
            plot.set_xlim(low / 1.15, high * 1.15)
            show_plain_numbers(plot.xaxis)
        style_axes(plot)
        plot.grid(axis="x", color=GRID, lw=0.8)
        figure.legend(loc="outside lower left", ncols=columns, frameon=False, fontsize=9, handlelength=2.6)
    return drawing


def _count_columns(methods: Collection[str]) -> int:
    """Return the columns of the legend."""
    longest = max(map(len, methods))
    return 1 if longest > 26 else 2 if longest > 14 or len(methods) < 5 else 3


def _wrap(method: str) -> str:
    """Return a name in lines that are not wider than the figure."""
    return "\n".join(textwrap.wrap(method, 50, drop_whitespace=False)) or method


def _choose_looks(comparison: Comparison) -> list[Look]:
    """Return the look of every method; a retrained one has colour and marker of the method that it began from."""
    ends = {name: {run.steps[-1].key for run in runs} for name, runs in comparison.methods.items()}
    begins = {name: {step.key for run in runs for step in run.steps[:-1]} for name, runs in comparison.methods.items()}
    seen: dict[str, tuple[str, str]] = {}
    used = dict.fromkeys(_COLORS, 0)
    looks = []
    for name, role in comparison.roles().items():
        bases = [other for other in seen if ends[other] & begins[name] or name == f"{other} + retrain"]
        if role.retrained and bases:
            color, marker = seen[bases[-1]]
        else:
            colors = _COLORS[role.way]
            color, marker = colors[used[role.way] % len(colors)], _MARKERS[len(seen) % len(_MARKERS)]
            used[role.way] += 1
            seen[name] = color, marker
        looks.append(Look(color, marker, role.retrained))
    return looks


def _draw_curve(plot: Axes, drawing: Figure, points: Sequence[MethodMean], axis: Axis, look: Look) -> None:
    if not points:
        return
    points, color, marker = sorted(points, key=lambda point: point.cost), look.color, look.marker
    x, y = [p.cost for p in points], [p.score.mean for p in points]
    if any(p.score.deviation for p in points):
        spread = [p.score.deviation or 0 for p in points]
        plot.errorbar(x, y, spread, fmt="none", ecolor=color, elinewidth=1, capsize=2.5, alpha=0.7)
    style = "--" if look.retrained else "-"
    (line,) = plot.plot(x, y, style, color=color, marker=marker, ms=6, lw=1.6, mfc=look.fill, mew=1.2)
    line.set_label(f" {_wrap(points[0].method)}")  # a legend passes over names that begin with an underscore
    for point in points:
        (mark,) = plot.plot(point.cost, point.score.mean, marker, color=color, ms=6, mfc=look.fill, mew=1.2)
        seeds = f"{point.score} over {point.score.count} seed{'s' if point.score.count > 1 else ''}"
        drawing.annotate(mark, f"{point.method}{ratio_label(point.ratio)}: {seeds} at {_cost(point.cost, axis)}")


def _describe_row(comparison: Comparison, row: Mapping[str, Any], axis: Axis) -> str:
    test, validation = (row[f"{split}_{comparison.metric.name}"] for split in ("test", "validation"))
    said = (
        f"{row['method']}{ratio_label(row['ratio'])}, seed {row['seed']}: {test:.2f} test, {validation:.2f} validation"
    )
    return f"{said}, {_cost(row[axis.column], axis)} ({row['key']})"


def ratio_label(ratio: float) -> str:
    """Return the ratio as it follows the name of a method; nothing for none."""
    return f", {format_ratio(ratio)}" if ratio else ""


def _cost(value: float, axis: Axis) -> str:
    return f"{format_short(value)} MACs" if axis.log else f"{value:.3g} ms"


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two costs; more of them the closer these are."""
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(i / 10 for i in range(10, 100))):
        ticks = [
            step * 10**power for power in range(16) for step in steps if low / 1.1 <= step * 10**power <= high * 1.1
        ]
        if len(ticks) >= 3:
            return ticks[:: -(-len(ticks) // 8)]
    return [low, high]
