"""COCO keypoints: what is read, what is left out and said, and what is refused in one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from supertickets import UserError
from supertickets.data.coco_files import AnnotationFile
from supertickets.data.coco_keypoints_json import AnnotatedPeople, Person, read_people
from supertickets.data.joints import COCO_NAMES, COCO_SIGMAS, Joints
from supertickets.data.person_boxes import read_detections

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
NAMES = ["nose", "left_eye", "right_eye"]
Change = Callable[[dict[str, Any]], None]


def person(number: int, **changes: object) -> dict[str, Any]:
    """An annotation in an image of 20 x 10 pixels with two marked joints."""
    marks = [3, 4, 2, 5, 4, 1, 0, 0, 0]
    entry = {"id": number, "image_id": 1, "category_id": 7, "iscrowd": 0, "num_keypoints": 2, "keypoints": marks}
    return {**entry, "bbox": [2, 3, 8, 6], "area": 30.5, **changes}


@pytest.fixture
def data() -> dict[str, Any]:
    return {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 20, "height": 10},
            {"id": 2, "file_name": "sub/b.png", "width": 20, "height": 10},
        ],
        "categories": [{"id": 7, "name": "person", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}],
        "annotations": [person(1), person(2, image_id=2)],
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.png"):
        Image.new("RGB", (20, 10)).save(tmp_path / name)
    return tmp_path


def written(root: Path, data: object) -> Path:
    path = root / "people.json"
    path.write_text(json.dumps(data))
    return path


def people_of(
    path: Path, images: Path, notes: list[str] | None = None, **options: Any
) -> tuple[Joints, tuple[Person, ...]]:
    read = annotated(path, images, notes, **options)
    return read.joints, read.people


def annotated(path: Path, images: Path, notes: list[str] | None = None, **options: Any) -> AnnotatedPeople:
    return read_people(AnnotationFile(path, (images,)), [] if notes is None else notes, **options)


def refusal(root: Path, data: object, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        people_of(written(root, data), root, [], **options)
    text = str(error.value)
    assert "\n" not in text
    assert str(root) in text
    return text


def test_people_are_read(root: Path, data: dict[str, Any]) -> None:
    notes: list[str] = []
    joints, (first, second) = people_of(written(root, data), root, notes)
    assert joints.names == tuple(NAMES)
    assert joints.flip == (0, 2, 1)
    assert joints.limbs == ((0, 1), (0, 2))
    assert joints.sigmas == (0.05,) * 3
    assert joints.category_id == 7
    assert (first.image, second.image) == (root / "a.png", root / "sub" / "b.png")
    assert (first.image_id, first.annotation_id, first.box, first.area, first.score) == (1, 1, (2, 3, 8, 6), 30.5, 1)
    assert first.joints.dtype == np.float32
    assert first.joints.tolist() == [[3, 4, 2], [5, 4, 1], [0, 0, 0]]
    assert notes == []


def test_annotations_without_joints_are_left_out_and_noted(root: Path, data: dict[str, Any]) -> None:
    data["categories"].append({"id": 8, "name": "car"})
    data["annotations"] += [
        person(3, iscrowd=1, keypoints=[]),
        person(4, num_keypoints=0),
        person(5, num_keypoints=0, keypoints=[]),
        person(6, keypoints=[1, 1, 0] * 3),
        person(7, bbox=[3, 3, 0, 5]),
        person(8, bbox=[20, 3, 5, 5]),
        person(9, category_id=8),
    ]
    notes: list[str] = []
    _, people = people_of(written(root, data), root, notes)
    assert [sample.annotation_id for sample in people] == [1, 2]
    notes = [note for note in notes if "annotations of" in note]
    assert [note.split()[0] + note.rsplit("json", 1)[1] for note in notes] == [
        "1 are of other categories ('car'); they are left out",
        "1 are crowds; they are left out: annotation 3",
        "3 have no marked joint inside their image; they are left out: annotation 4, annotation 5, annotation 6",
        "2 have a box of no area inside their image; they are left out: annotation 7, annotation 8",
    ]
    assert all("of 8 annotations" in note for note in notes[1:])


def test_boxes_end_at_the_border_of_the_image(root: Path, data: dict[str, Any]) -> None:
    data["annotations"] = [person(1, bbox=[-2, -1, 30, 6.5]), person(2, bbox=[15, 8, 5, 2])]
    _, people = people_of(written(root, data), root, [])
    assert [sample.box for sample in people] == [(0, 0, 20, 5.5), (15, 8, 5, 2)]


def test_fields_that_may_be_absent(root: Path, data: dict[str, Any]) -> None:
    bare = person(1, keypoints=[3, 4, 2, 9e9, 1e300, 0, 5, 4, 1])
    for key in ("iscrowd", "num_keypoints", "area"):
        del bare[key]
    del data["categories"][0]["skeleton"]
    data["annotations"] = [bare]
    joints, (sample,) = people_of(written(root, data), root, [])
    assert joints.limbs == ()
    assert sample.area == pytest.approx(0.53 * 8 * 6)
    assert sample.joints[1].tolist() == [0, 0, 0]  # where an unmarked joint is says nothing


@pytest.mark.parametrize(
    ("x", "y", "inside"), [(-1, 0, True), (-1.1, 0, False), (20, 10, True), (20.1, 5, False), (5, 10.1, False)]
)
def test_joints_outside_the_image(root: Path, data: dict[str, Any], x: float, y: float, inside: bool) -> None:
    data["annotations"][1]["keypoints"] = [x, y, 1, 3, 3, 2, 0, 0, 0]
    notes: list[str] = []
    _, people = people_of(written(root, data), root, notes)
    assert len(people) == 2  # the person stays, and its other joint
    assert people[1].joints.tolist() == [[x, y, 1] if inside else [0, 0, 0], [3, 3, 2], [0, 0, 0]]
    assert len(notes) == (not inside)
    if not inside:
        assert "annotation 2" in notes[0]
        assert "annotation 2" in refusal(root, data, broken="refuse")


def test_the_first_few_offenders_are_named_and_all_counted(root: Path, data: dict[str, Any]) -> None:
    data["annotations"] = [person(number, keypoints=[99, 0, 2] * 3) for number in range(5)]
    text = refusal(root, data, broken="refuse")
    assert "annotation 0, annotation 1, annotation 2, ... (5 in all)" in text
    assert "data.broken" in text
    assert "nobody" in refusal(root, data)


CHANGES: dict[str, tuple[Change, str]] = {
    "no keypoints": (lambda d: d["categories"][0].pop("keypoints"), "no category with keypoints"),
    "empty keypoints": (lambda d: d["categories"][0].update(keypoints=[]), "no category with keypoints"),
    "two categories": (lambda d: d["categories"].append({"id": 9, "name": "dog", "keypoints": ["tail"]}), "dog"),
    "equal names": (lambda d: d["categories"][0].update(keypoints=["a", "a", "b"]), "different names"),
    "one-sided": (lambda d: d["categories"][0].update(keypoints=["a", "left_b", "c"]), "joint 'left_b'"),
    "skeleton from 0": (lambda d: d["categories"][0].update(skeleton=[[0, 1]]), "[0, 1]"),
    "skeleton beyond": (lambda d: d["categories"][0].update(skeleton=[[1, 4]]), "[1, 4]"),
    "skeleton of strings": (lambda d: d["categories"][0].update(skeleton="ab"), "ab"),
    "no categories": (lambda d: d.pop("categories"), "no list of categories"),
    "no annotations": (lambda d: d.pop("annotations"), "no list of annotations"),
    "no images": (lambda d: d.update(images=3), "no list of images"),
    "no people": (lambda d: d.update(annotations=[]), "nobody"),
    "no width": (lambda d: d["images"][1].pop("width"), "image 2"),
    "no number": (lambda d: d["images"][1].update(id="b"), "'b'"),
    "unknown image": (lambda d: d["annotations"][1].update(image_id=5), "image 5"),
    "odd image": (lambda d: d["annotations"][1].update(image_id=[5]), "image [5]"),
    "missing file": (lambda d: d["images"][1].update(file_name="gone.png"), "gone.png"),
    "short": (lambda d: d["annotations"][1].update(keypoints=[1, 2, 2]), "entry 2 has 3"),
    "no joints": (lambda d: d["annotations"][1].pop("keypoints"), "entry 2 has 0"),
    "short box": (lambda d: d["annotations"][1].update(bbox=[1, 2, 3]), "bbox"),
    "not finite": (lambda d: d["annotations"][1].update(bbox=[1, 2, 3, float("nan")]), "entry 2"),
    "infinite": (lambda d: d["annotations"][1].update(keypoints=[1, float("inf"), 2] * 3), "entry 2"),
    "words": (lambda d: d["annotations"][1].update(area="large"), "area"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_wrong_annotations_are_refused_in_one_line(root: Path, data: dict[str, Any], what: str) -> None:
    change, named = CHANGES[what]
    change(data)
    assert named in refusal(root, data)


@pytest.mark.parametrize("content", [[], 3, None, {"boxes": []}, [{"image_id": 1}]])
def test_other_json_is_refused(root: Path, content: object) -> None:
    assert "has no list of" in refusal(root, content)


def test_files_that_are_no_json_are_refused(root: Path) -> None:
    (root / "people.json").write_bytes(b"\x89PNG\xff")
    for path, what in ((root / "people.json", "not JSON"), (root / "none.json", "cannot be read"), (root, "directory")):
        with pytest.raises(UserError, match=what):
            people_of(path, root, [])


def test_sigmas_follow_the_names_of_coco(root: Path, data: dict[str, Any]) -> None:
    order = np.random.default_rng(0).permutation(17)
    data["categories"][0]["keypoints"] = [COCO_NAMES[i] for i in order]
    for annotation in data["annotations"]:
        annotation["keypoints"] = [3, 3, 2] * 17
    joints, _ = people_of(written(root, data), root, [])
    assert joints.sigmas == tuple(COCO_SIGMAS[i] for i in order)
    assert [joints.flip[i] for i in joints.flip] == list(range(17))
    params = pytest.importorskip("pycocotools.cocoeval").Params("keypoints")
    assert params.kpt_oks_sigmas.tolist() == pytest.approx(COCO_SIGMAS, abs=1e-12)


# Detections ----------------------------------------------------------------------------------------------------------


def boxes(root: Path, *entries: dict[str, Any]) -> Path:
    path = root / "boxes.json"
    plain = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4.5], "score": 0.5}
    path.write_text(json.dumps([{**plain, **entry} for entry in entries]))
    return path


def test_detections_are_people_without_joints(root: Path, data: dict[str, Any]) -> None:
    images = annotated(written(root, data), root).images
    assert images == {1: (root / "a.png", (20, 10)), 2: (root / "sub" / "b.png", (20, 10))}
    path = boxes(root, {}, {"image_id": 2, "score": 0.7}, {"category_id": 3}, {"score": 0.4}, {"bbox": [1, 1, 0, 5]})
    notes: list[str] = []
    first, second = read_detections(path, images, 0.5, joints=3, notes=notes)
    assert (first.image, first.box, first.area, first.score) == (root / "a.png", (1, 2, 3, 4.5), 13.5, 0.5)
    assert (second.image_id, second.score, second.annotation_id) == (2, 0.7, 2)
    assert first.joints.tolist() == np.zeros((3, 3)).tolist()
    assert notes == [
        f"1 of 5 boxes of {path} are of other categories than 1; they are left out",
        f"1 of 4 boxes of {path} have no area; they are left out",
    ]
    assert len(read_detections(path, images)) == 3
    assert len(read_detections(path, images, category_id=3)) == 1


def test_detections_in_other_images(root: Path) -> None:
    notes: list[str] = []
    path = boxes(root, {}, {"image_id": 5})
    assert len(read_detections(path, {1: (root / "a.png", (20, 10))}, notes=notes)) == 1
    assert notes == [f"1 of 2 boxes of {path} are of other images; they are left out"]
    with pytest.raises(UserError, match="no box of these"):
        read_detections(path, {9: (root / "a.png", (20, 10))})
    assert read_detections(boxes(root), {1: (root / "a.png", (20, 10))}) == ()


@pytest.mark.parametrize(
    ("entry", "named"),
    [({"bbox": [1, 2]}, "entry 2 has 2"), ({"score": None}, "entry 2 has 0"), ({"score": float("nan")}, "entry 2")],
)
def test_damaged_detections_are_refused(root: Path, entry: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named) as error:
        read_detections(boxes(root, {}, entry), {1: (root / "a.png", (20, 10))})
    assert "\n" not in str(error.value)


def test_detections_must_be_a_list(root: Path, data: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="no list of detections"):
        read_detections(written(root, data), {1: (root / "a.png", (20, 10))})


# Real data -----------------------------------------------------------------------------------------------------------


def real(name: str, split: str) -> tuple[Path, Path]:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not here")
    return folder / "annotations" / f"person_keypoints_{split}.json", folder / split


@pytest.mark.parametrize(
    ("name", "split", "people", "images", "crowds"),
    [
        ("coco_mini", "train2017", 86, 28, 5),
        ("coco_mini", "val2017", 68, 32, 1),
        ("fashion_pose_coco", "val2017", 152, 152, 0),
    ],
)
def test_counts_of_real_data(name: str, split: str, people: int, images: int, crowds: int) -> None:
    notes: list[str] = []
    joints, samples = people_of(*real(name, split), notes, broken="refuse")
    assert (len(samples), len({person.image for person in samples})) == (people, images)
    assert joints.names == COCO_NAMES
    assert len(joints.limbs) == 19
    assert sum(int(note.split()[0]) for note in notes if "are crowds" in note) == crowds
    assert all(person.box[2] > 0 and person.box[3] > 0 for person in samples)


def test_one_person_of_real_data_has_joints_outside() -> None:
    notes: list[str] = []
    path, images = real("fashion_pose_coco", "train2017")
    _, samples = people_of(path, images, notes)
    assert len(samples) == 846
    (someone,) = (person for person in samples if person.annotation_id == 9007880)
    assert int((someone.joints[:, 2] > 0).sum()) == 15  # both ears are 1.46 pixels above the image
    (note,) = (note for note in notes if "joints outside" in note)
    assert "9007880" in note
    with pytest.raises(UserError, match="9007880"):
        people_of(path, images, [], broken="refuse")


def test_instances_have_no_joints() -> None:
    path, images = real("coco_mini", "val2017")
    with pytest.raises(UserError, match="no category with keypoints"):
        people_of(path.with_name("instances_val2017.json"), images, [])


def test_samples_with_detections() -> None:
    folder = SHARED / "coco_pose_samples" / "coco"
    if not folder.is_dir():
        pytest.skip("coco_pose_samples is not here")
    _, samples = people_of(folder / "test_coco.json", folder, [])
    raw = json.loads((folder / "test_coco.json").read_text())
    kept = [a for a in raw["annotations"] if a["num_keypoints"]]
    assert len(raw["images"]) == 4
    assert [person.annotation_id for person in samples] == [a["id"] for a in kept]
    for person, annotation in zip(samples, kept, strict=True):
        assert person.joints.reshape(-1).tolist() == annotation["keypoints"]
        assert person.box == pytest.approx(annotation["bbox"])
    images = annotated(folder / "test_coco.json", folder).images
    detections = folder / "test_coco_det_AP_H_56.json"
    assert len(read_detections(detections, images)) == 118
    strong = read_detections(detections, images, 0.5)
    assert all(person.score >= 0.5 for person in strong)
    assert len(strong) == sum(entry["score"] >= 0.5 for entry in json.loads(detections.read_text()))


def test_samples_with_more_than_bodies() -> None:
    folder = SHARED / "coco_pose_samples" / "coco"
    if not folder.is_dir():
        pytest.skip("coco_pose_samples is not here")
    notes: list[str] = []
    joints, samples = people_of(folder / "test_coco_wholebody.json", folder, notes)
    raw = json.loads((folder / "test_coco_wholebody.json").read_text())["annotations"]
    assert (joints.names, len(raw), len(samples)) == (COCO_NAMES, 14, 12)
    assert [note.split(" of ")[0] for note in notes] == ["2"]  # have no marked joint
    by_id = {annotation["id"]: annotation["keypoints"] for annotation in raw}  # feet, hands and faces stand elsewhere
    assert all(person.joints.reshape(-1).tolist() == by_id[person.annotation_id] for person in samples)


def test_reading_leaves_its_input_alone(root: Path, data: dict[str, Any]) -> None:
    before = copy.deepcopy(data)
    text = written(root, data).read_text()
    people_of(root / "people.json", root, [])
    assert (root / "people.json").read_text() == text
    assert data == before
