"""Tasks: loss, metrics and predictions, one class each. `TASKS` is the table of those that recipes name."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import UserError, suggest
from ..models import Head
from ..plugins import is_plugin, load_plugin
from .base import Task
from .classification import Classification
from .counting import Counting
from .detection import Detection
from .metric import Metric
from .pose import Pose
from .segmentation import Segmentation

__all__ = [
    "TASKS",
    "Classification",
    "Counting",
    "Detection",
    "Metric",
    "Pose",
    "Segmentation",
    "Task",
    "find_task",
    "primary_metric",
    "task_name_of_head",
]

TASKS: dict[str, type[Task]] = {task.name: task for task in (Classification, Segmentation, Pose, Detection, Counting)}


def find_task(name: str) -> type[Task]:
    """Return the class of a task.

    Args:
        name: One of `TASKS`, or ``package.module:Name`` of a user's own subclass of `Task`, which is imported.

    Raises:
        UserError: There is no such task.
    """
    if name in TASKS:
        return TASKS[name]
    if not is_plugin(name):
        raise UserError(f"unknown task '{name}'{suggest(name, TASKS)}; or give package.module:Name of your own")
    task = load_plugin(name, "task")
    if not (isinstance(task, type) and issubclass(task, Task)):
        raise UserError(f"task {name} is not a class of supertickets.tasks.Task; derive it from that")
    return task


def task_name_of_head(head: Head) -> str:
    """Return the name of the task that networks with a head are usually for."""
    return next(name for name, task in TASKS.items() if task.head == head)


def primary_metric(names: Iterable[str]) -> Metric | None:
    """Return the figure among some scores, or their names, that is shown first; None if there is none.

    Where the task itself is known, ask it instead: this one knows no users' own.
    """
    known = set(names)
    return next((task.metric for task in TASKS.values() if task.metric.name in known), None)
