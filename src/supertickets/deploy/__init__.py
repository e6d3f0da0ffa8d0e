"""Deployment: compaction, export, latency."""

from .benchmark import Bench, bench, dense_twin, reference_twins
from .compaction import compact
from .exporter import Exported, export
from .measure_latency import measure_latency_table

__all__ = ["Bench", "Exported", "bench", "compact", "dense_twin", "export", "measure_latency_table", "reference_twins"]
