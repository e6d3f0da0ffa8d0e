"""Deployment: compaction, export, latency."""

from .bench import Bench, bench, dense_twin
from .compact import compact
from .export import Exported, export

__all__ = ["Bench", "Exported", "bench", "compact", "dense_twin", "export"]
