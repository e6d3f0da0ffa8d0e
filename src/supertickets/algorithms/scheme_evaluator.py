"""The quality of connection schemes with shared weights, on the validation split (LTH4SA, Sec. IV)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Batch
from ..models import ResNet, outputs_of_all
from ..nas import every_scheme
from ..tasks import Task
from ..training import Session, digest, evaluate, recalibrate
from ..training.batch_norm import BatchNorm
from .policy_search import SubnetView

_PER_LINE = 100  # schemes that are evaluated between two lines of progress


class SchemeEvaluator:
    """Quality of schemes with the shared weights, each asked for once.

    Args:
        session: What stays the same.
        module: The network of all schemes, in eval mode.
    """

    def __init__(self, session: Session, module: ResNet) -> None:
        self.session, self.module = session, module
        self.names = [decision.name for decision in module.spec.decisions()]
        self.known: dict[tuple[bool, ...], float] = {}
        self.kept = _prepare_module(session)

    def __call__(self, schemes: Tensor) -> Tensor:
        """Return the qualities from 0 to 1, (S,), of schemes, bool (S, M)."""
        session, before = self.session, len(self.known)
        session.runtime.check_equal(digest([("schemes", schemes)]), "sampled schemes")
        qualities = torch.tensor([self._quality(tuple(row)) for row in schemes.tolist()], dtype=torch.float64)
        if len(self.known) // _PER_LINE > before // _PER_LINE:
            session.reporter.say(f"{len(self.known):,} schemes judged, the best at {max(self.known.values()):.2%}")
        return qualities

    def evaluate_all(self) -> None:
        """Evaluate every scheme, with the blocks that schemes have in common computed once."""
        session = self.session
        data, schemes = session.batches.splits.validation, every_scheme(len(self.names))
        totals: list[Tensor] | None = None
        with torch.inference_mode(), self._statistics():
            for images, target in self._batches():
                outputs = outputs_of_all(self.module, images.to(session.runtime.device))
                counts = [
                    session.task.totals(nn.Identity(), [(scores, target)], data, session.runtime.device)
                    for _, scores in outputs
                ]
                totals = counts if totals is None else [a + b for a, b in zip(totals, counts, strict=True)]
        assert totals is not None
        for flags, counted in zip(schemes.tolist(), session.runtime.sum(torch.stack(totals)), strict=True):
            self.known[tuple(flags)] = _as_quality(session.task.metrics(counted, data), session.task)

    def _quality(self, flags: tuple[bool, ...]) -> float:
        if flags not in self.known:
            session, recipe = self.session, self.session.recipe
            network = SubnetView(self.module, dict(zip(self.names, flags, strict=True))).eval()
            if recipe.connect.statistics == "recalibrated":
                recalibrate(network, session.batches.calibration(0, recipe.recalibrate_batches), session.runtime)
            data = session.batches.splits.validation
            with self._statistics():
                scores = evaluate(network, self._batches(), data, session.task, session.runtime)
            self.known[flags] = _as_quality(scores, session.task)
        return self.known[flags]

    def _batches(self) -> Sequence[Batch] | Iterator[Batch]:
        return _read_batches(self.session) if self.kept is None else self.kept

    def _statistics(self) -> contextlib.AbstractContextManager[None]:
        own = self.session.recipe.connect.statistics == "batch"
        return batch_statistics(self.module) if own else contextlib.nullcontext()


def _prepare_module(session: Session) -> list[Batch] | None:
    """Return the validation batches, made once; None if they take too much memory."""
    kept, size = [], 0
    for images, target in _read_batches(session):
        size += _count_bytes((images, target))
        if size > 1e9 * session.recipe.data.keep_gb:
            return None
        kept.append((images, target))
    return kept


def _read_batches(session: Session) -> Iterator[Batch]:
    """Yield the validation batches, mixed where they are normalised by themselves: splits are in order of classes."""
    mixed = session.recipe.seed if session.recipe.connect.statistics == "batch" else None
    return session.batches.evaluation(session.batches.splits.validation, mixed)


def _count_bytes(value: Any) -> int:
    """Return the memory of tensors and arrays, also in lists and tuples of them."""
    if isinstance(value, list | tuple):
        return sum(map(_count_bytes, value))
    return int(getattr(value, "nbytes", 0))


@contextlib.contextmanager
def batch_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch norms use the statistics of their batch meanwhile, in evaluations too; their running ones stay."""
    norms = [m for m in module.modules() if isinstance(m, BatchNorm)]
    running = [(norm.running_mean, norm.running_var) for norm in norms]
    for norm in norms:
        norm.running_mean = norm.running_var = None
    try:
        yield
    finally:
        for norm, (mean, variance) in zip(norms, running, strict=True):
            norm.running_mean, norm.running_var = mean, variance


def _as_quality(scores: Mapping[str, float], task: Task) -> float:
    return task.metric.quality(scores) if task.metric.name in scores else 0.0
