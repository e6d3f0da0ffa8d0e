"""The drawings: curves over cost, and what became of a run; each with a word to every mark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis as MplAxis
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, NullLocator

from ..cost import count
from ..models import HRNetSpec
from ..sweeps.results import percent
from ..ticket import Ticket
from ..visualization.run_figure import (
    BLUE,
    GRID,
    INK,
    MUTED,
    ORANGE,
    density_per_layer,
    score_over_epochs,
    size_over_epochs,
    style_axes,
)
from .claims import MethodMean, is_on_front, means, rows_with_ratio
from .collect import Comparison

# Colours that people with any colour vision tell apart (after Okabe, Ito and Tol): cool ones for two-in-one training,
# warm ones for search-then-prune. What is retrained is dashed, its marks hollow.
_COLORS = {
    "two-in-one": ("#0072b2", "#56b4e9", "#009e73", "#8571d8", "#7fc8b4"),
    "search-then-prune": ("#d55e00", "#e69f00", "#cc79a7", "#b8476f", "#a6a13a"),
    "other": (MUTED, "#a07155", "#b8860b", "#4f9a4f", "#b06cb5"),
}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")
_PAPER = "#fffffd"  # white that follows the page's
_WIDTH = 5.6  # inches
_STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "svg.fonttype": "none",
    "text.parse_math": False,
    "svg.hashsalt": "supertickets",
}
# What follows the page's light or dark scheme.
_SCHEME = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", _PAPER: "var(--paper)"}


@dataclass
class Figure:
    """A figure and what is said of its marks.

    Attributes:
        name: Name of its file.
        alt: What it shows, in a sentence.
        figure: The figure.
        words: A line for every mark that has one, by its gid.
    """

    name: str
    alt: str
    figure: MplFigure
    words: dict[str, str] = field(default_factory=dict)

    def say(self, mark: Any, words: str) -> None:
        """Gives a mark its word."""
        gid = f"mark{len(self.words)}"
        mark.set_gid(gid)
        self.words[gid] = words

    def png(self, path: Path) -> None:
        """Writes it as a figure on white."""
        with matplotlib.rc_context(_STYLE):
            self.figure.savefig(path, dpi=130, facecolor="white")
            self.figure.set_layout_engine("none")  # it stays as it is, and need not be found again

    def svg(self) -> str:
        """Draws it for a page: no fixed size, the page's colours, ids of its own, a title for every mark."""
        file = io.StringIO()
        with matplotlib.rc_context(_STYLE):
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            self.figure.savefig(file, format="svg", transparent=True, metadata=nothing)
            self.figure.set_layout_engine("none")
        text = file.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r'(?<= )(d|x|y|transform|points)="([^"]*)"', lambda m: f'{m[1]}="{_round_limits(m[2])}"', text)
        text = re.sub(r'((?<= )id="|url\(#|xlink:href="#)', lambda m: f"{m[1]}{self.name}-", text)
        for color, variable in _SCHEME.items():
            text = text.replace(color, variable)
        for gid, words in self.words.items():
            mark = f'<g id="{self.name}-{gid}">'
            text = text.replace(mark, f"{mark}<title>{escape(words)}</title>")
        size = re.search(r'viewBox="([^"]*)"', text)
        assert size is not None
        head = (
            f'<svg viewBox="{size[1]}" role="img" aria-label="{escape(self.alt)}" xmlns="http://www.w3.org/2000/svg" '
        )
        head += 'xmlns:xlink="http://www.w3.org/1999/xlink">'
        return re.sub(r"\n\s*", "\n", head + text[text.index(">") + 1 :]).strip()


def _round_limits(numbers: str) -> str:
    return re.sub(r"\d+\.\d+", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), numbers)


def _figure(height: float) -> tuple[MplFigure, Axes]:
    figure = MplFigure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


# Comparisons ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """A cost to draw along.

    Attributes:
        column: Column of the rows.
        label: With its unit.
        log: Whether it is logarithmic.
        name: Of the file.
    """

    column: str
    label: str
    log: bool
    name: str


def tradeoff(comparison: Comparison, axis: Axis, name: str) -> Figure:
    """The score of every method along a cost: means and deviations over seeds, every seed, and the front."""
    with matplotlib.rc_context(_STYLE):
        methods, points = comparison.methods, means(comparison, axis.column)
        columns = 2 if max(map(len, methods)) > 14 or len(methods) < 5 else 3
        figure, plot = _figure(3.5 + 0.21 * -(-(len(methods) + 1) // columns))
        drawing = Figure(name, f"Test {comparison.metric.display_name} against {axis.label}, by method", figure)
        chosen = is_on_front(points, comparison.metric.sign)
        score = f"test_{comparison.metric.name}"
        for (method, runs), (color, marker, again) in zip(methods.items(), _looks(comparison), strict=True):
            for rows in rows_with_ratio(runs, axis.column).values():
                for row in rows:
                    (dot,) = plot.plot(row[axis.column], row[score], marker, color=color, ms=3, alpha=0.45, mew=0)
                    drawing.say(dot, _of_row(comparison, row, axis))
            _curve(plot, drawing, [p for p in points if p.method == method], axis, color, marker, again)
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
            _plain_numbers(plot.xaxis)
        style_axes(plot)
        plot.grid(axis="x", color=GRID, lw=0.8)
        figure.legend(loc="outside lower left", ncols=columns, frameon=False, fontsize=9, handlelength=2.6)
    return drawing


def _plain_numbers(axis: MplAxis) -> None:
    """Labels of a logarithmic axis without powers."""
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_name(value)))


def _looks(comparison: Comparison) -> list[tuple[str, str, bool]]:
    """Colour and marker of every method, and whether it is retrained: it then looks like what it began from."""
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
        looks.append((color, marker, role.retrained))
    return looks


def _curve(
    plot: Axes, drawing: Figure, points: Sequence[MethodMean], axis: Axis, color: str, marker: str, again: bool
) -> None:
    if not points:
        return
    points = sorted(points, key=lambda point: point.cost)
    x, y = [p.cost for p in points], [p.score.mean for p in points]
    if any(p.score.deviation for p in points):
        spread = [p.score.deviation or 0 for p in points]
        plot.errorbar(x, y, spread, fmt="none", ecolor=color, elinewidth=1, capsize=2.5, alpha=0.7)
    fill = _PAPER if again else color
    (line,) = plot.plot(x, y, "--" if again else "-", color=color, marker=marker, ms=6, lw=1.6, mfc=fill, mew=1.2)
    line.set_label(f" {points[0].method}")  # a legend passes over names that begin with an underscore
    for point in points:
        (mark,) = plot.plot(point.cost, point.score.mean, marker, color=color, ms=6, mfc=fill, mew=1.2)
        seeds = f"{point.score} over {point.score.count} seed{'s' if point.score.count > 1 else ''}"
        drawing.say(mark, f"{point.method}{ratio_label(point.ratio)}: {seeds} at {_cost(point.cost, axis)}")


def _of_row(comparison: Comparison, row: Mapping[str, Any], axis: Axis) -> str:
    test, validation = (row[f"{split}_{comparison.metric.name}"] for split in ("test", "validation"))
    said = (
        f"{row['method']}{ratio_label(row['ratio'])}, seed {row['seed']}: {test:.2f} test, {validation:.2f} validation"
    )
    return f"{said}, {_cost(row[axis.column], axis)} ({row['key']})"


def ratio_label(ratio: float) -> str:
    """What follows the name of a method."""
    return f", {percent(ratio)}" if ratio else ""


def _cost(value: float, axis: Axis) -> str:
    return f"{short_name(value)} MACs" if axis.log else f"{value:.3g} ms"


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two costs; more of them the closer these are."""
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(i / 10 for i in range(10, 100))):
        found = [
            step * 10**power for power in range(16) for step in steps if low / 1.1 <= step * 10**power <= high * 1.1
        ]
        if len(found) >= 3:
            return found[:: -(-len(found) // 8)]
    return [low, high]


def short_name(value: float) -> str:
    """Three digits at most, and a unit."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


# A run ---------------------------------------------------------------------------------------------------------------


def run_figures(name: str, ticket: Ticket, epochs: Sequence[Mapping[str, Any]], metric: str) -> list[Figure]:
    """What became of a run.

    Args:
        name: Begins the names of the files.
        ticket: What came out.
        epochs: Its records of epochs; none if nothing was trained.
        metric: The metric that is shown first.
    """
    with matplotlib.rc_context(_STYLE):
        drawings = _over_epochs(name, ticket, epochs, metric) if epochs else []
        if ticket.mask:
            drawings.append(_density(f"{name}-layers", ticket))
        if isinstance(ticket.spec, HRNetSpec):
            drawings.append(_units(f"{name}-units", ticket.spec))
    return drawings


def _over_epochs(name: str, ticket: Ticket, epochs: Sequence[Mapping[str, Any]], metric: str) -> list[Figure]:
    drawings = []
    if any(metric in record for record in epochs):
        figure, plot = _figure(3.1)
        score_over_epochs(plot, epochs)
        drawings.append(Figure(f"{name}-score", "Validation score and sparsity over epochs", figure))
    figure, plot = _figure(3.1)
    plot.set_title("Loss", loc="left")
    plot.plot([r["epoch"] for r in epochs], [r["train_loss"] for r in epochs], color=BLUE, label="training")
    measured = [(r["epoch"], r["loss"]) for r in epochs if "loss" in r]
    if measured:
        x, y = zip(*measured, strict=True)
        plot.plot(x, y, color=ORANGE, marker="o", ms=3, ls="--", label="validation")
    plot.set(xlabel="epoch", ylabel="loss")
    plot.legend(frameon=False, loc="upper right")
    style_axes(plot)
    drawings.append(Figure(f"{name}-loss", "Training and validation loss over epochs", figure))
    full = ticket.spec.full()
    units, macs = sum(map(len, full.unit_groups())), count(full).macs
    if any((record["units"], record["masked_macs"]) != (units, macs) for record in epochs):
        figure, plot = _figure(3.1)
        size_over_epochs(plot, epochs, units, macs)
        drawings.append(Figure(f"{name}-size", "Search units and MACs that are left, over epochs", figure))
    return drawings


def _density(name: str, ticket: Ticket) -> Figure:
    figure, plot = _figure(3.1)
    drawing = Figure(name, "Weights per layer: all, and those that are left", figure)
    layers = [row.weight for row in ticket.cost.layers if row.weight is not None and row.weight in ticket.mask]
    density_per_layer(plot, [ticket.mask[layer] for layer in layers])
    plot.set_title("Weights per layer: all (grey) and left", loc="left")
    _plain_numbers(plot.yaxis)
    for patches in (plot.patches[: len(layers)], plot.patches[len(layers) :]):
        for patch, layer in zip(patches, layers, strict=False):
            flags = ticket.mask[layer]
            left = int(flags.sum())
            share = left / flags.numel() if flags.numel() else 0.0
            drawing.say(patch, f"{layer.removesuffix('.weight')}: {left:,} of {flags.numel():,} weights ({share:.0%})")
    return drawing


# Units ---------------------------------------------------------------------------------------------------------------


def places(spec: HRNetSpec) -> dict[tuple[str, int], tuple[list[int], list[int]]]:
    """Search units per place and branch: those left and those of the supernet, by kernel size, tokens last.

    Places are the parallel and the fuse modules of every stage, and the head; what leads to a branch belongs to it.
    """
    full = spec.full_units()
    found: dict[tuple[str, int], tuple[list[int], list[int]]] = {}
    for block, units in spec.units.items():
        left, most = found.setdefault(_place(block), ([0] * (len(units.hidden) + 1), [0] * (len(units.hidden) + 1)))
        for counts, each in ((left, units), (most, full[block])):
            for i, number in enumerate((*each.hidden, each.tokens)):
                counts[i] += number
    return found


def _place(block: str) -> tuple[str, int]:
    """Where a block is: the name of its row, and its branch from 1."""
    if found := re.fullmatch(r"s(\d+)_b(\d+)_\d+", block):
        return f"stage {int(found[1]) + 1}", int(found[2]) + 1
    if found := re.fullmatch(r"s(\d+)_(?:fuse_\d+to|new_)(\d+)", block):
        return f"fuse {int(found[1]) + 1}", int(found[2]) + 1
    found = re.search(r"_(\d+)$", block)
    return "head", int(found[1]) + 1 if found else 1


def kinds(spec: HRNetSpec) -> list[str]:
    """Kernel sizes, and tokens, as `places` has them."""
    return [*(f"{kernel}x{kernel}" for kernel in spec.style.kernels), "tokens"]


def _units(name: str, spec: HRNetSpec) -> Figure:
    found = places(spec)
    rows = list(dict.fromkeys(place for place, _ in found))
    branches = sorted({branch for _, branch in found})
    shown = [(i, kind) for i, kind in enumerate(kinds(spec)) if any(most[i] for _, most in found.values())]
    figure = MplFigure(figsize=(_WIDTH, 1.0 + 0.3 * len(rows)), layout="constrained")
    drawing = Figure(name, "Search units that are left, per place, branch and kernel size", figure)
    plots = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    figure.suptitle("Search units left, per branch and kernel size", x=0.01, ha="left", fontsize=10.5)
    for plot, (i, kind) in zip(plots, shown, strict=True):
        for (place, branch), (left, most) in found.items():
            if most[i]:
                _cell(plot, drawing, branches.index(branch), rows.index(place), left[i], most[i], f"{place}, {kind}")
        plot.set_title(kind, fontsize=9.5)
        plot.set(xlim=(-0.5, len(branches) - 0.5), ylim=(len(rows) - 0.5, -0.5), xlabel="branch")
        plot.set_xticks(range(len(branches)), [str(branch) for branch in branches])
        plot.set_yticks(range(len(rows)), rows)
        plot.tick_params(length=0, labelcolor=MUTED)
        for side in plot.spines.values():
            side.set_visible(False)
    return drawing


def _cell(plot: Axes, drawing: Figure, x: int, y: int, left: int, most: int, what: str) -> None:
    share = left / most
    color = matplotlib.colormaps["Blues"](0.06 + 0.84 * share)
    (cell,) = plot.bar([x], [0.9], 0.92, bottom=[y - 0.45], color=color, edgecolor=GRID, lw=0.8)
    drawing.say(cell, f"{what}, branch {x + 1}: {left} of {most} left ({share:.0%})")
    plot.text(x, y, str(left), ha="center", va="center", fontsize=7.5, color="#fffffe" if share > 0.55 else "#111112")
