"""Curves of one run, drawn on axes that a figure provides: the overview of a run and reports share them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from ..cost.budget import format_cost
from ..tasks import Metric
from .style import BLUE, GREEN, GRID, INK, MUTED, ORANGE, PURPLE, style_axes


def draw_score(axis: Axes, epochs: Sequence[Mapping[str, Any]], metric: Metric) -> None:
    """Draw the task's metric on the validation split, and the sparsity."""
    measured = [record for record in epochs if metric.name in record]
    called = metric.display_name[0].upper() + metric.display_name[1:]
    axis.set_title(f"{called} on the validation split, and sparsity", loc="left")
    x, y = [record["epoch"] for record in measured], [record[metric.name] for record in measured]
    axis.plot(x, y, color=BLUE, marker="o", ms=3)
    axis.set(ylim=(0, None if metric.is_error else 103), ylabel=f"{metric.display_name}{metric.unit}", xlabel="epoch")
    axis.yaxis.label.set_color(BLUE)
    other = axis.twinx()
    other.fill_between(
        [r["epoch"] for r in epochs], [100 * r["sparsity"] for r in epochs], step="mid", color=ORANGE, alpha=0.22, lw=0
    )
    other.set(ylim=(0, 103), ylabel="zeros among maskable weights, %")
    other.yaxis.label.set_color(ORANGE)
    style_axes(axis, other)


def draw_size(
    axis: Axes,
    epochs: Sequence[Mapping[str, Any]],
    full_units: int,
    full_macs: int,
    budget: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Draw the search units and MACs that are left, in percent of those of the full network, and the budget.

    Args:
        axis: Where to draw.
        epochs: Records of the epochs.
        full_units: Search units of the full network.
        full_macs: MACs of the full network.
        budget: ``budget`` of the ticket's record; empty if there was none.
    """
    axis.set_title("What is left of the network" + _name_budget(budget), loc="left")
    x = [r["epoch"] for r in epochs]
    for key, full, color, label in (
        ("units", full_units, PURPLE, "search units (channels and tokens)"),
        ("macs", full_macs, GREEN, "MACs, every weight in place"),
        ("masked_macs", full_macs, ORANGE, "MACs under the mask"),
    ):
        if full:
            axis.step(x, [100 * r[key] / full for r in epochs], where="mid", color=color, label=label)
    if "macs" in budget:
        axis.axhline(100 * budget["macs"] / full_macs, color=INK, linestyle=":", label="budget of MACs")
    axis.set(ylim=(0, 103), ylabel="% of the full network", xlabel="epoch")
    axis.legend(frameon=False, loc="upper right")
    style_axes(axis)


def _name_budget(budget: Mapping[str, Any]) -> str:
    """Return a budget as the end of a title, with the latency that was measured for it; empty without one."""
    costs = [format_cost(name, budget[name]) for name in ("latency_ms", "macs", "params", "size_kb") if name in budget]
    measured = f" (measured {budget['measured_ms']:.3g} ms)" if "measured_ms" in budget else ""
    return f"; budget {', '.join(costs)}{measured}" if costs else ""


def draw_density(axis: Axes, mask: Sequence[Tensor]) -> None:
    """Draw the weights of every layer: all, and those that its mask (a tensor per layer) leaves."""
    if not mask:
        axis.set_title("Weights per layer", loc="left")
        axis.text(
            0.5, 0.5, "dense: every weight in place", ha="center", va="center", transform=axis.transAxes, color=MUTED
        )
        axis.set_axis_off()
        return
    totals = np.array([flags.numel() for flags in mask])
    left = np.array([int(flags.sum()) for flags in mask])
    x = np.arange(len(totals))
    axis.bar(x, totals, color=GRID, width=1.0)
    axis.bar(x, np.maximum(left, 0.5), color=ORANGE, width=0.8)
    axis.set(yscale="log", ylabel="weights (log)", xlabel="layer, from the stem to the head", xlim=(-0.7, len(x) - 0.3))
    axis.set_title(f"Weights per layer: all (grey) and left ({left.sum():,} of {totals.sum():,})", loc="left")
    style_axes(axis)
