"""Annotations with anything in them are read, or refused in one line: JSON of COCO's format, and YOLO's text files."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from supertickets import UserError
from supertickets.config.recipe import DataSettings
from supertickets.data.coco_detection_json import read_objects
from supertickets.data.coco_files import AnnotationFile
from supertickets.data.coco_keypoints_json import read_people
from supertickets.data.detection_layouts import read_boxed_parts
from supertickets.data.person_boxes import read_boxes, read_detections

ODD = [
    *(None, True, False, 0, -1, 1, 2, 3, 99, 0.5, -0.0, 1e300, -1e300, 10**400, -(10**400), 2**63, 1e-300),
    *(float("nan"), float("inf"), "", "1", "0", "a", "1.5", "é", "\ud800", "\0", "../../x", "/", "x" * 5000),
    *([], [[]], {}, [None], [1, 2, 3], [1, 2, 3, 4], [1e308] * 4, [10**400] * 4, ["left"], {"a": 1}, [[1, 2]]),
]
DATA: dict[str, Any] = {
    "images": [{"id": i, "file_name": f"{i}.png", "width": 60, "height": 40} for i in (1, 2)],
    "categories": [{"id": 1, "name": "thing", "keypoints": ["left_eye", "right_eye"], "skeleton": [[1, 2]]}],
    "annotations": [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [30, 5, 20, 20], "area": 400, "iscrowd": 0}
        | {"keypoints": [40, 9, 2, 35, 9, 1], "num_keypoints": 2}
        for i in (1, 2)
    ],
}
DETECTIONS = [{"image_id": i, "category_id": 1, "bbox": [30, 5, 20, 20], "score": 0.9} for i in (1, 2)]


def disturb(value: Any, source: random.Random) -> Any:
    """Return a copy with an odd value, or none, at a random place."""
    changed = copy.deepcopy(value)
    place = changed
    while True:
        if not isinstance(place, dict | list) or not place:
            return source.choice(ODD)
        key = source.choice(list(place)) if isinstance(place, dict) else source.randrange(len(place))
        if isinstance(place[key], dict | list) and place[key] and source.random() < 0.85:
            place = place[key]
        elif source.random() < 0.15:
            del place[key]
            return changed
        else:
            place[key] = source.choice(ODD)
            return changed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fuzz")
    for i in (1, 2):
        Image.new("RGB", (60, 40)).save(root / f"{i}.png")
    return root


def outcome(read: Callable[[], object]) -> str:
    try:
        return "" if read() else "nothing"
    except UserError as error:
        return str(error)


def assert_clear(text: str) -> None:
    assert "\n" not in text
    assert len(text) < 20_000


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_json_of_coco(folder: Path, seed: int, changes: int) -> None:
    source, data, detections = random.Random(seed), DATA, DETECTIONS
    for _ in range(changes):
        data, detections = disturb(data, source), disturb(detections, source)
    path, boxes = folder / "x.json", folder / "boxes.json"
    path.write_text(json.dumps(data))
    boxes.write_text(json.dumps(detections))
    file = AnnotationFile(path, (folder,))
    images = {i: (folder / f"{i}.png", (60, 40)) for i in (1, 2)}
    assert_clear(outcome(lambda: read_people(file, [])))
    assert_clear(outcome(lambda: read_objects(file, [])))
    assert_clear(outcome(lambda: read_boxes(path, [image for image, _ in images.values()])))
    assert_clear(outcome(lambda: read_boxes(boxes, [image for image, _ in images.values()])))
    assert_clear(outcome(lambda: read_detections(boxes, images, notes=[])))


WORDS = st.sampled_from(
    ["0", "1", "2", "-1", "0.5", "0.25", "1e300", "nan", "inf", "a", "", "1e-9", "9" * 400, "\0", "0x1", "1_0", "٣"]
)
NAMES = st.sampled_from(
    [
        *("names: [a, b]", "names: {0: a, 1: b}", "names: 3", "names: {a: b}", "names: []", "names: &a [*a]"),
        *("nc: 2", "nc: x", "train: images", "train: [images]", "val: ../../..", "path: /", "val: images", "a: *b"),
        *("names: [no, 1]", "{" * 2000, "- a", "\0", "names: [[a], b]"),
    ]
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(WORDS, max_size=8), max_size=4), st.lists(NAMES, max_size=4))
def test_text_files_of_yolo(folder: Path, lines: list[list[str]], description: list[str]) -> None:
    root = folder / "yolo"
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True, exist_ok=True)
    if not (root / "images" / "1.png").exists():
        Image.new("RGB", (60, 40)).save(root / "images" / "1.png")
    (root / "labels" / "1.txt").write_text("\n".join(" ".join(words) for words in lines))
    (root / "data.yaml").write_text("\n".join(description))
    settings_of = DataSettings(source="coco_boxes", dir=str(root))
    assert_clear(outcome(lambda: read_boxed_parts(root, settings_of, [])))
