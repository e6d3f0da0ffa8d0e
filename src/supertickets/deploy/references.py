"""Ordinary networks at a ticket's input, nearest to it in latency: what one would take instead."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..cost import count
from ..cost.latency import time_interleaved
from ..device import preserve_random_state
from ..errors import UserError
from ..models import Spec
from ..models.factory import create_spec
from ..runs.references import KINDS, Setting, plain_reference
from ..ticket import Ticket
from .exporter import onnx_runner, write_plain_onnx

_REPEATS = 15
_CHANNELS, _SHARES = (8, 16, 24, 32, 48, 64, 96), (0.25, 0.5, 0.75, 1.0, 1.4)
_PLAIN: Mapping[str, Sequence[float]] = {"resnet8": _CHANNELS, "resnet18": _CHANNELS}
_MOBILE: Mapping[str, Sequence[float]] = {"mobilenet_v2": _SHARES, "mobilenet_v3_large": _SHARES}


def nearest_references(ticket: Ticket, target_ms: float) -> dict[str, Ticket]:
    """Return untrained networks for a ticket's task and input, of every kind the width nearest to a latency.

    A plain ResNet, a MobileNetV2 and a MobileNetV3. Latencies are those in onnxruntime, on one thread, of one image:
    two widths of every kind are timed, the others follow from their MACs. Kinds that cannot take the input are left
    out.

    Args:
        ticket: The ticket.
        target_ms: Latency to come near to, in ms.
    """
    spec = ticket.spec
    plain = plain_reference(spec.head, spec.image_size)
    references = {}
    for network, widths in {plain: _PLAIN[plain], **_MOBILE}.items():
        try:
            macs = {width: count(_reference_spec(network, spec, width)).macs for width in widths}
            width = _nearest(macs, partial(_time_width, network, spec), target_ms)
        except (UserError, RuntimeError):  # too small an image for its strides
            continue
        title = f"{KINDS[network].title}{KINDS[network].unit}{width:g}"
        references[title] = untrained_ticket(ticket, _reference_spec(network, spec, width))
    return references


@preserve_random_state(torch.device("cpu"))
def untrained_ticket(ticket: Ticket, spec: Spec) -> Ticket:
    """Return a ticket of another network with fresh weights, for the same data: as slow as a trained one."""
    torch.manual_seed(0)
    return replace(ticket, spec=spec, weights=spec.build().state_dict(), mask={})


def reference_twins(ticket: Ticket) -> dict[str, Ticket]:
    """Return the untrained tickets that a ticket is usually timed beside, by name; see `Spec.reference_specs`."""
    return {name: untrained_ticket(ticket, other) for name, other in ticket.spec.reference_specs().items()}


def _nearest(macs: Mapping[float, int], time_ms: Callable[[float], float], target_ms: float) -> float:
    """Return the width whose time is nearest to a target as a ratio, by the line through the times of two widths.

    Args:
        macs: MACs by width, rising.
        time_ms: Function from a width to its time.
        target_ms: The target.
    """
    widths = list(macs)
    low, high = widths[1], widths[-2]
    start, end = time_ms(low), time_ms(high)
    slope = max(0.0, (end - start) / (macs[high] - macs[low]))
    expected = {width: max(1e-6, start + slope * (macs[width] - macs[low])) for width in widths}
    return min(widths, key=lambda width: max(expected[width] / target_ms, target_ms / expected[width]))


def _reference_spec(network: str, spec: Spec, width: float) -> Spec:
    setting = Setting(head=spec.head, sides=spec.image_size, own=None, widths=None)
    shared: dict[str, Any] = {"in_channels": spec.in_channels, "image_size": spec.image_size, "head": spec.head}
    return create_spec(network, **shared, num_classes=spec.num_classes, **KINDS[network].settings(setting, width))


@preserve_random_state(torch.device("cpu"))
def _time_width(network: str, spec: Spec, width: float) -> float:
    """Return the milliseconds of a network in onnxruntime, on one thread."""
    module = _reference_spec(network, spec, width).build().eval().folded()
    images = torch.randn(1, *spec.input_shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference.onnx"
        write_plain_onnx(module, images, path)
        run = partial(onnx_runner(path, 1), images.numpy())
    return time_interleaved({"reference": run}, _REPEATS)["reference"].low_ms
