"""Measure the latency of a network that is not a ticket yet, for a budget."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..config.search_settings import BudgetSettings
from ..cost.latency import interleaved_rounds
from ..data import Preprocessing
from ..device import on_threads, preserve_random_state
from ..ticket import Ticket
from ..training.state import DeployableModel
from .runtimes import DeployForms, find_runtime

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
        run = find_runtime(budget.runtime).prepare(DeployForms(ticket, Path(folder)), budget.threads)
        call = partial(run, np.zeros((1, *spec.input_shape), np.float32))
        first = interleaved_rounds({"": call}, 5, 2)[""]
        rounds = min(max(round(1000 * _SECONDS / min(first)), _ROUNDS[0]), _ROUNDS[1])
        return float(np.quantile(interleaved_rounds({"": call}, rounds)[""], 0.25))
