"""Colours and axes that all figures of the package have in common."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
BLUE, ORANGE, GREEN, PURPLE, RED = "#2f6db5", "#d9822b", "#3f8f5f", "#7a5ea8", "#b5475b"
STYLE: dict[Any, Any] = {"font.size": 9, "axes.edgecolor": MUTED, "text.color": INK, "axes.labelcolor": INK}


def style_axes(*axes: Axes) -> None:
    """Take frames and ticks away and draw a faint grid, on axes that share a place; the first one has the grid."""
    for axis in axes:
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        axis.tick_params(length=0, labelcolor=MUTED)
    axes[0].grid(axis="y", color=GRID, lw=0.8)
    axes[0].set_axisbelow(True)
