"""Readers of data sets in the formats they are published in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..config.recipe import DataSettings
from .cifar import load_cifar
from .coco_detection import load_coco_detection
from .coco_keypoints import load_coco_keypoints
from .digits import load_digits
from .folders import load_folders
from .idx import load_idx
from .samples import Splits
from .segmentation import load_segmentation
from .shanghaitech import load_shanghaitech
from .splits import limit_samples
from .tiny_imagenet import load_tiny_imagenet

# Channels, height and width in pixels, and classes.
_PUBLISHED = {
    "digits": (1, (8, 8), 10),
    "idx": (1, (28, 28), 10),
    "cifar10": (3, (32, 32), 10),
    "cifar100": (3, (32, 32), 100),
    "tiny_imagenet": (3, (64, 64), 200),
    "cityscapes": (3, (512, 512), 19),
    "ade20k": (3, (512, 512), 150),
    "voc": (3, (512, 512), 21),
    "coco": (3, (256, 192), 17),
    "coco_boxes": (3, (320, 320), 80),
    "shanghaitech": (3, (256, 256), 1),
}

# By recipe: images, scenes, crowds, and of COCO persons with joints or images with boxes, that are published for
# training.
_PUBLISHED_SAMPLES = {
    "imagenet": 1_281_167,
    "tiny_imagenet": 100_000,
    "cityscapes": 2_975,
    "ade20k": 20_210,
    "coco": 149_813,
    "coco_boxes": 117_266,
    "shanghaitech_a": 300,
    "shanghaitech_b": 400,
}


def published_samples(recipe: str, settings: DataSettings) -> int | None:
    """Samples that a shipped recipe trains on, without looking at files: what validation leaves of those published.

    Args:
        recipe: Its name.
        settings: Reads ``validation`` and ``limit``.

    Returns:
        None where the recipe may be given any data.
    """
    published = _PUBLISHED_SAMPLES.get(recipe)
    if published is None:
        return None
    if recipe != "tiny_imagenet":  # which has a validation part of its own
        published -= round(published * settings.validation)
    return published if settings.limit is None else min(settings.limit, published)


def published_shape(settings: DataSettings) -> dict[str, Any]:
    """What a network takes and makes for a published data set, as settings of a spec, without looking at files.

    Of "folders" only the size is known: the one that is set, or the largest that is chosen.
    """
    found: dict[str, Any] = {"image_size": (64, 64)}
    if settings.source in _PUBLISHED:
        channels, (height, width), classes = _PUBLISHED[settings.source]
        found = {"in_channels": channels, "image_size": (height, width), "num_classes": classes}
    if settings.size is not None:
        size = settings.size
        found["image_size"] = (size, size) if isinstance(size, int) else size
    if settings.source == "masks" and settings.class_names:
        found["num_classes"] = len(set(range(len(settings.class_names))) - set(settings.ignore))
    return found


def load_splits(settings: DataSettings) -> Splits:
    """Reads the data set that the settings name.

    Raises:
        UserError: The folder or a file is missing or damaged, or a share or a limit is impossible.
    """
    readers: dict[str, Callable[[DataSettings], Splits]] = {
        "digits": load_digits,
        "idx": load_idx,
        "cifar10": load_cifar,
        "cifar100": load_cifar,
        "tiny_imagenet": load_tiny_imagenet,
        "folders": load_folders,
        "coco": load_coco_keypoints,
        "coco_boxes": load_coco_detection,
        "shanghaitech": load_shanghaitech,
        **dict.fromkeys(("cityscapes", "ade20k", "voc", "masks"), load_segmentation),
    }
    return limit_samples(readers[settings.source](settings), settings)
