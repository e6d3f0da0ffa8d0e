"""A budget of latency in two-in-one training: networks are measured, and the budget becomes one in MACs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from ..config.search_settings import BudgetSettings
from ..cost import LatencyLine, MaskCosts
from ..errors import UserError
from ..training import Session
from ..training.algorithm import MeasureNetwork
from ..training.runtime import digest
from ..training.state import DeployableModel


class LatencyBudget:
    """The networks of a run that were measured.

    A run that was killed finds in its directory what it has measured, so that it goes on as it would have.

    Attributes:
        measure: Function that times a network (`deploy.measure_network`); None where nothing can be measured.
        line: What was measured; None if nothing was.
    """

    def __init__(self) -> None:
        self.measure: MeasureNetwork | None = None
        self.line: LatencyLine | None = None

    def check(self, budget: BudgetSettings) -> None:
        """Check that a limit of the latency can be measured.

        Raises:
            UserError: It cannot.
        """
        if budget.latency_ms is not None and self.measure is None:
            raise UserError("budget.latency_ms needs a function that times networks; give draw measure=measure_network")

    def time(self, session: Session, model: DeployableModel) -> tuple[float, float]:
        """Return the MACs that a network has for the runtime, and its ms; measured by the first process."""
        budget = session.recipe.budget
        macs = MaskCosts(model.spec).macs(model.mask if session.recipe.prunes_to_budget else {})
        ms = 0.0
        if session.runtime.is_main:
            assert self.measure is not None
            ms = session.run.recall(_key(model), partial(self.measure, model, budget))
        ms = session.runtime.from_main(ms)
        session.run.append({"event": "latency", "macs": macs, "ms": ms})
        return macs, ms

    def to_json(self) -> dict[str, Any]:
        """Return what was measured, as plain JSON."""
        return {"measured": self.line.points if self.line is not None else None}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take back what was measured."""
        points = data.get("measured")
        self.line = LatencyLine(tuple((float(macs), float(ms)) for macs, ms in points)) if points else None


def _key(model: DeployableModel) -> str:
    """Return a name for a network: what its latency depends on."""
    mask: dict[str, Tensor] = model.mask
    return hashlib.sha256(f"{json.dumps(model.spec.to_json())}{digest(mask.items())}".encode()).hexdigest()[:16]
