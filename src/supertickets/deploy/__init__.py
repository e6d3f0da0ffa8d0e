"""Deployment: compaction, export, runtimes, latency."""

from .benchmark import Bench, BenchSettings, bench
from .compaction import compact
from .exporter import Exported, export
from .measure_latency import measure_latency_table
from .measure_network import measure_network
from .references import nearest_references, reference_twins, untrained_ticket
from .runtime_network import on_runtime

__all__ = [
    "Bench",
    "BenchSettings",
    "Exported",
    "bench",
    "compact",
    "export",
    "measure_latency_table",
    "measure_network",
    "nearest_references",
    "on_runtime",
    "reference_twins",
    "untrained_ticket",
]
