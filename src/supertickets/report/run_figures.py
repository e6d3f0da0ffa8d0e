"""Figures of one run in a report: scores, losses and sizes over epochs, weights per layer, search units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.patches import Rectangle

from ..cost import count
from ..models.base import UnitTable
from ..tasks import Metric
from ..ticket import Ticket
from ..visualization.curves import draw_density, draw_score, draw_size
from ..visualization.style import BLUE, GRID, MUTED, ORANGE, style_axes
from .svg_figure import FIGURE_STYLE, WIDTH, Figure, new_figure, show_plain_numbers


def draw_run_figures(name: str, ticket: Ticket, epochs: Sequence[Mapping[str, Any]], metric: Metric) -> list[Figure]:
    """Draw a run: epochs, layers and search units.

    Args:
        name: Prefix of the names of the files.
        ticket: Ticket of the run.
        epochs: Records of its epochs; none if nothing was trained.
        metric: Metric that is shown first.
    """
    with matplotlib.rc_context(FIGURE_STYLE):
        drawings = _over_epochs(name, ticket, epochs, metric) if epochs else []
        if ticket.mask:
            drawings.append(_density(f"{name}-layers", ticket))
        if (units := ticket.spec.unit_table()) is not None:
            drawings.append(_units(f"{name}-units", units))
    return drawings


def _over_epochs(name: str, ticket: Ticket, epochs: Sequence[Mapping[str, Any]], metric: Metric) -> list[Figure]:
    drawings = []
    if any(metric.name in record for record in epochs):
        figure, plot = new_figure(3.1)
        draw_score(plot, epochs, metric)
        drawings.append(Figure(f"{name}-score", "Validation score and sparsity over epochs", figure))
    figure, plot = new_figure(3.1)
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
        figure, plot = new_figure(3.1)
        draw_size(plot, epochs, units, macs, ticket.about.get("budget", {}))
        drawings.append(Figure(f"{name}-size", "Search units and MACs that are left, over epochs", figure))
    return drawings


def _density(name: str, ticket: Ticket) -> Figure:
    figure, plot = new_figure(3.1)
    drawing = Figure(name, "Weights per layer: all, and those that are left", figure)
    layers = [row.weight for row in ticket.cost.layers if row.weight is not None and row.weight in ticket.mask]
    draw_density(plot, [ticket.mask[layer] for layer in layers])
    plot.set_title("Weights per layer: all (grey) and left", loc="left")
    show_plain_numbers(plot.yaxis)
    for patches in (plot.patches[: len(layers)], plot.patches[len(layers) :]):
        for patch, layer in zip(patches, layers, strict=False):
            flags = ticket.mask[layer]
            left = int(flags.sum())
            share = left / flags.numel() if flags.numel() else 0.0
            drawing.annotate(
                patch, f"{layer.removesuffix('.weight')}: {left:,} of {flags.numel():,} weights ({share:.0%})"
            )
    return drawing


# Units ---------------------------------------------------------------------------------------------------------------


def count_units(units: UnitTable) -> dict[tuple[str, int], tuple[list[int], list[int]]]:
    """Return the search units per place and branch: those left and those of the supernet, by kind."""
    sums: dict[tuple[str, int], tuple[list[int], list[int]]] = {}
    for row in units.rows:
        left, most = sums.setdefault((row.place, row.branch), ([0] * len(units.kinds), [0] * len(units.kinds)))
        for counts, numbers in ((left, row.left), (most, row.most)):
            for i, number in enumerate(numbers):
                counts[i] += number
    return sums


def _units(name: str, units: UnitTable) -> Figure:
    by_place = count_units(units)
    rows = list(dict.fromkeys(place for place, _ in by_place))
    branches = sorted({branch for _, branch in by_place})
    shown = [(i, kind) for i, kind in enumerate(units.kinds) if any(most[i] for _, most in by_place.values())]
    figure = MplFigure(figsize=(WIDTH, 1.0 + 0.3 * len(rows)), layout="constrained")
    drawing = Figure(name, "Search units that are left, per place, branch and kernel size", figure)
    plots = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    figure.suptitle("Search units left, per branch and kernel size", x=0.01, ha="left", fontsize=10.5)
    for plot, (i, kind) in zip(plots, shown, strict=True):
        for (place, branch), (left, most) in by_place.items():
            if most[i]:
                x, y, share = branches.index(branch), rows.index(place), left[i] / most[i]
                cell = _draw_cell(plot, (x, y), left[i], share)
                drawing.annotate(cell, f"{place}, {kind}, branch {x + 1}: {left[i]} of {most[i]} left ({share:.0%})")
        plot.set_title(kind, fontsize=9.5)
        plot.set(xlim=(-0.5, len(branches) - 0.5), ylim=(len(rows) - 0.5, -0.5), xlabel="branch")
        plot.set_xticks(range(len(branches)), [str(branch) for branch in branches])
        plot.set_yticks(range(len(rows)), rows)
        plot.tick_params(length=0, labelcolor=MUTED)
        for side in plot.spines.values():
            side.set_visible(False)
    return drawing


def _draw_cell(plot: Axes, place: tuple[int, int], left: int, share: float) -> Rectangle:
    """Draw a cell at a place (x, y): a number, on a colour for its share of the supernet's."""
    x, y = place
    color = matplotlib.colormaps["Blues"](0.06 + 0.84 * share)
    (cell,) = plot.bar([x], [0.9], 0.92, bottom=[y - 0.45], color=color, edgecolor=GRID, lw=0.8)
    plot.text(x, y, str(left), ha="center", va="center", fontsize=7.5, color="#fffffe" if share > 0.55 else "#111112")
    return cell
