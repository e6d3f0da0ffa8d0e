"""People as samples: splits by image, joints in register after every change, what is left out and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from generate_people import COLORS, NAMES, crowd, person
from supertickets import UserError
from supertickets.config.recipe import AugmentSettings, DataSettings
from supertickets.data import Batches, Splits, load_splits
from supertickets.data.annotated_images import open_annotated
from supertickets.data.coco_files import AnnotationFile
from supertickets.data.coco_keypoints import PersonDataset, half_body, load_coco_keypoints, random_region
from supertickets.data.coco_keypoints_json import Person, read_people
from supertickets.data.joints import COCO_NAMES, COCO_SIGMAS, Joints
from supertickets.data.mirror_names import pair_joints
from supertickets.data.person_boxes import read_boxes
from supertickets.data.preprocessing import BrokenImage, Preprocessing
from supertickets.data.samples import AugmentContext
from supertickets.tasks import Pose

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
JOINTS = Joints(NAMES, pair_joints(NAMES), (), (0.05,) * 5)
PLAIN = Preprocessing(3, (64, 48), (0.0,) * 3, (1.0,) * 3, "pad", 0.8)
VARIED = AugmentSettings(flip=True, rotate=60, scale=0.4, half_body=0.5)


def read(root: Path, **more: Any) -> Splits:
    return load_coco_keypoints(DataSettings(source="coco", dir=str(root), size=(32, 24), **more))


def names(data: Any) -> set[str]:
    return {path.name for path in data.images}


def every_person(splits: Splits) -> None:
    for part in (splits.train, splits.validation, splits.test):
        part.batch(np.arange(len(part)), splits.preprocessing, None)


def change(root: Path, part: str, **more: Any) -> Path:
    """Changes lists of a part's annotations."""
    path = root / "annotations" / f"person_keypoints_{part}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    return path


def test_train_val_and_test_stay_as_they_are(tmp_path: Path) -> None:
    splits = read(crowd(tmp_path, {"train2017": 8, "val2017": 4, "test2017": 5}))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [8, 4, 5]
    assert splits.classes == NAMES
    assert splits.limbs == ((0, 1), (0, 2), (0, 3), (0, 4))
    assert (splits.preprocessing.size, splits.preprocessing.fit) == ((32, 24), "pad")


def test_of_two_parts_the_second_is_the_test_split(tmp_path: Path) -> None:
    root = crowd(tmp_path, {"train": 10, "val": 4})
    splits = read(root, validation=0.3)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [7, 3, 4]
    assert not names(splits.train) & names(splits.validation)
    assert read(root, validation=0.3).digest() == splits.digest()
    assert read(root, validation=0.3, split_seed=1).digest() != splits.digest()


def test_people_of_one_image_stay_on_one_side(tmp_path: Path) -> None:
    root = crowd(tmp_path, {"train": 20})
    path = root / "annotations" / "person_keypoints_train.json"
    people = json.loads(path.read_text())["annotations"]
    change(root, "train", annotations=people + [{**p, "id": p["id"] + 100} for p in people])
    splits = read(root, validation=0.25, test=0.2)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [24, 8, 8]
    parts = [names(part) for part in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 20
    assert isinstance(splits.validation, PersonDataset)
    assert {image["id"] for image in splits.validation.truth["images"]} == {
        p.image_id for p in splits.validation.samples
    }
    assert len(splits.validation.truth["annotations"]) == 8


@pytest.mark.parametrize("keep_gb", [2.0, 0.0])
def test_batches_are_functions_of_seed_epoch_and_person(tmp_path: Path, keep_gb: float) -> None:
    splits = read(crowd(tmp_path, {"train": 9, "val": 3}), keep_gb=keep_gb)
    assert isinstance(splits.train, PersonDataset)
    assert bool(splits.train.kept) == bool(keep_gb)
    index = np.array([5, 1, 3])
    augment = AugmentContext(dataclasses.replace(VARIED, jitter=0.3), 0, 2)
    images, joints = splits.train.batch(index, splits.preprocessing, augment)
    assert (images.shape, joints.shape, joints.dtype) == ((3, 3, 32, 24), (3, 5, 3), torch.float32)
    alone, its_joints = splits.train.batch(index[1:2], splits.preprocessing, augment)
    assert torch.equal(alone[0], images[1])
    assert torch.equal(its_joints[0], joints[1])
    other, _ = splits.train.batch(index, splits.preprocessing, dataclasses.replace(augment, epoch=3))
    assert not torch.equal(other, images)


def test_loader_processes_change_nothing(tmp_path: Path) -> None:
    root = crowd(tmp_path, {"train": 12, "val": 3})
    made = []
    for workers in (0, 2):
        data = DataSettings(source="coco", dir=str(root), size=(32, 24), batch=4, workers=workers)
        batches = Batches(load_coco_keypoints(data), data, VARIED, 0)
        made.append([*batches.train(0), *((x, r.joints) for x, r in batches.evaluation(batches.splits.test))])
    for one, other in zip(*made, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_joints_stay_on_their_discs(seed: int) -> None:
    """The colour under a joint tells which it is; a mirrored one has that of the other side."""
    pil_image, marks, box = person(seed % 97, height=120, width=150)
    someone = Person(Path("x"), (150, 120), 1, (box[0], box[1], box[2], box[3]), marks.astype(np.float32), 1.0, 1.0, 1)
    torch.manual_seed(seed)
    image, joints = random_region(someone, pil_image, JOINTS, PLAIN, VARIED)
    assert image.size == (48, 64)
    pixels = np.asarray(image).astype(int)
    wanted, mirrored_colours = np.array(COLORS), np.array(COLORS)[list(JOINTS.flip)]
    seen = [
        (k, pixels[round(y), round(x)])
        for k, (x, y, _) in enumerate(joints)
        if 1 <= round(x) < 47 and 1 <= round(y) < 63
    ]
    straight, flipped = (
        all(np.abs(c - colours[k]).max() < 60 for k, c in seen) for colours in (wanted, mirrored_colours)
    )
    assert straight or flipped


def test_changes_reach_their_limits_and_no_farther() -> None:
    image, marks, _ = person(0, height=120, width=150)
    someone = Person(Path("x"), (150, 120), 1, (30.0, 20.0, 60.0, 80.0), marks.astype(np.float32), 1.0, 1.0, 1)
    angles, lengths = [], []
    plain = random_region(someone, image, JOINTS, PLAIN, AugmentSettings())[1]
    line = plain[3, :2] - plain[0, :2]
    for seed in range(200):
        torch.manual_seed(seed)
        joints = random_region(someone, image, JOINTS, PLAIN, AugmentSettings(rotate=30, scale=0.25))[1]
        moved = joints[3, :2] - joints[0, :2]
        turn = np.arctan2(moved[1], moved[0]) - np.arctan2(line[1], line[0])
        angles.append(np.degrees(turn))
        lengths.append(np.linalg.norm(line) / np.linalg.norm(moved))  # of the region
    assert (-30 <= min(angles) < -27, 27 < max(angles) <= 30) == (True, True)
    assert (0.75 <= min(lengths) + 1e-9 < 0.78, 1.22 < max(lengths) <= 1.25 + 1e-9) == (True, True)


def test_half_a_body_by_hand() -> None:
    joints = np.zeros((17, 3), np.float32)
    joints[:, 0] = np.arange(17) * 10
    joints[:, 1] = np.arange(17)
    joints[:, 2] = 2
    # Joints 0 to 10 are above the hips.
    assert half_body(joints, COCO_NAMES, upper=True) == (0, 0, 101, 11)
    assert half_body(joints, COCO_NAMES, upper=False) == (110, 11, 51, 6)
    joints[13:, 2] = 0  # of the lower half two are left
    assert half_body(joints, COCO_NAMES, upper=False) == (0, 0, 101, 11)
    joints[:5, 2] = 0  # eight are marked
    assert half_body(joints, COCO_NAMES, upper=True) is None


def test_regions_of_an_evaluation_lead_back_to_the_image(tmp_path: Path) -> None:
    splits = read(crowd(tmp_path, {"train": 6, "val": 3}))
    assert isinstance(splits.test, PersonDataset)
    images, regions = splits.test.batch(np.array([2, 0]), splits.preprocessing, None)
    assert images.shape == (2, 3, 32, 24)
    assert regions.positions.tolist() == [2, 0]
    for i, position in enumerate((2, 0)):
        matrix, someone = regions.matrices[i], splits.test.samples[position]
        there = someone.joints[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        assert (there + 0.5) / [24, 32] == pytest.approx(regions.joints[i, :, :2].numpy(), abs=1e-5)
        x, y, width, height = someone.box
        corners = np.array([[x - 0.5, y - 0.5], [x - 0.5 + width, y - 0.5 + height]]) @ matrix[:, :2].T + matrix[:, 2]
        assert max((corners[1] - corners[0]) / [24, 32]) == pytest.approx(0.8)


@pytest.mark.parametrize("keep_gb", [2.0, 0.0])
def test_broken_images(tmp_path: Path, keep_gb: float) -> None:
    root = crowd(tmp_path, {"train": 6, "val": 3})
    (root / "train" / "000000000002.png").write_bytes(b"no image")
    (root / "val" / "000000000008.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"000000000002|left out") if not keep_gb else pytest.MonkeyPatch.context():
        splits = read(root, keep_gb=keep_gb, validation=0.2)
        images, _ = splits.train.batch(np.arange(len(splits.train)), splits.preprocessing, AugmentContext(VARIED, 0, 0))
        pixels, regions = splits.test.batch(np.arange(len(splits.test)), splits.preprocessing, None)
    assert len(images) == len(splits.train)
    assert len(pixels) == len(regions.positions) == 2
    assert isinstance(splits.test, PersonDataset)
    assert len(splits.test.truth["images"]) == (2 if keep_gb else 3)
    assert (sum("000000000008" in note for note in splits.notes) == 1) == bool(keep_gb)
    with pytest.raises(UserError, match="not a readable image"):
        every_person(read(root, keep_gb=keep_gb, validation=0.2, broken="refuse"))


def test_boxes_of_a_detector_in_the_test_split(tmp_path: Path) -> None:
    root = crowd(tmp_path, {"train2017": 6, "val2017": 3})
    entries = [{"image_id": i, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5} for i in (7, 7, 9, 55)]
    (root / "boxes.json").write_text(json.dumps(entries))
    splits = read(root, boxes=str(root / "boxes.json"))
    assert isinstance(splits.test, PersonDataset)
    assert [p.image_id for p in splits.test.samples] == [7, 7, 9]
    assert not any(p.joints.any() for p in splits.test.samples)
    assert len(splits.test.truth["images"]) == 3
    assert any("1 of 4 boxes" in note for note in splits.notes)
    assert splits.validation.batch(np.arange(1), splits.preprocessing, None)[1].joints.any()  # these stay true
    with pytest.raises(UserError, match="0 JSON files"):
        read(root, boxes="detected")


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("no folder", "folder val2017, or images/val2017, is missing"),
        ("two years", "person_keypoints_val2014.json and annotations/person_keypoints_val2017.json; keep one"),
        ("no train", "person_keypoints_train2017.json is missing"),
        ("other joints", "other joints"),
        ("missing image", "lacks 1 of 3 images"),
    ],
)
def test_a_wrong_folder_is_refused_in_one_line(tmp_path: Path, what: str, named: str) -> None:
    root = crowd(tmp_path, {"train2017": 6, "val2017": 3})
    path = root / "annotations" / "person_keypoints_val2017.json"
    if what == "no folder":
        (root / "val2017").rename(root / "elsewhere")
    elif what == "two years":
        path.with_name("person_keypoints_val2014.json").write_text(path.read_text())
    elif what == "no train":
        path.with_name("person_keypoints_train2017.json").unlink()
    elif what == "other joints":
        category = json.loads(path.read_text())["categories"][0]
        change(root, "val2017", categories=[{**category, "keypoints": ["tail", *NAMES[1:]]}])
    else:
        (root / "val2017" / "000000000008.png").unlink()
    with pytest.raises(UserError) as error:
        read(root)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_sizes_are_named(tmp_path: Path) -> None:
    root = crowd(tmp_path, {"train": 4})
    for size, named in ((None, "[256, 192]"), (34, "32 x 32"), ((64, 46), "64 x 48"), ((8, 64), "16 x 64")):
        with pytest.raises(UserError) as error:
            load_coco_keypoints(DataSettings(source="coco", dir=str(root), size=size))
        assert named in str(error.value)


def test_truth_holds_who_is_given_and_who_does_not_count(tmp_path: Path) -> None:
    root = crowd(tmp_path, {"train": 4})
    path = root / "annotations" / "person_keypoints_train.json"
    people = json.loads(path.read_text())["annotations"]
    people[1] |= {"iscrowd": 1}
    people[2] |= {"keypoints": [0] * 15, "num_keypoints": 0}
    change(root, "train", annotations=people)
    truth = read_people(AnnotationFile(path, (root / "train",)), []).truth
    assert [(e["id"], e["iscrowd"], e["num_keypoints"] > 0) for e in truth["annotations"]] == [
        (1, 0, True),
        (2, 1, False),
        (3, 0, False),
        (4, 0, True),
    ]
    assert [image["id"] for image in truth["images"]] == [1, 2, 3, 4]
    assert [category["keypoints"] for category in truth["categories"]] == [list(NAMES)]


def test_a_limit_leaves_what_is_true_of_the_rest(tmp_path: Path) -> None:
    """Four of six people train; measured on them, every one has a row, and none is missed."""
    root = crowd(tmp_path, {"train2017": 6, "val2017": 3, "test2017": 3})
    splits = load_splits(DataSettings(source="coco", dir=str(root), size=(32, 24), limit=4))
    assert isinstance(splits.train, PersonDataset)
    _, regions = splits.train.batch(np.arange(4), splits.preprocessing, None)
    assert regions.positions.tolist() == [0, 1, 2, 3]
    rows = torch.ones(4, 3 + 3 * len(NAMES), dtype=torch.float64)
    rows[:, 3:] = torch.from_numpy(np.stack([person.joints for person in splits.train.samples])).reshape(4, -1)
    assert Pose(NAMES).metrics(rows, splits.train)["ap"] == pytest.approx(100)


def test_boxes_for_predictions(tmp_path: Path) -> None:
    root = crowd(tmp_path, {"train": 3})
    images = [root / "train" / f"{i:012}.png" for i in (3, 1)]
    boxes_by_image = read_boxes(root / "annotations" / "person_keypoints_train.json", images).boxes
    assert [len(boxes) for boxes in boxes_by_image] == [1, 1]
    assert boxes_by_image[0][0] == pytest.approx(person(3)[2])
    entries = [
        {"image_id": 3, "category_id": category, "bbox": [1, 2, 3, 4], "score": score}
        for category, score in ((1, 0.9), (2, 0.9), (1, 0.4))
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    assert read_boxes(tmp_path / "boxes.json", images).boxes == [[(1, 2, 3, 4)], []]
    for content, named in (
        ("{}", "no list of images"),
        ("3", "no boxes"),
        ("[]", "none of these 2"),
        ("[", "not JSON"),
    ):
        (tmp_path / "boxes.json").write_text(content)
        with pytest.raises(UserError, match=named):
            read_boxes(tmp_path / "boxes.json", images)


def test_an_image_is_taken_as_its_annotations_mean_it(tmp_path: Path) -> None:
    """EXIF data that turn by a quarter: joints were marked on what has the size that the annotations give."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:5] = 255  # the upper edge, as stored
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    Image.fromarray(pixels).save(path, exif=exif)
    assert np.array_equal(np.asarray(open_annotated(path, (30, 20))), pixels)
    assert np.array_equal(np.asarray(open_annotated(path, (20, 30))), np.rot90(pixels, -1))
    with pytest.raises(BrokenImage, match=r"turned.png has 20 x 30 pixels, but its annotations are for 60 x 40"):
        open_annotated(path, (60, 40))


def test_images_of_another_size_are_reported_and_left_out(tmp_path: Path) -> None:
    root = crowd(tmp_path, {"train2017": 8, "val2017": 4})
    for path in sorted((root / "train2017").iterdir())[:2]:
        Image.open(path).resize((40, 30)).save(path)
    assert sum("annotations are for" in note for note in read(root).notes) == 2
    with pytest.raises(UserError, match=r"annotations are for.*2 such in all"):
        read(root, broken="refuse")


def test_some_people_are_not_turned() -> None:
    image, marks, _ = person(0, height=120, width=150)
    someone = Person(Path("x"), (150, 120), 1, (30.0, 20.0, 60.0, 80.0), marks.astype(np.float32), 1.0, 1.0, 1)
    plain = random_region(someone, image, JOINTS, PLAIN, AugmentSettings())[1]
    torch.manual_seed(0)
    augment = AugmentSettings(rotate=45, rotate_share=0.6)
    same = [np.allclose(random_region(someone, image, JOINTS, PLAIN, augment)[1], plain) for _ in range(300)]
    assert 0.3 < np.mean(same) < 0.5


@pytest.mark.parametrize(
    ("name", "counts", "outside"), [("fashion_pose_coco", (762, 84, 152), 1), ("coco_mini", (78, 8, 68), 0)]
)
def test_real_data(name: str, counts: tuple[int, ...], outside: int) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not here")
    splits = load_coco_keypoints(DataSettings(source="coco", dir=str(SHARED / name), size=(128, 96)))
    sizes = [len(part) for part in (splits.train, splits.validation, splits.test)]
    assert (sizes[2], sum(sizes)) == (counts[2], sum(counts))
    assert splits.classes == COCO_NAMES
    assert splits.train.joints.sigmas == COCO_SIGMAS  # type: ignore[attr-defined]
    assert sum("9007880" in note for note in splits.notes) == outside
    images, joints = splits.train.batch(np.arange(8), splits.preprocessing, AugmentContext(VARIED, 0, 0))
    assert images.shape == (8, 3, 128, 96)
    assert joints.isfinite().all()
    assert Image.open(splits.train.samples[0].image).size  # type: ignore[attr-defined]
