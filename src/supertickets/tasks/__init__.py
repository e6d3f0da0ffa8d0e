"""Tasks: head, loss, metrics and how a prediction is shown."""

from .classification import Classification

__all__ = ["Classification"]
