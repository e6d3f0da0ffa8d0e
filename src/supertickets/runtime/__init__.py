"""A runtime for tickets that needs numpy alone: zeros are skipped, not multiplied."""

from .engine import Engine, load

__all__ = ["Engine", "load"]
