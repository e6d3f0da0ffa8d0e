"""Sweeps: many runs planned, shared, distributed and collected."""
