"""Deployment: compaction, export, latency."""

from .benchmark import Bench, bench, dense_twin, reference_twins
from .compaction import compact
from .exporter import Exported, export
from .measure_latency import measure_latency_table
from .measure_network import measure_network

__all__ = [
    "Bench",
    "Exported",
    "bench",
    "compact",
    "dense_twin",
    "export",
    "measure_latency_table",
    "measure_network",
    "reference_twins",
]
