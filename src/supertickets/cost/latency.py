"""Measured latency on the device at hand: interleaved repeats, medians."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..device import keep_freed_memory


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call, over interleaved repeats."""

    median_ms: float
    low_ms: float
    high_ms: float


_FITS_CACHES = 20.0  # ms of a call, above which what the calls before it left in the caches matters little


def interleaved_rounds(
    calls: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 3, *, hot: bool = False
) -> dict[str, list[float]]:
    """Time calls in turn, A B A B ..., so that a machine whose speed drifts treats them alike.

    Args:
        calls: Calls to time, by name.
        repeats: Counted rounds.
        warmup: Rounds that do not count.
        hot: Whether a short call is made once more before it is timed, so that it finds its own data in the caches, as
            in a loop of its own, and not those of the others.

    Returns:
        Per call the milliseconds of every round.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    with keep_freed_memory():
        for turn in range(warmup + repeats):
            for name, call in calls.items():
                if hot and times[name] and times[name][-1] < _FITS_CACHES:
                    call()
                begin = time.perf_counter()
                call()
                if turn >= warmup:
                    times[name].append(1e3 * (time.perf_counter() - begin))
    return times


def time_interleaved(
    calls: Mapping[str, Callable[[], object]], repeats: int = 30, warmup: int = 3
) -> dict[str, Latency]:
    """Time calls in turn (`interleaved_rounds`); per call the median and the 10th and 90th percentile."""
    out = {}
    for name, values in interleaved_rounds(calls, repeats, warmup).items():
        values.sort()
        last = len(values) - 1
        out[name] = Latency(statistics.median(values), values[round(0.1 * last)], values[round(0.9 * last)])
    return out


@dataclass(frozen=True)
class TimeIncrement:
    """By how much longer than another call one takes, in percent (LTH4SA, Eq. 7): median and quartiles of the rounds.

    Attributes:
        percent: The median.
        low: The lower quartile.
        high: The upper quartile.
        ms: The median time of the call itself.
    """

    percent: float
    low: float
    high: float
    ms: float


def time_increments(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, TimeIncrement]:
    """Return by how much longer than the first call all others take, round by round; needs two rounds."""
    first, *others = interleaved_rounds(calls, repeats).items()
    increments = {}
    for name, values in others:
        ratios = [100 * (own / plain - 1) for own, plain in zip(values, first[1], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        increments[name] = TimeIncrement(middle, low, high, statistics.median(values))
    return increments


def device_name() -> str:
    """Return the processor's name, as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
