"""Latency of tickets on this device, side by side, in every runtime that is installed."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..cost.latency import Latency, device_name, interleaved_rounds
from ..device import on_threads, preserve_random_state
from ..errors import UserError
from ..ticket import Ticket
from .runtimes import RUNTIMES, DeployForms, Images, InferenceRuntime, find_runtime, reason

_TOLERANCE = 1e-3  # of the largest score: what rounding in float32 may do to networks without training


@dataclass(frozen=True)
class Timing(Latency):
    """Milliseconds of one call, over interleaved rounds, and of the first call.

    Attributes:
        lower_quartile_ms: A quarter of the rounds took less.
        upper_quartile_ms: A quarter of the rounds took more.
        first_ms: The first call, which may plan, compile or allocate.
    """

    lower_quartile_ms: float
    upper_quartile_ms: float
    first_ms: float


@dataclass(frozen=True)
class BenchSettings:
    """Choice of what a benchmark times.

    Attributes:
        threads: Numbers of CPU threads, each timed for itself.
        batch: Numbers of images per call, each timed for itself.
        repeats: Rounds that count.
        runtimes: Names of runtimes; none for all that are installed.

    Raises:
        UserError: A number is below 1, or a runtime is unknown or not installed.
    """

    threads: tuple[int, ...] = (1,)
    batch: tuple[int, ...] = (1,)
    repeats: int = 50
    runtimes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, values in (("threads", self.threads), ("batch", self.batch), ("repeats", (self.repeats,))):
            if not values or min(values) < 1:
                raise UserError(f"--{name} is {min(values, default='empty')}; the nearest possible is 1")
        for name in self.runtimes:
            find_runtime(name)

    def chosen(self) -> list[InferenceRuntime]:
        """Return the runtimes to time."""
        if self.runtimes:
            return [RUNTIMES[name] for name in dict.fromkeys(self.runtimes)]
        return [runtime for runtime in RUNTIMES.values() if runtime.available()]


@dataclass(frozen=True)
class BenchRun:
    """Latencies at one number of threads and images.

    Attributes:
        threads: Threads that every runtime was given.
        batch: Images per call.
        latencies: ``"<network>/<runtime>"`` -> latency of a call.
        failures: ``"<network>/<runtime>"`` -> why there is none.
    """

    threads: int
    batch: int
    latencies: Mapping[str, Timing]
    failures: Mapping[str, str]

    def ratio(self, slow: str, fast: str, runtime: str) -> float:
        """Return the factor by which one network is faster than another."""
        return self.latencies[f"{slow}/{runtime}"].median_ms / self.latencies[f"{fast}/{runtime}"].median_ms

    def by_runtime(self, network: str) -> dict[str, Timing]:
        """Return the latencies of a network by runtime."""
        start = f"{network}/"
        return {r: self.latencies[start + r] for r in RUNTIMES if start + r in self.latencies}

    def fastest_runtime(self, network: str) -> str | None:
        """Return the runtime with the least median latency among those that change no scores; None if none ran."""
        times = {r: t.median_ms for r, t in self.by_runtime(network).items() if RUNTIMES[r].exact}
        return min(times, key=lambda runtime: times[runtime]) if times else None


@dataclass(frozen=True)
class Bench:
    """Results of a benchmark.

    Attributes:
        device: Name of the processor.
        instruction_set: Widest vectors that it computes with, as PyTorch names them.
        versions: Versions of the runtimes by library.
        networks: Names of the networks.
        runs: Latencies, for every number of threads and images.
        notes: What to know about them, a line each.
    """

    device: str
    instruction_set: str
    versions: Mapping[str, str]
    networks: tuple[str, ...]
    runs: tuple[BenchRun, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; threads, images and latencies of the first run also stand on top."""
        first = asdict(self.runs[0])
        return {**asdict(self), **{name: first[name] for name in ("threads", "batch", "latencies", "failures")}}

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Names of the runtimes, in their usual order."""
        seen = {name.rpartition("/")[2] for run in self.runs for name in (*run.latencies, *run.failures)}
        return tuple(name for name in RUNTIMES if name in seen)


@preserve_random_state(torch.device("cpu"))
def bench(tickets: Mapping[str, Ticket], settings: BenchSettings | None = None) -> Bench:
    """Time tickets in every runtime, all rounds interleaved, search units without effect removed.

    Args:
        tickets: Tickets by name.
        settings: What to time; one image on one thread if there are none.
    """
    with tempfile.TemporaryDirectory() as folder:
        return measure({name: DeployForms(ticket, Path(folder)) for name, ticket in tickets.items()}, settings)


def measure(
    forms: Mapping[str, DeployForms], settings: BenchSettings | None = None, notes: Sequence[str] = ()
) -> Bench:
    """Time networks in every runtime, all rounds interleaved.

    A runtime whose scores are not those of the ticket is a failure, as is one that cannot run it.

    Args:
        forms: Networks by name.
        settings: What to time; one image on one thread if there are none.
        notes: What to know about the networks, a line each.
    """
    settings = settings or BenchSettings()
    runtimes = settings.chosen()
    pairs = [(threads, batch) for threads in settings.threads for batch in settings.batch]
    runs = tuple(_run(forms, runtimes, threads, batch, settings.repeats) for threads, batch in pairs)
    versions = {name: version for runtime in runtimes for name, version in runtime.versions().items()}
    capability = torch.backends.cpu.get_cpu_capability()
    return Bench(device_name(), capability, versions, tuple(forms), runs, tuple(notes))


def all_threads() -> int:
    """Return the number of CPU threads that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(
    forms: Mapping[str, DeployForms], runtimes: Sequence[InferenceRuntime], threads: int, batch: int, repeats: int
) -> BenchRun:
    calls: dict[str, Callable[[], object]] = {}
    failures: dict[str, str] = {}
    first: dict[str, float] = {}
    with on_threads(threads):
        for name, form in forms.items():
            generator = torch.Generator().manual_seed(0)
            images = torch.randn(batch, *form.ticket.spec.input_shape, generator=generator).numpy()
            for runtime in runtimes:
                key = f"{name}/{runtime.name}"
                try:
                    call = runtime.prepare(form, threads)
                    begin = time.perf_counter()
                    scores = call(images)
                    first[key] = 1e3 * (time.perf_counter() - begin)
                    _check_scores(runtime, form, images, scores)
                except Exception as error:  # runtimes raise whatever they like
                    failures[key] = reason(error)
                    continue
                calls[key] = partial(call, images)
        rounds = interleaved_rounds(calls, repeats, hot=True)
    latencies = {name: _timing(values, first[name]) for name, values in rounds.items()}
    return BenchRun(threads, batch, latencies, failures)


def _check_scores(runtime: InferenceRuntime, form: DeployForms, images: Images, scores: Any) -> None:
    if not runtime.exact:
        return
    wanted = RUNTIMES["torch"].prepare(form, 1)(images)
    error = float(np.abs(scores - wanted).max()) / max(1.0, float(np.abs(wanted).max()))
    if not error < _TOLERANCE:
        raise UserError(f"its scores differ from the ticket's by {error:.1g}")


def _timing(values: list[float], first_ms: float) -> Timing:
    values = sorted(values)
    last = len(values) - 1
    low, high, lower, upper = (values[round(share * last)] for share in (0.1, 0.9, 0.25, 0.75))
    return Timing(statistics.median(values), low, high, lower, upper, first_ms)
