"""Latency of tickets on this device, side by side, per runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..cost.latency import Latency, device_name, time_interleaved
from ..device import on_threads, preserve_random_state
from ..errors import UserError
from ..models import Spec
from ..runtime import Engine
from ..runtime.library import load_library
from ..ticket import Ticket
from .compaction import compact
from .exporter import export, onnx_runner
from .onnx_graph import read_onnx


@dataclass(frozen=True)
class Bench:
    """Latencies that a benchmark measured.

    Attributes:
        device: Name of the processor.
        threads: Threads that every runtime was given.
        batch: Images per call.
        latencies: ``"<ticket>/<runtime>"`` -> latency of a call.
    """

    device: str
    threads: int
    batch: int
    latencies: Mapping[str, Latency]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    def ratio(self, slow: str, fast: str, runtime: str) -> float:
        """Return the factor by which one ticket is faster than another."""
        return self.latencies[f"{slow}/{runtime}"].median_ms / self.latencies[f"{fast}/{runtime}"].median_ms

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Names of the runtimes."""
        return tuple(dict.fromkeys(name.rpartition("/")[2] for name in self.latencies))

    def fastest_runtime(self, ticket: str) -> str:
        """Return the runtime with the least median latency for a ticket."""
        return min(self.runtimes, key=lambda runtime: self.latencies[f"{ticket}/{runtime}"].median_ms)


@preserve_random_state(torch.device("cpu"))
def bench(tickets: Mapping[str, Ticket], *, batch: int = 1, threads: int = 1, repeats: int = 50) -> Bench:
    """Time tickets in PyTorch, in onnxruntime and in the sparse runtime, dead channels removed, all rounds interleaved.

    The sparse runtime is left out if it cannot run one of the networks.

    Args:
        tickets: Tickets by name.
        batch: Images per call.
        threads: Threads per runtime.
        repeats: Rounds.
    """
    for name, value in (("batch", batch), ("threads", threads), ("repeats", repeats)):
        if value < 1:
            raise UserError(f"--{name} is {value}; the nearest possible is 1")
    with on_threads(threads), tempfile.TemporaryDirectory() as folder:
        calls: dict[str, Callable[[], object]] = {}
        sparse: dict[str, Callable[[], object]] = {}
        for name, ticket in tickets.items():
            images = torch.randn(batch, *ticket.spec.input_shape)
            calls[f"{name}/torch"] = partial(_run, compact(ticket).module, images)
            path = export(ticket, Path(folder) / f"{len(calls)}.onnx", fixed=True).path
            calls[f"{name}/onnxruntime"] = partial(onnx_runner(path, threads), images.numpy())
            engine = sparse_engine(path, ticket.spec, threads)
            if engine is not None:
                sparse[f"{name}/sparse"] = partial(engine, images.numpy())
        if len(sparse) == len(tickets):
            calls |= sparse
        return Bench(device_name(), threads, batch, time_interleaved(calls, repeats))


def sparse_engine(path: Path, spec: Spec, threads: int) -> Engine | None:
    """Return the sparse runtime of an ONNX file; None if it cannot run the network, or has no kernels here."""
    import onnx

    library = load_library()
    try:
        graph = read_onnx(onnx.load(str(path)), spec.input_shape)
        return None if library is None else Engine(graph, {}, library, threads=threads)
    except UserError:
        return None


@preserve_random_state(torch.device("cpu"))
def dense_twin(ticket: Ticket, supernet: Spec) -> Ticket:
    """Return an untrained ticket of the full supernet: as slow as a trained one."""
    torch.manual_seed(0)
    return replace(ticket, spec=supernet, weights=supernet.build().state_dict(), mask={})


def reference_twins(ticket: Ticket) -> dict[str, Ticket]:
    """Return the untrained tickets that a ticket is usually timed beside, by name; see `Spec.reference_specs`."""
    return {name: dense_twin(ticket, other) for name, other in ticket.spec.reference_specs().items()}


@torch.inference_mode()
def _run(module: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = module(images)
    return out
