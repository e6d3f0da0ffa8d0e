"""Specs of networks whose heads take maps: the settings of the head, and the head that they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from ...errors import UserError, suggest
from ..base import Head, Spec, TransferTarget
from .fpn import FPN
from .lraspp import LRASPP, SummedClassifier
from .maps import FeatureMap, first_at, initialise_head
from .pooling import GlobalPool
from .ssdlite import BoxPredictor, FurtherMaps

Parts = tuple[nn.Module, nn.Module]  # what stands between maps and classifier, and the classifier
HEAD_SETTINGS = ("neck", "head_width", "map_stride")
_STRIDES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class HeadedSpec(Spec):
    """Description of a network whose head takes the maps of a backbone.

    Attributes:
        head: Kind of the last layers: class scores of the image; maps of class scores, of joints or of a density; or
            predictions for the anchors of a detector (`ssdlite`).
        num_classes: Number of classes or joints; 1 for a density.
        neck: Layers that join the maps for a head that makes maps: "fpn" or "lraspp".
        head_width: Channels inside the head; the further maps of a detector have twice, once, once and half as many.
        map_stride: Pixels of the input per cell of the maps that the head makes; a backbone without so fine a map
            gives its finest one.

    Raises:
        UserError: There is no such head, neck, width or stride, a density is one of several kinds of things, or a
            detector's images are not square.
    """

    head: Head = "classification"
    num_classes: int = 10
    neck: str = "fpn"
    head_width: int = 64
    map_stride: int = 4
    heads: ClassVar[tuple[Head, ...]] = ("classification", "segmentation", "keypoints", "density", "detection")
    head_settings: ClassVar[tuple[str, ...] | None] = HEAD_SETTINGS
    necks: ClassVar[tuple[str, ...]] = ("fpn", "lraspp")
    transfers_network: ClassVar[bool] = True

    def __post_init__(self) -> None:
        known: dict[str, tuple[object, Sequence[object]]] = {
            "head": (self.head, self.heads),
            "neck": (self.neck, self.necks),
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
        if self.head == "detection" and len(set(self.image_size)) > 1:
            raise UserError("a detector takes square images, not {} x {}".format(*self.image_size))

    def make_head(self, maps: Sequence[FeatureMap], dropout: float = 0.0) -> Parts:
        """Make what follows the maps of a backbone.

        Args:
            maps: Maps, finest first.
            dropout: Share of what the classifier sees that a training step leaves out.

        Returns:
            A module from the list of maps to what the classifier takes; and the classifier.
        """
        return (_BY_HEAD.get(self.head) or _BY_NECK[self.neck])(self, maps, dropout)

    def is_output(self, scores: Tensor, images: int) -> bool:
        """Return whether a tensor is what the head gives for a number of images."""
        shapes: Mapping[Head, tuple[int | None, ...]] = {
            "classification": (images, self.num_classes),
            "detection": (images, None, 1 + self.num_classes + 4),
        }
        wanted = shapes.get(self.head, (images, self.num_classes, None, None))
        return scores.ndim == len(wanted) and all(
            side in (None, given) for side, given in zip(wanted, scores.shape, strict=True)
        )

    def describe_output(self) -> str:
        """Return in words what the head gives for an image, in the plural."""
        words: Mapping[Head, str] = {
            "classification": f"rows of {self.num_classes} scores",
            "detection": f"tables of {1 + self.num_classes + 4} predictions per anchor",
        }
        return words.get(self.head, f"maps of {self.num_classes} channels")

    def check_transfer(self, head: Spec | None, network: str) -> None:
        """Refuse an inherited head."""
        if head is not None:
            raise UserError(f"--head is for tickets of a supernet; the head of {self} is fresh, leave --head out")

    def join_head(self, head: Spec | None, target: TransferTarget) -> Callable[..., Spec]:
        """Return what makes this network with a fresh head, if the target needs another kind."""
        if self.head == target.head:
            return partial(dataclasses.replace, self)
        chosen = {name: value for name, value in target.settings.items() if name in HEAD_SETTINGS}
        return partial(dataclasses.replace, self, head=target.head, **chosen)


def _make_pool(spec: HeadedSpec, maps: Sequence[FeatureMap], dropout: float) -> Parts:
    return GlobalPool(dropout), nn.Linear(maps[-1].channels, spec.num_classes)


def _make_ssdlite(spec: HeadedSpec, maps: Sequence[FeatureMap], dropout: float) -> Parts:
    head = FurtherMaps(maps, spec.head_width)
    return head, BoxPredictor(head.channels, spec.num_classes)


def _make_fpn(spec: HeadedSpec, maps: Sequence[FeatureMap], dropout: float) -> Parts:
    head = FPN(maps, spec.head_width, spec.map_stride, dropout)
    return initialise_head(head, nn.Conv2d(spec.head_width, spec.num_classes, 1))


def _make_lraspp(spec: HeadedSpec, maps: Sequence[FeatureMap], dropout: float) -> Parts:
    head = LRASPP(maps, spec.head_width, spec.map_stride, dropout)
    fine = maps[first_at(maps, spec.map_stride)].channels
    return initialise_head(head, SummedClassifier(fine, spec.head_width, spec.num_classes))


_Make = Callable[[HeadedSpec, Sequence[FeatureMap], float], Parts]
_BY_HEAD: Mapping[Head, _Make] = {"classification": _make_pool, "detection": _make_ssdlite}
_BY_NECK: Mapping[str, _Make] = {"fpn": _make_fpn, "lraspp": _make_lraspp}  # of all other heads
