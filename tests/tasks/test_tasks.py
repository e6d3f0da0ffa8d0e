"""The answers that every task owes, by hand; and a user's own task, found by its name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import supertickets as st
from supertickets import UserError
from supertickets.config.data_sources import SOURCES
from supertickets.config.recipe import Recipe
from supertickets.config.task_settings import TASK_RULES
from supertickets.config.validation import check_task_settings
from supertickets.data import Preprocessing
from supertickets.tasks import (
    TASKS,
    Classification,
    Counting,
    Detection,
    Pose,
    Segmentation,
    Task,
    find_task,
    task_name_of_head,
)

NAMES = ("left_hand", "right_hand")


class Elsewhere(nn.Module):
    """Notes where its inputs are, and answers on the CPU."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape, self.shown_region = shape, [""]

    def forward(self, images: Tensor) -> Tensor:
        self.shown_region.append(images.device.type)
        return torch.rand(len(images), *self.shape)


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        (Classification(NAMES), (2,)),
        (Segmentation(NAMES), (2, 4, 4)),
        (Pose(NAMES), (2, 4, 4)),
        (Detection(NAMES), (36, 7)),
        (Counting(("density",)), (1, 4, 4)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_inputs_go_to_the_network(task: Task, shape: tuple[int, ...]) -> None:
    prepare = Preprocessing(3, (16, 16), (0.0,) * 3, (1.0,) * 3, "pad" if isinstance(task, Pose) else "stretch")
    for device in ("cpu", "meta"):
        network = Elsewhere(*shape)
        assert len(task.predict(network, prepare, Image.new("RGB", (20, 16)), device=device)) > 0
        assert set(network.shown_region[1:]) == {device}


CASES: list[tuple[Task, Any, dict[str, Any], list[str]]] = [
    (
        Classification(("cat", "dog")),
        [("dog", 0.75), ("cat", 0.25)],
        {"classes": [{"name": "dog", "probability": 0.75}, {"name": "cat", "probability": 0.25}]},
        ["dog 75.0%, cat 25.0%"],
    ),
    (
        Segmentation(("sky", "road")),
        np.array([[1, 1], [1, 0]], np.uint8),
        {"classes": [{"name": "road", "share": 0.75}, {"name": "sky", "share": 0.25}]},
        ["road 75.0%, sky 25.0%"],
    ),
    (
        Pose(("nose", "ear")),
        np.array([[[3, 4, 0.5], [7, 1, 0.125]]], np.float32),
        {
            "people": [
                {
                    "joints": [
                        {"name": "nose", "x": 3, "y": 4, "score": 0.5},
                        {"name": "ear", "x": 7, "y": 1, "score": 0.125},
                    ]
                }
            ]
        },
        ["nose (3, 4)"],
    ),
    (Pose(("nose",)), np.zeros((0, 1, 3), np.float32), {"people": []}, ["no people"]),
    (
        Detection(("cat", "dog")),
        [("dog", 0.5, (1.0, 2.0, 8.0, 9.0)), ("cat", 0.25, (0.0, 0.0, 4.0, 4.0))],
        {
            "objects": [
                {"name": "dog", "score": 0.5, "box": [1, 2, 8, 9]},
                {"name": "cat", "score": 0.25, "box": [0, 0, 4, 4]},
            ]
        },
        ["dog 50% at (1, 2), 8 x 9"],
    ),
    (Counting(("density",)), np.full((2, 2), 0.75, np.float32), {"count": 3.0}, ["3.0 counted"]),
]


@pytest.mark.parametrize(("task", "prediction", "description", "lines"), CASES)
def test_a_prediction_is_written_as_json_as_text_and_as_an_image(
    task: Task, prediction: Any, description: dict[str, Any], lines: list[str]
) -> None:
    answer = task.describe(prediction)
    assert answer == description == json.loads(json.dumps(answer))
    assert task.text_lines(description) == lines
    page = task.draw(Image.new("RGB", (20, 20), "white"), prediction)
    assert page.mode == "RGB"
    blank = len(prediction) == 0  # nobody is drawn
    assert (np.asarray(page) == 255).all() == blank


def test_the_table_of_tasks_agrees_with_the_rules_of_recipes() -> None:
    assert TASKS.keys() == TASK_RULES.keys()
    for name, task in TASKS.items():
        assert task.name == name
        assert task.rules is TASK_RULES[name]
        assert find_task(name) is task
        assert TASKS[task_name_of_head(task.head)].head == task.head  # two tasks may share a head


@pytest.mark.parametrize("name", [name for name, rules in TASK_RULES.items() if not rules.label_smoothing])
def test_label_smoothing_is_refused_by_tasks_that_do_not_learn_with_it(name: str) -> None:
    recipe = Recipe(task=name, label_smoothing=0.1)
    sources = {source.task: key for key, source in SOURCES.items()}
    recipe = replace(recipe, data=replace(recipe.data, source=sources[name], dir="x"))
    with pytest.raises(UserError, match=rf"^label_smoothing=0\.1 is not for {name}; set it to 0$"):
        check_task_settings(recipe, TASK_RULES[name])
    check_task_settings(replace(recipe, label_smoothing=0.0), TASK_RULES[name])


def test_label_smoothing_is_for_tasks_of_ones_own_whose_rules_say_so(own: str) -> None:
    recipe = Recipe(task=f"{own}:Mine", label_smoothing=0.1)
    check_task_settings(recipe, find_task(recipe.task).rules)  # those of classification, which it derives from
    with pytest.raises(UserError, match=r"label_smoothing=0\.1 is not for module_with_a_task:Mine; set it to 0"):
        check_task_settings(recipe, Task.rules)


def test_an_exported_file_holds_the_metadata_of_its_task() -> None:
    scores = torch.zeros(1, 36, 7)
    assert Classification(NAMES).export_metadata(scores) == {}
    assert Counting(("density",), 50.0).export_metadata(scores) == {"scale": 50.0}
    assert Pose(NAMES).export_metadata(scores) == {}
    assert Pose(NAMES, limbs=((0, 1),)).export_metadata(scores) == {"limbs": ((0, 1),)}
    assert np.shape(Detection(NAMES).export_metadata(scores)["anchors"]) == (36, 4)


OWN = """
from supertickets.tasks import Classification

class Mine(Classification):
    name = ""

class NoTask:
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with a task of a user."""
    (tmp_path / "module_with_a_task.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "module_with_a_task"


def test_a_task_of_ones_own_is_found_by_its_name(own: str) -> None:
    task = find_task(f"{own}:Mine").from_recipe(NAMES, {"label_smoothing": 0.1})
    assert (type(task).__name__, task.classes) == ("Mine", NAMES)


def test_names_of_no_task_are_refused_in_a_line(own: str) -> None:
    for name, words in (
        ("poses", "unknown task 'poses'; did you mean 'pose'?"),
        (f"{own}:NoTask", "is not a class of supertickets.tasks.Task"),
        (f"{own}:Missing", "cannot be imported"),
        ("no_such_module:Mine", "cannot be imported"),
    ):
        with pytest.raises(UserError) as error:
            find_task(name)
        assert words in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="unknown task 'poses'; did you mean 'pose'"):
        st.load_recipe("digits", ["--task", "poses"])
