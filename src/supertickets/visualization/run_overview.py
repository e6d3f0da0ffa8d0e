"""The overview of one run as one PNG: ``figure.png`` in its directory."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..algorithms.connection_search import SCHEMES_FILE
from ..cost import LayerCost, count
from ..models.base import LayerRow, UnitTable
from ..storage import replace_file
from ..tasks import Metric
from ..ticket import Ticket
from ..training import read_events
from .curves import draw_density, draw_score, draw_size
from .style import BLUE, GREEN, GRID, INK, MUTED, ORANGE, PURPLE, RED, STYLE, style_axes

_KERNEL_COLORS = (BLUE, GREEN, ORANGE, RED)


def draw_run_overview(run: Path, ticket: Ticket) -> Path:
    """Draw a run: score and sparsity, units and MACs over epochs, density per layer, the architecture left.

    Args:
        run: Directory of the run.
        ticket: Ticket of the run.

    Returns:
        Path of the PNG, in the run directory.
    """
    epochs = [record for record in read_events(run / "events.jsonl") if record["event"] == "epoch"]
    supernet = ticket.spec.full()
    full = count(supernet)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13, 8.6), layout="constrained")
        (top_left, top_right), (low_left, low_right) = figure.subplots(2, 2, height_ratios=(1, 1.25))
        recipe = ticket.about["recipe"]
        scores = ticket.about["test"]
        metric = ticket.task.metric
        score = f"{metric.display_name} {metric.text(scores)}" if metric.name in scores else "-"
        cost = ticket.cost
        figure.suptitle(
            f"{recipe['name']}, seed {recipe['seed']}: test {score} with "
            f"{cost.nonzero_params:,} of {full.params:,} parameters, "
            f"{cost.masked_macs / 1e6:.2f} of {full.macs / 1e6:.2f} M MACs",
            fontsize=13,
            x=0.01,
            ha="left",
        )
        if search := ticket.about.get("search"):
            _cost_over_epochs(top_left, epochs, search)
            _quality_over_epochs(top_right, epochs, metric)
            _certainty_over_epochs(low_left, epochs)
        else:
            if epochs:
                draw_score(top_left, epochs, metric)
            else:  # a pruning in one shot, or a search with weights of another one
                top_left.set_axis_off()
            if connected := ticket.about.get("connection_search"):
                _connections_of_blocks(top_right, run / SCHEMES_FILE, connected["scheme"])
            elif epochs:
                most = sum(map(len, supernet.unit_groups()))
                draw_size(top_right, epochs, most, full.macs, ticket.about.get("budget", {}))
            else:
                top_right.set_axis_off()
        if "connection_search" in ticket.about:
            _schemes_over_steps(low_left, run / SCHEMES_FILE)
        elif not search:
            layers = [row.weight for row in cost.layers if row.weight in ticket.mask]
            draw_density(low_left, [ticket.mask[name] for name in layers if name])
        if (units := ticket.spec.unit_table()) is not None:
            _units_of_blocks(low_right, units)
        elif (rows := ticket.spec.layer_table()) is not None:
            _widths_of_layers(low_right, rows)
        else:
            _layers(low_right, cost.layers, str(ticket.spec))
        path = run / "figure.png"
        with replace_file(path) as scratch:
            figure.savefig(scratch, dpi=130)
    return path


def _cost_over_epochs(axis: Axes, epochs: Sequence[Mapping[str, Any]], search: Mapping[str, Any]) -> None:
    unit, scale = {"latency_ms": ("ms", 1.0), "macs": ("M MACs", 1e6), "params": ("k parameters", 1e3)}[
        search["budget"]
    ]
    axis.set_title(f"Cost of the most probable network, and expected cost, {unit}", loc="left")
    x = [r["epoch"] for r in epochs]
    for key, color, label in (
        ("cost", ORANGE, "most probable"),
        ("expected_cost", BLUE, "expected"),
        ("sampled_cost", MUTED, "sampled, warm-up included"),
    ):
        axis.plot(x, [r[key] / scale for r in epochs], color=color, label=label)
    axis.axhline(search["target"] / scale, color=INK, linestyle=":", label=f"target, {search['target'] / scale:g}")
    axis.set(ylim=(0, None), xlabel="epoch", ylabel=unit)
    axis.legend(frameon=False)
    style_axes(axis)


def _quality_over_epochs(axis: Axes, epochs: Sequence[Mapping[str, Any]], metric: Metric) -> None:
    axis.set_title("Quality with shared weights, and reward", loc="left")
    x = [r["epoch"] for r in epochs]
    axis.plot(x, [100 * r["sampled_quality"] for r in epochs], color=BLUE, label="sampled networks")
    axis.plot(x, [100 * r["sampled_reward"] for r in epochs], color=GREEN, label="their reward")
    measured = [(r["epoch"], 100 * metric.quality(r)) for r in epochs if metric.name in r]
    axis.plot(*zip(*measured, strict=True), color=ORANGE, marker="o", ms=3, label="most probable, validation split")
    axis.set(xlabel="epoch", ylabel="%")
    axis.legend(frameon=False)
    style_axes(axis)


def _certainty_over_epochs(axis: Axes, epochs: Sequence[Mapping[str, Any]]) -> None:
    axis.set_title("How sure the controller is", loc="left")
    x = [r["epoch"] for r in epochs]
    axis.plot(x, [r["entropy"] for r in epochs], color=PURPLE)
    axis.set(ylim=(0, None), xlabel="epoch", ylabel="entropy, nats")
    axis.yaxis.label.set_color(PURPLE)
    other = axis.twinx()
    other.plot(x, [100 * r["mean_probability"] for r in epochs], color=GREEN)
    other.set(ylim=(0, 103), ylabel="mean probability of the best answers, %")
    other.yaxis.label.set_color(GREEN)
    style_axes(axis, other)


def _connections_of_blocks(axis: Axes, table: Path, chosen: str) -> None:
    """Draw the share of the best schemes that connect a block: its connection score (LTH4SA, Eq. 5)."""
    with table.open() as file:
        rewards = {row["scheme"].replace("|", ""): float(row["reward"]) for row in csv.DictReader(file)}
    best = sorted(rewards, key=lambda scheme: -rewards[scheme])[: -(-len(rewards) // 10)]
    axis.set_title(
        f"Blocks that the best {len(best)} of {len(rewards)} schemes connect (green: the ticket's)", loc="left"
    )
    shares = [100 * sum(digits[i] == "1" for digits in best) / len(best) for i in range(len(best[0]))]
    colors = [GREEN if digit == "1" else MUTED for digit in chosen.replace("|", "")]
    axis.bar(range(1, len(shares) + 1), shares, color=colors)
    axis.set(ylim=(0, 103), xlabel="block", ylabel="of these schemes, %")
    style_axes(axis)


def _schemes_over_steps(axis: Axes, table: Path) -> None:
    """Draw what the controller of a connection search sampled, and how sure it was (LTH4SA, Fig. 5)."""
    axis.set_title("Rewards of connection schemes, and how sure the controller is", loc="left")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    x = [int(row["step"]) for row in rows]
    axis.scatter(x, [100 * float(row["reward"]) for row in rows], 6, color=BLUE, alpha=0.4, linewidths=0)
    axis.set(xlabel="step", ylabel="reward without curiosity, %")
    axis.yaxis.label.set_color(BLUE)
    if not any(row["probability"] for row in rows):
        axis.set_title("Rewards of connection schemes", loc="left")
        style_axes(axis)
        return
    other = axis.twinx()
    other.plot(x, [100 * float(row["probability"]) for row in rows], color=GREEN)
    other.set(ylim=(0, 103), ylabel="mean probability of what was sampled, %")
    other.yaxis.label.set_color(GREEN)
    style_axes(axis, other)


def _units_of_blocks(axis: Axes, units: UnitTable) -> None:
    axis.set_title("The architecture that is left", loc="left")
    y = np.arange(len(units.rows))
    axis.barh(y, [sum(row.most) for row in units.rows], color=GRID, height=0.85)
    start = np.zeros(len(units.rows))
    colors = [*_KERNEL_COLORS[: len(units.kinds) - 1], PURPLE]
    for i, (kind, color) in enumerate(zip(units.kinds, colors, strict=True)):
        width = np.array([row.left[i] for row in units.rows])
        axis.barh(y, width, left=start, color=color, height=0.62, label=kind)
        start = start + width
    axis.set_yticks(y, [row.name for row in units.rows], fontsize=max(4, min(8, 170 / len(units.rows))))
    axis.invert_yaxis()
    what = "channels per kernel size, and tokens" if len(units.kinds) > 1 else units.kinds[0]
    axis.set(xlabel=f"{what} (grey: the supernet)")
    axis.legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1.0, 0.985), borderaxespad=0.2)
    style_axes(axis)


def _widths_of_layers(axis: Axes, rows: Sequence[LayerRow]) -> None:
    """Draw the hidden width of every layer, by the kernel that works on it."""
    axis.set_title("The architecture: hidden channels of every layer", loc="left")
    kernels = sorted({row.kernel for row in rows})
    for kernel, color in zip(kernels, (MUTED, *_KERNEL_COLORS) if kernels[0] == 1 else _KERNEL_COLORS, strict=False):
        own = {y: row.hidden for y, row in enumerate(rows) if row.kernel == kernel}
        axis.barh(list(own), list(own.values()), 0.7, color=color, label=f"{kernel}x{kernel}")
    for y, row in enumerate(rows):
        axis.text(row.hidden, y, f"  {row.notes}", va="center", fontsize=7, color=MUTED)
    axis.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set(
        xlabel="hidden channels (beside them: channels in and out)",
        xlim=(0, 1.15 * max(row.hidden for row in rows)),
    )
    axis.legend(frameon=False, loc="upper right")
    style_axes(axis)


def _layers(axis: Axes, layers: Sequence[LayerCost], name: str) -> None:
    """Draw the costs along a network without search units."""
    axis.set_title("MACs per layer: all (grey) and under the mask", loc="left")
    x = np.arange(len(layers))
    axis.bar(x, [row.macs for row in layers], color=GRID, width=1.0)
    axis.bar(x, [max(row.masked_macs, 0.5) for row in layers], color=GREEN, width=0.8)
    axis.set(yscale="log", ylabel="MACs (log)", xlabel=f"layers of {name}, from the input to the scores")
    style_axes(axis)
