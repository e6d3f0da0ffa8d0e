"""Layouts of boxes: what Roboflow, CVAT, YOLO and converters write is read alike; other formats are refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from generate_objects import NAMES, market
from supertickets import UserError
from supertickets.config.recipe import DataSettings
from supertickets.data import Splits, load_splits
from supertickets.data.detection import DetectionDataset, load_detection

COUNTS = {"train": 6, "val": 3, "test": 2}


def read(root: Path, **more: Any) -> Splits:
    return load_detection(DataSettings(source="coco_boxes", dir=str(root), **{"size": 32, **more}))


def refusal(root: Path) -> str:
    with pytest.raises(UserError) as error:
        read(root)
    assert "\n" not in str(error.value)
    return str(error.value)


def boxes(splits: Splits) -> dict[str, list[list[float]]]:
    """Boxes by the name of their image, over all splits; in shares, to five digits."""
    parts = (splits.train, splits.validation, splits.test)
    samples = [one for part in parts if isinstance(part, DetectionDataset) for one in part.samples]
    return {one.image.name: np.round(one.boxes().astype(float), 5).tolist() for one in samples}


def annotations(root: Path, part: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "annotations" / f"instances_{part}.json").read_text())
    return content


def roboflow(root: Path, coco: Path, names: dict[str, str] | None = None) -> Path:
    """Write a market as Roboflow does: a JSON beside the images, and category 0 for the project."""
    for part, name in (names or {"train": "train", "val": "valid", "test": "test"}).items():
        shutil.copytree(coco / part, root / name)
        data = annotations(coco, part)
        for entry in data["categories"]:
            entry["supercategory"] = "fruits"
        data["categories"].insert(0, {"id": 0, "name": "fruits", "supercategory": "none"})
        (root / name / "_annotations.coco.json").write_text(json.dumps(data))
    return root


def yolo(root: Path, coco: Path, place: str = "{kind}/{part}", names: str | None = "data.yaml") -> Path:
    """Write a market as YOLO's text files."""
    for part in COUNTS:
        data = annotations(coco, part)
        label = {entry["id"]: NAMES.index(entry["name"]) for entry in data["categories"]}
        images, labels = (root / place.format(kind=kind, part=part) for kind in ("images", "labels"))
        labels.mkdir(parents=True, exist_ok=True)
        shutil.copytree(coco / part, images, dirs_exist_ok=True)
        for entry in data["images"]:
            own = [a for a in data["annotations"] if a["image_id"] == entry["id"]]
            lines = [yolo_line(label[a["category_id"]], a["bbox"], entry["width"], entry["height"]) for a in own]
            (labels / entry["file_name"]).with_suffix(".txt").write_text("\n".join(lines) + "\n")
    if names == "data.yaml":
        (root / names).write_text(f"train: ../train/images\nval: ../valid/images\nnc: 3\nnames: {list(NAMES)}\n")
    elif names:
        (root / names).write_text("\n".join(NAMES) + "\n")
    return root


def yolo_line(label: int, box: list[float], width: int, height: int) -> str:
    x, y, wide, high = box
    return f"{label} {(x + wide / 2) / width:.8f} {(y + high / 2) / height:.8f} {wide / width:.8f} {high / height:.8f}"


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return market(tmp_path_factory.mktemp("coco"), COUNTS)


@pytest.fixture
def copy(coco: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(coco, tmp_path / "copy"))


def test_roboflow_is_read_without_its_group(coco: Path, tmp_path: Path) -> None:
    splits = read(roboflow(tmp_path, coco))
    assert splits.classes == NAMES
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [6, 3, 2]
    assert boxes(splits) == boxes(read(coco))
    assert "fruits groups other categories and has no box; it is no class" in splits.notes


def test_a_group_with_boxes_is_a_class(coco: Path, tmp_path: Path) -> None:
    """Also if only the validation images show it; what has no box and groups nothing stays a class, and is said."""
    root = roboflow(tmp_path, coco)
    path = root / "valid" / "_annotations.coco.json"
    data = json.loads(path.read_text())
    data["annotations"][0]["category_id"] = 0
    path.write_text(json.dumps(data))
    splits = read(root)
    assert splits.classes == ("fruits", *NAMES)
    assert any("'fruits' never occurs in a training image" in note for note in splits.notes)


def move_images(root: Path, where: str) -> None:
    """Move the images of all parts to a folder with {part} in its name."""
    for part in COUNTS:
        target = root / where.format(part=part)
        target.mkdir(parents=True, exist_ok=True)
        for path in (root / part).iterdir():
            path.rename(target / path.name)
        (root / part).rmdir()


def rename_annotations(root: Path, name: str, split: Callable[[str], str] = str) -> None:
    for part in COUNTS:
        target = root / name.format(part=split(part))
        (root / "annotations" / f"instances_{part}.json").rename(target)


def cvat(root: Path) -> None:
    move_images(root, "images")
    rename_annotations(root, "annotations/instances_{part}.json", str.title)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "CVAT: one folder images": cvat,
    "CVAT: images/NAME": lambda root: move_images(root, "images/{part}"),
    "JSON of other names": lambda root: rename_annotations(root, "annotations/fruit_{part}.json"),
    "JSON in the folder itself": lambda root: rename_annotations(root, "{part}.json"),
    "beside images": lambda root: (move_images(root, "images"), rename_annotations(root, "{part}2026.json")),
}


@pytest.mark.parametrize("how", LAYOUTS)
def test_annotations_in_other_places(copy: Path, coco: Path, how: str) -> None:
    LAYOUTS[how](copy)
    splits = read(copy)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [6, 3, 2]
    assert boxes(splits) == boxes(read(coco))


@pytest.mark.parametrize("name", ["result.json", "annotations/instances_default.json", "train/_annotations.coco.json"])
def test_one_file_is_divided(coco: Path, tmp_path: Path, name: str) -> None:
    """As Label Studio's converter, CVAT and Roboflow write a set without splits."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    data = annotations(coco, "train")
    for entry in data["images"]:
        entry["file_name"] = f"images\\{entry['file_name']}" if name == "result.json" else entry["file_name"]
    path.write_text(json.dumps(data))
    images = path.parent if path.parent.name == "train" else tmp_path / "images"
    shutil.copytree(coco / "train", images, dirs_exist_ok=True)
    splits = read(tmp_path, test=0.2, validation=0.2)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [4, 1, 1]
    assert boxes(splits).items() <= boxes(read(coco)).items()


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("{kind}/{part}", "data.yaml"),
        ("{part}/{kind}", "data.yaml"),
        ("{part}/{kind}", "classes.txt"),
        ("{part}", "obj.names"),
    ],
)
def test_yolo_is_read_as_coco(coco: Path, tmp_path: Path, place: str, names: str) -> None:
    splits = read(yolo(tmp_path, coco, place, names))
    assert splits.classes == NAMES
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [6, 3, 2]
    assert boxes(splits) == boxes(read(coco))


def test_yolo_without_splits_is_divided(coco: Path, tmp_path: Path) -> None:
    splits = read(yolo(tmp_path, coco, "{kind}", "classes.txt"), test=0.3, validation=0.25)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [6, 2, 3]
    assert boxes(splits) == boxes(read(coco))


def test_folders_of_data_yaml_count_from_where_they_enter_the_set(coco: Path, tmp_path: Path) -> None:
    """Of paths of another machine the end is there; a split that is not there is said."""
    root = yolo(tmp_path, coco, "{kind}/{part}", None)
    for kind in ("images", "labels"):
        (root / kind / "train").rename(root / kind / "fold1")
        shutil.rmtree(root / kind / "test")
    (root / "data.yaml").write_text(
        "path: /home/me/fruits\ntrain: /home/me/fruits/images/fold1\nval: images/val\ntest: images/gone\n"
        f"names: {{0: {NAMES[0]}, 1: {NAMES[1]}, 2: {NAMES[2]}}}\n"
    )
    splits = read(root, validation=0.5)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [3, 3, 3]
    assert any("'images/gone' for test, which is no folder" in note for note in splits.notes)


def labels(root: Path, text: str, name: str = "000000000001") -> Path:
    """Change the labels of an image; "*" for all training images."""
    for path in (root / "labels" / "train").glob(f"{name}.txt"):
        path.write_text(text)
    return root


def test_names_in_yaml_stay_as_they_are_written(coco: Path, tmp_path: Path) -> None:
    root = yolo(tmp_path, coco, names=None)
    (root / "data.yaml").write_text("names: [no, 010, on]\n")
    assert read(root).classes == ("no", "010", "on")


def test_outlines_become_their_surrounding_boxes(coco: Path, tmp_path: Path) -> None:
    splits = read(labels(yolo(tmp_path, coco), "1 0.2 0.3 0.6 0.3 0.4 0.9\n0 0.1 0.1 0.3 0.1 0.3 0.2 0.1 0.2\n"))
    assert boxes(splits)["000000000001.png"] == [[1, 0.2, 0.3, 0.6, 0.9], [0, 0.1, 0.1, 0.3, 0.2]]
    assert any("2 of " in note and "are outlines; their surrounding boxes are taken" in note for note in splits.notes)


@pytest.mark.parametrize(("each", "joints"), [(2, "0.1 0.1 0.9 0.9"), (3, "0.1 0.1 2 0.9 0.9 1")])
def test_poses_have_boxes_in_front_of_their_joints(coco: Path, tmp_path: Path, each: int, joints: str) -> None:
    """Two joints of two numbers make as many as an outline has."""
    root = labels(yolo(tmp_path, coco), f"0 0.5 0.4 0.2 0.3 {joints}\n", "*")
    with (root / "data.yaml").open("a") as file:
        file.write(f"\nkpt_shape: [2, {each}]\n")
    splits = read(root)
    assert boxes(splits)["000000000001.png"] == [[0, 0.4, 0.25, 0.6, 0.55]]
    assert not any("outlines" in note for note in splits.notes)
    labels(root, f"0 0.5 0.4 0.2 0.3 {joints} 0.5\n")
    assert f"with its joints an object has {5 + 2 * each}" in refusal(root)


def test_nothing_of_yolo_is_left_out_in_silence(coco: Path, tmp_path: Path) -> None:
    root = labels(yolo(tmp_path, coco), "0 0.5 0.5 0 0.2\n0 0.5 0.5 0.2 0.2\n")
    (root / "labels" / "train" / "000000000002.txt").unlink()
    (root / "labels" / "train" / "other.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "images" / "train" / "x.heic").write_bytes(b"x")
    notes = "\n".join(read(root).notes)
    assert "1 of 9 boxes" in notes or "boxes of" in notes
    assert "have no area; they are left out" in notes
    assert "1 image without labels, taken for empty: 000000000002.png" in notes
    assert "1 file without an image, left out: other.txt" in notes
    assert ".heic" in notes


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("0 0.5 0.5 0.2", "line 1 of"),
        ("0 0.5 0.5 0.2 0.2\n\n0 0.5 0.5 0.2 0.2 0.9", "has 6 numbers"),
        ("3 0.5 0.5 0.2 0.2", "has class 3; there are 3 names, numbered from 0"),
        ("-1 0.5 0.5 0.2 0.2", "has class -1"),
        ("0.5 0.5 0.5 0.2 0.2", "has class 0.5"),
        ("0 nan 0.5 0.2 0.2", "something other than finite numbers"),
        ("apple 0.5 0.5 0.2 0.2", "something other than finite numbers"),
        ("0 40 30 20 10", "not in shares of the image"),
        ("0 0.6 0.6 0.95 0.95", "as if they were x1, y1, x2, y2"),
    ],
)
def test_labels_that_are_none_are_refused(coco: Path, tmp_path: Path, text: str, named: str) -> None:
    assert named in refusal(labels(yolo(tmp_path, coco), text, "*"))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("names: [a, b]\nnc: 3\n", "nc of"),
        ("names: [a, a, b]\n", "list of different names"),
        ("names: {1: a, 2: b, 3: c}\n", "need the numbers 0 to 2"),
        ("names: 3\n", "list of different names"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(coco: Path, tmp_path: Path, text: str, named: str) -> None:
    root = yolo(tmp_path, coco)
    (root / "data.yaml").write_text(text)
    assert named in refusal(root)


def test_linked_folders_of_yolo_are_read(coco: Path, tmp_path: Path) -> None:
    away = yolo(tmp_path / "away", coco)
    root = tmp_path / "set"
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
        for part in COUNTS:
            (root / kind / part).symlink_to(away / kind / part)
    shutil.copy(away / "data.yaml", root)
    assert boxes(read(root)) == boxes(read(coco))


def test_folders_of_yolo_that_are_not_used_are_named(coco: Path, tmp_path: Path) -> None:
    root = yolo(tmp_path, coco, names="classes.txt")
    for name in ("extra", "train2"):
        shutil.copytree(root / "images" / "test", root / "images" / name)
    (root / "images").rename(root / "Images")
    (root / "labels").rename(root / "LABELS")
    splits = read(root)
    assert boxes(splits) == boxes(read(coco))
    notes = "\n".join(splits.notes)
    assert "extra is not used: its name is that of no split" in notes
    assert "train2 is not used: train is the train split" in notes


@pytest.mark.parametrize("orientation", [3, 6])
def test_boxes_of_yolo_are_those_of_upright_images(tmp_path: Path, orientation: int) -> None:
    """A box drawn on a photograph as a program shows it, however the camera was held."""
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / part).mkdir(parents=True)
        for i in range(4):
            image = Image.new("RGB", (80, 40))
            image.paste((0, 255, 0), (60, 0, 80, 10))
            exif = Image.Exif()
            exif[0x112] = orientation
            image.transpose(back).save(tmp_path / "images" / part / f"{i}.png", exif=exif)
            (tmp_path / "labels" / part / f"{i}.txt").write_text(yolo_line(0, [60, 0, 20, 10], 80, 40))
    (tmp_path / "classes.txt").write_text("leaf\n")
    test = read(tmp_path, validation=0.5).test
    assert isinstance(test, DetectionDataset)
    one, image = test.image(0)
    assert one.size == image.size == (80, 40)
    assert one.boxes()[0].tolist() == pytest.approx([0, 0.75, 0, 1, 0.25])
    assert image.getpixel((70, 5)) == (0, 255, 0)


def test_when_all_images_of_yolo_are_broken_the_first_reason_is_said(coco: Path, tmp_path: Path) -> None:
    root = yolo(tmp_path, coco)
    for path in (root / "images" / "train").iterdir():
        path.write_bytes(b"no image")
    assert "no image format is known for it" in refusal(root)


def test_names_are_asked_for(coco: Path, tmp_path: Path) -> None:
    assert "add data.yaml with a list of names, or classes.txt" in refusal(yolo(tmp_path, coco, names=None))


def labelme(root: Path) -> None:
    Image.new("RGB", (8, 8)).save(root / "a.jpg")
    shapes = [{"label": "a", "points": [[1, 1], [3, 3]], "shape_type": "rectangle"}]
    (root / "a.json").write_text(json.dumps({"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": "a.jpg"}))


def label_studio(root: Path) -> None:
    (root / "project-1.json").write_text(json.dumps([{"id": 1, "annotations": [], "data": {"image": "/a.jpg"}}]))


def pascal(root: Path) -> None:
    (root / "Annotations").mkdir()
    (root / "Annotations" / "a.xml").write_text("<annotation><object/></annotation>")


@pytest.mark.parametrize(
    ("write", "named"),
    [
        (labelme, "a.json is of labelme's format, which is not read; convert it with: labelme2coco "),
        (label_studio, "format, which is not read; convert it with: label-studio-converter export -i "),
        (pascal, "is of Pascal VOC's format, which is not read; convert it with: datum convert -i "),
        (
            lambda root: (root / "boxes.csv").write_text("a"),
            "is missing, or train/_annotations.coco.json; there is boxes.csv",
        ),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path: Path, write: Callable[[Path], object], named: str) -> None:
    write(tmp_path)
    assert named in refusal(tmp_path)


def test_no_command_converts_joints(tmp_path: Path) -> None:
    labelme(tmp_path)
    with pytest.raises(UserError, match="labelme's format, which is not read; give joints in COCO's format"):
        load_splits(DataSettings(source="coco", dir=str(tmp_path), size=(64, 48)))


def test_json_that_cannot_be_read_is_named(coco: Path, tmp_path: Path) -> None:
    """A link to nowhere is no reason to go on without a split."""
    shutil.copytree(coco / "train", tmp_path / "train")
    shutil.copy(coco / "annotations" / "instances_train.json", tmp_path / "train.json")
    (tmp_path / "val.json").symlink_to(tmp_path / "gone.json")
    assert "val.json cannot be read" in refusal(tmp_path)


def test_what_labelme2coco_writes_is_read(coco: Path, tmp_path: Path) -> None:
    """Its dataset.json lies beside labelme's files, and names images by their path from where it ran."""
    labelme(tmp_path)
    (tmp_path / "a.jpg").unlink()
    data = annotations(coco, "train")
    for entry in data["images"]:
        entry["file_name"] = f"photos/{entry['file_name']}"
    (tmp_path / "dataset.json").write_text(json.dumps(data))
    for path in (coco / "train").iterdir():
        shutil.copy(path, tmp_path)
    splits = read(tmp_path, test=0.2, validation=0.2)
    assert len(boxes(splits)) == 6
    assert any("6 of 6 images" in note and "found by their name" in note for note in splits.notes)
