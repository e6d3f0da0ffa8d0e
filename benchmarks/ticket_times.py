"""Tickets timed side by side, one image and one thread."""

from collections.abc import Mapping
from functools import partial

import torch

import supertickets as st
from supertickets.cost.latency import Latency, time_interleaved


def time_tickets(tickets: Mapping[str, st.Ticket], repeats: int) -> dict[str, Latency]:
    """Measure the latency of tickets by name; PyTorch runs on one thread from now on."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        calls = {name: partial(one.module, torch.randn(1, *one.spec.input_shape)) for name, one in tickets.items()}
        return time_interleaved(calls, repeats)
