"""Evaluation: the same on every process, every sample once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ..data import Batch, Samples
from ..tasks import Task
from .runtime import Runtime


@torch.no_grad()
def evaluate(
    module: nn.Module, batches: Iterable[Batch], data: Samples, task: Task, runtime: Runtime
) -> dict[str, float]:
    """Return the metrics of a module in eval mode, over the samples of all processes.

    Args:
        module: The network.
        batches: This process's share of the samples.
        data: The samples.
        task: The task, which has the metrics.
        runtime: The processes.
    """
    was_training = module.training
    module.eval()
    totals = runtime.sum(task.totals(module, batches, data, runtime.device))
    module.train(was_training)
    return task.metrics(totals, data)
