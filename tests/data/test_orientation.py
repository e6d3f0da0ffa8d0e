"""Annotations of images that EXIF data turn: the images of a set that show how they were drawn decide for the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from odd_data import BACK, labels, noted, read, total, voc
from supertickets.data.orientation import drawn_as_stored
from supertickets.data.person_boxes import read_boxes
from supertickets.data.preprocessing import open_image, stored_form

SIZE = (40, 30)


def upright(size: tuple[int, int] = SIZE) -> Image.Image:
    """Return a dark image whose upper left quarter is white."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[: size[1] // 2, : size[0] // 2] = 255
    return Image.fromarray(pixels)


def write(path: Path, orientation: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Write the image as a camera stores it; return the stored image."""
    stored = upright(size)
    exif = Image.Exif()
    if orientation > 1:
        stored, exif[0x112] = stored.transpose(BACK[orientation]), orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    stored.save(path, exif=exif)
    return stored


def scenes(root: Path, orientations: Sequence[int], as_stored: bool, size: tuple[int, int] = SIZE) -> Path:
    """Write scenes whose masks were drawn on the stored or on the upright images: 1 where the image is white."""
    (root / "masks").mkdir(parents=True)
    for i, orientation in enumerate(orientations):
        stored = write(root / "images" / f"{i}.png", orientation, size)
        drawn = np.asarray(stored if as_stored else upright(size))[..., 0] > 127
        Image.fromarray(drawn.astype(np.uint8)).save(root / "masks" / f"{i}.png")
    return root


def wrong(splits: Any) -> int:
    """Return how many masks do not lie on their image."""
    count = 0
    for part in (splits.train, splits.validation, splits.test):
        for image, mask in (part.scene(i) for i in range(len(part))):
            count += bool(((image[0] > 127) != (mask == 1)).any())
    return count


@pytest.mark.parametrize("keep_gb", [0.0, 1.0])
@pytest.mark.parametrize("as_stored", [True, False])
def test_masks_follow_the_images_that_show_how_they_were_drawn(tmp_path: Path, as_stored: bool, keep_gb: float) -> None:
    root = scenes(tmp_path, [1, 2, 3, 4, 5, 6, 7, 8, 3, 3], as_stored)
    splits = read("masks", root, class_names=("dark", "white"), keep_gb=keep_gb)
    assert wrong(splits) == 0
    how = "as they are stored" if as_stored else "turned upright"
    assert noted(splits, "EXIF data mirror or turn 5 images", f"masks are taken to be drawn on them {how}")
    assert noted(splits, "as 4 others of the set show")


def test_square_images_follow_too(tmp_path: Path) -> None:
    root = scenes(tmp_path, [6] * 9, True, (32, 32))
    stored = write(root / "images" / "9.png", 8)
    Image.fromarray((np.asarray(stored)[..., 0] > 127).astype(np.uint8)).save(root / "masks" / "9.png")
    assert wrong(read("masks", root, class_names=("dark", "white"))) == 0


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_where_nothing_shows_it_masks_are_upright_and_that_is_said(tmp_path: Path, orientation: int) -> None:
    splits = read("masks", scenes(tmp_path, [1] * 8 + [orientation] * 2, False), class_names=("dark", "white"))
    assert wrong(splits) == 0
    assert noted(splits, "2 images", "turned upright, for no other image shows how", "remove the EXIF data")


def test_masks_of_voc_follow_too(tmp_path: Path) -> None:
    root = voc(tmp_path, count=0, train=range(6), val=range(6, 10))
    for i in range(10):
        stored = write(root / "JPEGImages" / f"{i}.png", 3 if i % 2 else 6)
        labels(root / "SegmentationClass" / f"{i}.png", 0)
        values = (np.asarray(stored)[..., 0] > 127).astype(np.uint8)
        Image.fromarray(values).save(root / "SegmentationClass" / f"{i}.png")
    assert wrong(read("voc", root)) == 0


@pytest.mark.parametrize("as_stored", [True, False])
@pytest.mark.parametrize("keep_gb", [0.0, 1.0])
def test_boxes_follow_too(tmp_path: Path, as_stored: bool, keep_gb: float) -> None:
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        images, boxes = [], []
        for i in range(4):
            stored = write(tmp_path / split / f"{i}.png", 3 if i % 2 else 6)
            drawn = stored if as_stored else upright()
            left, top, right, low = drawn.getbbox() or (0, 0, 0, 0)
            images.append({"id": i, "file_name": f"{i}.png", "width": drawn.width, "height": drawn.height})
            boxes.append({"id": i, "image_id": i, "category_id": 1, "bbox": [left, top, right - left, low - top]})
        data = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "white"}]}
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(data))
    splits = read("coco_boxes", tmp_path, size=32, keep_gb=keep_gb)
    assert total(splits) == 8
    for part in (splits.train, splits.validation, splits.test):
        for sample, image in (part.image(i) for i in range(len(part))):  # type: ignore[attr-defined]
            left, top, wide, tall = sample.objects[0, 1:5]
            assert image.getbbox() == (left, top, left + wide, top + tall)


@pytest.mark.filterwarnings("ignore:EXIF data:UserWarning")
@pytest.mark.parametrize("as_stored", [True, False])
def test_boxes_for_predictions_follow_too(tmp_path: Path, as_stored: bool) -> None:
    images, entries, paths = [], [], []
    for i in range(4):
        paths.append(tmp_path / f"{i}.png")
        stored = write(paths[i], 3 if i % 2 else 6)
        drawn = stored if as_stored else upright()
        left, top, right, low = drawn.getbbox() or (0, 0, 0, 0)
        images.append({"id": i, "file_name": f"{i}.png", "width": drawn.width, "height": drawn.height})
        entries.append({"id": i, "image_id": i, "category_id": 1, "bbox": [left, top, right - left, low - top]})
    file = tmp_path / "people.json"
    file.write_text(json.dumps({"images": images, "annotations": entries}))
    given = read_boxes(file, paths)
    for i, ((left, top, wide, tall),) in enumerate(given.boxes):
        assert given.open_image(i).getbbox() == (left, top, left + wide, top + tall)


def test_images_that_differ_are_told(tmp_path: Path) -> None:
    sizes = {}
    for i, (orientation, size) in enumerate([(6, (30, 40)), (6, (40, 30)), (3, SIZE), (1, SIZE)]):
        write(tmp_path / f"{i}.png", orientation)
        sizes[tmp_path / f"{i}.png"] = size
    notes: list[str] = []
    assert not drawn_as_stored(sizes, "boxes", notes)
    assert "turned upright, though the others of the set differ" in notes[0]
    assert not drawn_as_stored(dict(list(sizes.items())[:2]), "boxes", notes[:0])


@pytest.mark.parametrize("form", ["png", "webp", "tiff", "avif", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_format_is_opened_both_ways(tmp_path: Path, form: str, orientation: int) -> None:
    """Pillow turns some formats by itself."""
    path = tmp_path / f"a.{form}"
    stored = write(path, orientation)
    assert stored_form(path) == (stored.size, orientation)
    for opened, wanted in ((open_image(path), upright()), (open_image(path, upright=False), stored)):
        assert opened.size == wanted.size
        assert (abs(np.asarray(opened.convert("L")).astype(int) - np.asarray(wanted.convert("L"))) > 99).mean() < 0.02
