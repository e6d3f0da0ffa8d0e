"""Figures of reports: drawn once, written as PNG or as SVG that follows the page, with a text to every mark."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis as MplAxis
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, NullLocator

from ..visualization.style import GRID, INK, MUTED

PAPER = "#fffffd"  # white that follows the page's
WIDTH = 5.6  # inches
FIGURE_STYLE: dict[Any, Any] = {
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
_SCHEME = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"}


@dataclass
class Figure:
    """A figure with texts to its marks.

    Attributes:
        name: Name of its file.
        alt: Description in a sentence.
        figure: Figure of matplotlib.
        words: Text of every mark that has one, by its gid.
    """

    name: str
    alt: str
    figure: MplFigure
    words: dict[str, str] = field(default_factory=dict)

    def annotate(self, mark: Any, words: str) -> None:
        """Give a mark its text, which the page shows under the pointer."""
        gid = f"mark{len(self.words)}"
        mark.set_gid(gid)
        self.words[gid] = words

    def write_png(self, path: Path) -> None:
        """Write it as PNG on white."""
        with matplotlib.rc_context(FIGURE_STYLE):
            self.figure.savefig(path, dpi=130, facecolor="white")
            self.figure.set_layout_engine("none")  # it stays as it is, and need not be found again

    def to_svg(self) -> str:
        """Return it as SVG for a page: no fixed size, the page's colours, ids of its own, a title for every mark."""
        file = io.StringIO()
        with matplotlib.rc_context(FIGURE_STYLE):
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            self.figure.savefig(file, format="svg", transparent=True, metadata=nothing)
            self.figure.set_layout_engine("none")
        text = file.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r'(?<= )(d|x|y|transform|points)="([^"]*)"', lambda m: f'{m[1]}="{_round_numbers(m[2])}"', text)
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


def _round_numbers(numbers: str) -> str:
    return re.sub(r"\d+\.\d+", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), numbers)


def new_figure(height: float) -> tuple[MplFigure, Axes]:
    figure = MplFigure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def show_plain_numbers(axis: MplAxis) -> None:
    """Label a logarithmic axis without powers."""
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: format_short(value)))


def format_short(value: float) -> str:
    """Return a number with three digits at most and a unit (k, M, G)."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"
