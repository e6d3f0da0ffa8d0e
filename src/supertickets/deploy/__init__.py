"""Deployment: compaction, export, latency."""

from .bench import Bench, bench, dense_twin, twins
from .compact import compact
from .export import Exported, export
from .latency_table import measure_table

__all__ = ["Bench", "Exported", "bench", "compact", "dense_twin", "export", "measure_table", "twins"]
