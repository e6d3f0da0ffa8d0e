"""Statistics of batch norms: measured anew over batches, and averaged over processes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ..data import Batch
from .runtime import Runtime

BatchNorm = nn.modules.batchnorm._BatchNorm


@torch.no_grad()
def recalibrate(module: nn.Module, batches: Iterable[Batch], runtime: Runtime) -> int:
    """Measure BN statistics anew: their cumulative mean over batches, averaged over processes.

    Only BN layers run in training mode, so dropout is off.

    Returns:
        Number of batches that were used.
    """
    norms = [m for m in module.modules() if isinstance(m, BatchNorm)]
    momenta = [m.momentum for m in norms]
    was_training = module.training
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    used = 0
    for images, _ in batches:
        module(images.to(runtime.device))
        used += 1
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.train(was_training)
    average_statistics(module, runtime)
    return used


def average_statistics(module: nn.Module, runtime: Runtime) -> None:
    """Average the counts and statistics of batch norms over all processes."""
    counted = ("running_mean", "running_var", "num_batches_tracked")
    runtime.average_([b for name, b in module.named_buffers() if name.endswith(counted)])
