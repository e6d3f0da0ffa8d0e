"""The figure of a comparison: scores of tickets and references against measured latency."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from ..sweeps.comparison import EQUAL_TIME, TICKETS, Comparison, MemberResult
from .style import BLUE, GRID, INK, MUTED, PURPLE, STYLE, style_axes

_TICKET_COLOR = "#c2410c"
_LOOKS = ((BLUE, "s"), (PURPLE, "^"), ("#0f766e", "D"), (MUTED, "v"))  # of the kinds of references
_PLACES = ((0, 9), (0, -9), (9, 0), (-9, 0), (9, 8), (9, -8), (-9, 8), (-9, -8), (0, 20), (0, -20), (22, 16), (22, -16))
_INCHES = (8.6, 5.4)
_APART = 4  # pixels between points of a line
_LINE = 102  # letters of the title


def draw_comparison(comparison: Comparison, path: Path) -> Path:
    """Draw a comparison.

    Args:
        comparison: What was found.
        path: File to write; its ending says the format.

    Returns:
        The path.
    """
    with matplotlib.rc_context({**STYLE, "font.size": 10, "svg.hashsalt": "supertickets"}):
        figure = Figure(figsize=_INCHES, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axis = figure.subplots()
        headline = "\n".join(textwrap.fill(line, _LINE) for line in comparison.headlines)
        figure.suptitle(headline, x=0.012, ha="left", fontsize=10, fontweight="bold")
        axis.set_title(_setting(comparison), loc="left", fontsize=9, color=MUTED)
        front = comparison.front()
        axis.plot(*zip(*front, strict=True), "o-", color=GRID, lw=11, ms=16, zorder=1, label="Pareto front")
        _draw_groups(axis, comparison)
        _style_latency(axis, comparison)
        figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=9)
        canvas.draw()  # type: ignore[no-untyped-call]  # lays out
        figure.set_layout_engine("none")
        _name_points(axis, comparison.members)
        figure.savefig(path, dpi=170)
    return path


def _setting(comparison: Comparison) -> str:
    seeds = max(len(member.runs) for member in comparison.members)
    said = f"{seeds} seeds, mean and deviation" if seeds > 1 else "one seed"
    return (
        f"{comparison.recipe}: {comparison.metric.display_name} on the test split ({said}) against the latency of one "
        f"image\n{comparison.device}, one thread, each network in its fastest runtime"
    )


def _draw_groups(axis: Axes, comparison: Comparison) -> None:
    """Draw every kind of network of every group as points with a line; what trained for an equal time is hollow."""
    references = dict.fromkeys(member.kind for member in comparison.members if member.group != TICKETS)
    looks = {kind: _LOOKS[i % len(_LOOKS)] for i, kind in enumerate(references)}
    for group in dict.fromkeys(member.group for member in comparison.members):
        for kind in dict.fromkeys(member.kind for member in comparison.list_group(group)):
            members = sorted((m for m in comparison.list_group(group) if m.kind == kind), key=lambda m: m.latency_ms)
            color, marker = (_TICKET_COLOR, "o") if group == TICKETS else looks[kind]
            x, y = zip(*(member.point for member in members), strict=True)
            label = "tickets" if group == TICKETS else kind + (", equal training time" if group == EQUAL_TIME else "")
            is_ticket, is_hollow = group == TICKETS, group == EQUAL_TIME
            axis.plot(x, y, "-" if is_ticket else ":", color=color, lw=2 if is_ticket else 1.2, zorder=3)
            fill = "white" if is_hollow else color
            size = 9 if is_ticket else 7
            axis.plot(x, y, marker, color=color, mfc=fill, mew=1.4, ms=size, zorder=4, label=label)
            if any(member.test.deviation for member in members):
                spread = [member.test.deviation or 0 for member in members]
                axis.errorbar(x, y, spread, fmt="none", ecolor=color, elinewidth=1.1, capsize=3, zorder=2)


def _style_latency(axis: Axes, comparison: Comparison) -> None:
    metric = comparison.metric
    axis.set_xscale("log")
    low, high = min(m.latency_ms for m in comparison.members), max(m.latency_ms for m in comparison.members)
    axis.set_xlim(low / 1.25, high * 1.25)
    axis.margins(y=0.12)
    steps = (1, 2, 5) if high / low > 8 else (1, 1.5, 2, 3, 4, 5, 7)
    axis.xaxis.set_major_locator(LogLocator(subs=steps))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    if metric.is_error:
        axis.invert_yaxis()  # up is better in all figures
    worse = " (less is better)" if metric.is_error else ""
    axis.set(xlabel="latency of one image, ms (log)", ylabel=f"{metric.display_name}{metric.unit}{worse}")
    style_axes(axis)
    axis.tick_params(which="minor", length=0)
    axis.grid(axis="x", color=GRID, lw=0.8)


def _name_points(axis: Axes, members: Sequence[MemberResult]) -> None:
    """Write the names beside the points, each where it meets no other point, name or line, or least of them."""
    renderer = axis.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    taken = []
    for member in members:
        (x, y), spread = axis.transData.transform(member.point), member.test.deviation or 0.0
        (_, low), (_, high) = (axis.transData.transform((1, member.test.mean + by)) for by in (-spread, spread))
        taken += [
            Bbox.from_bounds(x - 7, y - 7, 14, 14),
            Bbox.from_extents(x - 4, min(low, high), x + 4, max(low, high)),
        ]
    for line in axis.lines:
        corners = axis.transData.transform(line.get_xydata()).tolist()
        taken += [Bbox.from_bounds(x - 1, y - 1, 2, 2) for x, y in _points_along(corners)]
    for member in members:
        color = _TICKET_COLOR if member.group == TICKETS else INK
        best, least = None, float("inf")
        for dx, dy in _PLACES:
            text = axis.annotate(
                member.title.split(", equal")[0],
                member.point,
                (dx, dy),
                textcoords="offset points",
                ha="center" if not dx else "left" if dx > 0 else "right",
                va="center" if not dy else "bottom" if dy > 0 else "top",
                fontsize=8,
                color=color,
                zorder=5,
            )
            box = text.get_window_extent(renderer)
            overlap = sum(_overlap(box, other) for other in taken) + _outside(box, axis.get_window_extent(renderer))
            if overlap < least:
                if best is not None:
                    best[0].remove()
                best, least = (text, box), overlap
            else:
                text.remove()
            if not least:
                break
        assert best is not None
        taken.append(best[1])


def _points_along(corners: Sequence[Sequence[float]]) -> Iterator[tuple[float, float]]:
    """Yield points of a line through some corners, a few pixels apart."""
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        steps = max(1, round(math.hypot(x1 - x0, y1 - y0) / _APART))
        yield from ((x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps) for i in range(steps))


def _overlap(one: Bbox, other: Bbox) -> float:
    """Return the area that two boxes share."""
    shared = Bbox.intersection(one, other)
    return 0.0 if shared is None else float(shared.width * shared.height)


def _outside(box: Bbox, frame: Bbox) -> float:
    """Return the area of a box outside of a frame."""
    return float(box.width * box.height) - _overlap(box, frame)
