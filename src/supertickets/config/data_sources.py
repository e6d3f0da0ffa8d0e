"""Data sources by name: one table, plain data, so that recipes are checked without PyTorch.

A new reader is a module of the room ``data`` and its entry in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import UserError, suggest
from .recipe import DataSettings


@dataclass(frozen=True, kw_only=True)
class Source:
    """A format that data sets are published in, and who reads it.

    Attributes:
        loader: ``module:function`` of the room ``data``; the function takes `DataSettings` and returns ``Splits``.
        task: Task that learns from it.
        shape: Channels, height and width in pixels, and number of classes, as published; None if they are any.
        samples: By shipped recipe, the number of images, scenes, crowds, and of COCO persons with joints or images with
            boxes, that are published for training.
        holds_out: Whether validation is held out from the published samples.
        takes_dir: Whether it is read from ``data.dir``.
        chooses_size: Whether the reader chooses ``data.size`` where none is given.
        named_by_settings: Whether ``data.class_names`` and ``data.ignore`` say what the classes are.
    """

    loader: str
    task: str = "classification"
    shape: tuple[int, tuple[int, int], int] | None = None
    samples: Mapping[str, int] = field(default_factory=dict)
    holds_out: bool = True
    takes_dir: bool = True
    chooses_size: bool = False
    named_by_settings: bool = False


_SEGMENTATION = "segmentation:load_segmentation"
SOURCES: Mapping[str, Source] = {
    "digits": Source(loader="digits:load_digits", shape=(1, (8, 8), 10), takes_dir=False),
    "numbers": Source(loader="digits:load_numbers", shape=(1, (16, 16), 100), takes_dir=False),
    "idx": Source(loader="idx:load_idx", shape=(1, (28, 28), 10)),
    "cifar10": Source(loader="cifar:load_cifar", shape=(3, (32, 32), 10)),
    "cifar100": Source(loader="cifar:load_cifar", shape=(3, (32, 32), 100)),
    "tiny_imagenet": Source(
        loader="tiny_imagenet:load_tiny_imagenet",
        shape=(3, (64, 64), 200),
        samples={"tiny_imagenet": 100_000},
        holds_out=False,
    ),
    "folders": Source(loader="folders:load_folders", samples={"imagenet": 1_281_167}, chooses_size=True),
    "cityscapes": Source(
        loader=_SEGMENTATION,
        task="segmentation",
        shape=(3, (512, 512), 19),
        samples={"cityscapes": 2_975},
        named_by_settings=True,
    ),
    "ade20k": Source(
        loader=_SEGMENTATION,
        task="segmentation",
        shape=(3, (512, 512), 150),
        samples={"ade20k": 20_210},
        named_by_settings=True,
    ),
    "voc": Source(loader=_SEGMENTATION, task="segmentation", shape=(3, (512, 512), 21), named_by_settings=True),
    "masks": Source(loader=_SEGMENTATION, task="segmentation", named_by_settings=True),
    "coco": Source(
        loader="coco_keypoints:load_coco_keypoints", task="pose", shape=(3, (256, 192), 17), samples={"coco": 149_813}
    ),
    "coco_boxes": Source(
        loader="detection:load_detection",
        task="detection",
        shape=(3, (320, 320), 80),
        samples={"coco_boxes": 117_266},
    ),
    "shanghaitech": Source(
        loader="shanghaitech:load_shanghaitech",
        task="counting",
        shape=(3, (256, 256), 1),
        samples={"shanghaitech_a": 300, "shanghaitech_b": 400},
    ),
}


def published_source(name: str) -> Source:
    """Return an entry of `SOURCES`.

    Raises:
        UserError: There is no such source.
    """
    if name not in SOURCES:
        raise UserError(
            f"unknown data.source '{name}'{suggest(name, SOURCES)} "
            "(a dataset class of your own is given as package.module:Class)"
        )
    return SOURCES[name]


def check_source(source: Source, settings: DataSettings, samples: str, task: str) -> None:
    """Check that a source fits a task and its settings; no file is looked at.

    Args:
        source: The source that ``settings.source`` names.
        settings: Reads ``source`` and ``dir``.
        samples: Task whose data sources the task learns from.
        task: Name of the task.

    Raises:
        UserError: It is for another task, or takes no folder.
    """
    if settings.dir is not None and not source.takes_dir:
        raise UserError(
            f"data.dir (--data) is not for the {settings.source}, which come with the package; for your own images: "
            "supertickets draw images --data DIR"
        )
    if samples != source.task:
        raise UserError(
            f"data.source {settings.source} is for {source.task}, but task is {task}; set task to {source.task}"
        )
