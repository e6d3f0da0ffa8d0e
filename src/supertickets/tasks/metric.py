"""The figure of a task that is shown first, and that networks are chosen by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A figure that is shown first.

    Attributes:
        name: Its name among the scores of an evaluation.
        display_name: Name for people to read.
        is_error: Whether less is better, and it has the unit of what is measured; else it is in percent.
    """

    name: str
    display_name: str
    is_error: bool = False

    @property
    def unit(self) -> str:
        """The text behind its name on axes and above tables."""
        return "" if self.is_error else ", %"

    @property
    def sign(self) -> int:
        """1, or -1 for an error: the factor that makes more of it better."""
        return -1 if self.is_error else 1

    def text(self, scores: Mapping[str, Any]) -> str:
        """Return its value with its unit."""
        return f"{scores[self.name]:.2f}{'' if self.is_error else '%'}"

    def quality(self, scores: Mapping[str, Any]) -> float:
        """Return its value from 0 to 1, more is better; of an error, the share of ``count`` that is no error."""
        value = float(scores[self.name])
        return max(0.0, 1 - value / max(scores["count"], 1e-9)) if self.is_error else value / 100
