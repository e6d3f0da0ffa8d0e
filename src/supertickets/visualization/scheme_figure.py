"""The figure of a connection search: quality, size and time of schemes, scores of blocks (LTH4SA, Fig. 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..analysis.connection_schemes import JudgedSchemes
from ..cost.latency import TimeIncrement
from .style import BLUE, GREEN, INK, MUTED, RED, STYLE, style_axes


def draw_scheme_figure(
    path: Path, seen: JudgedSchemes, summary: Mapping[str, Any], times: Mapping[int, TimeIncrement]
) -> None:
    """Draw accuracy, parameters, times and connection scores.

    Args:
        path: Path of the PNG.
        seen: Schemes that a search judged.
        summary: Summary of them by `summarize_schemes`.
        times: Time increments by the place of a scheme among those seen; without any, there is no panel for them.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 7.6), layout="constrained")
        axes = figure.subplots(2, 2)
        draw_quality(axes[0, 0], seen)
        params = {number: (seen.params[seen.connections == number] / 1e3).tolist() for number in _numbers(seen)}
        draw_violins(axes[0, 1], params, GREEN)
        axes[0, 1].set_title("Parameters, thousands", loc="left")
        if times:
            percent: dict[int, list[float]] = {number: [] for number in _numbers(seen)}
            for i, increment in times.items():
                if int(seen.connections[i]) in percent:
                    percent[int(seen.connections[i])].append(increment.percent)
            draw_violins(axes[1, 1], percent, MUTED)
            axes[1, 1].set_title("Longer than without connections, %", loc="left")
        else:
            axes[1, 1].set_axis_off()
        draw_scores(axes[1, 0], summary)
        figure.savefig(path, dpi=120)


def draw_quality(axis: Axes, seen: JudgedSchemes) -> None:
    """Draw the accuracy with shared weights by the number of connections, between both ends."""
    axis.set_title("Quality on the validation split, shared weights, %", loc="left")
    draw_violins(axis, {n: (100 * seen.quality[seen.connections == n]).tolist() for n in _numbers(seen)}, BLUE)
    for share, label, color in ((seen.full, "all connected", INK), (seen.plain, "no connection", RED)):
        height = 100 * share
        axis.axhline(height, color=color, linestyle=":")
        axis.annotate(label, (0, height), (3, 3), axis.get_yaxis_transform(), "offset points", color=color)


def draw_violins(axis: Axes, values: Mapping[int, Sequence[float]], color: str) -> None:
    """Draw a violin per number of connections; a point where all values are equal."""
    places = np.arange(1, len(values) + 1)
    wide = [(place, own) for place, own in zip(places, values.values(), strict=True) if len(set(own)) > 1]
    if wide:
        shapes = axis.violinplot([own for _, own in wide], positions=[p for p, _ in wide], showmeans=True, widths=0.8)
        for body in shapes["bodies"]:  # type: ignore[attr-defined]
            body.set_facecolor(color)
        for part in ("cmeans", "cmins", "cmaxes", "cbars"):
            shapes[part].set(color=color, linewidth=1)
    for place, own in zip(places, values.values(), strict=True):
        if len(set(own)) == 1:
            axis.scatter([place], own[:1], 14, color=color)
    axis.set_xticks(places, [str(number) for number in values])
    axis.set_xlabel("connections")
    style_axes(axis)


def draw_scores(axis: Axes, summary: Mapping[str, Any]) -> None:
    """Draw the connection scores of tickets and of bad schemes, with their trends."""
    axis.set_title("Connection scores of blocks, tickets and bad schemes", loc="left")
    for name, color in (("tickets", GREEN), ("bad", RED)):
        entry = summary["scores"][name]
        if not entry["schemes"]:
            continue
        x = np.arange(1, len(entry["by_block"]) + 1)
        label = f"{name}: {entry['schemes']:,} schemes, slope {entry['slope']:+.3f} (p {entry['p']:.2g})"
        axis.plot(x, entry["by_block"], "o", color=color, ms=4, label=label)
        middle = np.mean(entry["by_block"]) - entry["slope"] * x.mean()
        axis.plot(x, middle + entry["slope"] * x, color=color, linewidth=1)
    axis.set(ylim=(0, 1), xlabel="block", ylabel="share that connects it")
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False, loc="lower left")
    style_axes(axis)


def _numbers(seen: JudgedSchemes) -> list[int]:
    """Return the numbers of connections between the two ends."""
    return [n for n in seen.connections.unique().tolist() if 0 < n < sum(seen.spec.connected)]
