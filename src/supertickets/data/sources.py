"""Read the data set that settings name, and tell what is published of it.

Readers are imported when they read, so that looking a source up costs no PyTorch.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..config.data_sources import Source, check_source, published_source
from ..config.recipe import DataSettings
from ..config.task_settings import TASK_RULES, TaskRules
from ..errors import printable
from ..plugins import is_plugin, load_plugin

if TYPE_CHECKING:
    from .samples import Splits


def find_source(name: str) -> Source:
    """Return the source that ``data.source`` names.

    Args:
        name: A key of the table of sources, or a user's own class as ``package.module:Class``, which is imported.

    Raises:
        UserError: There is no such source, or no such class.
    """
    if not is_plugin(name):
        return published_source(name)
    task = getattr(load_plugin(name, "data.source"), "task", "classification")
    return Source(loader="own_dataset:load_own_dataset", task=str(task))


def load_splits(settings: DataSettings, task: str | None = None) -> Splits:
    """Read the data set that the settings name.

    Args:
        settings: The settings.
        task: Task that shall learn from a user's own dataset, which is only known now; None for any.

    Raises:
        UserError: A user's own dataset is for another task, the folder or a file is missing or damaged, or a share or a
            limit is impossible.
    """
    from .class_names import check_names_used
    from .preprocessing import override_preprocessing
    from .splits import limit_samples

    source = find_source(settings.source)
    if task is not None and is_plugin(settings.source):
        check_source(source, settings, _task_of_samples(task), task)
    module, _, function = source.loader.partition(":")
    splits: Splits = getattr(importlib.import_module(f".{module}", __package__), function)(settings)
    check_names_used(splits, settings)
    splits = replace(
        splits,
        preprocessing=override_preprocessing(splits.preprocessing, settings),
        notes=tuple(map(printable, splits.notes)),
    )
    return limit_samples(splits, settings)


def _task_of_samples(task: str) -> str:
    """Return the task whose data sources a task learns from; a user's own task is imported."""
    if task in TASK_RULES:
        return TASK_RULES[task].samples
    rules: TaskRules = getattr(load_plugin(task, "task"), "rules", TaskRules())
    return rules.samples


def published_samples(recipe: str, settings: DataSettings) -> int | None:
    """Return the number of samples that a shipped recipe trains on, without looking at files.

    That is what validation leaves of those published.

    Args:
        recipe: Its name.
        settings: Reads ``source``, ``validation`` and ``limit``.

    Returns:
        None where the recipe may be given any data.
    """
    source = find_source(settings.source)
    published = source.samples.get(recipe)
    if published is None:
        return None
    if source.holds_out:
        published -= round(published * settings.validation)
    return published if settings.limit is None else min(settings.limit, published)


def published_shape(settings: DataSettings) -> dict[str, Any]:
    """Return what a network takes and makes for a published data set, as settings of a spec, without looking at files.

    Where no shape is published only the size is known: the one that is set, or the largest that is chosen.
    """
    source = find_source(settings.source)
    shape: dict[str, Any] = {"image_size": (64, 64)}
    if source.shape is not None:
        channels, (height, width), classes = source.shape
        shape = {"in_channels": channels, "image_size": (height, width), "num_classes": classes}
    if settings.size is not None:
        size = settings.size
        shape["image_size"] = (size, size) if isinstance(size, int) else size
    if source.named_by_settings and settings.class_names:
        shape["num_classes"] = len(set(range(len(settings.class_names))) - set(settings.ignore))
    return shape
