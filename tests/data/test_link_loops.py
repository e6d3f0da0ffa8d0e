"""Links that lead to themselves, or to a folder around the data: no source hangs, leaves the data or reads it twice."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from generate_crowds import crowds
from generate_objects import market
from odd_data import ade, cifar, city, class_tree, noted, pairs, read, refusal, tiny_imagenet, total, voc, write_image
from supertickets import UserError
from supertickets.data.file_lists import list_images


def yolo(root: Path, parts: tuple[str, ...] = ("",)) -> Path:
    """Write six images of every part in YOLO's layout, by default without splits; names begin with their part."""
    for part in parts:
        (root / "labels" / part).mkdir(parents=True)
        for i in range(6):
            write_image(root / "images" / part / f"{part}{i}.png", i, (40, 40))
            (root / "labels" / part / f"{part}{i}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").write_text("names: [a]\n")
    return root


# What writes a data set, its source with its settings, the folder that a link is put in, and its number of samples.
SETS: dict[str, tuple[Callable[[Path], Path], tuple[str, dict[str, Any]], str, int]] = {
    "folders": (lambda root: class_tree(root, ["cat", "dog"]), ("folders", {}), "cat", 8),
    "splits": (lambda root: class_tree(root, ["train/a", "train/b", "test/a"]), ("folders", {}), "train/a", 12),
    "tiny_imagenet": (tiny_imagenet, ("tiny_imagenet", {}), "train", 12),
    "cityscapes": (city, ("cityscapes", {}), "leftImg8bit/train", 10),
    "ade20k": (ade, ("ade20k", {}), "images/training", 10),
    "voc": (voc, ("voc", {}), "JPEGImages", 10),
    "masks": (pairs, ("masks", {"class_names": ("a", "b")}), "images", 10),
    "coco_boxes": (
        lambda root: market(root, {"train2017": 4, "val2017": 4}),
        ("coco_boxes", {"size": 32}),
        "train2017",
        8,
    ),
    "yolo": (yolo, ("coco_boxes", {"size": 32}), "images", 6),
    "shanghaitech": (
        lambda root: crowds(root, {"train": 6, "test": 2}),
        ("shanghaitech", {"size": (32, 32)}),
        "train_data/images",
        8,
    ),
}


@pytest.fixture(params=SETS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, str, dict[str, Any], int]:
    """A data set: its folder, one inside, source, settings and number of samples."""
    write, (source, settings), inside, count = SETS[request.param]
    root = tmp_path / "set"
    write(root)
    return root, root / inside, source, settings, count


Case = tuple[Path, Path, str, dict[str, Any], int]


def test_a_link_to_itself_is_no_obstacle(case: Case) -> None:
    root, inside, source, settings, count = case
    for place in (root, inside):
        (place / "self").symlink_to(place / "self")
    assert total(read(source, root, **settings)) == count


@pytest.mark.parametrize("target", ["above", "/"])
def test_a_link_to_a_folder_around_it_is_refused_or_not_read(case: Case, target: str) -> None:
    """The files that are not listed are not looked at."""
    root, inside, source, settings, count = case
    link = inside / "up"
    link.symlink_to(root.parent if target == "above" else "/")
    if source == "coco_boxes" and inside.name == "train2017":
        assert total(read(source, root, **settings)) == count
    else:
        assert f"{link} is a link to" in refusal(source, root, **settings)
        assert "a folder that it is in; remove the link" in refusal(source, root, **settings)


def test_a_class_that_links_to_all_classes_is_refused(tmp_path: Path) -> None:
    root = class_tree(tmp_path / "set", ["cat", "dog"])
    (root / "again").symlink_to(root)
    assert "again is a link to" in refusal("folders", root)
    (root / "again").unlink()
    (root / "again").symlink_to(tmp_path)
    assert "again is a link to" in refusal("folders", root)


def test_a_link_out_and_back_is_refused(tmp_path: Path) -> None:
    """Elsewhere, a link leads up: it would be read as part of this set."""
    root, away = class_tree(tmp_path / "set", ["cat", "dog"]), class_tree(tmp_path / "away" / "photos", ["more"])
    (root / "cat" / "more").symlink_to(away / "more")
    assert total(read("folders", root)) == 12
    (away / "more" / "back").symlink_to(tmp_path / "away")
    assert "cat/more/back is a link to" in refusal("folders", root)


def test_links_that_loop_are_not_predicted(tmp_path: Path) -> None:
    class_tree(tmp_path, ["a"], 2)
    (tmp_path / "a" / "self.png").symlink_to(tmp_path / "a" / "self.png")
    assert len(list_images([tmp_path / "a"])) == 3  # and named as an image that cannot be read
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"a/up is a link to"):
        list_images([tmp_path / "a"])


@pytest.mark.parametrize("source", ["folders", "masks", "coco_boxes", "coco", "shanghaitech", "cifar10", "idx"])
def test_the_whole_file_system_is_no_data_set(source: str) -> None:
    assert "is the whole file system" in refusal(source, Path("/"))


def test_a_link_to_itself_beside_batches_is_no_obstacle(tmp_path: Path) -> None:
    (cifar(tmp_path / "a") / "self").symlink_to(tmp_path / "a" / "self")
    assert total(read("cifar10", tmp_path)) == 120


@pytest.mark.parametrize("place", ["/", ".", "../..", "~", "[images/train]", "train.txt", "x" * 5000, '"a\\0b"'])
def test_places_of_yolo_stay_inside_the_data(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = yolo(tmp_path / "set", ("train", "val"))
    (root / "data.yaml").write_text(f"path: /\ntrain: {place}\nval: images/val\nnames: [a]\n")
    read("coco_boxes", root, size=32)  # loads what is needed, which looks around
    scan, folders = os.scandir, list[str]()

    def watched(folder: Any = ".") -> Any:
        folders.append(str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", watched)
    splits = read("coco_boxes", root, size=32)
    assert folders
    assert all(folder.startswith(str(root)) for folder in folders)
    assert (len(splits.train) + len(splits.validation), len(splits.test)) == (6, 6)
    assert noted(splits, "for train, which is no folder of", "images/train is used") == (place != "~")


def test_a_folder_of_yolo_around_another_takes_its_images(tmp_path: Path) -> None:
    """``train: images`` with images/val inside: they are training images, and no test split too."""
    root = yolo(tmp_path / "set", ("train", "val"))
    (root / "data.yaml").write_text("train: images\nval: images\nnames: [a]\n")
    splits = read("coco_boxes", root, size=32)
    names = [one.image.name for part in (splits.train, splits.validation, splits.test) for one in part.samples]  # type: ignore[attr-defined]
    assert len(set(names)) == len(names) == 12
    (root / "data.yaml").write_text("train: images\nval: images/val\nnames: [a]\n")
    assert noted(read("coco_boxes", root, size=32), "6 images in more than one split, so scores will be too good")
