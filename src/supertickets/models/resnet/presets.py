"""The ResNets of the paper by name (LTH4SA, Sec. V)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from ...device import preserve_random_state
from ...errors import UserError, suggest
from ..base import as_tuples
from ..heads import HEAD_SETTINGS
from .attention import make_attention
from .network import EXPANSION, ResNetSpec, default_output_stride, read_scheme

_CIFAR = {"widths": (16, 32, 64), "stem": "small", "num_classes": 100, "image_size": (32, 32)}
_IMAGENET = {
    "widths": (64, 128, 256, 512),
    "stem": "large",
    "bias": True,
    "num_classes": 1000,
    "image_size": (224, 224),
}
RESNETS: Mapping[str, Mapping[str, Any]] = {
    "resnet38": {"blocks": (4, 4, 4), **_CIFAR},
    "resnet164": {"blocks": (18, 18, 18), **_CIFAR},
    "resnet50": {"blocks": (3, 4, 6, 3), "groups": 64, **_IMAGENET},
}
_RATIOS = {"small": 4, "large": 20}  # of "dia", by the stem
_SHARINGS = ("none", "stage")
_SETTINGS = ("attention", "sharing", "ratio", "groups", "scheme", "widths", "bias", "output_stride", *HEAD_SETTINGS)
_FITTED = ("head", "num_classes", "in_channels", "image_size")


def create_resnet(name: str, *, scheme: str | int | None = None, **overrides: Any) -> ResNetSpec:
    """Makes the spec of a ResNet.

    Args:
        name: One of `RESNETS`.
        scheme: The connection scheme as `ResNetSpec.scheme` writes it, with or without strokes between the stages; all
            blocks are connected if it is absent.
        **overrides: ``attention`` (a class stands for its name), ``sharing``, ``ratio``, ``groups``, ``widths``,
            ``bias``, ``output_stride`` (if a dilated head makes maps, 8 for `resnet50`), ``head`` and its settings; and
            what the data fits.

    Raises:
        UserError: An override is unknown or impossible.
    """
    known = {*_SETTINGS, *_FITTED}
    for key in overrides:
        if key not in known:
            raise UserError(f"unknown supernet setting '{key}'{suggest(key, known)}")
    if (sharing := overrides.get("sharing", "none")) not in _SHARINGS:
        hint = suggest(str(sharing), _SHARINGS, f"; take one of {', '.join(_SHARINGS)}")
        raise UserError(f"unknown supernet.settings.sharing '{sharing}'{hint}")
    if isinstance(own := overrides.get("attention"), type):
        overrides["attention"] = f"{own.__module__}:{own.__qualname__}"
    head = overrides.get("head", "classification")
    usual = {**RESNETS[name], "output_stride": default_output_stride(head, overrides.get("neck", "dilated"))} | (
        {"num_classes": 1} if head == "density" else {}
    )
    spec = ResNetSpec(**{**usual, **{key: as_tuples(value) for key, value in overrides.items()}})
    if len(spec.widths) != len(spec.blocks):
        raise UserError(
            f"supernet.settings.widths has {len(spec.widths)} numbers; give one per stage, {len(spec.blocks)}"
        )
    if spec.attention == "dia":
        if spec.sharing != "stage":
            raise UserError("attention dia is shared by a stage; set supernet.settings.sharing to stage")
        if "ratio" not in overrides:
            spec = dataclasses.replace(spec, ratio=_RATIOS[spec.stem])
    if spec.attention is None:
        if scheme is not None:
            raise UserError("supernet.settings.scheme connects attention modules; set supernet.settings.attention too")
        return dataclasses.replace(spec, connected=(False,) * sum(spec.blocks))
    with preserve_random_state(torch.device("cpu")):  # made to see whether they can be
        for width in spec.widths:
            make_attention(spec.attention, EXPANSION * width, spec.ratio, spec.groups)
    return dataclasses.replace(spec, connected=read_scheme(scheme, spec))
