"""Heads behind any backbone: they take its maps at several strides."""

from __future__ import annotations

from .headed_spec import HeadedSpec
from .maps import FeatureMap, initialise_head
from .pooling import GlobalPool

__all__ = ["FeatureMap", "GlobalPool", "HeadedSpec", "initialise_head"]
