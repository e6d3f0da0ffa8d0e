"""Data sources by name: every entry has its reader, what is published, and refusals by name."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from supertickets import UserError, load_recipe
from supertickets.config.data_sources import SOURCES
from supertickets.config.recipe import DataSettings
from supertickets.data.sources import load_splits, published_samples, published_shape


def refusal(settings: DataSettings, task: str | None = None) -> str:
    with pytest.raises(UserError) as error:
        load_splits(settings, task)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_has_its_loader(name: str) -> None:
    module, _, function = SOURCES[name].loader.partition(":")
    assert callable(getattr(importlib.import_module(f"supertickets.data.{module}"), function))


@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"digits", "numbers"}))
def test_every_source_but_the_embedded_ones_asks_for_its_folder(name: str) -> None:
    assert "--data DIR" in refusal(DataSettings(source=name, size=64))


def test_an_unknown_source_is_named_with_the_nearest() -> None:
    text = refusal(DataSettings(source="cifer10"))
    assert "unknown data.source 'cifer10'; did you mean 'cifar10'?" in text
    assert "package.module:Class" in text


@pytest.mark.parametrize("name", ["digits", "numbers"])
def test_what_is_embedded_takes_no_folder(name: str) -> None:
    with pytest.raises(UserError, match=rf"data\.dir \(--data\) is not for the {name}"):
        load_recipe(name, ["--data.dir", "photos"])


@pytest.mark.parametrize(("name", "task"), [("shanghaitech", "counting"), ("coco", "pose"), ("voc", "segmentation")])
def test_a_source_of_another_task_is_refused(name: str, task: str) -> None:
    with pytest.raises(UserError) as error:
        load_recipe("digits", ["--data.source", name])
    text = f"data.source {name} is for {task}, but task is classification; set task to {task}"
    assert text in str(error.value)


def test_a_class_that_cannot_be_imported_is_refused() -> None:
    assert "data.source no_such_module:Data cannot be imported" in refusal(DataSettings(source="no_such_module:Data"))


def test_published_samples_are_those_that_validation_and_a_limit_leave() -> None:
    cityscapes = DataSettings(source="cityscapes", validation=0.1)
    assert published_samples("cityscapes", cityscapes) == 2975 - 298  # 297.5 is rounded to the even number
    assert published_samples("tiny_imagenet", DataSettings(source="tiny_imagenet", validation=0.1)) == 100_000
    assert published_samples("tiny_imagenet", DataSettings(source="tiny_imagenet", limit=5000)) == 5000
    assert published_samples("images", DataSettings(source="folders")) is None
    assert published_samples("digits", DataSettings()) is None


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        (DataSettings(), {"in_channels": 1, "image_size": (8, 8), "num_classes": 10}),
        (DataSettings(source="coco", size=(128, 96)), {"in_channels": 3, "image_size": (128, 96), "num_classes": 17}),
        (DataSettings(source="folders"), {"image_size": (64, 64)}),
        (DataSettings(source="folders", size=224), {"image_size": (224, 224)}),
        (
            DataSettings(source="masks", class_names=("a", "b", "void"), ignore=(2, 255)),
            {"image_size": (64, 64), "num_classes": 2},
        ),
    ],
)
def test_published_shapes(settings: DataSettings, shape: dict[str, object]) -> None:
    assert published_shape(settings) == shape


def test_a_source_is_looked_up_without_pytorch() -> None:
    code = (
        "import sys; from supertickets.data import published_shape\n"
        "from supertickets.config.recipe import DataSettings\n"
        "published_shape(DataSettings(source='voc')); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
