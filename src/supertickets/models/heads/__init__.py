"""Heads behind any backbone: they take its maps at several strides."""

from __future__ import annotations

from .headed_spec import HEAD_SETTINGS, HeadedSpec
from .maps import FeatureMap, initialise_head, keep_last_of_stride, list_stage_maps
from .pooling import GlobalPool

__all__ = [
    "HEAD_SETTINGS",
    "FeatureMap",
    "GlobalPool",
    "HeadedSpec",
    "initialise_head",
    "keep_last_of_stride",
    "list_stage_maps",
]
