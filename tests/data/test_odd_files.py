"""Files that people have: names that are not UTF-8, links, what systems leave behind, other endings, odd values."""

from __future__ import annotations

import os
import resource
import struct
import sys
import types
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from generate_crowds import crowds
from generate_objects import market
from odd_data import (
    ade,
    cifar,
    city,
    class_of,
    class_tree,
    image_paths,
    labels,
    noted,
    pairs,
    read,
    refusal,
    tiny_imagenet,
    total,
    voc,
    write_image,
)
from supertickets.data.file_lists import find_entry, list_images
from supertickets.data.preprocessing import BrokenImage, open_image, to_channels

TWO = ("a", "b")


# Names that are not UTF-8 --------------------------------------------------------------------------------------------


def rename(path: Path, name: bytes) -> None:
    os.rename(os.fsencode(path), os.fsencode(path.parent) + b"/" + name)


def test_an_image_whose_name_is_not_utf_8_is_read(tmp_path: Path) -> None:
    rename(class_tree(tmp_path, ["cat", "dog"]) / "cat" / "0.png", b"caf\xe9.png")
    assert total(read("folders", tmp_path)) == 8


def test_a_class_whose_name_is_not_utf_8_has_escapes(tmp_path: Path) -> None:
    rename(class_tree(tmp_path, ["cat", "dog"]) / "cat", b"caf\xe9")
    (name, _) = read("folders", tmp_path).classes
    assert name == "caf\\udce9"


def test_scenes_whose_names_are_not_utf_8_are_pairs_and_are_named(tmp_path: Path) -> None:
    root = pairs(tmp_path)
    for folder in ("images", "masks"):
        rename(root / folder / "0.png", b"caf\xe9.png")
    assert total(read("masks", root, class_names=TWO)) == 10
    rename(root / "masks" / "1.png", b"\xfc.png")
    assert "images/1.png" in refusal("masks", root, class_names=TWO)
    rename(root / "images" / "2.png", b"\xe4.txt")
    rename(root / "images" / "1.png", b"\xfc.png")
    assert all(note.isprintable() for note in read("masks", root, class_names=TWO).notes)


def test_an_image_of_tiny_imagenet_whose_name_is_not_utf_8_is_read(tmp_path: Path) -> None:
    rename(tiny_imagenet(tmp_path) / "train" / "n01" / "images" / "n01_0.JPEG", b"caf\xe9.JPEG")
    assert total(read("tiny_imagenet", tmp_path)) == 12


# Links ---------------------------------------------------------------------------------------------------------------


def test_linked_folders_of_scenes_are_read(tmp_path: Path) -> None:
    pairs(tmp_path / "here")
    pairs(tmp_path / "there")
    for folder in ("images", "masks"):
        (tmp_path / "here" / folder / "more").symlink_to(tmp_path / "there" / folder)
    assert total(read("masks", tmp_path / "here", class_names=TWO)) == 20


def test_linked_folders_of_classes_are_read_once(tmp_path: Path) -> None:
    class_tree(tmp_path / "here", ["cat", "dog"])
    class_tree(tmp_path / "there", ["cats", "eel"])
    (tmp_path / "here" / "cat" / "more").symlink_to(tmp_path / "there" / "cats")
    (tmp_path / "here" / "cat" / "again").symlink_to(tmp_path / "there" / "cats")
    (tmp_path / "here" / "cat" / "loop").symlink_to(tmp_path / "here" / "cat")
    (tmp_path / "here" / "eel").symlink_to(tmp_path / "there" / "eel")
    splits = read("folders", tmp_path / "here")
    assert (splits.classes, total(splits)) == (("cat", "dog", "eel"), 16)


def test_linked_folders_of_crowds_and_voc_are_read(tmp_path: Path) -> None:
    crowds(tmp_path / "part", {"train": 6, "test": 2})
    (tmp_path / "part" / "train_data" / "images").rename(tmp_path / "away")
    (tmp_path / "part" / "train_data" / "images").symlink_to(tmp_path / "away")
    assert total(read("shanghaitech", tmp_path / "part", size=(32, 32))) == 8
    root = voc(tmp_path / "voc")
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder).rename(tmp_path / folder)
        (root / folder).mkdir()
        for path in sorted((tmp_path / folder).iterdir()):
            (root / folder / path.name).symlink_to(path)
    assert total(read("voc", root)) == 10


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    gone = class_tree(tmp_path, ["cat", "dog"]) / "cat" / "gone.png"
    gone.symlink_to(tmp_path / "nowhere.png")
    assert noted(read("folders", tmp_path), "left out", gone, "does not exist")


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_tree(tmp_path, ["cat", "dog"])
    scan = os.scandir

    def locked(path: Any) -> Any:  # as root reads everything
        if Path(path).name == "cat":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", locked)
    assert f"{tmp_path / 'cat'} cannot be read (Permission denied)" in refusal("folders", tmp_path)


# What systems leave behind -------------------------------------------------------------------------------------------

JUNK = ("__MACOSX", "@eaDir", ".ipynb_checkpoints", "$RECYCLE.BIN", "lost+found")


@pytest.mark.parametrize("name", JUNK)
def test_system_folders_are_no_classes_and_no_siblings(tmp_path: Path, name: str) -> None:
    class_tree(tmp_path / "photos", ["cat", "dog"])
    class_tree(tmp_path / name / "photos", ["cat", "dog"])
    class_tree(tmp_path / "photos" / name, ["thumbs"])
    class_tree(tmp_path / "photos" / "cat", [name])
    splits = read("folders", tmp_path)
    assert (splits.classes, total(splits)) == (("cat", "dog"), 8)


def test_system_folders_beside_other_layouts_are_passed_over(tmp_path: Path, write_idx: Any) -> None:
    for name in JUNK:
        for layout in ("idx", "cifar", "tiny", "masks", "city", "ade", "voc"):
            write_image(tmp_path / layout / name / "x.png")
    for name, count in (("train", 20), ("t10k", 4)):
        write_idx(tmp_path / "idx/MNIST/raw" / f"{name}-images-idx3-ubyte.gz", np.zeros((count, 4, 4), np.uint8))
        write_idx(tmp_path / "idx/MNIST/raw" / f"{name}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 2)
    assert total(read("idx", tmp_path / "idx")) == 24
    cifar(tmp_path / "cifar" / "unpacked")
    assert total(read("cifar10", tmp_path / "cifar")) == 120
    tiny_imagenet(tmp_path / "tiny" / "unpacked")
    assert total(read("tiny_imagenet", tmp_path / "tiny")) == 12
    pairs(tmp_path / "masks" / "unpacked")
    write_image(tmp_path / "masks" / "unpacked" / "images" / "@eaDir" / "0.png" / "SYNOPHOTO_THUMB.jpg")
    assert total(read("masks", tmp_path / "masks", class_names=TWO)) == 10
    for source, write, folder in (("cityscapes", city, "city"), ("ade20k", ade, "ade"), ("voc", voc, "voc")):
        write(tmp_path / folder / "unpacked")
        assert total(read(source, tmp_path / folder)) == 10


def test_thumbnails_are_not_predicted(tmp_path: Path) -> None:
    class_tree(tmp_path, ["a", "a/@eaDir", "a/__MACOSX"], 2)
    assert [path.parent.name for path in list_images([tmp_path])] == ["a", "a"]


# Endings and names ---------------------------------------------------------------------------------------------------


def test_images_with_rarer_endings_are_read_and_others_counted(tmp_path: Path) -> None:
    class_tree(tmp_path, ["cat", "dog"])
    for ending, form in (("jfif", "JPEG"), ("jpe", "JPEG"), ("JP2", "JPEG2000"), ("avif", "AVIF")):
        write_image(tmp_path / "cat" / f"odd.{ending}", format=form)
    for name in ("a.heic", "b.HEIC", "c", "d.psd"):
        (tmp_path / "dog" / name).write_bytes(b"other")
    splits = read("folders", tmp_path)
    assert total(splits) == 12
    assert noted(splits, "4 files with other endings", "2 .heic", "1 without ending", "1 .psd", tmp_path / "dog")


@pytest.mark.parametrize(
    ("source", "write", "folder"),
    [("masks", pairs, "images"), ("voc", voc, "JPEGImages"), ("ade20k", ade, "images/training")],
)
def test_scenes_with_other_endings_are_counted(tmp_path: Path, source: str, write: Any, folder: str) -> None:
    (write(tmp_path) / folder / "x.heic").write_bytes(b"other")
    assert noted(read(source, tmp_path, class_names=TWO if source == "masks" else ()), "1 file with other", "1 .heic")


def test_places_are_known_in_any_case(tmp_path: Path, write_idx: Any) -> None:
    city(tmp_path).rename(tmp_path.with_name("city"))
    root = tmp_path.with_name("city")
    (root / "leftImg8bit").rename(root / "LEFTIMG8BIT")
    (root / "gtFine").rename(root / "gtfine")
    assert total(read("cityscapes", root)) == 10
    root = cifar(tmp_path / "cifar")
    (root / "data_batch_1").rename(root / "DATA_BATCH_1")
    assert total(read("cifar10", root)) == 120
    for name, count in (("TRAIN", 20), ("T10K", 4)):
        write_idx(tmp_path / f"{name}-IMAGES-IDX3-UBYTE", np.zeros((count, 4, 4), np.uint8))
        write_idx(tmp_path / f"{name}-LABELS-IDX1-UBYTE", np.arange(count, dtype=np.uint8) % 2)
    assert total(read("idx", tmp_path)) == 24
    assert find_entry(tmp_path, "CIFAR/Batches.Meta") == root / "batches.meta"
    assert find_entry(tmp_path, "cifar/nothing/below") is None


def test_what_is_there_is_said_beside_what_should_be(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "a.txt").touch()
    for source in ("cityscapes", "ade20k", "voc", "masks"):
        assert "(there are a.txt, photos)" in refusal(source, tmp_path, class_names=TWO)
    assert "there are a.txt, photos" in refusal("cifar10", tmp_path)
    assert "(there are a.txt, photos)" in refusal("tiny_imagenet", tmp_path)
    root = pairs(tmp_path / "pairs")
    (root / "masks" / "3.png").rename(root / "masks" / "3_mask.png")
    assert "there are 10 masks, such as masks/0.png" in refusal("masks", root, class_names=TWO)


# EXIF data -----------------------------------------------------------------------------------------------------------


def exif(*entries: tuple[int, int, bytes]) -> bytes:
    body = b"".join(struct.pack("<HHI", tag, kind, 1) + value for tag, kind, value in entries)
    return b"Exif\0\0II" + struct.pack("<HIH", 42, 8, len(entries)) + body + struct.pack("<I", 0)


TURNED = (0x112, 3, struct.pack("<HH", 6, 0))
ODD = {
    "a negative width": exif((0x100, 9, struct.pack("<i", -1)), TURNED),
    "a resolution that is no number": exif(TURNED, (0x11A, 11, struct.pack("<f", float("nan")))),
    "an unknown type": exif((0x100, 99, b"\0\0\0\0"), TURNED),
    "a place beyond the end": exif(TURNED, (0x10F, 2, b"\xff\xff\xff\x7f")),
    "an orientation of 77": exif((0x112, 3, struct.pack("<HH", 77, 0))),
    "cut": exif(TURNED)[:20],
}


@pytest.mark.parametrize("what", ODD)
def test_odd_exif_data_are_no_obstacle(tmp_path: Path, what: str) -> None:
    path = write_image(class_tree(tmp_path, ["cat", "dog"]) / "cat" / "odd.jpg", 9, (36, 24), exif=ODD[what])
    assert total(read("folders", tmp_path, broken="refuse")) == 9
    turned = what not in ("an orientation of 77", "cut")
    assert open_image(path).size == ((24, 36) if turned else (36, 24))


def test_odd_exif_data_of_scenes_and_boxes_are_no_obstacle(tmp_path: Path) -> None:
    root = pairs(tmp_path / "masks")
    for i in range(10):
        (root / "images" / f"{i}.png").unlink()
        write_image(root / "images" / f"{i}.jpg", i, (10, 12), exif=ODD["a negative width"])
    assert total(read("masks", root, class_names=TWO)) == 10  # masks of 12 x 10: upright
    root = market(tmp_path / "boxes", {"train2017": 6, "val2017": 4})
    for path in sorted(root.glob("*2017/*.png")):
        Image.open(path).save(path, exif=ODD["a resolution that is no number"])
    assert total(read("coco_boxes", root, size=32)) == 10


# Values --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.array([[0, np.nan]], np.float32), "values from nan to nan"),
        (np.array([[0, np.inf]], np.float32), "values from 0 to inf"),
        (np.array([[-1, 1]], np.float32), "values from -1 to 1"),
        (np.array([[0, 70_000]], np.int32), "values from 0 to 70000"),
    ],
)
def test_values_of_no_image_are_named(tmp_path: Path, values: Any, why: str) -> None:
    path = tmp_path / "odd.tiff"
    Image.fromarray(values).save(path)
    with pytest.raises(BrokenImage, match=why) as error:
        open_image(path)
    assert str(path) in str(error.value)


def test_values_of_no_image_are_named_in_other_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Data:
        classes = TWO

        def __init__(self, folder: Path | None, split: str) -> None:
            self.count = 12 if split == "train" else 0

        def __len__(self) -> int:
            return self.count

        def __getitem__(self, position: int) -> Any:
            return Image.fromarray(np.full((8, 8), -5.0 if position == 3 else position, np.float32)), position % 2

    module = types.ModuleType("odd_mine")
    module.Data = Data  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "odd_mine", module)
    assert noted(read("odd_mine:Data", None), "left out: image of sample 3", "values from -5 to -5")
    root = pairs(tmp_path)
    (root / "images" / "0.png").unlink()
    Image.fromarray(np.full((10, 12), np.nan, np.float32)).save(root / "images" / "0.tiff")
    assert noted(read("masks", root, class_names=TWO), "left out", "0.tiff", "values from nan")


# Memory and formats --------------------------------------------------------------------------------------------------


def test_no_format_that_runs_programs_is_opened(tmp_path: Path) -> None:
    path = class_tree(tmp_path, ["cat", "dog"]) / "cat" / "run.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    assert noted(read("folders", tmp_path), "run.jpg", "no image format is known for it")
    root = pairs(tmp_path / "scenes")
    (root / "images" / "0.png").write_bytes(path.read_bytes())
    assert noted(read("masks", root, class_names=TWO), "images/0.png", "no image format is known")


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(class_tree(tmp_path, ["cat", "dog"]) / "cat" / "pipe.png")
    assert noted(read("folders", tmp_path), "pipe.png", "it is no file")


def huge_png() -> bytes:
    """Return a PNG that claims 60,000 x 60,000 pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 16, 0, 0, 0, 0)
    data = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + data


def test_masks_and_images_that_claim_too_much_are_named(tmp_path: Path) -> None:
    """A PNG of 60,000 x 60,000 pixels in 45 bytes, read within 50 MB."""
    bomb = huge_png()
    root = pairs(tmp_path)
    (root / "masks" / "0.png").write_bytes(bomb)
    (root / "images" / "1.png").write_bytes(bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    splits = read("masks", root, class_names=TWO)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    assert total(splits) == 8
    assert noted(splits, "masks/0.png", "exceeds limit")
    assert noted(splits, "images/1.png", "exceeds limit")


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("folders", "cat/0.png"),
        ("tiny_imagenet", "train/n01/images/n01_0.JPEG"),
        ("voc", "JPEGImages/0.jpg"),
        ("coco_boxes", "train2017/000000000001.png"),
        ("shanghaitech", "train_data/images/IMG_1.jpg"),
    ],
)
def test_images_that_claim_too_much_are_named_in_every_source(source: str, place: str, tmp_path: Path) -> None:
    write: dict[str, Any] = {
        "folders": lambda root: class_tree(root, ["cat", "dog"]),
        "tiny_imagenet": tiny_imagenet,
        "voc": voc,
        "coco_boxes": lambda root: market(root, {"train2017": 4, "val2017": 4}),
        "shanghaitech": lambda root: crowds(root, {"train": 6, "test": 2}),
    }
    write[source](tmp_path)
    assert (tmp_path / place).is_file()
    (tmp_path / place).write_bytes(huge_png())
    settings = {"coco_boxes": {"size": 32}, "shanghaitech": {"size": (32, 32)}}.get(source, {})
    assert noted(read(source, tmp_path, **settings), "left out", place, "exceeds limit")


def test_large_images_of_16_bits_are_converted_in_strips() -> None:
    values = np.arange(5000, dtype=np.uint16) * 13
    wide = Image.fromarray(np.tile(values, (1000, 1)))  # more than one strip
    got = np.asarray(to_channels(wide, 1))
    assert got.shape == (1000, 5000)
    assert (got == (values / 257).astype(np.uint8)).all()


def test_keep_gb_counts_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first image is small: 4 MB are kept of the others, 2 MB of memory are given."""
    root = market(tmp_path / "boxes", {"train2017": 2, "val2017": 2}, width=500, height=500)
    kept = read("coco_boxes", root, size=32, keep_gb=0.002).train.kept  # type: ignore[attr-defined]
    assert kept == {}
    for name in TWO:
        for i in range(4):
            write_image(tmp_path / "folders" / name / f"{i}.png", i, (16, 16) if i == 0 else (300, 300))
    splits = read("folders", tmp_path / "folders", size=200, keep_gb=0.001)
    assert splits.train.kept[0] is None  # type: ignore[attr-defined]
    assert read("folders", tmp_path / "folders", size=200, keep_gb=0.003).train.kept[0] is not None  # type: ignore[attr-defined]
    for i in range(10):
        size = (12, 10) if i == 0 else (300, 300)
        write_image(tmp_path / "scenes" / "images" / f"{i}.png", i, size)
        labels(tmp_path / "scenes" / "masks" / f"{i}.png", (0, 1), size)
    assert read("masks", tmp_path / "scenes", class_names=TWO, keep_gb=0.003).train.kept == {}  # type: ignore[attr-defined]
    assert len(read("masks", tmp_path / "scenes", class_names=TWO, keep_gb=0.004).train.kept) == 10  # type: ignore[attr-defined]

    class Data:
        classes = TWO

        def __init__(self, folder: Path | None, split: str) -> None:
            self.count = 200 if split == "train" else 0

        def __len__(self) -> int:
            return self.count

        def __getitem__(self, position: int) -> Any:
            side = 8 if position % 3 == 0 else 100  # every third one is looked at
            return Image.new("RGB", (side, side), (position, 0, 0)), position % 2

    module = types.ModuleType("odd_mine")
    module.Data = Data  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "odd_mine", module)
    splits = read("odd_mine:Data", None, size=64, keep_gb=0.004)  # 133 images of 40 kB are 5.3 MB
    assert not any(image is not None for image in splits.train.kept)  # type: ignore[attr-defined]
    assert all(image is not None for image in read("odd_mine:Data", None, size=64, keep_gb=0.006).train.kept)  # type: ignore[attr-defined]


# Reasons -------------------------------------------------------------------------------------------------------------


def test_the_first_reason_is_said_where_all_are_broken(tmp_path: Path) -> None:
    for path in sorted(class_tree(tmp_path / "folders", ["cat", "dog"]).rglob("*.png")):
        path.write_bytes(b"")
    assert "cat/0.png is not a readable image (no image format is known for it)" in refusal(
        "folders", tmp_path / "folders"
    )
    for path in sorted(class_tree(tmp_path / "some", ["cat", "dog"]).glob("dog/*.png")):
        path.write_bytes(b"")
    assert "dog/0.png is not a readable image" in refusal("folders", tmp_path / "some")
    root = pairs(tmp_path / "scenes", images="images/train", masks="masks/train")
    for path in sorted(pairs(root, images="images/val", masks="masks/val").glob("images/val/*.png")):
        path.write_bytes(b"")
    assert "images/val/0.png is not a readable image" in refusal("masks", root, class_names=TWO)
    for path in sorted(tiny_imagenet(tmp_path / "tiny").glob("train/n02/images/*")):
        path.write_bytes(b"")
    assert "n02_0.JPEG is not a readable image" in refusal("tiny_imagenet", tmp_path / "tiny")


def test_the_first_reason_is_said_of_crowds_and_boxes(tmp_path: Path) -> None:
    root = crowds(tmp_path / "part", {"train": 4, "test": 4})
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + b"\0" * 8 + b"\0\x02IM" + b"\0" * 400
    for path in sorted(root.rglob("*.mat")):
        path.write_bytes(head)
    assert "version 7.3" in refusal("shanghaitech", root, size=(32, 32))
    root = market(tmp_path / "boxes", {"train2017": 4, "val2017": 4})
    for path in sorted(root.glob("*2017/*.png")):
        write_image(path, 0, (30, 20))
    assert "has 30 x 20 pixels, but its annotations are for 96 x 64" in refusal("coco_boxes", root, size=32)


def test_every_class_keeps_its_images(tmp_path: Path) -> None:
    """Odd files of one class move nothing to another."""
    class_tree(tmp_path, ["2", "10", "eel"])
    (tmp_path / "10" / "1.png").write_bytes(b"")
    (tmp_path / "2" / "more").symlink_to(class_tree(tmp_path.with_name("elsewhere"), ["x"]))
    splits = read("folders", tmp_path)
    assert class_of(splits) == {"2": "2", "x": "2", "10": "10", "eel": "eel"}
    assert len(image_paths(splits)) == 15


def deep(path: Path, most: int, size: tuple[int, int] = (12, 10)) -> None:
    """Write an image of 16 bits in which the largest value is given."""
    path.unlink(missing_ok=True)
    Image.fromarray(np.linspace(0, most, size[0] * size[1]).astype(np.uint16).reshape(size[::-1])).save(path)


@pytest.mark.parametrize(("most", "factor"), [(1023, 64), (4095, 16), (65535, None), (16383, None)])
def test_10_and_12_bits_in_16_are_refused(tmp_path: Path, most: int, factor: int | None) -> None:
    for path in sorted(class_tree(tmp_path, ["cat", "dog"]).rglob("*.png")):
        deep(path, most)
    if factor is None:
        assert total(read("folders", tmp_path)) == 8
    else:
        assert f"values up to {most} only" in refusal("folders", tmp_path)
        assert f"multiply them by {factor}," in refusal("folders", tmp_path)


def test_12_bits_in_16_are_refused_of_scenes_and_boxes(tmp_path: Path) -> None:
    for path in sorted((pairs(tmp_path / "scenes") / "images").iterdir()):
        deep(path, 4095)
    assert "values up to 4095 only" in refusal("masks", tmp_path / "scenes", class_names=TWO)
    root = market(tmp_path / "boxes", {"train2017": 4, "val2017": 4})
    for path in sorted(root.glob("*2017/*.png")):
        deep(path, 4095, (96, 64))
    assert "values up to 4095 only" in refusal("coco_boxes", root, size=32)
