"""The example that draws batches: what is painted, drawn and written, and how it refuses."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from generate_people import crowd
from generate_streets import street
from supertickets.data import Preprocessing, Splits
from supertickets.data.segmentation_classes import spread_colors

SHOW: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "show_batches.py"))
GREY = torch.full((3, 120, 240), 100, dtype=torch.uint8)  # shown as it is


def splits(classes: tuple[str, ...], limbs: tuple[tuple[int, int], ...] = ()) -> Splits:
    nothing: Any = None
    return Splits(nothing, nothing, nothing, classes, Preprocessing(3, (120, 240), (0,) * 3, (1,) * 3), (), limbs)


def test_masks_are_painted_below_and_what_is_ignored_stays_plain() -> None:
    mask = torch.full((120, 240), 255)
    mask[:, :80] = 1
    page = np.asarray(SHOW["tile"]("segmentation", splits(("sky", "road")), GREY, mask)).astype(int)
    assert page.shape == (240, 240, 3)
    assert (page[:120] == 100).all()
    assert (page[120:, 80:] == 100).all()
    road = np.array(spread_colors(2)[1])
    assert np.abs(page[120:, :80] - (road * 140 + 100 * 115) / 255).max() <= 1
    (entry,) = SHOW["legend"](splits(("sky", "road")), mask[None])
    assert np.asarray(entry)[10, 5].tolist() == road.tolist()


def test_marked_joints_are_drawn_in_their_places() -> None:
    names = ("left_hand", "right_hand", "head")
    # In shares of width and height: the centres of columns 60 and 180 in row 60.
    marks = torch.tensor([[60.5 / 240, 60.5 / 120, 2.0], [180.5 / 240, 60.5 / 120, 1.0], [0.5, 0.1, 0.0]])
    page = np.asarray(SHOW["tile"]("pose", splits(names, ((0, 1), (0, 2))), GREY, marks)).astype(int)
    left, right = page[60, 60], page[60, 180]
    assert left[0] > 200 > left[2]  # orange
    assert right[2] > 200 > right[0]  # blue
    assert (page[60, 120] != 100).any()  # the limb between them
    assert (page[:50] == 100).all()  # the head is not marked


def test_boxes_are_drawn_in_their_places() -> None:
    boxes = torch.tensor([[1, 0.25, 0.5, 0.5, 0.75], [-1.0] * 5])
    page = np.asarray(SHOW["tile"]("detection", splits(("sky", "road")), GREY, boxes)).astype(int)
    assert page[90, 90].tolist() == page[75, 60].tolist() == list(spread_colors(2)[1])
    assert (page[100:] == 100).all()


def test_labels_are_printed_with_their_shares() -> None:
    assert SHOW["label"](("cat", "dog"), torch.tensor(1)) == "dog"
    assert SHOW["label"](("cat", "dog", "cow"), torch.tensor([0.3, 0.7, 0.0])) == "dog 70%, cat 30%"


def test_a_page_for_every_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = ["--data", str(street(tmp_path / "street", {"train": 7, "val": 1, "test": 1}))]
    scenes += ["--data.class_names", '["sky","road","tree"]', "--data.ignore", "[255]", "--data.size", "[32,40]"]
    people = ["--data", str(crowd(tmp_path / "crowd", {"train2017": 6, "val2017": 1}))]
    gap, line = SHOW["GAP"], SHOW["LINE"]
    for words, message, size in (
        (["camvid", *scenes], "7 of a batch of 7", (4 * (240 + gap), 2 * (2 * 192 + gap) + line + gap)),
        (["fashion_pose", *people, "--data.batch", "3"], "3 of a batch of 3", (3 * (180 + gap), 240 + gap)),
        (["digits"], "12 of a batch of 64", (4 * (240 + gap), 3 * (240 + line + gap))),
    ):
        out = tmp_path / "new" / f"{words[0]}.png"
        assert SHOW["main"]([*words, "--out", str(out)]) == 0
        assert message in capsys.readouterr().out
        with Image.open(out) as page:
            assert (page.format, page.size) == ("PNG", (size[0] + gap, size[1] + gap))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("camvd --out {tmp}/x.png", "did you mean 'camvid'"),
        ("camvid --out {tmp}/x.png", "--data DIR"),
        ("digits --data.bach 3 --out {tmp}/x.png", "did you mean 'data.batch'"),
        ("digits --out {tmp}", "choose another --out"),
    ],
)
def test_wrong_input_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: str, named: str
) -> None:
    assert SHOW["main"](words.format(tmp=tmp_path).split()) == 2
    said = capsys.readouterr().err
    assert (said[:7], len(said.splitlines())) == ("error: ", 1)
    assert named in said
