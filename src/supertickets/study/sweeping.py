"""A sweep from its file to a table: workers, progress, results."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ..errors import UserError
from ..tasks import headline
from .compare import summary
from .sweep import Plan, Point
from .work import LocalWorkers, Progress, failures, run_all

_COSTS = ("sparsity", "params", "nonzero_params", "macs", "masked_macs", "paper_macs", "samples", "seconds")


def run_sweep(plan: Plan, root: Path, workers: int, threads: int, console: Console) -> list[dict[str, Any]]:
    """Runs a sweep on this machine; what is done is skipped, what was begun goes on.

    Args:
        plan: What to do.
        root: Its directory; every job has one of its own in it, and the results are ``results.csv``.
        workers: Processes at once.
        threads: CPU threads of each.
        console: Where progress is told.

    Returns:
        A row per point: see `rows`.

    Raises:
        UserError: A job failed; all others are done first.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / "points.json").write_text(json.dumps([vars(point) for point in plan.points], indent=1))
    pool = LocalWorkers(root, workers, threads)
    with console.status("") as status:
        said = ""

        def told(progress: Progress) -> None:
            nonlocal said
            line = progress_line(progress)
            status.update(line)
            if not console.is_terminal and line.partition(";")[0] != said:
                said = line.partition(";")[0]
                console.print(line)

        try:
            progress = run_all(plan, root, pool.submit, told, workers)
        finally:
            pool.close()
    found = rows(plan.points, root)
    write_csv(root / "results.csv", found)
    if progress.failed:
        lines = failures(progress, plan)
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        raise UserError(f"{len(lines)} of {progress.total} jobs failed: {lines[0]}{more}; see log.txt in {root}/KEY")
    return found


def progress_line(progress: Progress) -> str:
    """Jobs done, running and failed, and the time that is left."""
    told = f"{len(progress.done)} of {progress.total} jobs done"
    if progress.skipped:
        told += f" ({progress.skipped} before)"
    told += f", {len(progress.running)} running"
    if progress.failed:
        told += f", {len(progress.failed)} failed"
    if progress.lost:
        told += f", {progress.lost} taken up again"
    if progress.eta is not None and len(progress.done) < progress.total:
        told += f"; {progress.eta / 60:.0f} min left"
    return told


def rows(points: Sequence[Point], root: Path) -> list[dict[str, Any]]:
    """Results of the points that are done: what they are, their metrics on both splits, and what they cost.

    ``seconds`` and ``samples`` are those of the whole way to a ticket, the runs that it began from included.
    """
    found = []
    for point in points:
        result = root / point.key / "result.json"
        if not result.exists():
            continue
        data = json.loads(result.read_text())
        metrics = {f"{split}_{name}": value for split in ("validation", "test") for name, value in data[split].items()}
        found.append({**vars(point), **metrics, **{name: data[name] for name in _COSTS}, **way(root / point.key)})
    return found


def way(run: Path) -> dict[str, float]:
    """Image passes and seconds of a run and of all that led to its ticket."""
    samples, seconds = 0, 0.0
    at: Path | None = run
    while at is not None:
        result = json.loads((at / "result.json").read_text())
        samples, seconds = samples + result["samples"], seconds + result["seconds"]
        parent = at / "parent.json"
        at = at.parent / json.loads(parent.read_text()) if parent.exists() else None
    return {"samples": samples, "seconds": round(seconds, 3)}


def write_csv(path: Path, found: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows with the columns of all of them."""
    columns = list(dict.fromkeys(name for row in found for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(found)


def results_table(found: Sequence[Mapping[str, Any]]) -> Table:
    """A row per recipe and method, a column per ratio: mean and deviation of the test figure over seeds."""
    table = Table(box=box.SIMPLE_HEAD)
    figures: dict[tuple[str, str], dict[float, list[float]]] = {}
    called = ""
    for row in found:
        scores = {name.removeprefix("test_"): value for name, value in row.items() if name.startswith("test_")}
        called, value = headline(scores) or ("", 0.0)
        figures.setdefault((row["recipe"], row["method"]), {}).setdefault(row["ratio"], []).append(value)
    ratios = sorted({ratio for cells in figures.values() for ratio in cells})
    table.add_column("recipe")
    table.add_column(f"method ({called}, test)")
    for ratio in ratios:
        table.add_column(f"{ratio:.0%}" if ratio else "unpruned", justify="right")
    for (recipe, method), cells in figures.items():
        table.add_row(recipe, method, *(str(summary(cells.get(ratio, [])) or "") for ratio in ratios))
    return table
