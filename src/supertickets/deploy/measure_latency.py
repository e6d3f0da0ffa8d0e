"""Measures the operations of a mobile space on this device, and how well their sum predicts whole networks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ..cost.latency import Latency, device_name, time_interleaved
from ..cost.latency_table import LatencyTable
from ..cost.operations import build_operation, list_operations
from ..device import on_threads
from ..errors import UserError
from ..models import MobileSpec
from ..nas import Space
from .exporter import onnx_runner, write_plain_onnx

Call = Callable[[], object]
RUNTIMES = ("torch", "onnxruntime")
_LARGEST = 4096  # pixels of a side
_TOGETHER = (
    256  # calls of a round, prepared together: all of a narrow space, so that they meet the machine in one state
)


def measure_latency_table(
    spec: MobileSpec,
    *,
    runtime: str = "torch",
    threads: int = 1,
    repeats: int = 60,
    networks: int = 50,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> LatencyTable:
    """Times every operation of a space, then whole networks drawn at random.

    Args:
        spec: The space.
        runtime: "torch" or "onnxruntime".
        threads: Of the runtime.
        repeats: Calls per operation and network. Of an operation the 10th percentile counts, since what disturbs a
            machine would otherwise decide which operation is dear; of a network the median, which is to be predicted.
        networks: Networks for the check, which bias and scale have not seen; a third as many more fit these.
        seed: Of the networks.
        say: Tells how far it is, some ten times.

    Raises:
        UserError: The spec is one network, or a number is impossible.
    """
    if not spec.is_search_space():
        raise UserError("this is one network, not a space; time it with supertickets bench")
    if runtime not in RUNTIMES:
        raise UserError(f"--runtime is {runtime}; take one of {', '.join(RUNTIMES)}")
    for side in spec.image_size:
        if not 1 <= side <= _LARGEST:
            raise UserError(f"--size has {side}; the nearest possible is {min(max(side, 1), _LARGEST)}")
    if spec.num_classes < 1:
        raise UserError(f"--classes is {spec.num_classes}; the nearest possible is 1")
    for name, value, least in (("threads", threads, 1), ("repeats", repeats, 1), ("networks", networks, 2)):
        if value < least:
            raise UserError(f"--{name} is {value}; the nearest possible is {least}")
    with on_threads(threads), tempfile.TemporaryDirectory() as folder:
        prepare = partial(_prepared, runtime=runtime, threads=threads, folder=Path(folder))
        single = {str(o): partial(prepare, *build_operation(o, spec)) for o in list_operations(spec)}
        space = Space(spec.decisions())
        fitted = max(2, networks // 3)
        drawn = space.genotypes(space.sample(fitted + networks, torch.Generator().manual_seed(seed)))
        whole = {str(i): partial(prepare, *_whole(spec.select(choices))) for i, choices in enumerate(drawn)}
        times = _times(single | whole, repeats, say)
    ms = {name: times[name].low_ms for name in single}
    table = LatencyTable(spec=spec, device=device_name(), runtime=runtime, threads=threads, ms=ms, check={})
    totals = torch.tensor([table.predict(choices) for choices in drawn], dtype=torch.float64)  # the plain sums
    taken = torch.tensor([times[name].median_ms for name in whole], dtype=torch.float64)
    bias, scale = fit_line(totals[:fitted], taken[:fitted])
    found = bias + scale * totals[fitted:]
    error = (found / taken[fitted:] - 1).abs()
    check = {
        "networks": networks,
        "median_error": float(error.median()),
        "largest_error": float(error.max()),
        "spearman": spearman(found, taken[fitted:]),
        "fastest_ms": float(taken[fitted:].min()),
        "slowest_ms": float(taken[fitted:].max()),
    }
    return replace(table, bias=bias, scale=scale, networks=fitted, check=check)


def fit_line(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Least squares: y = bias + scale * x."""
    columns = torch.stack([torch.ones_like(x), x], dim=1)
    bias, scale = torch.linalg.lstsq(columns, y[:, None]).solution[:, 0].tolist()
    return bias, scale


def spearman(x: Tensor, y: Tensor) -> float:
    """Correlation of ranks; values are distinct."""
    ranks = torch.stack([x.argsort().argsort(), y.argsort().argsort()]).double()
    return float(torch.corrcoef(ranks)[0, 1])


def _times(
    preparations: Mapping[str, Callable[[], Call]], repeats: int, say: Callable[[str], None] | None = None
) -> dict[str, Latency]:
    """Times calls in turn; what is timed together is prepared together."""
    found: dict[str, Latency] = {}
    # Every group has its share of the operations and of the networks, which come last.
    number = -(-len(preparations) // _TOGETHER)
    groups = [list(preparations)[i::number] for i in range(number)]
    for i, names in enumerate(groups):
        if say is not None and i % max(1, len(groups) // 10) == 0:
            say(f"measuring on this device: {len(found):,} of {len(preparations):,} operations and networks")
        calls = {name: preparations[name]() for name in names}
        found |= time_interleaved(calls, repeats)
    return found


def _whole(spec: MobileSpec) -> tuple[Callable[[], nn.Module], tuple[int, ...]]:
    return spec.build, spec.input_shape


def _prepared(make: Callable[[], nn.Module], shape: Sequence[int], *, runtime: str, threads: int, folder: Path) -> Call:
    """A call of a fresh module on one input."""
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
