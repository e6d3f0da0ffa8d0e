"""Tickets whose network runs in another runtime: all that takes a ticket works with them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..models import Network
from ..ticket import Ticket
from .runtimes import DeployForms, find_runtime


class RuntimeNetwork(nn.Module):
    """A network without parameters, whose forward runs in another runtime on the CPU.

    Args:
        run: Function from images (B, C, H, W) to scores, both arrays.
    """

    def __init__(self, run: Callable[[Any], Any]) -> None:
        super().__init__()
        self._run = run

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.from_numpy(self._run(x_BCHW.contiguous().numpy()))


def on_runtime(ticket: Ticket, runtime: str, threads: int = 0) -> Ticket:
    """Return the ticket with a `Ticket.module` that runs in another runtime, on images of any number and size.

    Args:
        ticket: The ticket.
        runtime: One of `runtimes.RUNTIMES`; with "torch" it is the ticket itself.
        threads: CPU threads; 0 for all.

    Raises:
        UserError: The runtime is unknown, not installed, or cannot run the network.
    """
    chosen = find_runtime(runtime)
    if runtime == "torch":
        return ticket
    with tempfile.TemporaryDirectory() as folder:
        run = chosen.prepare(DeployForms(ticket, Path(folder), fixed=False), threads)
    return ticket.with_module(cast(Network, RuntimeNetwork(run)))
