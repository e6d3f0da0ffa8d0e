"""Kinds of odd data in further sources, beside those in which people first had them."""

from __future__ import annotations

import json
import os
import struct
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from generate_crowds import crowds
from generate_objects import NAMES, market
from generate_people import crowd
from odd_data import ade, cifar, city, class_tree, labels, noted, pairs, read, refusal, total, voc, write_image
from supertickets import Ticket, UserError, load_recipe
from supertickets.data import Preprocessing
from supertickets.data.detection import DetectionDataset
from supertickets.data.person_boxes import read_boxes
from supertickets.models.factory import create_spec

# Names that YAML reads otherwise ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["[no, 010]", "[1.50, ~]", "[2020-01-01, on]"])
@pytest.mark.parametrize(("source", "write"), [("masks", pairs), ("voc", voc), ("idx", None)])
def test_names_on_the_command_line_are_texts_of_every_source(
    source: str, write: Any, words: str, tmp_path: Path, write_idx: Any
) -> None:
    if write is None:
        for name in ("train", "t10k"):
            write_idx(tmp_path / f"{name}-images-idx3-ubyte", np.zeros((12, 8, 8), np.uint8))
            write_idx(tmp_path / f"{name}-labels-idx1-ubyte", np.arange(12) % 2)
    else:
        write(tmp_path, (0, 1))
    names = load_recipe("digits", ["--data.class_names", words]).data.class_names
    assert read(source, tmp_path, class_names=names).classes == tuple(words.strip("[]").split(", "))


# Numbers beyond 9 ----------------------------------------------------------------------------------------------------

TWELVE = tuple(f"name{number}" for number in range(12))


@pytest.mark.parametrize(("source", "write", "first"), [("masks", pairs, 0), ("voc", voc, 0), ("ade20k", ade, 1)])
def test_name_n_is_that_of_label_n_beyond_9(source: str, write: Any, first: int, tmp_path: Path) -> None:
    write(tmp_path, (first, first + 2, first + 10))
    splits = read(source, tmp_path, class_names=TWELVE)
    assert splits.classes == TWELVE
    _, mask = splits.train.scene(0)  # type: ignore[attr-defined]
    assert set(np.unique(mask).tolist()) == {0, 2, 10}


def test_name_n_is_that_of_label_n_of_idx_and_cifar(tmp_path: Path, write_idx: Any) -> None:
    for name in ("train", "t10k"):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte", np.zeros((36, 8, 8), np.uint8))
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte", np.arange(36) % 12)
    assert read("idx", tmp_path, class_names=TWELVE).classes == TWELVE
    hundred = tuple(f"name{number}" for number in range(100))
    splits = read("cifar100", cifar(tmp_path / "cifar-100-python", "cifar100"), class_names=hundred)
    assert splits.classes == hundred


def test_names_of_yolo_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """A mapping that is sorted as texts: 10 and 11 stand in front of 2."""
    root = tmp_path / "yolo"
    for number in range(12):
        for part in ("train", "val"):
            write_image(root / "images" / part / f"{number}.png", number, (40, 40))
            place = root / "labels" / part / f"{number}.txt"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"{number} 0.5 0.5 0.25 0.25\n")
    entries = sorted(f"{number}: name{number}" for number in range(12))
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: {{{', '.join(entries)}}}\n")
    splits = read("coco_boxes", root, size=32)
    assert splits.classes == TWELVE
    assert isinstance(splits.train, DetectionDataset)
    assert all(int(one.image.stem) == int(one.boxes()[0, 0]) for one in splits.train.samples)


# Two sides -----------------------------------------------------------------------------------------------------------

SIDES = [("L_Wing", "R_Wing"), ("leftWing", "rightWing"), ("wing-left", "wing-right"), ("Wing_L", "Wing_R")]


@pytest.mark.parametrize(("left", "right"), SIDES)
@pytest.mark.parametrize("layout", ["COCO", "YOLO"])
def test_classes_of_two_sides_swap_in_mirrored_images(layout: str, left: str, right: str, tmp_path: Path) -> None:
    names = (left, "body", right)
    if layout == "COCO":
        root = market(tmp_path / "boxes", {"train2017": 4, "val2017": 2})
        for path in (root / "annotations").iterdir():
            data = json.loads(path.read_text())
            for entry in data["categories"]:
                entry["name"] = names[NAMES.index(entry["name"])]
            path.write_text(json.dumps(data))
    else:
        root = tmp_path / "yolo"
        for number in range(6):
            write_image(root / "images" / f"{number}.png", number, (40, 40))
            (root / "labels").mkdir(exist_ok=True)
            (root / "labels" / f"{number}.txt").write_text(f"{number % 3} 0.5 0.5 0.25 0.25\n")
        (root / "data.yaml").write_text(f"names: {list(names)}\n")
    splits = read("coco_boxes", root, size=32)
    assert splits.classes == names
    assert splits.train.mirrored == (2, 1, 0)  # type: ignore[attr-defined]
    assert noted(splits, "mirror", left, right)


# Other endings, nothing readable, and one image ---------------------------------------------------------------------


def test_images_and_masks_with_rarer_endings_are_pairs(tmp_path: Path) -> None:
    for i in range(10):
        write_image(tmp_path / "images" / f"{i}.jpg", i).rename(tmp_path / "images" / f"{i}.jfif")
        labels(tmp_path / "masks" / f"{i}.png", (0, 1))
    splits = read("masks", tmp_path, class_names=("a", "b"))
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == 10


@pytest.mark.parametrize(("head", "task"), [("segmentation", "segmentation"), ("density", "counting")])
def test_one_image_needs_no_list_whatever_the_task(head: Any, task: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    count = 1 if head == "density" else 3
    spec = create_spec("hrnet_tiny", head=head, num_classes=count, in_channels=3, image_size=(32, 32))
    how = Preprocessing(3, (32, 32), (0.5,) * 3, (0.5,) * 3)
    ticket = Ticket(spec, spec.build().state_dict(), {}, tuple("abc"[:count]), how, {"recipe": {"task": task}})
    path = write_image(tmp_path / "one.png", 0, (40, 32))
    (expected,) = ticket.predict([path])
    for one in (str(path), path, Image.open(path), np.asarray(Image.open(path))):
        np.testing.assert_allclose(ticket.predict(one), expected)


def test_numbered_folders_of_a_given_split_are_in_natural_order(tmp_path: Path) -> None:
    for part in ("train", "test"):
        class_tree(tmp_path / part, [str(number) for number in range(12)])
    splits = read("folders", tmp_path, class_names=TWELVE)
    for part in (splits.train, splits.test):
        named = {path.parent.name: TWELVE[int(label)] for path, label in zip(part.paths, part.labels, strict=True)}  # type: ignore[attr-defined]
        assert named == {str(number): f"name{number}" for number in range(12)}


# Boxes for predictions -----------------------------------------------------------------------------------------------


def boxes_of(folder: Path, names: list[str], **changes: Any) -> Path:
    """Write annotations of a person in each of some images; all annotations are changed."""
    person = {"category_id": 1, "bbox": [30, 5, 20, 20], "keypoints": [40, 9, 2]}
    data = {
        "images": [{"id": i, "file_name": name, "width": 60, "height": 40} for i, name in enumerate(names)],
        "annotations": [{"id": i, "image_id": i, **person, **changes} for i in range(len(names))],
        "categories": [{"id": 1, "name": "person", "keypoints": ["tip"]}],
    }
    path = folder / "boxes.json"
    path.write_text(json.dumps(data))
    return path


def test_boxes_that_are_crowds_alone_are_refused_for_predictions(tmp_path: Path) -> None:
    path = boxes_of(tmp_path, ["1.png", "2.png"], iscrowd=1)
    with pytest.raises(UserError, match=r"all 2 boxes of .* are crowds \(iscrowd\); set iscrowd to 0"):
        read_boxes(path, [tmp_path / "1.png"])


def test_null_joints_are_no_obstacle_for_predictions(tmp_path: Path) -> None:
    path = boxes_of(tmp_path, ["1.png"], keypoints=None, num_keypoints=None)
    assert read_boxes(path, [tmp_path / "1.png"]).boxes == [[(30, 5, 20, 20)]]


@pytest.mark.parametrize(
    ("listed", "stored"),
    [
        (unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.png")),
        (unicodedata.normalize("NFD", "é.png"), unicodedata.normalize("NFC", "é.png")),
        ("café.png", os.fsdecode(b"caf\xe9.png")),
        ("images\\1.png", "1.png"),
    ],
)
def test_images_for_predictions_are_known_in_any_spelling(listed: str, stored: str, tmp_path: Path) -> None:
    path = boxes_of(tmp_path, [listed, "2.png"])
    assert read_boxes(path, [tmp_path / stored, tmp_path / "2.png"]).boxes == [[(30, 5, 20, 20)]] * 2


def test_boxes_of_no_area_are_said_in_predictions(tmp_path: Path) -> None:
    path = boxes_of(tmp_path, ["1.png", "2.png"])
    data = json.loads(path.read_text())
    data["annotations"][0]["bbox"] = [5, 5, -3, 4]
    path.write_text(json.dumps(data))
    with pytest.warns(UserWarning, match="1 of 2 boxes of .* have no area; they are left out"):
        assert read_boxes(path, [tmp_path / "1.png", tmp_path / "2.png"]).boxes == [[], [(30, 5, 20, 20)]]


def test_equal_ids_are_refused_for_predictions(tmp_path: Path) -> None:
    path = boxes_of(tmp_path, ["1.png", "2.png"])
    path.write_text(path.read_text().replace('"id": 1, "file_name"', '"id": 0, "file_name"'))
    with pytest.raises(UserError, match=r"several images the same id: 0 \(1.png and 2.png\)"):
        read_boxes(path, [tmp_path / "1.png"])


# Names instead of ids, nothing that counts, odd EXIF data, memory -----------------------------------------------------


def yolo(root: Path, line: str = "0 0.5 0.5 0.25 0.25", **save: Any) -> Path:
    """Write YOLO's layout without splits, an object per image."""
    (root / "labels").mkdir(parents=True)
    for i in range(8):
        write_image(root / "images" / f"{i}.jpg", i, (40, 40), **save)
        (root / "labels" / f"{i}.txt").write_text(f"{line}\n")
    (root / "data.yaml").write_text("names: [leaf]\n")
    return root


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    write_image(yolo(tmp_path / "yolo") / "images" / "0.png")
    assert "differ in their endings or Unicode spelling only" in refusal("coco_boxes", tmp_path / "yolo", size=32)
    write_image(crowds(tmp_path / "part", {"train": 6, "test": 2}) / "train_data" / "images" / "IMG_1.png")
    assert "differ in their endings or Unicode" in refusal("shanghaitech", tmp_path / "part", size=(32, 32))


@pytest.mark.parametrize("line", ["0 0.5 0.5 0 0.25", "0 0.5 0.5 0.25 0"])
def test_boxes_of_yolo_that_have_no_area_alone_are_refused(line: str, tmp_path: Path) -> None:
    text = refusal("coco_boxes", yolo(tmp_path / "yolo", line), size=32)
    assert "has no box inside an image: 8 of 8 have no area" in text


def test_odd_exif_data_of_points_joints_and_yolo_are_no_obstacle(tmp_path: Path) -> None:
    width = struct.pack("<HHIi", 0x100, 9, 1, -1)
    odd = b"Exif\0\0II" + struct.pack("<HIH", 42, 8, 1) + width + struct.pack("<I", 0)
    assert total(read("coco_boxes", yolo(tmp_path / "yolo", exif=odd), size=32)) == 8
    root = crowds(tmp_path / "part", {"train": 6, "test": 2})
    for path in sorted(root.glob("*/images/*")):
        Image.open(path).save(path, exif=odd)
    assert total(read("shanghaitech", root, size=(32, 32))) == 8
    root = crowd(tmp_path / "people", {"train2017": 6, "val2017": 4})
    for path in sorted(root.glob("*2017/*")):
        Image.open(path).save(path, exif=odd)
    assert len(read("coco", root, size=(64, 48)).test)


def test_keep_gb_counts_points_and_joints(tmp_path: Path) -> None:
    root = crowds(tmp_path / "part", {"train": 6, "test": 2})
    other = crowd(tmp_path / "people", {"train2017": 6, "val2017": 4})
    for keep_gb, kept in ((1e-5, False), (1.0, True)):
        for source, where, size in (("shanghaitech", root, (32, 32)), ("coco", other, (64, 48))):
            assert bool(read(source, where, size=size, keep_gb=keep_gb).train.kept) == kept  # type: ignore[attr-defined]


# Splits with labels, names in another case, empty names, files beside images -----------------------------------------


def test_a_test_split_in_the_layout_of_cityscapes_counts_where_classes_are_own(tmp_path: Path) -> None:
    """Cityscapes keeps the labels of its own test images back, nobody else does."""
    splits = read("cityscapes", city(tmp_path, (0, 1), splits=("train", "val", "test")), class_names=("a", "b"))
    assert (total(splits), len(splits.test)) == (15, 5)
    assert all("/test/" in str(path) for path in splits.test.images)  # type: ignore[attr-defined]
    assert not noted(splits, "keeps its test labels back")
    published = read("cityscapes", city(tmp_path / "b", splits=("train", "val", "test")))
    assert total(published) == 10
    assert noted(published, "keeps its test labels back")


@pytest.mark.parametrize("name", ["DATA.YAML", "Data.Yml", "CLASSES.TXT", "Obj.Names"])
def test_names_of_classes_are_read_from_files_in_any_case(name: str, tmp_path: Path) -> None:
    root = yolo(tmp_path / "yolo")
    (root / "data.yaml").unlink()
    (root / name).write_text("names: [leaf]\n" if "names" not in name.lower() and "y" in name.lower() else "leaf\n")
    assert read("coco_boxes", root, size=32).classes == ("leaf",)
    pairs(tmp_path / "masks")
    (tmp_path / "masks" / "Classes.TXT").write_text("floor\nwall\n")
    assert read("masks", tmp_path / "masks").classes == ("floor", "wall")


def test_boxes_of_a_detector_are_found_in_any_case(tmp_path: Path) -> None:
    root = crowd(tmp_path / "people", {"train2017": 6, "val2017": 4})
    truth = json.loads((root / "annotations" / "person_keypoints_val2017.json").read_text())["annotations"]
    detected = [{**{key: entry[key] for key in ("image_id", "category_id", "bbox")}, "score": 0.9} for entry in truth]
    (root / "Person_Detection_Results").mkdir()
    (root / "Person_Detection_Results" / "COCO_val2017.JSON").write_text(json.dumps(detected[:3]))
    assert len(read("coco", root, size=(64, 48), boxes="detected").test) == 3


@pytest.mark.parametrize("name", ["", " "])
def test_empty_names_of_classes_are_refused(name: str, tmp_path: Path) -> None:
    assert "is empty" in refusal("masks", pairs(tmp_path / "masks"), class_names=(name, "a"))
    assert "is empty" in refusal("folders", class_tree(tmp_path / "folders", ["x", "y"]), class_names=(name, "a"))
    root = yolo(tmp_path / "yolo")
    (root / "data.yaml").write_text(f"names: ['{name}']\n")
    assert "list of different names" in refusal("coco_boxes", root, size=32)
    root = crowd(tmp_path / "people", {"train2017": 6, "val2017": 4})
    for path in (root / "annotations").iterdir():
        data = json.loads(path.read_text())
        data["categories"][0]["keypoints"][0] = name
        path.write_text(json.dumps(data))
    assert "different names (texts)" in refusal("coco", root, size=(64, 48))
    root = market(tmp_path / "boxes", {"train2017": 4, "val2017": 4})
    for path in (root / "annotations").iterdir():
        data = json.loads(path.read_text())
        data["categories"][0]["name"] = name
        path.write_text(json.dumps(data))
    assert "different numbers and names (texts)" in refusal("coco_boxes", root, size=32)


def test_other_endings_beside_listed_images_are_counted(tmp_path: Path) -> None:
    root = market(tmp_path / "boxes", {"train2017": 4, "val2017": 4})
    other = crowd(tmp_path / "people", {"train2017": 6, "val2017": 4})
    for where in (root, other):
        (where / "train2017" / "x.heic").write_bytes(b"x")
        (where / "train2017" / "README.md").write_text("text")
    assert noted(read("coco_boxes", root, size=32), "1 file with other endings", "1 .heic")
    assert noted(read("coco", other, size=(64, 48)), "1 file with other endings", "1 .heic")
