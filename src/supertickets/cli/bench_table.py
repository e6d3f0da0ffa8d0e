"""Tables and lines of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table

from ..deploy.bench_ticket import TICKET, Advice
from ..deploy.benchmark import Bench, BenchRun, Timing


def bench_table(bench: Bench, run: BenchRun) -> Table:
    """Return a table with a row per network and a column per runtime: the median, and how far the quartiles lie.

    The last column has the least time of a network, among runtimes that change no scores, over the ticket's.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title=f"Latency in ms: {_plural(run.threads, 'thread')}, batch {run.batch}",
        title_justify="left",
    )
    table.add_column("network")
    for runtime in bench.runtimes:
        table.add_column(runtime, justify="right", no_wrap=True)
    table.add_column("x ticket", justify="right", no_wrap=True)
    best = _best(run, TICKET)
    for name in bench.networks:
        timings = run.by_runtime(name)
        cells = [_cell(timings.get(runtime)) for runtime in bench.runtimes]
        own = _best(run, name)
        table.add_row(name, *cells, "" if own is None or best is None else f"{own / best:.2f}")
    return table


def comparison_lines(bench: Bench) -> Iterator[str]:
    """Yield what a reader of the tables needs: what did not run and why, first calls, increments, the device."""
    for run in bench.runs:
        yield from _failures(run, bench.networks)
    first = bench.runs[0]
    calls = (f"{runtime} {_digits(timing.first_ms)}" for runtime, timing in first.by_runtime(TICKET).items())
    yield f"first call of the ticket, ms: {', '.join(calls)}"
    yield from _increments(first)
    versions = ", ".join(f"{name} {version.partition('+')[0]}" for name, version in bench.versions.items())
    yield "medians of interleaved rounds, ± half the distance of the quartiles"
    yield f"{bench.device} ({bench.instruction_set}); {versions}"
    yield from bench.notes


def advice_lines(bench: Bench, advice: Advice | None) -> Iterator[str]:
    """Yield in which runtime to deploy the ticket, and how; and whether 8-bit integers would be faster still."""
    times = bench.runs[0].by_runtime(TICKET)
    if advice is None:
        yield (
            "No runtime ran the ticket."
            if not times
            else "Only forms that change the scores were timed: export --int8 says by how much."
        )
        return
    others = [
        f"{timing.median_ms / advice.median_ms:.2f}x in {runtime}"
        for runtime, timing in times.items()
        if runtime != advice.runtime
    ]
    yield ""
    yield f"Deploy it with {advice.runtime}" + (f": it takes {', '.join(others)}." if others else ".")
    if advice.command:
        yield f"  {advice.command}"
    yield f"  {advice.python}"
    if (int8 := times.get("int8")) is not None and int8.median_ms < advice.median_ms:
        yield "8-bit integers are faster still, and change the scores: export --int8 says by how much."


def _failures(run: BenchRun, networks: Sequence[str]) -> Iterator[str]:
    """Yield a line for every runtime and reason for which networks have no latency."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for name, why in run.failures.items():
        network, _, runtime = name.rpartition("/")
        by_reason.setdefault((runtime, why), []).append(network)
    for (runtime, why), failed in by_reason.items():
        which = "no network" if len(failed) == len(networks) else f"not {', '.join(failed)}"
        yield f"{runtime}, {_plural(run.threads, 'thread')}, batch {run.batch}: {which}: {why}"


def _increments(run: BenchRun) -> Iterator[str]:
    """Yield by how much longer a network with all connections takes than one with none (LTH4SA, Eq. 7)."""
    for runtime, plain in run.by_runtime("no connection").items():
        increments = [
            f"{name} {100 * (times[runtime].median_ms / plain.median_ms - 1):+.1f}%"
            for name in ("all connected", TICKET)
            if runtime in (times := run.by_runtime(name))
        ]
        yield f"over no connection, {runtime}: {', '.join(increments)}"


def _best(run: BenchRun, network: str) -> float | None:
    runtime = run.fastest_runtime(network)
    return None if runtime is None else run.latencies[f"{network}/{runtime}"].median_ms


def _cell(timing: Timing | None) -> str:
    if timing is None:
        return "-"
    spread = 50 * (timing.upper_quartile_ms - timing.lower_quartile_ms) / timing.median_ms
    return f"{_digits(timing.median_ms)} ±{spread:.0f}%"


def _digits(ms: float) -> str:
    """Return milliseconds in three digits or more."""
    return f"{ms:.3f}" if ms < 1 else f"{ms:.2f}" if ms < 100 else f"{ms:.0f}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
