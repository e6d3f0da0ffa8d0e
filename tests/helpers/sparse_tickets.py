"""Untrained tickets of every family, for exports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from supertickets import Ticket
from supertickets.data import Preprocessing
from supertickets.models import Spec, create_resnet
from supertickets.models.factory import create_spec

HRNET: dict[str, Any] = {
    **{"in_channels": 2, "num_classes": 4, "channels": ((4, 6),), "blocks": ((1, 1),), "kernels": (3, 5)},
    **{"stem_channels": (4, 4), "expansion": 1, "tokens": 2, "grid": 2},
}
RESNET: dict[str, Any] = {"widths": (4, 4, 4), "image_size": (8, 8), "num_classes": 4}
FAMILIES: dict[str, Callable[[], Spec]] = {
    "hrnet": lambda: create_spec("hrnet_tiny", head_channels=(6, 8), last_channels=12, **HRNET),
    "hrnet scenes": lambda: create_spec("hrnet_tiny", head="segmentation", image_size=(16, 16), **HRNET),
    "plain": lambda: create_spec("resnet8", width=8, num_classes=4),
    "plain scenes": lambda: create_spec("resnet8", width=4, num_classes=4, head="segmentation"),
    "mobile": lambda: create_spec("mobilenet_v3_large", image_size=(32, 32), num_classes=4),
    "resnet se": lambda: create_resnet("resnet38", attention="se", **RESNET),
    "resnet sge": lambda: create_resnet("resnet38", attention="sge", **RESNET),
    "timm resnet": lambda: create_spec("timm:resnet10t", image_size=(32, 32), num_classes=4),
    "timm mobile": lambda: create_spec("timm:mobilenetv3_small_050", image_size=(32, 32), num_classes=4),
}


def ticket_of(spec: Spec, sparsity: float = 0.5) -> Ticket:
    """An untrained ticket whose batch norms are not the identity, pruned at random."""
    generator = torch.Generator().manual_seed(0)
    module = spec.build()
    maskable, weights, mask = set(module.maskable_weights()), {}, {}
    for name, value in module.state_dict().items():
        if name.endswith(("running_mean", "bn.bias", "norm.bias")):
            value = value + 0.1 * torch.randn(value.shape, generator=generator)
        if name in maskable:
            mask[name] = torch.rand(value.shape, generator=generator) >= sparsity
            value = value * mask[name]
        weights[name] = value
    how = Preprocessing(spec.in_channels, spec.image_size, (0.5,) * spec.in_channels, (0.25,) * spec.in_channels)
    return Ticket(spec, weights, mask, tuple(f"c{i}" for i in range(spec.num_classes)), how, {"recipe": {}})
