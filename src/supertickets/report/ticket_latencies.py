"""Latency of the tickets of a report on this device, kept beside it as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..deploy.benchmark import BenchSettings, bench
from ..errors import UserError
from ..storage import read_json, write_json
from ..ticket import load
from .collect import Comparison, Run, Study

RUNTIMES = ("torch", "onnxruntime")
_REPEATS = 50


@dataclass(frozen=True)
class MeasuredLatencies:
    """Latencies that were measured for a report.

    Attributes:
        said: Device and conditions, as text.
        tickets: Median in ms by runtime, by the hash of a ticket's weights.
    """

    said: str
    tickets: dict[str, dict[str, float]]


def measure_latencies(runs: Sequence[Run], path: Path, trust: Sequence[str] = ()) -> None:
    """Time all tickets in turn, dead channels removed, and write the file.

    Args:
        runs: Runs whose tickets are timed.
        path: File to write.
        trust: Modules that may be imported if a ticket names them.

    Raises:
        UserError: A ticket is missing or damaged, or names code that is not trusted.
    """
    folders = {weights_hash(run): run for run in reversed(runs)}
    named = {key: load(run.folder, trust) for key, run in folders.items() if key}
    results = bench(named, BenchSettings(repeats=_REPEATS, runtimes=RUNTIMES))
    measured = results.runs[0]
    for name, why in measured.failures.items():
        raise UserError(f"ticket {folders[name.rsplit('/', 1)[0]].folder} cannot be timed ({why}); leave --latency out")
    tickets: dict[str, dict[str, Any]] = {key: {"run": str(run.folder)} for key, run in folders.items() if key}
    for name, latency in measured.latencies.items():
        key, runtime = name.rsplit("/", 1)
        tickets[key][runtime] = dataclasses.asdict(latency)
    about = {"device": results.device, "threads": measured.threads, "batch": measured.batch, "repeats": _REPEATS}
    write_json(path, about | {"tickets": tickets})


def load_latencies(path: Path) -> MeasuredLatencies | None:
    """Read what `measure_latencies` wrote; None if there is no file.

    Raises:
        UserError: It is damaged.
    """
    if not path.exists():
        return None
    try:
        data = read_json(path)
        tickets = {
            key: {runtime: float(entry[runtime]["median_ms"]) for runtime in RUNTIMES}
            for key, entry in data["tickets"].items()
        }
        said = f"{data['device']}, {data['threads']} thread, batch {data['batch']}: median of {data['repeats']} "
        return MeasuredLatencies(said + "rounds in which all tickets took turns, dead channels removed", tickets)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); delete it, or measure again with --latency") from None


def with_latency(study: Study, measured: MeasuredLatencies) -> Study:
    """Give every row the latencies of its ticket, as ``latency_RUNTIME``; a ticket that has changed has none."""

    def timed(run: Run) -> Run:
        times = measured.tickets.get(weights_hash(run) or "", {})
        return dataclasses.replace(run, row={**run.row, **{f"latency_{name}": value for name, value in times.items()}})

    def all_timed(comparison: Comparison) -> Comparison:
        return dataclasses.replace(comparison, runs=tuple(map(timed, comparison.runs)))

    return dataclasses.replace(study, comparisons=tuple(map(all_timed, study.comparisons)))


def weights_hash(run: Run) -> str | None:
    """Return the hash of the weights of a run's ticket, as the ticket records it; None without a ticket."""
    try:
        return str(read_json(run.folder / "ticket" / "config.json")["sha256"]["model.safetensors"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
