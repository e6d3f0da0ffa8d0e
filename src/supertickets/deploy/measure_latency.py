"""Measure the operations of a mobile space on this device, and how well their sum predicts whole networks."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ..cost.latency import Latency, device_name, time_interleaved
from ..cost.latency_table import LatencyTable, TableSettings
from ..cost.operations import build_operation, list_operations
from ..device import on_threads, preserve_random_state
from ..errors import UserError
from ..models import MobileSpec
from ..nas import Space
from .exporter import onnx_runner, write_plain_onnx

Call = Callable[[], object]
_LARGEST = 4096  # pixels of a side
# Calls of a round, prepared together: all of a narrow space, so that they meet the machine in one state.
_TOGETHER = 256


@preserve_random_state(torch.device("cpu"))
def measure_latency_table(
    spec: MobileSpec, settings: TableSettings | None = None, say: Callable[[str], None] | None = None
) -> LatencyTable:
    """Time every operation of a space, then whole networks drawn at random.

    Args:
        spec: The space.
        settings: Runtime, repeats and networks; the defaults if there are none.
        say: Tells how far it is, some ten times.

    Raises:
        UserError: The spec is one network, or a number is impossible.
    """
    settings = settings or TableSettings()
    _check_space(spec)
    settings.check()
    with on_threads(settings.threads), tempfile.TemporaryDirectory() as folder:
        prepare = partial(_prepared, runtime=settings.runtime, threads=settings.threads, folder=Path(folder))
        single = {str(o): partial(prepare, *build_operation(o, spec)) for o in list_operations(spec)}
        space = Space(spec.decisions())
        fitted = max(2, settings.networks // 3)
        generator = torch.Generator().manual_seed(settings.seed)
        drawn = space.genotypes(space.sample(fitted + settings.networks, generator))
        whole = {str(i): partial(prepare, *_whole(spec.select(choices))) for i, choices in enumerate(drawn)}
        times = _times(single | whole, settings.repeats, say)
    ms = {name: times[name].low_ms for name in single}
    runtime, threads = settings.runtime, settings.threads
    table = LatencyTable(spec=spec, device=device_name(), runtime=runtime, threads=threads, ms=ms, check={})
    totals = [table.predict(choices) for choices in drawn]  # the plain sums
    taken = [times[name].median_ms for name in whole]
    return fit_table(table, totals, taken, fitted)


def fit_table(table: LatencyTable, totals: Sequence[float], taken: Sequence[float], fitted: int) -> LatencyTable:
    """Return the table with bias and scale of the least-squares line, and how well this predicts other networks.

    Args:
        table: Times of operations.
        totals: Sums of the operations of whole networks, in ms.
        taken: Times of these networks, in ms.
        fitted: Number of networks that the line is fitted to; the rest are for the check.
    """
    from scipy.stats import linregress, spearmanr  # slow to import

    line = linregress(totals[:fitted], taken[:fitted])
    bias, scale = float(line.intercept), float(line.slope)
    predicted, measured = [bias + scale * total for total in totals[fitted:]], taken[fitted:]
    errors = sorted(abs(p / m - 1) for p, m in zip(predicted, measured, strict=True))
    check = {
        "networks": len(measured),
        "median_error": statistics.median_low(errors),
        "largest_error": errors[-1],
        "spearman": float(spearmanr(predicted, measured).statistic),
        "fastest_ms": min(measured),
        "slowest_ms": max(measured),
    }
    return replace(table, bias=bias, scale=scale, networks=fitted, check=check)


def _check_space(spec: MobileSpec) -> None:
    if not spec.is_search_space():
        raise UserError("this is one network, not a space; time it with supertickets bench")
    for side in spec.image_size:
        if not 1 <= side <= _LARGEST:
            raise UserError(f"--size has {side}; the nearest possible is {min(max(side, 1), _LARGEST)}")
    if spec.num_classes < 1:
        raise UserError(f"--classes is {spec.num_classes}; the nearest possible is 1")


def _times(
    preparations: Mapping[str, Callable[[], Call]], repeats: int, say: Callable[[str], None] | None = None
) -> dict[str, Latency]:
    """Time calls in turn; what is timed together is prepared together."""
    times: dict[str, Latency] = {}
    # Every group has its share of the operations and of the networks, which come last.
    number = -(-len(preparations) // _TOGETHER)
    groups = [list(preparations)[i::number] for i in range(number)]
    for i, names in enumerate(groups):
        if say is not None and i % max(1, len(groups) // 10) == 0:
            say(f"measuring on this device: {len(times):,} of {len(preparations):,} operations and networks")
        calls = {name: preparations[name]() for name in names}
        times |= time_interleaved(calls, repeats)
    return times


def _whole(spec: MobileSpec) -> tuple[Callable[[], nn.Module], tuple[int, ...]]:
    return spec.build, spec.input_shape


def _prepared(make: Callable[[], nn.Module], shape: Sequence[int], *, runtime: str, threads: int, folder: Path) -> Call:
    """Return a call of a fresh module on one input."""
    module, images = make().eval(), torch.randn(1, *shape)
    if runtime == "torch":
        return partial(_run, module, images)
    path = folder / "one.onnx"
    write_plain_onnx(module, images, path)
    return partial(onnx_runner(path, threads), images.numpy())


@torch.inference_mode()
def _run(module: nn.Module, images: Tensor) -> Tensor:
    out: Tensor = module(images)
    return out
