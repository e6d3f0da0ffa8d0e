"""The plain residual networks by name: those for small images (He et al., 2016, Sec. 4.2), and ResNet-18."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ...errors import UserError, suggest
from ..base import as_tuples
from .network import PlainSpec

_SMALL = {"width": 16, "image_size": (32, 32)}
PLAIN: Mapping[str, Mapping[str, Any]] = {
    "resnet8": {"blocks": (1, 1, 1), **_SMALL},
    "resnet14": {"blocks": (2, 2, 2), **_SMALL},
    "resnet20": {"blocks": (3, 3, 3), **_SMALL},
    "resnet18": {
        "blocks": (2, 2, 2, 2),
        "width": 64,
        "stem": "large",
        "num_classes": 1000,
        "image_size": (224, 224),
    },
}


def create_plain(name: str, **overrides: Any) -> PlainSpec:
    """Make the spec of a plain residual network.

    Args:
        name: One of `PLAIN`.
        **overrides: Fields of `PlainSpec`; ``width`` is that of the first stage, every further one is twice as wide
            (``widths`` says them all).

    Raises:
        UserError: An override is unknown or impossible.
    """
    known = {field.name for field in dataclasses.fields(PlainSpec)} | {"width"}
    for key in overrides:
        if key not in known:
            raise UserError(f"unknown supernet setting '{key}'{suggest(key, known)}")
    for key in ("blocks", "widths", "strides"):
        if not isinstance(overrides.get(key, ()), list | tuple):
            raise UserError(f"supernet.settings.{key} is {overrides[key]}; give one number per stage, e.g. [1, 1, 1]")
    fields = {**PLAIN[name], **{key: as_tuples(value) for key, value in overrides.items()}}
    width, stages = fields.pop("width"), len(fields["blocks"])
    if not isinstance(width, int):
        raise UserError(f"supernet.settings.width is {width}; give a number of channels, e.g. 16")
    usual = {
        "widths": tuple(width * 2**i for i in range(stages)),
        "strides": (1, *[2] * (stages - 1)),
        "stem_stride": 4 if fields.get("stem") == "large" else 1,
        **({"num_classes": 1} if fields.get("head") == "density" else {}),
    }
    return PlainSpec(**usual | fields)
