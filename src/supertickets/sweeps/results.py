"""Results of a sweep: rows, their file, and a table of means."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from ..analysis.statistics import summarize
from ..config.schedule import format_percent
from ..storage import read_json, replace_file
from ..tasks import Metric, primary_metric
from .sweep import Point

COSTS = ("sparsity", "params", "nonzero_params", "macs", "masked_macs", "paper_macs", "samples", "seconds")


def result_rows(points: Sequence[Point], root: Path) -> list[dict[str, Any]]:
    """Return the results of the points that are done: names, metrics on both splits, and costs.

    ``seconds`` and ``samples`` are those of the whole way to a ticket, the runs that it began from included.
    """
    rows = []
    for point in points:
        result = root / point.key / "result.json"
        if not result.exists():
            continue
        data = read_json(result)
        metrics = {f"{split}_{name}": value for split in ("validation", "test") for name, value in data[split].items()}
        rows.append(
            {**vars(point), **metrics, **{name: data[name] for name in COSTS}, **total_training(root / point.key)}
        )
    return rows


def total_training(run: Path) -> dict[str, float]:
    """Return the image passes (``samples``) and ``seconds`` of a run and of all runs that led to its ticket."""
    samples, seconds = 0, 0.0
    at: Path | None = run
    while at is not None:
        result = read_json(at / "result.json")
        samples, seconds = samples + result["samples"], seconds + result["seconds"]
        parent = at / "parent.json"
        at = at.parent / read_json(parent) if parent.exists() else None
    return {"samples": samples, "seconds": round(seconds, 3)}


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, with the columns of all of them."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replace_file(path) as scratch, scratch.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def format_ratio(ratio: float) -> str:
    """Return a ratio as tables and texts have it, e.g. "97.5%"."""
    return format_percent(ratio) if ratio else "unpruned"


def results_table(rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, Metric] | None = None) -> Table:
    """Return a table: a row per recipe and method, a column per ratio; mean and deviation over seeds, test split.

    Args:
        rows: Results as of `result_rows`.
        metrics: Metrics by recipe, where the names of scores do not tell them.
    """
    table = Table(box=box.SIMPLE_HEAD)
    figures: dict[tuple[str, str, str], dict[float, list[float]]] = {}
    for row in rows:
        scores = {name.removeprefix("test_"): value for name, value in row.items() if name.startswith("test_")}
        metric = (metrics or {}).get(row["recipe"]) or primary_metric(scores)
        if metric is None or metric.name not in scores:
            continue  # where nothing in a split counts, there is no score
        key = row["recipe"], row["method"], metric.display_name
        figures.setdefault(key, {}).setdefault(row["ratio"], []).append(scores[metric.name])
    ratios = sorted({ratio for cells in figures.values() for ratio in cells})
    names = {name for _, _, name in figures}
    one = f"{next(iter(names))}, test" if len(names) == 1 else "test"
    table.add_column("recipe")
    table.add_column(f"method ({one})")
    for ratio in ratios:
        table.add_column(format_ratio(ratio), justify="right")
    for (recipe, method, name), cells in figures.items():
        label = recipe if len(names) == 1 else f"{recipe} ({name})"
        table.add_row(label, method, *(str(summarize(cells.get(ratio, [])) or "") for ratio in ratios))
    return table
