"""The figure of every task that is shown first, and that networks are chosen by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A figure that is shown first.

    Attributes:
        name: Its name among the scores of an evaluation.
        display_name: What people call it.
        is_error: Whether less is better, and it has the unit of what is measured; else it is in percent.
    """

    name: str
    display_name: str
    is_error: bool = False

    @property
    def unit(self) -> str:
        """What follows its name on axes and above tables."""
        return "" if self.is_error else ", %"

    @property
    def sign(self) -> int:
        """What makes more of it better."""
        return -1 if self.is_error else 1

    def text(self, scores: Mapping[str, Any]) -> str:
        """Its value with its unit."""
        return f"{scores[self.name]:.2f}{'' if self.is_error else '%'}"

    def quality(self, scores: Mapping[str, Any]) -> float:
        """Its value from 0 to 1, more is better; of an error, the share of the count that is no error."""
        value = float(scores[self.name])
        return max(0.0, 1 - value / max(scores["count"], 1e-9)) if self.is_error else value / 100


_METRICS = (
    Metric("top1", "accuracy"),
    Metric("miou", "mIoU"),
    Metric("ap", "AP"),
    Metric("map", "mAP"),
    Metric("mae", "MAE", is_error=True),
)


def primary_metric(names: Iterable[str]) -> Metric | None:
    """The figure among some scores, or their names, that is shown first; None if there is none."""
    known = set(names)
    return next((metric for metric in _METRICS if metric.name in known), None)
