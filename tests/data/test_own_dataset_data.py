"""A user's own dataset by name: splits, kinds of images and targets, what is kept, and refusals in one line."""

from __future__ import annotations

import dataclasses
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from supertickets import UserError
from supertickets.config.recipe import AugmentSettings, DataSettings
from supertickets.data import Batches, InMemoryImages, Splits, load_splits
from supertickets.data.own_dataset import OwnImages
from supertickets.data.samples import AugmentContext
from supertickets.data.segmentation import SegmentationDataset


class Squares:
    """Grey squares of 12 x 10 pixels, in three classes by their grey level; split by split."""

    classes: Any = ("dark", "grey", "light")
    counts: ClassVar = {"train": 30, "val": 9, "test": 12}
    size = (10, 12)

    def __init__(self, folder: Path | None, split: str) -> None:
        self.folder, self.split = folder, split
        self.count = self.counts.get(split, 0)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> Any:
        seed = {"train": 0, "val": 1, "test": 2}[self.split]
        random = np.random.default_rng((seed, position))
        label = position % 3
        return (random.integers(0, 40, self.size) + 80 * label).astype(np.uint8), label


class Photos(Squares):
    """Images in colour, of different sizes."""

    def __getitem__(self, position: int) -> Any:
        grey, label = super().__getitem__(position)
        return Image.fromarray(np.stack([grey] * 3, -1)).resize((16 + position % 5, 20)), label


class Scenes(Squares):
    """Images in colour with a mask of two classes; the lowest row is ignored."""

    task = "segmentation"
    classes = ("left", "right")

    def __getitem__(self, position: int) -> Any:
        mask = np.zeros((24, 32), np.uint8)
        mask[:, 16:] = 1
        mask[-1] = 255
        return np.stack([mask * 100 + position] * 3, -1).astype(np.uint8), mask


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that loads a class as if it were in a module ``mine``."""

    def splits_of(kind: type, task: str | None = None, **settings: Any) -> Splits:
        module = types.ModuleType("mine")
        module.Data = kind  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "mine", module)
        return load_splits(DataSettings(source="mine:Data", **settings), task)

    return splits_of


def changed(kind: type, **attributes: Any) -> type:
    return type("Data", (kind,), attributes)


def scenes(**attributes: Any) -> type:
    return changed(Scenes, **attributes)


def without_test(folder: Path | None, split: str) -> Squares | None:
    return None if split == "test" else Squares(folder, split)


def train_alone(folder: Path | None, split: str) -> Squares:
    if split != "train":
        raise ValueError("train alone")
    return Squares(folder, split)


def test_given_splits_stay_as_they_are(load: Any) -> None:
    splits = load(Squares)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [30, 9, 12]
    assert isinstance(splits.train, InMemoryImages)
    pixels, label = Squares(None, "val")[4]
    assert (splits.validation.images[4, 0].numpy() == pixels).all()
    assert splits.validation.labels[4] == label
    assert splits.classes == ("dark", "grey", "light")
    assert (splits.preprocessing.channels, splits.preprocessing.size) == (1, (10, 12))


def test_of_train_and_val_the_second_is_the_test_split(load: Any) -> None:
    splits = load(without_test, validation=0.2)
    # A fifth of each of three classes with ten images: two.
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [24, 6, 9]
    assert torch.equal(splits.test.images, load(Squares).validation.images)


def test_without_other_splits_shares_are_held_out(load: Any) -> None:
    splits = load(train_alone, validation=0.2, test=0.2)
    # Two of ten of each class, then a fifth of the eight that are left: round(1.6) = 2.
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [18, 6, 6]
    assert any("no val split (ValueError: train alone)" in note for note in splits.notes)
    other = load(train_alone, validation=0.2, test=0.2, split_seed=1)
    assert not torch.equal(splits.test.images, other.test.images)


def test_the_folder_of_the_settings_reaches_the_class(load: Any, tmp_path: Path) -> None:
    seen = []
    (tmp_path / "file").touch()

    class Looking(Squares):
        def __init__(self, folder: Path | None, split: str) -> None:
            seen.append((folder, split))
            super().__init__(folder, split)

    load(Looking, dir=str(tmp_path))
    assert seen == [(tmp_path, "train"), (tmp_path, "val"), (tmp_path, "test")]
    with pytest.raises(UserError, match="does not exist"):
        load(Looking, dir=str(tmp_path / "gone"))


def test_images_of_one_size_are_resized_if_asked_for(load: Any) -> None:
    splits = load(Squares, size=16)
    assert splits.train.images.shape == (30, 1, 16, 16)


def test_images_of_many_sizes_are_kept_small_in_colour(load: Any) -> None:
    splits = load(Photos, size=16)
    assert isinstance(splits.train, OwnImages)
    assert splits.preprocessing.size == (16, 16)
    images, labels = splits.train.batch(np.arange(4), splits.preprocessing, None)
    assert images.shape == (4, 3, 16, 16)
    assert labels.tolist() == [0, 1, 2, 0]


def test_the_size_follows_the_shorter_side(load: Any) -> None:
    # Shorter sides are 16 to 20, a fifth each; the median 18 becomes a multiple of 8.
    assert load(Photos).preprocessing.size == (16, 16)


def test_images_that_are_not_kept_are_read_when_wanted_and_are_the_same(load: Any) -> None:
    asked: list[int] = []

    def read(self: Any, position: int) -> Any:
        asked.append(position)
        return Photos.__getitem__(self, position)

    targets = property(lambda self: [i % 3 for i in range(len(self))])
    kept = load(Photos, size=16)
    lazy = load(changed(Photos, __getitem__=read, targets=targets), size=16, keep_gb=0)
    looked_at = len(asked)
    assert looked_at == 60  # 30 for sizes, 30 for the normalisation; labels come from targets
    first, second = (s.train.batch(np.array([3, 7]), kept.preprocessing, None)[0] for s in (kept, lazy))
    assert torch.equal(first, second)
    assert asked[looked_at:] == [3, 7]
    assert lazy.digest() == kept.digest()


def test_augmentation_and_batches_are_ours(load: Any) -> None:
    splits = load(Photos, size=16)
    settings = DataSettings(source="mine:Data", batch=8)
    context = AugmentSettings(crop=0.5, flip=True)
    first, again = (list(Batches(splits, settings, context, 0).train(0)) for _ in range(2))
    assert len(first) == 3
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    plain, _ = splits.train.batch(np.arange(2), splits.preprocessing, None)
    cropped, _ = splits.train.batch(np.arange(2), splits.preprocessing, AugmentContext(context, 0, 0))
    assert not torch.equal(plain, cropped)


def test_scenes_go_through_the_dataset_of_segmentation(load: Any) -> None:
    splits = load(Scenes, "segmentation", size=(16, 24), shorter=24)
    assert isinstance(splits.train, SegmentationDataset)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [30, 9, 12]
    images, masks = splits.validation.batch(np.array([5]), splits.preprocessing, None)
    assert images.shape == (1, 3, 24, 32)
    assert (masks[0].numpy() == Scenes(None, "val")[5][1]).all()
    lazy = load(Scenes, "segmentation", size=(16, 24), shorter=24, keep_gb=0)
    same, _ = lazy.validation.batch(np.array([5]), splits.preprocessing, None)
    assert torch.equal(images, same)
    crops, targets = lazy.train.batch(np.arange(2), splits.preprocessing, AugmentContext(AugmentSettings(), 0, 0))
    assert crops.shape == (2, 3, 16, 24)
    assert targets.shape == (2, 16, 24)


@pytest.mark.parametrize("settings", [{}, {"keep_gb": 0}])
def test_the_digest_differs_with_samples_classes_and_their_own_digest(load: Any, settings: dict[str, Any]) -> None:
    plain = load(Photos, size=16, **settings).digest()
    assert load(Photos, size=16, **settings).digest() == plain
    others = (
        {"counts": {**Squares.counts, "train": 27}},
        {"classes": ("dark", "grey", "bright")},
        {"digest": lambda self: "second edition"},
        {"__getitem__": lambda self, i: (Photos.__getitem__(self, i)[0], (i + 1) % 3)},
    )
    digests = {load(changed(Photos, **other), size=16, **settings).digest() for other in others}
    assert len(digests | {plain}) == 5


def test_the_digest_of_scenes_has_their_own_digest_in_it(load: Any) -> None:
    given = {"size": 16, "shorter": 24}
    edition = scenes(digest=lambda self: "second edition")
    assert load(edition, **given).digest() != load(Scenes, **given).digest() == load(Scenes, **given).digest()


def broken_at(*positions: int) -> Any:
    def read(self: Any, position: int) -> Any:
        if position in positions:
            raise OSError("no such image")
        return Photos.__getitem__(self, position)

    return read


@pytest.mark.parametrize("keep_gb", [2.0, 0.0])
def test_samples_that_cannot_be_read_are_left_out_or_refused(load: Any, keep_gb: float) -> None:
    kind = changed(Photos, __getitem__=broken_at(4))
    splits = load(kind, size=16, keep_gb=keep_gb)
    assert len(splits.train) == 29
    wanted = "sample 4 of mine:Data's train split cannot be read (OSError: no such image)"
    assert any(wanted in note for note in splits.notes)
    with pytest.raises(UserError) as error:
        load(kind, size=16, keep_gb=keep_gb, broken="refuse")
    assert wanted in str(error.value)


def test_a_class_whose_samples_all_fail_is_refused(load: Any) -> None:
    with pytest.raises(UserError, match="sample 0 of mine:Data's train split cannot be read"):
        load(changed(Photos, __getitem__=broken_at(*range(30))))


def returning(value: Any) -> Any:
    return lambda self, position: value


def fail(self: Any, folder: Path | None, split: str) -> None:
    raise KeyError("index.csv")


GREY = np.zeros((10, 12), np.uint8)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"classes": None}, "classes of mine:Data is None; give a list of two or more different names"),
        ({"classes": ("one",)}, "classes of mine:Data is ('one',)"),
        ({"classes": ("a", "a")}, "two or more different names"),
        ({"classes": (0, 1, 2)}, "two or more different names"),
        ({"counts": {}}, "mine:Data has no training samples"),
        ({"__init__": fail}, "mine:Data(None, 'train') fails (KeyError: 'index.csv')"),
        ({"__getitem__": returning(3)}, "sample 0 of mine:Data's train split is 3 (int); return a pair"),
        ({"__getitem__": returning(("x.png", 1))}, "is 'x.png' (str); return a PIL image, or uint8 (H, W)"),
        ({"__getitem__": returning((GREY / 255, 1))}, "an array of float64 and shape (10, 12); return a PIL image"),
        ({"__getitem__": returning((GREY[:0], 1))}, "an array of uint8 and shape (0, 12)"),
        ({"__getitem__": returning((GREY, "dark"))}, "split is 'dark' (str); return the index of a class"),
        ({"__getitem__": returning((GREY, 1.0))}, "is 1.0 (float); return the index"),
        ({"__getitem__": returning((GREY, 3))}, "split is 3, but there are 3 classes; return an index from 0 to 2"),
        ({"__getitem__": returning((GREY, -1))}, "split is -1, but there are 3 classes"),
        ({"task": "pose"}, "task of mine:Data is 'pose'; a dataset of your own is for classification or segmentation"),
    ],
)
def test_a_wrong_class_is_refused_in_one_line(load: Any, attributes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as error:
        load(changed(Squares, **attributes))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_targets_of_another_length_are_refused(load: Any) -> None:
    with pytest.raises(UserError, match="train split has 2 targets for 30 samples"):
        load(changed(Photos, targets=[0, 1]))


def test_classes_that_differ_between_splits_are_refused(load: Any) -> None:
    kinds = property(lambda self: ("a", "b", "c") if self.split == "train" else ("a", "b", "d"))
    with pytest.raises(UserError, match="differ between its train and val splits"):
        load(changed(Squares, classes=kinds))


def test_an_object_that_is_no_dataset_is_refused(load: Any) -> None:
    with pytest.raises(UserError, match="mine:Data has no __len__; a dataset class needs"):
        load(lambda folder, split: object())


PHOTO = np.zeros((24, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (1, "train split is 1 (int); return a mask of class indices, uint8 (H, W), 255 where no class counts"),
        (np.zeros((24, 32), np.int64), "is an array of int64 and shape (24, 32); return a mask"),
        (np.zeros((24, 30), np.uint8), "is 30 x 24 pixels, its image 32 x 24; return both in one size"),
        (np.full((24, 32), 7, np.uint8), "holds label 7 in 768 pixels; known are 0-1, 255"),
    ],
)
def test_a_wrong_mask_is_refused_in_one_line(load: Any, target: Any, words: str) -> None:
    with pytest.raises(UserError) as error:
        load(scenes(__getitem__=returning((PHOTO, target))), size=16)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_class_for_another_task_is_refused(load: Any) -> None:
    with pytest.raises(UserError, match="mine:Data is for segmentation, but task is classification"):
        load(Scenes, "classification", size=16)


def test_a_limit_is_drawn_from_the_class_too(load: Any) -> None:
    splits = load(Photos, size=16, limit=5)
    assert len(splits.train) == 5
    assert dataclasses.replace(splits.train).digest() == load(Photos, size=16, limit=5).train.digest()
