"""Tables and lines of the command line: architectures and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table
from torch import Tensor

from ..analysis.description import TERA_FLOPS, Description
from ..cost import Cost, LayerCost
from ..models import Spec
from ..sweeps.comparison import EQUAL_TIME, REFERENCES, Comparison


def architecture_table(spec: Spec, mask: Mapping[str, Tensor], cost: Cost) -> Table:
    """Return a table with a row per block: units left, MACs and, under a mask, the density of the weights.

    Networks without search units have a row per layer.
    """
    under_mask = ("masked", "density") if mask else ()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    units = spec.unit_table()
    if units is None:
        table.add_column("layer", no_wrap=True)
        for heading in ("MACs", *under_mask):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in cost.layers:
            table.add_row(row.name, *_costs([row], mask, f"{row.name}."))
        return table
    table.add_column("block", no_wrap=True)
    if has_shapes := any(block.shape for block in units.rows):
        table.add_column("shape", no_wrap=True)
    for heading in (*units.kinds, "MACs", *under_mask):
        table.add_column(heading, justify="right", no_wrap=True)
    rest = {row.name for row in cost.layers}
    for block in units.rows:
        rows = [row for row in cost.layers if f"{row.name}.".startswith(block.weights)]
        rest -= {row.name for row in rows}
        left = map(_units_left, block.left, block.most)
        shape = [block.shape] if has_shapes else []
        table.add_row(block.name, *shape, *left, *_costs(rows, mask, block.weights))
    for row in cost.layers:
        if row.name in rest:
            blank = [""] * (len(units.kinds) + has_shapes)
            table.add_row(row.name, *blank, *_costs([row], mask, f"{row.name}."))
    return table


def cost_lines(cost: Cost) -> list[str]:
    """Return the costs of a network as lines, each number once."""
    return [
        f"weights  {cost.params:,} parameters, {cost.nonzero_params:,} not zero "
        f"(sparsity {cost.sparsity:.1%} of maskable weights, {cost.sparsity_all:.1%} of all)",
        f"MACs     {cost.macs:,} dense, {cost.masked_macs:,} under the mask, {cost.paper_macs:,} as the paper counts",
        "Zeros save time only where a runtime uses them: measure it with supertickets bench.",
    ]


def training_line(described: Description) -> str | None:
    """Return a line on the training time of a recipe; None where that is not known."""
    if described.gpu_hours is None:
        return None
    return (
        f"training {described.epochs} epochs of {described.samples:,} samples: "
        f"{described.gpu_hours:.2g} GPU-hours if a GPU sustains {TERA_FLOPS} TFLOP/s (assumed, not measured: "
        "small maps may take several times more, shrinking makes it less)"
    )


def comparison_table(comparison: Comparison) -> Table:
    """Return a table of tickets and references, fastest first: score, latency, gain at equal latency, costs, time."""
    table = Table(
        box=box.SIMPLE_HEAD,
        caption=f"{comparison.device}; one thread, one image; median of interleaved runs in the fastest runtime.\n"
        "gain: over the references at the ticket's latency; more is better",
        caption_justify="left",
    )
    metric, groups = comparison.metric, dict.fromkeys(name for one in comparison.members for name in one.gains)
    titles = {REFERENCES: "gain", EQUAL_TIME: "gain, equal time"}
    table.add_column("network", no_wrap=True)
    scores = f"{metric.display_name}{metric.unit}"
    for heading in (scores, "ms", "runtime", *(titles[group] for group in groups), "MACs", "epochs", "training, s"):
        table.add_column(heading, justify="right")
    for member in sorted(comparison.members, key=lambda one: one.latency_ms):
        gains = [f"{gain.mean:+.2f}" if (gain := member.gains.get(group)) else "" for group in groups]
        costs = member.runs[0].costs
        macs = _short(int(costs["macs"]))
        if costs["masked_macs"] < costs["macs"]:
            macs += f" ({_short(int(costs['masked_macs']))} masked)"
        latency = (f"{member.latency_ms:.3f}", member.runtime)
        time = (str(member.epochs), f"{member.seconds:.0f}")
        table.add_row(member.title, str(member.test), *latency, *gains, macs, *time)
    return table


def _units_left(left: int, most: int) -> str:
    """Return the units that are left, and the number before if some were removed."""
    if not most:
        return ""
    return str(most) if left == most else f"{left}/{most}"


def _costs(rows: Sequence[LayerCost], mask: Mapping[str, Tensor], prefix: str) -> list[str]:
    """Return MACs; with a mask also those under it, and the density of the weights whose names have a prefix."""
    macs = _short(sum(row.macs for row in rows))
    if not mask:
        return [macs]
    flags = [f for name, f in mask.items() if name.startswith(prefix)]
    total = sum(f.numel() for f in flags)
    density = f"{sum(int(f.sum()) for f in flags) / total:.0%}" if total else ""
    return [macs, _short(sum(row.masked_macs for row in rows)), density]


def _short(value: int) -> str:
    """Return a number with three digits and a unit."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:
            digits = value / size
            return f"{digits:.{2 if digits < 9.995 else 1 if digits < 99.95 else 0}f} {unit}"
    return str(value)
