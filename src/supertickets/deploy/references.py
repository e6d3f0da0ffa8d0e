"""Ordinary networks at a ticket's input, nearest to it in latency: what one would take instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
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
from .runtimes import RUNTIMES, DeployForms

_REPEATS = 15
_CHANNELS, _SHARES = (8, 16, 24, 32, 48, 64, 96), (0.25, 0.5, 0.75, 1.0, 1.4)
_PLAIN: Mapping[str, Sequence[float]] = {"resnet8": _CHANNELS, "resnet18": _CHANNELS}
_MOBILE: Mapping[str, Sequence[float]] = {"mobilenet_v2": _SHARES, "mobilenet_v3_large": _SHARES}


def nearest_references(
    ticket: Ticket, target_ms: float, make_forms: Callable[[Ticket], DeployForms]
) -> dict[str, DeployForms]:
    """Return untrained networks for a ticket's task and input, of every kind the width nearest to a latency.

    A plain ResNet, a MobileNetV2 and a MobileNetV3. Latencies are those in onnxruntime, on one thread, of one image:
    one or two widths of every kind are timed, the others follow from their MACs. Kinds that cannot take the input are
    left out.

    Args:
        ticket: The ticket.
        target_ms: Latency to come near to, in ms.
        make_forms: Function from a ticket to its forms; those of networks that were timed are returned as they are.
    """
    spec = ticket.spec
    plain = plain_reference(spec.head, spec.image_size)
    references = {}
    for network, widths in {plain: _PLAIN[plain], **_MOBILE}.items():
        forms = _FormsOfWidths(ticket, partial(_reference_spec, network, spec), make_forms)
        try:
            macs = {width: count(_reference_spec(network, spec, width)).macs for width in widths}
            width = _nearest(macs, forms.time_ms, target_ms, ticket.cost.masked_macs)
        except (UserError, RuntimeError):  # too small an image for its strides
            continue
        references[f"{KINDS[network].title}{KINDS[network].unit}{width:g}"] = forms[width]
    return references


class _FormsOfWidths(dict[float, DeployForms]):
    """Forms of the networks of one kind by width, made when they are asked for, since an export takes seconds."""

    def __init__(
        self, ticket: Ticket, make_spec: Callable[[float], Spec], make_forms: Callable[[Ticket], DeployForms]
    ) -> None:
        super().__init__()
        self._ticket, self._make_spec, self._make_forms = ticket, make_spec, make_forms

    def __missing__(self, width: float) -> DeployForms:
        self[width] = self._make_forms(untrained_ticket(self._ticket, self._make_spec(width)))
        return self[width]

    @preserve_random_state(torch.device("cpu"))
    def time_ms(self, width: float) -> float:
        """Return the milliseconds of a network in onnxruntime, on one thread."""
        forms = self[width]
        images = torch.randn(1, *forms.ticket.spec.input_shape)
        run = partial(RUNTIMES["onnxruntime"].prepare(forms, 1), images.numpy())
        return time_interleaved({"reference": run}, _REPEATS)["reference"].low_ms


@preserve_random_state(torch.device("cpu"))
def untrained_ticket(ticket: Ticket, spec: Spec) -> Ticket:
    """Return a ticket of another network with fresh weights, for the same data: as slow as a trained one."""
    torch.manual_seed(0)
    return replace(ticket, spec=spec, weights=spec.build().state_dict(), mask={})


def reference_twins(ticket: Ticket) -> dict[str, Ticket]:
    """Return the untrained tickets that a ticket is usually timed beside, by name; see `Spec.reference_specs`."""
    return {name: untrained_ticket(ticket, other) for name, other in ticket.spec.reference_specs().items()}


def _nearest(
    macs: Mapping[float, int], time_ms: Callable[[float], float], target_ms: float, about_macs: float
) -> float:
    """Return the width whose time is nearest to a target as a ratio, by the times of at most two widths.

    The second follows from the first, as if times were proportional to MACs. Where it is another, the line through both
    decides.

    Args:
        macs: MACs by width, rising.
        time_ms: Function from a width to its time.
        target_ms: The target.
        about_macs: MACs of the width to begin with, about.
    """

    def find(expected: Mapping[float, float], target: float) -> float:
        return min(expected, key=lambda width: max(expected[width] / target, target / expected[width]))

    first = find(macs, max(1.0, about_macs))
    first_ms = time_ms(first)
    second = find({width: first_ms * value / macs[first] for width, value in macs.items()}, target_ms)
    if second == first:
        return first
    slope = max(0.0, (time_ms(second) - first_ms) / (macs[second] - macs[first]))
    return find(
        {width: max(1e-6, first_ms + slope * (value - macs[first])) for width, value in macs.items()}, target_ms
    )


def _reference_spec(network: str, spec: Spec, width: float) -> Spec:
    setting = Setting(head=spec.head, sides=spec.image_size, own=None, widths=None)
    shared: dict[str, Any] = {"in_channels": spec.in_channels, "image_size": spec.image_size, "head": spec.head}
    return create_spec(network, **shared, num_classes=spec.num_classes, **KINDS[network].settings(setting, width))
