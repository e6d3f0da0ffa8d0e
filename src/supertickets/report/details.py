"""A single run: its figures, its curves, its layers and its units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UserError
from ..models.base import UnitTable
from ..ticket import Ticket, load
from ..training import read_events
from .claims import NONE
from .collect import Comparison, Run
from .page import Block, Figures, Fold, Table, Text
from .run_figures import count_units, draw_run_figures
from .tradeoff_figure import ratio_label

MOST = 12  # runs that are shown one by one
_FIGURES = {
    "sparsity": "zeros among maskable weights",
    "params": "parameters",
    "nonzero_params": "parameters that are not zero",
    "macs": "MACs, every weight in place",
    "masked_macs": "MACs under the mask, per layer",
    "paper_macs": "MACs as the paper counts",
    "samples": "image passes, the whole way",
    "seconds": "seconds of training, the whole way",
    "latency_torch": "latency, torch, ms",
    "latency_onnxruntime": "latency, onnxruntime, ms",
}


def example_runs(comparison: Comparison) -> list[Run]:
    """Return the runs that are shown one by one: those given as such, and of a sweep's methods the one in the middle.

    The middle of ratios and seeds, not the best: nothing is chosen by a score.
    """
    chosen = []
    for runs in comparison.methods.values():
        chosen += [run for run in runs if not run.in_sweep]
        swept = [run for run in runs if run.in_sweep]
        if swept:
            ratios = sorted({run.ratio for run in swept})
            same = sorted((run for run in swept if run.ratio == ratios[len(ratios) // 2]), key=lambda run: run.seed)
            chosen.append(same[(len(same) - 1) // 2])
    return chosen[:MOST]


def describe_run(run: Run, comparison: Comparison, name: str, alone: bool, trust: Sequence[str] = ()) -> list[Block]:
    """Return all that is known of a run, as blocks of the page.

    Args:
        run: Finished run.
        comparison: Comparison that it belongs to.
        name: Prefix of the names of its files.
        alone: Whether it is the only one, and is shown unfolded.
        trust: Modules that may be imported if its ticket names them.
    """
    blocks: list[Block] = [_metrics(run.row), _costs(run.row)]
    epochs = _epochs(run)
    if title := (run.about.get("metadata") or {}).get("instead"):
        blocks.append(Text(f"Without zeros, a plain {title} costs about as much: supertickets compare trains both."))
    if not epochs:
        blocks.append(Text("Nothing was trained in this step, so there are no curves."))
    try:
        ticket = load(run.folder, trust)
    except UserError as error:
        blocks.append(Text(f"Its ticket cannot be shown: {error}"))
    else:
        blocks.append(Figures(draw_run_figures(name, ticket, epochs, comparison.metric)))
        if (units := ticket.spec.unit_table()) is not None:
            blocks.append(Fold("Units as a table", [_units(units)]))
        if ticket.mask:
            blocks.append(Fold("Layers as a table", [_layers(ticket)]))
    if alone:
        return blocks
    metric = comparison.metric
    said = f"test {metric.display_name} {metric.text({metric.name: run.row[f'test_{metric.name}']})}"
    return [Fold(f"{run.method}{ratio_label(run.ratio)}, seed {run.seed}: {said}", blocks)]


def _epochs(run: Run) -> list[dict[str, Any]]:
    path = run.folder / "events.jsonl"
    if not path.exists():
        return []
    try:
        return [record for record in read_events(path) if record["event"] == "epoch"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error!r}); leave that run out") from None


def _metrics(row: Mapping[str, Any]) -> Table:
    names = [column.removeprefix("test_") for column in row if column.startswith("test_")]
    rows = []
    for name in names:
        values = (row.get(f"{split}_{name}") for split in ("test", "validation"))
        rows.append([name, *(NONE if value is None else f"{value:.4g}" for value in values)])
    return Table(["metric", "test", "validation"], rows)


def _costs(row: Mapping[str, Any]) -> Table:
    known = {column: said for column, said in _FIGURES.items() if row.get(column) is not None}
    rows = [[said, f"{row[c]:.2%}" if c == "sparsity" else _number(row[c])] for c, said in known.items()]
    return Table(["cost", ""], rows)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _units(units: UnitTable) -> Table:
    rows = []
    for (place, branch), (left, most) in count_units(units).items():
        cells = [f"{have} of {of}" if of else "" for have, of in zip(left, most, strict=True)]
        rows.append([f"{place}, branch {branch}", *cells])
    return Table(["place", *units.kinds], rows, "Search units left, of those in the supernet.")


def _layers(ticket: Ticket) -> Table:
    rows = []
    for layer in ticket.cost.layers:
        flags = ticket.mask.get(layer.weight or "")
        if flags is None:
            continue
        left, every = int(flags.sum()), flags.numel()
        density = f"{left / every:.1%}" if every else NONE
        rows.append([layer.name, f"{every:,}", f"{left:,}", density, f"{layer.macs:,}", f"{layer.masked_macs:,}"])
    return Table(["layer", "weights", "left", "density", "MACs", "under the mask"], rows)
