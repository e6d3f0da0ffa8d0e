"""Annotations as people have them: each kind of oddity is read right or refused, by every reader that meets it."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from generate_crowds import crowds, write_mat
from odd_data import BACK
from supertickets import UserError
from supertickets.config.recipe import AugmentSettings, DataSettings
from supertickets.data import Splits, load_splits
from supertickets.data.coco_keypoints import PersonDataset, half_body
from supertickets.data.detection import DetectionDataset
from supertickets.data.person_boxes import read_boxes, read_detections
from supertickets.data.samples import AugmentContext
from supertickets.data.shanghaitech import CrowdDataset
from supertickets.tasks import Pose

Data = dict[str, Any]
Change = Callable[[Data], object]
KIND = {"coco": "person_keypoints", "coco_boxes": "instances"}
SIZE = {"coco": (64, 48), "coco_boxes": 64, "shanghaitech": (32, 32)}
BOTH = pytest.mark.parametrize("source", ["coco", "coco_boxes"])
WIDTH, HEIGHT = 60, 40


def annotations(count: int = 8) -> Data:
    """Annotations of a thing with a tip in every image."""
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(1, count + 1)],
        "categories": [{"id": 1, "name": "thing", "keypoints": ["tip"]}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [30, 5, 20, 20], "area": 400, "keypoints": [40, 9, 2]}
            for i in range(1, count + 1)
        ],
    }


def write(root: Path, source: str, change: Change | None = None, **save: Any) -> Path:
    """Write training and validation images; their annotations are changed first."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for part in ("train", "val"):
        data = annotations()
        if change is not None:
            change(data)
        (root / part).mkdir(exist_ok=True)
        for i in range(1, 9):
            Image.new("RGB", (WIDTH, HEIGHT), (i, i, i)).save(root / part / f"{i}.png", **save)
        (root / "annotations" / f"{KIND[source]}_{part}.json").write_text(json.dumps(data))
    return root


def read(root: Path, source: str, **more: Any) -> Splits:
    settings = {"size": SIZE[source], "validation": 0.25, **more}
    splits = load_splits(DataSettings(source=source, dir=str(root), **settings))
    assert len(splits.digest()) == 64
    return splits


def refusal(root: Path, source: str, **more: Any) -> str:
    with pytest.raises(UserError) as error:
        read(root, source, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


def each(key: str, value: Any) -> Change:
    """Return a change of all annotations."""
    return lambda data: [entry.update({key: value}) for entry in data["annotations"]]


def tips(splits: Splits) -> list[list[float]]:
    assert isinstance(splits.test, PersonDataset)
    return [person.joints[0].tolist() for person in splits.test.samples]


def corners(splits: Splits) -> list[list[float]]:
    """Boxes of the test images, as x1, y1, x2, y2 in pixels."""
    assert isinstance(splits.test, DetectionDataset)
    return [(box[1:] * [WIDTH, HEIGHT, WIDTH, HEIGHT]).tolist() for one in splits.test.samples for box in one.boxes()]


# Nobody who counts ---------------------------------------------------------------------------------------------------


@BOTH
def test_crowds_alone_are_refused(tmp_path: Path, source: str) -> None:
    assert "crowds (iscrowd)" in refusal(write(tmp_path, source, each("iscrowd", 1)), source)


@BOTH
@pytest.mark.parametrize("value", [0, None, "0", False])
def test_what_is_no_crowd_counts(tmp_path: Path, source: str, value: Any) -> None:
    assert len(read(write(tmp_path, source, each("iscrowd", value)), source).test) == 8


def test_unmarked_joints_alone_are_refused(tmp_path: Path) -> None:
    assert "nobody with a marked joint" in refusal(write(tmp_path, "coco", each("keypoints", [40, 9, 0])), "coco")


def test_images_without_points_alone_are_refused(tmp_path: Path) -> None:
    crowds(tmp_path, {"train": 4, "test": 2})
    for path in (tmp_path / "train_data" / "ground-truth").iterdir():
        write_mat(path, [])
    assert "no training image of" in refusal(tmp_path, "shanghaitech")


# Forms of boxes and joints -------------------------------------------------------------------------------------------

OTHER_FORMS = {
    "shares": ([0.5, 0.125, 0.33, 0.5], "as if in shares of it"),
    "corners": ([30, 5, 50, 25], "as if they were x1, y1, x2, y2"),
    "centres": ([45, 15, 24, 20], "as if they were x and y of the centre, width, height"),
    "rows first": ([5, 30, 20, 20], "as if they were y, x, height, width"),
}


@BOTH
@pytest.mark.parametrize("form", OTHER_FORMS)
def test_boxes_in_other_forms_are_refused(tmp_path: Path, source: str, form: str) -> None:
    box, named = OTHER_FORMS[form]

    def change(data: Data) -> None:
        for entry in data["annotations"]:
            entry.update(bbox=box, area=None)

    text = refusal(write(tmp_path, source, change), source)
    assert named in text
    assert "annotation 1" in text


@BOTH
def test_areas_show_that_boxes_are_corners(tmp_path: Path, source: str) -> None:
    """The box [5, 5, 25, 20] is inside the image both ways, but 300 is the area of its corners alone."""

    def change(data: Data) -> None:
        for entry in data["annotations"]:
            entry.update(bbox=[5, 5, 25, 20], area=300)

    assert "areas that they have as x1, y1, x2, y2" in refusal(write(tmp_path, source, change), source)


@BOTH
def test_boxes_that_may_be_corners_are_noted(tmp_path: Path, source: str) -> None:
    def change(data: Data) -> None:
        for entry in data["annotations"]:
            entry.update(bbox=[5, 5, 25, 20], area=None)

    assert any(
        "would also do as x1, y1, x2, y2" in note for note in read(write(tmp_path, source, change), source).notes
    )


@BOTH
def test_single_boxes_outside_are_cut_off_and_counted(tmp_path: Path, source: str) -> None:
    root = write(tmp_path, source, lambda data: data["annotations"][0].update(bbox=[30, 5, 90, 20]))
    splits = read(root, source)
    assert sum("1 of 8 boxes that reach outside their image; they are cut off" in note for note in splits.notes) == 2
    if source == "coco_boxes":
        assert corners(splits)[0] == pytest.approx([30, 5, 60, 25])


@BOTH
@pytest.mark.parametrize("box", [[30, 5, 0, 20], [30, 5, -20, 20], [70, 5, 20, 20]])
def test_boxes_of_no_area_are_named(tmp_path: Path, source: str, box: list[float]) -> None:
    notes = read(write(tmp_path, source, lambda data: data["annotations"][2].update(bbox=box)), source).notes
    assert sum("1 of 8" in note and "no area" in note and "annotation 3" in note for note in notes) == 2


def test_joints_in_shares_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path, "coco", each("keypoints", [0.5, 0.25, 2]))
    assert "joints in the first pixel of their image, as if in shares" in refusal(root, "coco")


def test_points_in_shares_are_refused(tmp_path: Path) -> None:
    crowds(tmp_path, {"train": 4, "test": 2})
    for path in (tmp_path / "train_data" / "ground-truth").iterdir():
        write_mat(path, [[0.25, 0.5], [0.75, 0.125]])
    assert "as if in shares of it" in refusal(tmp_path, "shanghaitech")


def test_points_that_are_rows_first_are_named(tmp_path: Path) -> None:
    crowds(tmp_path, {"train": 4, "test": 2}, height=40, width=200)
    write_mat(tmp_path / "train_data" / "ground-truth" / "GT_IMG_1.mat", [[5, 150], [9, 180]])
    assert any(
        "2 of 2 points outside" in n and "as if they were y, x" in n for n in read(tmp_path, "shanghaitech").notes
    )


def test_detections_in_other_forms_are_refused(tmp_path: Path) -> None:
    images = {1: (tmp_path / "1.png", (WIDTH, HEIGHT))}
    path = tmp_path / "boxes.json"
    for box, named in OTHER_FORMS.values():
        path.write_text(json.dumps([{"image_id": "1", "category_id": 1, "bbox": box, "score": 1}]))
        with pytest.raises(UserError, match=named):
            read_detections(path, images)


# Ids and names -------------------------------------------------------------------------------------------------------


def merge(data: Data) -> None:
    """Append another file of the same ids."""
    data["images"] += [{**entry, "file_name": f"b{entry['file_name']}"} for entry in data["images"]]
    data["annotations"] += [dict(entry) for entry in data["annotations"]]


@BOTH
def test_equal_ids_of_images_are_refused(tmp_path: Path, source: str) -> None:
    text = refusal(write(tmp_path, source, merge), source)
    assert "gives several images the same id: 1 (1.png and b1.png), 2 (2.png and b2.png)" in text


@BOTH
def test_a_file_that_is_listed_twice_is_refused(tmp_path: Path, source: str) -> None:
    root = write(tmp_path, source, lambda data: data["images"].append({**data["images"][0], "id": 99}))
    assert "lists files twice: 1.png (images 1 and 99)" in refusal(root, source)


@BOTH
def test_ids_may_be_texts(tmp_path: Path, source: str) -> None:
    def change(data: Data) -> None:
        for entry in data["images"]:
            entry["id"] = str(entry["id"])
        for entry in data["annotations"][::2]:
            entry.update(image_id=f"{entry['image_id']}", category_id="1")
        for entry in data["annotations"][1::2]:
            entry.update(image_id=float(entry["image_id"]))

    whole, texts = (read(write(tmp_path / n, source, how), source) for n, how in (("a", None), ("b", change)))
    assert whole.digest() == texts.digest()


@BOTH
@pytest.mark.parametrize("value", [None, "", "1a", 1.5, True, [1], 10**30, "9" * 5000])
def test_ids_that_are_none_are_refused(tmp_path: Path, source: str, value: Any) -> None:
    text = refusal(write(tmp_path, source, lambda data: data["annotations"][0].update(image_id=value)), source)
    assert "annotates unknown images: image " in text
    assert len(text) < 500


@BOTH
@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_what_refers_to_nothing_is_refused(tmp_path: Path, source: str, key: str) -> None:
    root = write(tmp_path, source, lambda data: data["annotations"][0].update({key: 77}))
    assert f"annotates unknown {'images: image' if key == 'image_id' else 'categories: category'} 77" in refusal(
        root, source
    )


@BOTH
def test_annotations_need_no_ids_of_their_own(tmp_path: Path, source: str) -> None:
    """Equal, missing and zero ids change nothing, neither what is read nor a score."""

    def change(data: Data) -> None:
        for entry, value in zip(data["annotations"], (0, 0, 5, 5, None, "x", 7, 7), strict=True):
            entry["id"] = value

    whole, other = (read(write(tmp_path / n, source, how), source) for n, how in (("a", None), ("b", change)))
    assert whole.digest() == other.digest()
    if isinstance(other.test, PersonDataset):
        rows = np.array([[1, 0, 1, *person.joints.reshape(-1)] for person in other.test.samples], np.float64)
        import torch

        assert Pose(("tip",)).metrics(torch.from_numpy(rows), other.test)["ap"] == pytest.approx(100)


@BOTH
def test_categories_without_annotations_are_said(tmp_path: Path, source: str) -> None:
    def change(data: Data) -> None:
        data["categories"].append({"id": 2, "name": "other", "keypoints": None})

    splits = read(write(tmp_path, source, change), source)
    assert any("'other' never occurs" in note for note in splits.notes) == (source == "coco_boxes")


def test_annotations_of_other_categories_are_counted(tmp_path: Path) -> None:
    def change(data: Data) -> None:
        data["categories"].append({"id": 2, "name": "car"})
        data["annotations"].append({"id": 9, "image_id": 1, "category_id": 2, "bbox": [1, 1, 5, 5], "keypoints": None})

    notes = read(write(tmp_path, "coco", change), "coco").notes
    assert any("1 of 9 annotations" in note and "of other categories ('car')" in note for note in notes)


def rename(root: Path, old: str, new: str | bytes) -> None:
    for part in ("train", "val"):
        os.rename(os.fsencode(root / part / old), os.path.join(os.fsencode(root / part), os.fsencode(new)))


@BOTH
@pytest.mark.parametrize(
    ("listed", "stored"),
    [
        (unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.png")),
        (unicodedata.normalize("NFD", "é.png"), unicodedata.normalize("NFC", "é.png")),
        ("café.png", b"caf\xe9.png"),
        ("caf\udce9.png", b"caf\xe9.png"),
        (".\\1.png", "1.png"),
        ("elsewhere/1.png", "1.png"),
    ],
)
def test_two_spellings_of_a_file(tmp_path: Path, source: str, listed: str, stored: str | bytes) -> None:
    root = write(tmp_path, source, lambda data: data["images"][0].update(file_name=listed))
    rename(root, "1.png", stored)
    splits = read(root, source)
    assert len(splits.test) == 8
    images, _ = splits.test.batch(np.array([0]), splits.preprocessing, None)
    assert len(images) == 1


@BOTH
@pytest.mark.parametrize("name", ["gone.png", "a\0b.png", "x" * 5000, "\ud800.png"])
def test_files_that_are_not_there_are_refused(tmp_path: Path, source: str, name: str) -> None:
    root = write(tmp_path, source, lambda data: data["images"][0].update(file_name=name))
    assert "lacks 1 of 8 images" in refusal(root, source)


def test_equal_names_in_different_folders_stay_apart(tmp_path: Path) -> None:
    """Boxes for predictions: two images of one name are told by their folders."""
    images = [tmp_path / place / "1.png" for place in "ab"]
    data = annotations(2)
    data["images"] = [
        {**entry, "file_name": f"{place}/1.png"} for entry, place in zip(data["images"], "ba", strict=True)
    ]
    data["annotations"][1]["bbox"] = [1, 5, 20, 20]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(data))
    assert read_boxes(path, images).boxes == [[(1, 5, 20, 20)], [(30, 5, 20, 20)]]
    data["images"] = [{**data["images"][0], "file_name": "1.png"}]
    data["annotations"] = data["annotations"][:1]
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match="which may be"):
        read_boxes(path, images)


@BOTH
def test_images_that_are_not_listed_are_named(tmp_path: Path, source: str) -> None:
    root = write(tmp_path, source)
    Image.new("RGB", (8, 8)).save(root / "train" / "more.jpg")
    assert any("1 image that no annotations list, left out:" in note for note in read(root, source).notes)


@BOTH
def test_images_in_two_splits_are_noted(tmp_path: Path, source: str) -> None:
    root = write(tmp_path, source)
    (root / "train").rename(root / "images")
    for path in (root / "val").iterdir():
        path.unlink()
    (root / "val").rmdir()
    assert any("8 images in more than one split" in note for note in read(root, source).notes)


# Values --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "left"),
    [
        ({"keypoints": None, "num_keypoints": 0}, 7),
        ({"keypoints": None}, 7),
        ({"keypoints": [], "num_keypoints": None}, 7),
        ({"num_keypoints": "1", "area": None, "iscrowd": None}, 8),
    ],
)
def test_null_joints_are_nobodys(tmp_path: Path, entry: Data, left: int) -> None:
    splits = read(write(tmp_path, "coco", lambda data: data["annotations"][0].update(entry)), "coco")
    assert len(splits.test) == left
    named = [note for note in splits.notes if "no marked joint" in note]
    assert len(named) == 2 * (left < 8)
    assert all("annotation 1" in note for note in named)


@BOTH
@pytest.mark.parametrize("box", [None, [], [1, 2, 3], [None] * 4, ["1", "2", "3", "4"], [1, 2, 3, 10**400], {"x": 1}])
def test_boxes_that_are_no_numbers_are_refused(tmp_path: Path, source: str, box: Any) -> None:
    root = write(tmp_path, source, lambda data: data["annotations"][0].update(bbox=box))
    assert "bbox" in refusal(root, source)


@BOTH
@pytest.mark.parametrize("width", [None, "40", 0, -3, 1e300, float("inf"), float("nan"), 10**400, True])
def test_sizes_that_are_none_are_refused(tmp_path: Path, source: str, width: Any) -> None:
    root = write(tmp_path, source, lambda data: data["images"][0].update(width=width))
    assert "image 1 of" in refusal(root, source)


@pytest.mark.parametrize("score", [None, "high", float("nan"), [1, 2]])
def test_scores_that_are_no_numbers_are_refused(tmp_path: Path, score: Any) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": score}]))
    with pytest.raises(UserError, match="score"):
        read_boxes(path, [tmp_path / "1.jpg"])


def test_a_category_of_no_number_is_nobodys(tmp_path: Path) -> None:
    root = write(tmp_path, "coco", lambda data: data["categories"].append({"name": "car"}))
    assert len(read(root, "coco").test) == 8


# Joints outside, sides -----------------------------------------------------------------------------------------------


def test_joints_outside_agree_between_training_note_and_score(tmp_path: Path) -> None:
    """A joint outside is unmarked in training, named, and no part of the truth; who has no other is left out."""

    def change(data: Data) -> None:
        data["categories"][0]["keypoints"] = ["tip", "end"]
        for entry in data["annotations"]:
            entry["keypoints"] = [40, 9, 2, 35, 12, 2]
        data["annotations"][0]["keypoints"] = [40, 9, 2, 400, 12, 2]
        data["annotations"][1]["keypoints"] = [40, -90, 2, 400, 12, 2]

    splits = read(write(tmp_path, "coco", change), "coco")
    test = splits.test
    assert isinstance(test, PersonDataset)
    assert [(p.annotation_id, p.joints[:, 2].tolist()) for p in test.samples[:2]] == [(1, [2, 0]), (3, [2, 2])]
    truth = {entry["id"]: entry for entry in test.truth["annotations"]}
    assert (truth[1]["keypoints"], truth[1]["num_keypoints"]) == ([40, 9, 2, 0, 0, 0], 1)
    assert truth[2]["num_keypoints"] == 0  # neither missed nor wrong, whatever is found there
    assert any("outside the image by more than a pixel: annotation 1, annotation 2" in note for note in splits.notes)
    assert any("have no marked joint inside their image; they are left out: annotation 2" in n for n in splits.notes)
    import torch

    rows = np.array([[1, 0, 1, *person.joints.reshape(-1)] for person in test.samples], np.float64)
    assert Pose(("tip", "end")).metrics(torch.from_numpy(rows), test)["ap"] == pytest.approx(100)


def test_a_joint_that_is_marked_on_nobody_is_said(tmp_path: Path) -> None:
    def change(data: Data) -> None:
        data["categories"][0]["keypoints"] = ["tip", "end"]
        for entry in data["annotations"]:
            entry["keypoints"] = [40, 9, 2, 0, 0, 0]

    assert any(
        "nobody has end marked in training" in note for note in read(write(tmp_path, "coco", change), "coco").notes
    )


@pytest.mark.parametrize(("left", "right"), [("L_Eye", "R_Eye"), ("eyeLeft", "eyeRight"), ("leye", "reye")])
def test_a_mirrored_image_keeps_joints_on_their_side(tmp_path: Path, left: str, right: str) -> None:
    def change(data: Data) -> None:
        data["categories"][0]["keypoints"] = [left, right]
        for entry in data["annotations"]:
            entry["keypoints"] = [35, 9, 2, 45, 9, 2]

    splits = read(write(tmp_path, "coco", change), "coco")
    context = AugmentContext(AugmentSettings(flip=True), 0, 0)
    _, joints = splits.train.batch(np.arange(6), splits.preprocessing, context)
    assert (joints[:, 0, 0] < joints[:, 1, 0]).all()
    assert f"a mirrored image swaps {left} and {right}" in splits.notes


def test_a_mirrored_image_swaps_classes_of_two_sides(tmp_path: Path) -> None:
    """A left hand becomes a right one; a stop sign stays one."""

    def change(data: Data) -> None:
        data["categories"] = [{"id": i, "name": name} for i, name in enumerate(("LeftHand", "RightHand", "stop"), 1)]
        data["annotations"] += [
            {**entry, "category_id": 3, "bbox": [2, 5, 8, 8], "area": None} for entry in data["annotations"]
        ]

    splits = read(write(tmp_path, "coco_boxes", change), "coco_boxes")
    seen = set()
    for epoch in range(4):
        context = AugmentContext(AugmentSettings(flip=True), 0, epoch)
        _, boxes = splits.train.batch(np.arange(6), splits.preprocessing, context)
        for hand, stop in boxes.tolist():
            is_mirrored = hand[1] < stop[1]
            assert (hand[0], stop[0]) == (float(is_mirrored), 2)
            seen.add(is_mirrored)
    assert seen == {True, False}
    assert "a mirrored image swaps LeftHand and RightHand" in splits.notes


def test_a_class_of_one_side_is_noted(tmp_path: Path) -> None:
    root = write(tmp_path, "coco_boxes", lambda data: data["categories"][0].update(name="turn left"))
    assert any("turn left has no class with the other side" in note for note in read(root, "coco_boxes").notes)


def test_halves_of_bodies_are_found_in_any_case() -> None:
    joints = np.column_stack((np.arange(12.0), np.arange(12.0), np.full(12, 2)))
    names = tuple([f"L_Upper{i}" for i in range(6)] + [f"R_Knee{i}" for i in range(6)])
    assert half_body(joints, names, upper=False) == (6, 6, 6, 6)


# Images that EXIF data turn ------------------------------------------------------------------------------------------


def turned(root: Path, orientations: list[int]) -> None:
    """Give images of all parts an orientation; their pixels stay."""
    for part in ("train", "val"):
        for i, orientation in enumerate(orientations, 1):
            exif = Image.Exif()
            exif[0x112] = orientation
            path = root / part / f"{i}.png"
            with Image.open(path) as image:
                image.save(path, exif=exif)


@BOTH
@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_what_others_show_decides_on_images_upside_down(tmp_path: Path, source: str, orientation: int) -> None:
    """Images on their side fit their annotations as they are stored only: so are those upside down."""
    root = write(tmp_path / "stored", source)
    turned(root, [6] * 4 + [orientation] * 4)
    for part in ("train", "val"):
        image = Image.new("RGB", (WIDTH, HEIGHT))
        image.paste((255, 0, 0), (30, 5, 50, 25))
        exif = Image.Exif()
        exif[0x112] = orientation
        image.save(root / part / "8.png", exif=exif)
    splits = read(root, source)
    assert isinstance(splits.test, PersonDataset | DetectionDataset)
    _, seen = splits.test.image(7)
    assert seen.getpixel((40, 9)) == (255, 0, 0)
    assert any("EXIF" in note for note in splits.notes)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_follow_images_in_every_orientation(tmp_path: Path, orientation: int) -> None:
    """Points that only fit the upright image are those of upright images."""
    for part in ("train_data", "test_data"):
        for place in ("images", "ground-truth"):
            (tmp_path / part / place).mkdir(parents=True)
        for i in range(1, 5):
            upright = Image.new("RGB", (90, 40))
            upright.paste((255, 255, 255), (79, 9, 82, 12))
            way = 6 if i == 1 else orientation  # the first one shows how all are meant
            exif = Image.Exif()
            exif[0x112] = way
            stored = upright.transpose(BACK[way]) if way in BACK else upright
            stored.save(tmp_path / part / "images" / f"IMG_{i}.png", exif=exif)
            write_mat(tmp_path / part / "ground-truth" / f"GT_IMG_{i}.mat", [[80.5, 10.5], [70, 30]])
    splits = read(tmp_path, "shanghaitech")
    assert isinstance(splits.test, CrowdDataset)
    for i in range(4):
        one, image = splits.test.image(i)
        assert one.size == image.size == (90, 40)
        assert image.getpixel((80, 10)) == (255, 255, 255)
    assert any("EXIF" in note for note in splits.notes) == (orientation in (2, 3, 4))


# Files ---------------------------------------------------------------------------------------------------------------


def wrap(tmp_path: Path, inner: str) -> Path:
    """Return a folder inside another one, as archives have it, beside what a Mac leaves in them."""
    rubbish = tmp_path / "zip" / "__MACOSX" / inner
    for name in ("train", "annotations", "train_data/images", "labels"):
        (rubbish / name).mkdir(parents=True, exist_ok=True)
        (rubbish / name / "._1.txt").write_bytes(b"\0\5\x16\7")
    (tmp_path / "zip" / inner).mkdir(parents=True)
    return tmp_path / "zip" / inner


@BOTH
def test_archives_of_a_mac_are_read(tmp_path: Path, source: str) -> None:
    root = write(wrap(tmp_path, "things"), source)
    for place in ("train", "annotations"):
        (root / place / f"._{KIND[source]}_train.json").write_bytes(b"\0\5\x16\7")
    assert len(read(tmp_path / "zip", source).test) == 8


def test_archives_of_a_mac_with_points_are_read(tmp_path: Path) -> None:
    crowds(wrap(tmp_path, "part_A"), {"train": 4, "test": 2})
    assert len(read(tmp_path / "zip", "shanghaitech").test) == 2


def test_folders_and_files_of_points_in_another_case(tmp_path: Path) -> None:
    crowds(tmp_path, {"train": 4, "test": 2})
    for path in (tmp_path / "train_data" / "ground-truth").iterdir():
        path.rename(path.with_name(path.name.lower().replace(".mat", ".MAT")))
    (tmp_path / "train_data" / "ground-truth").rename(tmp_path / "train_data" / "Ground_Truth")
    (tmp_path / "train_data").rename(tmp_path / "Train")
    splits = read(tmp_path, "shanghaitech")
    assert len(splits.train) + len(splits.validation) == 4


def test_linked_folders_of_points_are_read(tmp_path: Path) -> None:
    crowds(tmp_path / "set", {"train": 4, "test": 2})
    crowds(tmp_path / "more", {"train": 3})
    for place in ("images", "ground-truth"):
        (tmp_path / "set" / "train_data" / place / "more").symlink_to(tmp_path / "more" / "train_data" / place)
        for path in (tmp_path / "more" / "train_data" / place).iterdir():
            path.rename(path.with_name(path.name.replace("IMG_", "IMG_9")))
    root = tmp_path / "set" / "train_data" / "ground-truth" / "more"
    assert len(list(root.iterdir())) == 3
    splits = read(tmp_path / "set", "shanghaitech")
    assert len(splits.train) + len(splits.validation) == 7


def test_other_endings_of_images_with_points_are_said(tmp_path: Path) -> None:
    crowds(tmp_path, {"train": 5, "test": 2})
    (tmp_path / "train_data" / "images" / "IMG_1.jpg").rename(tmp_path / "train_data" / "images" / "IMG_1.heic")
    notes = "\n".join(read(tmp_path, "shanghaitech").notes)
    assert ".heic" in notes
    assert "GT_IMG_1.mat" in notes


@BOTH
def test_when_all_images_are_broken_the_first_reason_is_said(tmp_path: Path, source: str) -> None:
    root = write(tmp_path, source)
    for part in ("train", "val"):
        for path in (root / part).iterdir():
            Image.new("RGB", (WIDTH + 1, HEIGHT)).save(path)
    assert "61 x 40 pixels, but its annotations are for 60 x 40" in refusal(root, source)
