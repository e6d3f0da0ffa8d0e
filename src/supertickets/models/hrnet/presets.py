"""The paper's HRNet supernets, and a tiny one for small images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import UserError, suggest
from ..base import as_tuples
from .network import HRNetSpec

# The running statistics of the three paper networks with "mnas" settings (released configuration files).
_MNAS_BN = {"bn_eps": 1e-3, "bn_momentum": 0.01}


def _imagenet(**overrides: Any) -> HRNetSpec:
    return _with_style(HRNetSpec(), _MNAS_BN | overrides)


def _cityscapes(**overrides: Any) -> HRNetSpec:
    spec = HRNetSpec(head="segmentation", num_classes=19, last_channels=90, image_size=(512, 1024))
    return _with_style(spec, _MNAS_BN | overrides)


def _ade20k(**overrides: Any) -> HRNetSpec:
    spec = HRNetSpec(head="segmentation", num_classes=150, last_channels=180, image_size=(512, 512))
    return _with_style(spec, _MNAS_BN | overrides)


def _coco(**overrides: Any) -> HRNetSpec:
    spec = HRNetSpec(head="keypoints", num_classes=17, last_channels=90, image_size=(256, 192), init_std=0.001)
    return _with_style(spec, overrides)


def _tiny(**overrides: Any) -> HRNetSpec:
    """For inputs of 8 to 64 pixels: two branches below 16, three and no down-sampling stem below 32, else four."""
    size = tuple(overrides.get("image_size", (8, 8)))
    if min(size) < 8 or max(size) > 64:
        raise UserError(
            f"hrnet_tiny takes images of 8 to 64 pixels, not {size[0]}x{size[1]}; set data.size, or supernet.name to "
            "another network"
        )
    if min(size) < 16:
        channels: tuple[tuple[int, ...], ...] = ((8, 16), (8, 16))
    elif min(size) < 32:
        channels = ((8,), (8, 12), (8, 12, 16))
    else:
        channels = ((8,), (8, 12), (8, 12, 16), (8, 12, 16, 24))
    spec = HRNetSpec(
        num_classes=10,
        image_size=(size[0], size[1]),
        stem_channels=(8, 8),
        stem_strides=(1, 1) if min(size) < 32 else (2, 1),
        channels=channels,
        blocks=tuple((1,) * len(widths) for widths in channels),
        head_channels=(12, 16, 24, 32)[: len(channels[-1])],
        expansion=2,
        last_channels=96,
        dropout=0.0,
        tokens=16,
    )
    return _with_style(spec, {"grid": 4, "token_dropout": 0.0} | overrides)


_SUPERNETS: Mapping[str, Callable[..., HRNetSpec]] = {
    "hrnet_ade20k": _ade20k,
    "hrnet_cityscapes": _cityscapes,
    "hrnet_coco": _coco,
    "hrnet_imagenet": _imagenet,
    "hrnet_tiny": _tiny,
}


def create_hrnet(name: str, **overrides: Any) -> HRNetSpec:
    """Make the spec of a full supernet.

    Args:
        name: One of those of the family.
        **overrides: Fields of `HRNetSpec` or of its `BlockStyle`, e.g. ``num_classes=100, grid=4``.

    Raises:
        UserError: An override is unknown or impossible.
    """
    return _SUPERNETS[name](**overrides)


def _with_style(spec: HRNetSpec, overrides: Mapping[str, Any]) -> HRNetSpec:
    style_names = {f.name for f in dataclasses.fields(spec.style)}
    spec_names = {f.name for f in dataclasses.fields(spec)} - {"style", "units"}
    for key in overrides:
        if key not in style_names | spec_names:
            raise UserError(f"unknown supernet setting '{key}'{suggest(key, style_names | spec_names)}")
    if overrides.get("head") == "detection":
        raise UserError("a multi-resolution supernet has no detector; take a mobile network, e.g. mobilenet_v3_large")
    overrides = {k: as_tuples(v) for k, v in overrides.items()}
    own = {k: v for k, v in overrides.items() if k in style_names}
    rest = {k: v for k, v in overrides.items() if k in spec_names}
    try:
        return dataclasses.replace(spec, **rest, style=dataclasses.replace(spec.style, **own), units={})
    except (ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"the supernet's settings do not fit together ({error}); channels and blocks need one list per stage of "
            "equal lengths, head_channels one width per branch of the last stage"
        ) from None
