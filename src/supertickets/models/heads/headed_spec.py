"""Specs of networks whose heads take maps: the settings of the head, and the head that they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import nn

from ...errors import UserError, suggest
from ..base import Head, Spec, TransferTarget
from .fpn import FPN
from .lraspp import LRASPP, SummedClassifier
from .maps import FeatureMap, first_at, initialise_head
from .pooling import GlobalPool

Parts = tuple[nn.Module, nn.Module]  # what stands between maps and classifier, and the classifier
_STRIDES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class HeadedSpec(Spec):
    """Description of a network whose head takes the maps of a backbone.

    Attributes:
        head: Kind of the last layers: class scores of the image; or maps of class scores, of joints or of a density.
        num_classes: Number of classes or joints; 1 for a density.
        neck: Layers that join the maps for a head that makes maps: "fpn" or "lraspp".
        head_width: Channels inside the head.
        map_stride: Pixels of the input per cell of the maps that the head makes; a backbone without so fine a map
            gives its finest one.

    Raises:
        UserError: There is no such head, neck, width or stride, or a density is one of several kinds of things.
    """

    head: Head = "classification"
    num_classes: int = 10
    neck: str = "fpn"
    head_width: int = 64
    map_stride: int = 4
    heads: ClassVar[tuple[Head, ...]] = ("classification", "segmentation", "keypoints", "density")
    head_settings: ClassVar[tuple[str, ...]] = ("neck", "head_width", "map_stride")
    transfers_network: ClassVar[bool] = True

    def __post_init__(self) -> None:
        known: dict[str, tuple[object, Sequence[object]]] = {
            "head": (self.head, self.heads),
            "neck": (self.neck, tuple(_BY_NECK)),
            "map_stride": (self.map_stride, _STRIDES),
        }
        for name, (value, options) in known.items():
            if value not in options:
                words = [str(option) for option in options]
                hint = suggest(str(value), words, f"; take one of {', '.join(words)}")
                raise UserError(f"unknown supernet.settings.{name} '{value}'{hint}")
        if not isinstance(self.head_width, int) or self.head_width < 1:
            raise UserError(f"supernet.settings.head_width is {self.head_width}; give a number of channels, e.g. 64")
        if self.head == "density" and self.num_classes != 1:
            raise UserError(f"a density is that of one kind of things, not of {self.num_classes}; give one class")

    def make_head(self, maps: Sequence[FeatureMap], dropout: float = 0.0) -> Parts:
        """Make what follows the maps of a backbone.

        Args:
            maps: Maps, finest first.
            dropout: Share of what the classifier sees that a training step leaves out.

        Returns:
            A module from the list of maps to what the classifier takes; and the classifier.
        """
        make = _BY_HEAD.get(self.head, _BY_NECK[self.neck])
        head, classifier = make(self, maps, dropout)
        initialise_head(head, classifier)
        return head, classifier

    def check_transfer(self, head: Spec | None, network: str) -> None:
        """Refuse an inherited head."""
        if head is not None:
            raise UserError(f"--head is for tickets of a supernet; the head of {self} is fresh, leave --head out")

    def join_head(self, head: Spec | None, target: TransferTarget) -> Callable[..., Spec]:
        """Return what makes this network with a fresh head, if the target needs another kind."""
        if self.head == target.head:
            return partial(dataclasses.replace, self)
        chosen = {name: value for name, value in target.settings.items() if name in self.head_settings}
        return partial(dataclasses.replace, self, head=target.head, **chosen)


def _make_pool(spec: HeadedSpec, maps: Sequence[FeatureMap], dropout: float) -> Parts:
    return GlobalPool(dropout), nn.Linear(maps[-1].channels, spec.num_classes)


def _make_fpn(spec: HeadedSpec, maps: Sequence[FeatureMap], dropout: float) -> Parts:
    head = FPN(maps, spec.head_width, spec.map_stride, dropout)
    return head, nn.Conv2d(spec.head_width, spec.num_classes, 1)


def _make_lraspp(spec: HeadedSpec, maps: Sequence[FeatureMap], dropout: float) -> Parts:
    head = LRASPP(maps, spec.head_width, spec.map_stride, dropout)
    fine = maps[first_at(maps, spec.map_stride)].channels
    return head, SummedClassifier(fine, spec.head_width, spec.num_classes)


_Make = Callable[[HeadedSpec, Sequence[FeatureMap], float], Parts]
_BY_HEAD: Mapping[Head, _Make] = {"classification": _make_pool}  # of all others the neck tells
_BY_NECK: Mapping[str, _Make] = {"fpn": _make_fpn, "lraspp": _make_lraspp}
