"""Objects in boxes: what is read, boxes in register after every change, what is left out and what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from generate_objects import COLORS, NAMES, NUMBERS, image_with_boxes, market
from supertickets import UserError
from supertickets.config.recipe import AugmentSettings, DataSettings
from supertickets.data import Batches, Splits, load_splits
from supertickets.data.boxed_image import BoxedImage
from supertickets.data.coco_detection_json import read_objects
from supertickets.data.coco_files import AnnotationFile
from supertickets.data.detection import DetectionDataset, load_detection, pad_boxes, random_zoom
from supertickets.data.preprocessing import BrokenImage, Preprocessing
from supertickets.data.samples import AugmentContext

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
PLAIN = Preprocessing(3, (64, 64), (0.0,) * 3, (1.0,) * 3)
VARIED = AugmentSettings(flip=True, scale=0.5)
SAME = (0, 1, 2)  # no class has a mirror image
Data = dict[str, Any]


def read(root: Path, **more: Any) -> Splits:
    return load_detection(DataSettings(source="coco_boxes", dir=str(root), **{"size": 32, **more}))


def objects_of(part: Any) -> DetectionDataset:
    assert isinstance(part, DetectionDataset)
    return part


def change(root: Path, part: str, how: Callable[[Data], object]) -> Path:
    """Changes a part's annotations."""
    path = root / "annotations" / f"instances_{part}.json"
    data = json.loads(path.read_text())
    how(data)
    path.write_text(json.dumps(data))
    return path


def test_boxes_and_classes_are_those_of_the_file(tmp_path: Path) -> None:
    """Classes are in the order of the categories' numbers; boxes in shares of the image."""
    splits = read(market(tmp_path, {"train2017": 6, "val2017": 4, "test2017": 5}))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [6, 4, 5]
    assert splits.classes == NAMES
    assert (splits.preprocessing.size, splits.preprocessing.fit) == ((32, 32), "stretch")
    for seed, one in enumerate(objects_of(splits.train).samples, 1):
        drawn = np.array(image_with_boxes(seed)[1])
        corners = np.column_stack((drawn[:, 1:3], drawn[:, 1:3] + drawn[:, 3:])) / [96, 64, 96, 64]
        assert one.boxes() == pytest.approx(np.column_stack((drawn[:, 0], corners)), abs=1e-6)


def test_of_two_parts_the_second_is_the_test_split(tmp_path: Path) -> None:
    root = market(tmp_path, {"train": 10, "val": 4})
    splits = read(root, validation=0.3)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [7, 3, 4]
    assert not set(objects_of(splits.train).images) & set(objects_of(splits.validation).images)
    assert read(root, validation=0.3).digest() == splits.digest()
    assert read(root, validation=0.3, split_seed=1).digest() != splits.digest()
    assert len(load_splits(DataSettings(source="coco_boxes", dir=str(root), size=32, limit=3)).train) == 3


def test_crowds_and_empty_boxes_neither_train_nor_count(tmp_path: Path) -> None:
    root = market(tmp_path, {"train": 8, "val": 2, "test": 2})

    def more(data: Data) -> None:
        first = data["annotations"][0]
        crowd = {"id": 900, "iscrowd": 1, "bbox": [0, 0, 90, 60], "area": 800}
        flat = {"id": 901, "bbox": [96, 3, 9, 9], "area": 5}
        data["annotations"] += [
            first | crowd,
            first | flat,
            first | {"id": 902, "bbox": [-4, -4, 20, 400], "area": None},
        ]
        alone = [entry for entry in data["annotations"] if entry["image_id"] != 2]
        data["annotations"] = alone

    change(root, "train", more)
    splits = read(root)
    assert "1 of " in splits.notes[0]
    assert "are crowds, which neither teach nor count" in splits.notes[0]
    assert "have no area inside their image; they are left out: annotation 901" in splits.notes[1]
    assert "boxes that reach outside their image; they are cut off" in splits.notes[2]
    assert "1 of 8 training images have no box; they are left out" in splits.notes
    first = objects_of(splits.train).samples[0]
    assert first.objects[-2:, 5:].tolist() == [[800, 1], [8000, 0]]
    assert first.boxes()[-1, 1:] == pytest.approx([0, 0, 16 / 96, 1])  # cut off at the border, and no crowd


def test_images_without_a_box_are_evaluated(tmp_path: Path) -> None:
    root = market(tmp_path, {"train": 4, "val": 3})
    path = change(root, "val", lambda data: data.update(annotations=data["annotations"][:1]))
    _, samples, _ = read_objects(AnnotationFile(path, (root / "val",)), [])
    assert [len(one.boxes()) for one in samples] == [1, 0, 0]
    assert len(read(root).test) == 3


@pytest.mark.parametrize("keep_gb", [2.0, 0.0])
def test_batches_are_functions_of_seed_epoch_and_image(tmp_path: Path, keep_gb: float) -> None:
    splits = read(market(tmp_path, {"train": 9, "val": 3}), keep_gb=keep_gb, validation=0.2)
    assert bool(objects_of(splits.train).kept) == bool(keep_gb)
    index = np.array([5, 1, 3])
    augment = AugmentContext(dataclasses.replace(VARIED, jitter=0.3), 0, 2)
    images, boxes = splits.train.batch(index, splits.preprocessing, augment)
    assert (images.shape, boxes[:, :1].shape, boxes.dtype) == ((3, 3, 32, 32), (3, 1, 5), torch.float32)
    alone, its_boxes = splits.train.batch(index[1:2], splits.preprocessing, augment)
    assert torch.equal(alone[0], images[1])
    assert torch.equal(its_boxes[0], boxes[1, : its_boxes.shape[1]])
    other, _ = splits.train.batch(index, splits.preprocessing, dataclasses.replace(augment, epoch=3))
    assert not torch.equal(other, images)
    plain, positions = splits.train.batch(index, splits.preprocessing, None)
    assert positions.tolist() == [5, 1, 3]
    image = Image.open(objects_of(splits.train).images[5])
    assert torch.equal(plain[0], splits.preprocessing(splits.preprocessing.pixels(image)))


def test_loader_processes_change_nothing(tmp_path: Path) -> None:
    root = market(tmp_path, {"train": 12, "val": 3})
    made = []
    for workers in (0, 2):
        data = DataSettings(source="coco_boxes", dir=str(root), size=32, batch=4, workers=workers)
        batches = Batches(load_detection(data), data, VARIED, 0)
        made.append([*batches.train(0), *batches.evaluation(batches.splits.test)])
    for one, other in zip(*made, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_boxes_stay_around_their_colours(seed: int) -> None:
    """Inside a box is its colour, and outside all boxes that are left there is none, but where a centre is out."""
    pil_image, objects = image_with_boxes(seed % 97)
    drawn = np.array(objects)
    one = BoxedImage(Path("x"), pil_image.size, np.column_stack((drawn, drawn[:, 3] * drawn[:, 4], 0 * drawn[:, 0])))
    torch.manual_seed(seed)
    image, boxes = random_zoom(pil_image, one.boxes(), PLAIN, VARIED, SAME)
    pixels = np.asarray(image).astype(int)
    assert image.size == (64, 64)
    assert ((boxes[:, 1:] >= 0) & (boxes[:, 1:] <= 1)).all()
    outside = np.ones((64, 64), bool)
    for kind, *corners in boxes.tolist():
        left, top, right, low = (64 * corner for corner in corners)
        within = pixels[round(top) + 2 : round(low) - 2, round(left) + 2 : round(right) - 2]
        assert np.abs(within - COLORS[int(kind)]).max(initial=0) < 50
        outside[max(0, round(top) - 2) : round(low) + 2, max(0, round(left) - 2) : round(right) + 2] = False
    if len(boxes) == len(objects):
        assert pixels[outside].max(initial=0) < 100


def test_changes_reach_their_limits_and_no_farther() -> None:
    image, _ = image_with_boxes(0)
    whole, small = np.array([[0, 0, 0, 1, 1]], np.float32), np.array([[1, 0.48, 0.48, 0.52, 0.52]], np.float32)
    sides, gone, left = [], 0, []
    for seed in range(300):
        torch.manual_seed(seed)
        _, rows = random_zoom(image, whole, PLAIN, VARIED, SAME)
        sides.append(rows[0, 3] - rows[0, 1])
        torch.manual_seed(seed)
        _, rows = random_zoom(image, small, PLAIN, VARIED, SAME)
        gone += not len(rows)
        left += rows[:, 1].tolist()
    assert 1 / 1.5 <= min(sides) < 0.7
    assert max(sides) == 1
    assert gone == 0  # the middle is in all views
    assert max(left) - min(left) > 0.5
    torch.manual_seed(0)
    same, rows = random_zoom(image, small, PLAIN, AugmentSettings(), SAME)
    assert np.array_equal(np.asarray(same), np.asarray(PLAIN.fit_image(image)))
    assert np.array_equal(rows, small)


def test_half_of_the_images_are_mirrored() -> None:
    pil_image, _ = image_with_boxes(3)
    boxes, flipped = np.array([[2, 0.1, 0.2, 0.4, 0.9]], np.float32), 0
    for seed in range(200):
        torch.manual_seed(seed)
        image, rows = random_zoom(pil_image, boxes, PLAIN, AugmentSettings(flip=True), SAME)
        plain = np.asarray(PLAIN.fit_image(pil_image))
        is_flipped = np.array_equal(np.asarray(image), plain[:, ::-1])
        assert rows[0] == pytest.approx([2, 0.6, 0.2, 0.9, 0.9] if is_flipped else boxes[0])
        flipped += is_flipped
    assert 70 < flipped < 130


def test_rows_that_fill_up() -> None:
    boxes = [np.ones((2, 5), np.float32), np.ones((0, 5), np.float32)]
    assert pad_boxes(boxes).sum((1, 2)).tolist() == [10, -10]
    assert pad_boxes(boxes[1:]).shape == (1, 1, 5)


def test_broken_images(tmp_path: Path) -> None:
    root = market(tmp_path, {"train": 6, "val": 3})
    (root / "val" / "000000000008.png").write_bytes(b"no image")
    assert len(read(root).test) == 2
    with pytest.raises(UserError, match=r"000000000008.png is not a readable image"):
        read(root, broken="refuse")
    splits = read(root, keep_gb=0)
    with pytest.warns(UserWarning, match="left out"):
        images, positions = splits.test.batch(np.arange(3), splits.preprocessing, None)
    assert (len(images), positions.tolist()) == (2, [0, 2])
    with pytest.warns(UserWarning, match="another image takes its place"):
        splits.test.batch(np.array([1]), splits.preprocessing, AugmentContext(VARIED, 0, 0))
    refusing = read(root, keep_gb=0, broken="refuse")
    with pytest.raises(BrokenImage):
        refusing.test.batch(np.arange(3), refusing.preprocessing, None)


@pytest.mark.parametrize(
    ("how", "named"),
    [
        (lambda data: data["annotations"][0].update(image_id=99), "annotates unknown images: image 99"),
        (lambda data: data["annotations"][0].update(category_id=1), "annotates unknown categories: category 1"),
        (lambda data: data["annotations"][0].update(bbox=[1, 2, 3]), "needs bbox of 4 numbers: entry 1 has 3"),
        (lambda data: data["annotations"][0].update(bbox=[1, 2, 3, float("nan")]), "bbox that are not finite numbers"),
        (lambda data: data["annotations"][0].update(area="large"), "has area that are not finite numbers: entry 1"),
        (lambda data: data.update(annotations=[]), "has no box of a single object inside an image"),
        (lambda data: data.pop("annotations"), "has no list of annotations"),
        (lambda data: data.pop("images"), "has no list of images"),
        (lambda data: data.update(categories=[]), "must have different numbers and names"),
        (lambda data: data["categories"][0].update(name="apple"), "must have different numbers and names"),
        (lambda data: data["categories"][0].update(id="three"), "is not a whole number"),
        (lambda data: data["categories"].pop(), "annotates unknown categories"),
        (lambda data: data["images"][0].update(file_name="none.png"), "lacks 1 of 6 images"),
        (lambda data: data["images"][0].pop("width"), "lacks a file_name, width or height"),
    ],
)
def test_annotations_that_contradict_themselves_are_refused(
    tmp_path: Path, how: Callable[[Data], object], named: str
) -> None:
    root = market(tmp_path, {"train": 6, "val": 3})
    change(root, "train", how)
    with pytest.raises(UserError) as error:
        read(root)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda root: (root / "annotations" / "instances_train.json").unlink(), "annotations/instances_train2017.json"),
        (lambda root: (root / "annotations" / "instances_train.json").write_text("{"), "is not JSON"),
        (lambda root: (root / "val").rename(root / "other"), "folder val, or images/val, is missing"),
        (
            lambda root: change(root, "val", lambda data: data["categories"][0].update(name="pear")),
            "instances_val.json has other categories than",
        ),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, break_it: Callable[[Path], object], named: str) -> None:
    root = market(tmp_path, {"train": 6, "val": 3})
    break_it(root)
    with pytest.raises(UserError) as error:
        read(root)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("size", "named"), [(None, "--data.size 320"), ((32, 64), "made square"), (4, "is 8 pixels")])
def test_a_size_that_cannot_be(tmp_path: Path, size: Any, named: str) -> None:
    root = market(tmp_path, {"train": 6, "val": 3})
    with pytest.raises(UserError, match=named):
        read(root, size=size)


def test_only_what_is_listed_is_looked_for(tmp_path: Path) -> None:
    """Numbers of categories have gaps; images may lie in images/NAME."""
    root = market(tmp_path, {"train2017": 6, "val2017": 3})
    (root / "images").mkdir()
    (root / "train2017").rename(root / "images" / "train2017")
    Image.new("RGB", (5, 5)).save(root / "val2017" / "more.png")
    assert len(read(root).test) == 3
    assert NUMBERS[2] - NUMBERS[1] > 1


@pytest.mark.skipif(not (SHARED / "coco_mini").is_dir(), reason="the real images are not here")
def test_real_images() -> None:
    splits = read(SHARED / "coco_mini", size=160)
    assert len(splits.classes) == 80
    assert splits.classes[:3] == ("person", "bicycle", "car")
    assert splits.classes[-1] == "toothbrush"
    assert [len(part) for part in (splits.train, splits.validation)] == [72, 8]
    truth = json.loads((SHARED / "coco_mini/annotations/instances_val2017.json").read_text())
    assert sum(len(one.objects) for one in objects_of(splits.test).samples) == len(truth["annotations"])
    assert sum(one.objects[:, 6].sum() for one in objects_of(splits.test).samples) == 5
    images, boxes = splits.train.batch(np.arange(8), splits.preprocessing, AugmentContext(VARIED, 0, 0))
    assert images.isfinite().all()
    assert ((boxes[..., 3:] > boxes[..., 1:3]) | (boxes[..., :1] == -1)).all()
