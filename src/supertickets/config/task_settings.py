"""Settings of single tasks, typed, and the settings of a recipe that every task takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .ranges import NonNegativeFloat, PositiveFloat, PositiveInt


@dataclass(frozen=True, kw_only=True)
class TaskRules:
    """Settings of a recipe that a task takes; plain data, so that recipes are checked without PyTorch.

    Attributes:
        samples: Task whose data sources it learns from.
        augmentations: Fields of ``augment`` that fit its targets.
        distillation: Whether a teacher's answers can be learned: scores of classes.
        label_smoothing: Whether the loss takes ``label_smoothing``.
        boxes: Whether it looks at the boxes of people: ``data.boxes``, and boxes beside images.
    """

    samples: str = "classification"
    augmentations: frozenset[str] = frozenset()
    distillation: bool = False
    label_smoothing: bool = False
    boxes: bool = False


_OF_IMAGES = {"crop", "flip", "turn", "jitter", "randaugment", "mixup", "cutmix", "shift", "rotate", "scale"}
TASK_RULES: Mapping[str, TaskRules] = {
    "classification": TaskRules(
        samples="classification", augmentations=frozenset(_OF_IMAGES), distillation=True, label_smoothing=True
    ),
    "segmentation": TaskRules(
        samples="segmentation",
        augmentations=frozenset({"resize", "class_share", "photometric", "flip", "turn"}),
        distillation=True,
    ),
    "pose": TaskRules(
        samples="pose",
        augmentations=frozenset({"flip", "jitter", "rotate", "rotate_share", "scale", "half_body"}),
        boxes=True,
    ),
    "detection": TaskRules(samples="detection", augmentations=frozenset({"flip", "jitter", "scale"})),
    "counting": TaskRules(samples="counting", augmentations=frozenset({"resize", "photometric", "flip", "turn"})),
}


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings:
    """Settings of segmentation.

    Attributes:
        average: Divisor of the loss: "valid" pixels, or "all" of them, ignored ones too (the released code).
        window: Height and width of the windows in which an evaluated image goes through the network, each a third
            over the last; null for the whole image at once.
        balance: Power by which rare classes count for more in the loss: a pixel's weight is its class's share of the
            training pixels to the power of -balance, 1 on average. 0 treats all pixels alike (the paper), 1 all
            classes.
    """

    average: Literal["valid", "all"] = "valid"
    window: tuple[PositiveInt, PositiveInt] | None = None
    balance: NonNegativeFloat = 0.0


@dataclass(frozen=True, kw_only=True)
class PoseSettings:
    """Settings of pose estimation.

    Attributes:
        sigma: Deviation of the Gaussians that are learned, in cells of the network's maps.
        flip_test: Whether an evaluation takes the mean of the maps of an image and of its mirror image.
    """

    sigma: PositiveFloat = 2.0
    flip_test: bool = True


@dataclass(frozen=True, kw_only=True)
class CountingSettings:
    """Settings of counting.

    Attributes:
        scale: Factor of the maps: the network answers with points per cell, times this, so that its answers are
            around 1.
        count_weight: Weight of the squared error of a map's mean beside that of its cells. A small offset everywhere
            is little in each cell and much in their sum, which is the count.
    """

    scale: PositiveFloat = 100.0
    count_weight: NonNegativeFloat = 0.0
