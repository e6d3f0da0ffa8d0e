"""Measure the latency of a network that is not a ticket yet, for a budget."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..config.search_settings import BudgetSettings
from ..cost.latency import interleaved_rounds
from ..data import Preprocessing
from ..device import on_threads, preserve_random_state
from ..models import Network
from ..runtime import load
from ..ticket import Ticket
from ..training.state import DeployableModel
from .compaction import compact
from .exporter import export, onnx_runner

_SECONDS = 0.6  # of timing, about
_ROUNDS = (30, 400)  # at least and at most


@preserve_random_state(torch.device("cpu"))
def measure_network(model: DeployableModel, budget: BudgetSettings) -> float:
    """Return the ms of one image through a network as it would be deployed: the lower quartile of many calls.

    What else runs on a machine makes calls slower, never faster, so that the lower quartile repeats better than the
    median.

    Args:
        model: Architecture, weights and mask.
        budget: Settings; reads ``runtime`` and ``threads``.
    """
    spec = model.spec
    channels, *size = spec.input_shape
    plain = Preprocessing(channels, (size[0], size[1]), (0.0,) * channels, (1.0,) * channels)
    weights = {name: value.detach().cpu() for name, value in model.weights.items()}
    mask = {name: flags.cpu() for name, flags in model.mask.items()}
    ticket = Ticket(spec, weights, mask, tuple(map(str, range(spec.num_classes))), plain, {})
    with on_threads(budget.threads), tempfile.TemporaryDirectory() as folder:
        call = _PREPARE[budget.runtime](ticket, Path(folder), budget.threads)
        first = interleaved_rounds({"": call}, 5, 2)[""]
        rounds = min(max(round(1000 * _SECONDS / min(first)), _ROUNDS[0]), _ROUNDS[1])
        return float(np.quantile(interleaved_rounds({"": call}, rounds)[""], 0.25))


def _prepare_torch(ticket: Ticket, folder: Path, threads: int) -> Callable[[], object]:
    return partial(_run, compact(ticket).module, torch.randn(1, *ticket.spec.input_shape))


def _prepare_onnxruntime(ticket: Ticket, folder: Path, threads: int) -> Callable[[], object]:
    path = export(ticket, folder / "one.onnx", fixed=True).path
    return partial(onnx_runner(path, threads), np.zeros((1, *ticket.spec.input_shape), np.float32))


def _prepare_sparse(ticket: Ticket, folder: Path, threads: int) -> Callable[[], object]:
    path = export(ticket, folder / "one.sparse", "sparse", fixed=True).path
    return partial(load(path), np.zeros((1, *ticket.spec.input_shape), np.float32))


_PREPARE = {"torch": _prepare_torch, "onnxruntime": _prepare_onnxruntime, "sparse": _prepare_sparse}


@torch.inference_mode()
def _run(module: Network, images: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = module(images)
    return out
