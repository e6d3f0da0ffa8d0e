"""Scenes: layouts on disk, whole and damaged; masks by their stored numbers; images in the orientation of masks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from supertickets import UserError
from supertickets.data.preprocessing import BrokenImage
from supertickets.data.segmentation_classes import make_layout, spread_colors
from supertickets.data.segmentation_layouts import read_ade20k, read_cityscapes, read_voc
from supertickets.data.segmentation_masks import IGNORED, Layout, Scene, read_mask, read_scene
from supertickets.data.segmentation_pairs import read_pairs

Values = npt.NDArray[np.generic]

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
CAMVID = SHARED / "camvid"
CITY_LAYOUT = SHARED / "cityscapes_layout_camvid"
CITY_SAMPLE = SHARED / "cityscapes_sample"
CAMVID_NAMES = (
    *("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian"),
    "Bicyclist",
)
HEIGHT, WIDTH = 6, 8
# What the labelIds of 0 to 33 become, as published.
TRAIN_IDS = [255] * 7 + [0, 1, 255, 255, 2, 3, 4, 255, 255, 255, 5, 255, *range(6, 16), 255, 255, 16, 17, 18]


def image(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT), orientation: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def mask(path: Path, values: Values | int = 0, palette: Sequence[int] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full((HEIGHT, WIDTH), values, np.uint8) if isinstance(values, int) else values
    image = Image.fromarray(array)
    if palette is not None:
        image.putpalette(palette)
    image.save(path)
    return path


def png(path: Path, rows: list[bytes], width: int, bits: int) -> Path:
    """A grey PNG of any number of bits, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def refusal(read: object, *arguments: object) -> str:
    with pytest.raises(UserError) as error:
        read(*arguments)  # type: ignore[operator]
    text = str(error.value)
    assert "\n" not in text
    return text


def counts(layout: Layout) -> dict[str, int]:
    return {split: len(scenes) for split, scenes in layout.parts.items()}


def noted(layout: Layout, *words: object) -> bool:
    return any(all(str(word) in note for word in words) for note in layout.notes)


def train_ids_beside(scene: Scene) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(scene.mask.with_name(scene.mask.name.replace("labelIds", "labelTrainIds"))))


def everything() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Tables that leave every label as it is."""
    return np.arange(256, dtype=np.uint8), np.ones(256, np.bool_)


ANY = make_layout(["any"], None, {label: label for label in range(256)}, {}, ())


def only(*labels: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    known = np.zeros(256, np.bool_)
    known[list(labels)] = True
    return everything()[0], known


def city(root: Path, split: str = "train", town: str = "ulm", number: int = 0, tail: str = "labelIds") -> Path:
    name = f"{town}_{number:06}_000000"
    image(root / "leftImg8bit" / split / town / f"{name}_leftImg8bit.png")
    return mask(root / "gtFine" / split / town / f"{name}_gtFine_{tail}.png", 7)


def ade(root: Path, split: str = "training", number: int = 0) -> Path:
    image(root / "images" / split / f"ADE_{number:08}.jpg")
    return mask(root / "annotations" / split / f"ADE_{number:08}.png", 1)


def voc(root: Path, **lists: Iterable[str]) -> Path:
    for split, names in lists.items():
        for name in names:
            image(root / "JPEGImages" / f"{name}.jpg")
            mask(root / "SegmentationClass" / f"{name}.png", 0, range(96))
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in names))
    return root


def pairs(root: Path, images: str, masks: str, names: Iterable[str] = ("a", "b"), ending: str = "jpg") -> Path:
    for name in names:
        image(root / images / f"{name}.{ending}")
        mask(root / masks / f"{name}.png")
    return root


# Cityscapes ----------------------------------------------------------------------------------------------------------


def test_cityscapes_as_published(tmp_path: Path) -> None:
    for town in ("ulm", "aachen"):
        for number in (1, 0):
            city(tmp_path, "train", town, number)
    city(tmp_path, "val")
    for extra in ("color.png", "instanceIds.png", "polygons.json", "labelTrainIds.png"):
        (tmp_path / f"gtFine/val/ulm/ulm_000000_000000_gtFine_{extra}").write_bytes(b"not looked at")
    layout = read_cityscapes(tmp_path)
    assert counts(layout) == {"train": 4, "val": 1}
    assert [scene.image.name[:11] for scene in layout.parts["train"]] == [
        *("aachen_0000", "aachen_0000", "ulm_000000_", "ulm_000001_"),
    ]
    for scene in layout.parts["train"]:
        assert scene.mask.name == scene.image.name.replace("leftImg8bit", "gtFine_labelIds")
        assert scene.mask.is_file()
    assert (len(layout.classes), layout.classes[0], layout.classes[18]) == (19, "road", "bicycle")
    assert (layout.colors[0], layout.colors[13]) == ((128, 64, 128), (0, 0, 142))
    assert layout.lookup[:34].tolist() == TRAIN_IDS
    assert np.flatnonzero(layout.known).tolist() == [*range(34), 255]
    assert noted(layout, "4 train, 1 val")
    assert not layout.lookup.flags.writeable


def test_cityscapes_with_train_ids_alone(tmp_path: Path) -> None:
    city(tmp_path, tail="labelTrainIds")
    layout = read_cityscapes(tmp_path)
    assert layout.lookup[:19].tolist() == list(range(19))
    assert np.flatnonzero(layout.known).tolist() == [*range(19), 255]
    assert layout.lookup[255] == IGNORED


def test_cityscapes_lists_the_test_split_if_it_has_masks(tmp_path: Path) -> None:
    city(tmp_path)
    gone = city(tmp_path, "test")
    layout = read_cityscapes(tmp_path)
    assert counts(layout) == {"train": 1, "test": 1}
    assert noted(layout, "test", "ignored everywhere")
    gone.unlink()
    gone.parent.rmdir()
    gone.parent.parent.rmdir()
    layout = read_cityscapes(tmp_path)
    assert counts(layout) == {"train": 1}
    assert noted(layout, "test has no masks in gtFine")


def test_missing_masks_of_cityscapes_are_named_and_counted(tmp_path: Path) -> None:
    for number in range(7):
        path = city(tmp_path, number=number)
        if number > 1:
            path.unlink()
    text = refusal(read_cityscapes, tmp_path)
    assert f"{tmp_path} has 5 images without a mask" in text
    for number in (2, 3, 4):
        assert f"leftImg8bit/train/ulm/ulm_{number:06}_000000_leftImg8bit.png" in text
    assert "ulm_000005" not in text
    assert "gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png" in text


@pytest.mark.parametrize("missing", ["leftImg8bit", "gtFine", "leftImg8bit/train", "gtFine/train"])
def test_a_missing_folder_of_cityscapes_is_named(tmp_path: Path, missing: str) -> None:
    city(tmp_path)
    (tmp_path / missing).rename(tmp_path / "away")
    assert f"folder {missing} is missing" in refusal(read_cityscapes, tmp_path)


def test_a_mask_without_its_image_is_a_note(tmp_path: Path) -> None:
    city(tmp_path)
    mask(tmp_path / "gtFine/train/ulm/ulm_000009_000000_gtFine_labelIds.png")
    layout = read_cityscapes(tmp_path)
    assert counts(layout) == {"train": 1}
    assert noted(layout, "1 mask without an image", "ulm_000009_000000_gtFine_labelIds.png")


def test_a_split_without_images_is_noted(tmp_path: Path) -> None:
    city(tmp_path)
    for name in ("leftImg8bit", "gtFine"):
        (tmp_path / name / "val").mkdir()
    layout = read_cityscapes(tmp_path)
    assert counts(layout) == {"train": 1}
    assert noted(layout, "the val part", "no images")


@pytest.mark.parametrize("reader", [read_cityscapes, read_ade20k, read_voc, read_pairs])
def test_a_folder_that_is_not_there(tmp_path: Path, reader: object) -> None:
    assert f"data folder {tmp_path / 'nothing'} does not exist" in refusal(reader, tmp_path / "nothing")


# ADE20K --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", ["", "ADEChallengeData2016"])
def test_ade20k_as_published(tmp_path: Path, wrapper: str) -> None:
    for number in range(3):
        ade(tmp_path / wrapper, "training", number)
    ade(tmp_path / wrapper, "validation")
    layout = read_ade20k(tmp_path)
    assert counts(layout) == {"train": 3, "val": 1}
    assert layout.classes == tuple(str(label) for label in range(1, 151))
    assert layout.lookup[0] == IGNORED
    assert layout.lookup[1:151].tolist() == list(range(150))
    assert np.flatnonzero(layout.known).tolist() == list(range(151))
    assert len(set(layout.colors)) == 150


def test_ade20k_has_the_first_names_of_its_list(tmp_path: Path) -> None:
    ade(tmp_path)
    names = [f"thing {label}" for label in range(1, 151)]
    names[0], names[1], names[2], names[3] = "wall", "building, edifice", "screen, silver screen", "screen;CRT"
    rows = [f"{label}\t0.1\t11\t22\t1\t{name}" for label, name in enumerate(names, 1)]
    table = tmp_path / "objectInfo150.txt"
    table.write_text("Idx\tRatio\tTrain\tVal\tStuff\tName\n" + "\n".join(rows) + "\n")
    assert read_ade20k(tmp_path).classes[:5] == ("wall", "building", "screen, silver screen", "screen;CRT", "thing 5")
    table.write_text("Idx\tRatio\tTrain\tVal\tStuff\tName\n" + "\n".join(rows[:-1]) + "\n")
    assert f"{table} does not list classes 1 to 150" in refusal(read_ade20k, tmp_path)


@pytest.mark.parametrize("missing", ["images", "annotations", "images/training", "annotations/training"])
def test_a_missing_folder_of_ade20k_is_named(tmp_path: Path, missing: str) -> None:
    ade(tmp_path)
    (tmp_path / missing).rename(tmp_path / "away")
    assert f"folder {missing} is missing" in refusal(read_ade20k, tmp_path)


def test_a_missing_mask_of_ade20k_is_named(tmp_path: Path) -> None:
    ade(tmp_path).unlink()
    text = refusal(read_ade20k, tmp_path)
    assert "1 image without a mask: images/training/ADE_00000000.jpg (there are no masks at all);" in text
    assert "annotations/SPLIT/NAME.png" in text


# VOC -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_voc_as_published(tmp_path: Path, wrapper: str) -> None:
    voc(tmp_path / wrapper, train=["2007_2", "2007_1"], val=["2008_1"])
    image(tmp_path / wrapper / "JPEGImages" / "2009_1.jpg")  # most images have no mask
    layout = read_voc(tmp_path)
    assert counts(layout) == {"train": 2, "val": 1}
    assert [scene.image.stem for scene in layout.parts["train"]] == ["2007_1", "2007_2"]
    assert (len(layout.classes), layout.classes[0], layout.classes[20]) == (21, "background", "tvmonitor")
    assert layout.lookup[:21].tolist() == list(range(21))
    assert np.flatnonzero(layout.known).tolist() == [*range(21), 255]
    # The published palette.
    assert layout.colors[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert (layout.colors[8], layout.colors[15], layout.colors[20]) == ((64, 0, 0), (192, 128, 128), (0, 64, 128))


def test_listed_images_and_masks_of_voc_must_be_there(tmp_path: Path) -> None:
    voc(tmp_path, train=list("abcde"), val=["f"])
    for name in "abcd":
        (tmp_path / "SegmentationClass" / f"{name}.png").unlink()
    text = refusal(read_voc, tmp_path)
    assert (
        "4 images without a mask: JPEGImages/a.jpg, JPEGImages/b.jpg, JPEGImages/c.jpg, ... (there are 2 masks, such"
        in text
    )
    (tmp_path / "JPEGImages" / "e.jpg").unlink()
    assert "lacks 1 image that its lists name: JPEGImages/e.jpg;" in refusal(read_voc, tmp_path)


@pytest.mark.parametrize("missing", ["JPEGImages", "SegmentationClass", "ImageSets/Segmentation"])
def test_a_missing_folder_of_voc_is_named(tmp_path: Path, missing: str) -> None:
    voc(tmp_path, train=["a"])
    (tmp_path / missing).rename(tmp_path / "away")
    assert f"folder {missing} is missing" in refusal(read_voc, tmp_path)


def test_the_lists_of_voc(tmp_path: Path) -> None:
    voc(tmp_path, train=["a"])
    assert counts(read_voc(tmp_path)) == {"train": 1}
    mask(tmp_path / "SegmentationClass" / "b.png")
    assert noted(read_voc(tmp_path), "1 mask without an image", "SegmentationClass/b.png")
    listed = tmp_path / "ImageSets" / "Segmentation" / "train.txt"
    listed.unlink()
    assert "file ImageSets/Segmentation/train.txt is missing" in refusal(read_voc, tmp_path)
    listed.write_bytes(b"\xff\xfe\x00")
    assert f"{listed} is not UTF-8" in refusal(read_voc, tmp_path)


# Pairs ---------------------------------------------------------------------------------------------------------------


def test_splits_beside_annotations(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        pairs(tmp_path, split, f"{split}annot")
    layout = read_pairs(tmp_path, ("sky", "road"), (11,))
    assert counts(layout) == {"train": 2, "val": 2, "test": 2}
    assert layout.parts["val"][0] == Scene(tmp_path / "val/a.jpg", tmp_path / "valannot/a.png")
    assert layout.classes == ("sky", "road")
    assert np.flatnonzero(layout.known).tolist() == [0, 1, 11]
    assert layout.lookup[[0, 1, 11]].tolist() == [0, 1, IGNORED]


@pytest.mark.parametrize("masks", ["masks", "labels", "annotations", "Masks"])
def test_images_with_masks_in_splits(tmp_path: Path, masks: str) -> None:
    pairs(tmp_path, "images/train", f"{masks}/train")
    pairs(tmp_path, "images/valid", f"{masks}/validation", ["a"])
    image(tmp_path / "images" / "loose.jpg")
    layout = read_pairs(tmp_path, ("sky", "road"))
    assert counts(layout) == {"train": 2, "val": 1}
    assert np.flatnonzero(layout.known).tolist() == [0, 1, 255]
    assert noted(layout, "1 entry in no split", "loose.jpg")


def test_images_with_masks_without_splits(tmp_path: Path) -> None:
    pairs(tmp_path, "images/monday", "masks/monday")
    pairs(tmp_path, "images", "masks", ["z"])
    layout = read_pairs(tmp_path, ("sky", "road"))
    assert counts(layout) == {"all": 3}
    assert layout.parts["all"][2] == Scene(tmp_path / "images/z.jpg", tmp_path / "masks/z.png")


def test_endings_may_be_upper_case(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.JPG")
    image(tmp_path / "images" / "b.Jpeg")
    for name in ("a", "b"):
        mask(tmp_path / "masks" / f"{name}.PNG")
    layout = read_pairs(tmp_path, ("sky", "road"))
    assert counts(layout) == {"all": 2}
    assert [read_scene(scene, layout)[1].max() for scene in layout.parts["all"]] == [0, 0]


def test_hidden_and_foreign_files_are_passed_over(tmp_path: Path) -> None:
    pairs(tmp_path, "images", "masks")
    for name in ("images/._a.jpg", "images/notes.txt", "images/.cache/x.jpg", "masks/.DS_Store", "masks/Thumbs.db"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"nothing")
    layout = read_pairs(tmp_path, ("sky", "road"))
    assert counts(layout) == {"all": 2}
    (note,) = [note for note in layout.notes if "left out" in note]
    assert "1 file with other endings than those of images left out: 1 .txt" in note


def test_class_names_from_a_file(tmp_path: Path) -> None:
    pairs(tmp_path, "images", "masks")
    text = refusal(read_pairs, tmp_path)
    assert str(tmp_path / "classes.txt") in text
    assert "data.class_names" in text
    (tmp_path / "classes.txt").write_text("\ufeffvoid\r\nsky \nStraße\n\n", encoding="utf-8")
    layout = read_pairs(tmp_path)
    assert layout.classes == ("void", "sky", "Straße")
    assert len(set(layout.colors)) == 3
    assert read_pairs(tmp_path, ("a", "b")).classes == ("a", "b")
    (tmp_path / "classes.txt").write_text("void\n\nsky\n")
    assert "line 2 of" in refusal(read_pairs, tmp_path)


def test_an_ignored_label_with_a_name_is_no_class(tmp_path: Path) -> None:
    pairs(tmp_path, "images", "masks")
    layout = read_pairs(tmp_path, ("void", "sky", "edge", "road"), (0, 2))
    assert layout.classes == ("sky", "road")
    assert layout.lookup[:4].tolist() == [IGNORED, 0, IGNORED, 1]
    assert np.flatnonzero(layout.known).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("names", "ignore", "words"),
    [
        (("sky", "road", "sky"), (), "'sky' is given twice"),
        (("sky",), (), "1 class names leave 1 classes"),
        (("sky", "road"), (0,), "2 class names leave 1 classes"),
        (tuple(map(str, range(256))), (), "256 class names"),
        (tuple(map(str, range(257))), (0, 1, 2), "257 class names"),
        (("sky", "road"), (256,), "label 256 cannot be ignored"),
        (("sky", "road"), (-1,), "label -1 cannot be ignored"),
    ],
)
def test_impossible_class_names(tmp_path: Path, names: tuple[str, ...], ignore: tuple[int, ...], words: str) -> None:
    pairs(tmp_path, "images", "masks")
    assert words in refusal(read_pairs, tmp_path, names, ignore)


@pytest.mark.parametrize(
    ("images", "masks", "words"),
    [
        ("train", "elsewhere", "folder trainannot, or images, is missing"),
        ("elsewhere", "trainannot", "folder {root}/train is missing"),
        ("images", "elsewhere", "no folder masks, labels or annotations"),
        ("images/train", "masks/val", "folder {root}/masks/train is missing"),
        ("here", "there", "folder images is missing"),
    ],
)
def test_a_missing_folder_of_pairs_is_named(tmp_path: Path, images: str, masks: str, words: str) -> None:
    pairs(tmp_path, images, masks)
    assert words.format(root=tmp_path) in refusal(read_pairs, tmp_path, ("sky", "road"))


def test_a_split_without_annotations_is_named(tmp_path: Path) -> None:
    pairs(tmp_path, "train", "trainannot")
    image(tmp_path / "test" / "a.jpg")
    assert f"folder {tmp_path / 'testannot'} is missing" in refusal(read_pairs, tmp_path, ("sky", "road"))


def test_pairs_that_do_not_match(tmp_path: Path) -> None:
    pairs(tmp_path, "train", "trainannot", "abcdefgh")
    pairs(tmp_path, "val", "valannot", "xyz")
    for name in ("trainannot/b", "trainannot/d", "valannot/y", "valannot/z"):
        (tmp_path / f"{name}.png").unlink()
    text = refusal(read_pairs, tmp_path, ("sky", "road"))
    assert "4 images without a mask: train/b.jpg, train/d.jpg, val/y.jpg, ... (there are 7 masks" in text
    assert "add masks like SPLITannot/NAME.png" in text
    for name in ("train/b", "train/d", "val/y", "val/z"):
        (tmp_path / f"{name}.jpg").unlink()
    (tmp_path / "train" / "a.jpg").unlink()
    layout = read_pairs(tmp_path, ("sky", "road"))
    assert counts(layout) == {"train": 5, "val": 1}
    assert noted(layout, "1 mask without an image", "trainannot/a.png")


def test_masks_that_lose_numbers_are_refused(tmp_path: Path) -> None:
    pairs(tmp_path, "images", "masks")
    (tmp_path / "masks" / "b.png").unlink()
    image(tmp_path / "masks" / "b.jpg")
    assert "1 mask in other formats than PNG: masks/b.jpg" in refusal(read_pairs, tmp_path, ("sky", "road"))


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    pairs(tmp_path, "images", "masks")
    image(tmp_path / "images" / "a.png")
    text = refusal(read_pairs, tmp_path, ("sky", "road"))
    assert str(tmp_path / "images" / "a.jpg") in text
    assert "a.png" in text


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    mask(tmp_path / "masks" / "a.png")
    assert f"{tmp_path} has folders for images but none in them" in refusal(read_pairs, tmp_path, ("sky", "road"))


def test_colours_are_well_apart() -> None:
    colors = np.array([(0, 0, 0), (255, 255, 255), *spread_colors(255)])
    apart = np.abs(colors[:, None] - colors[None]).sum(-1) + 1000 * np.eye(len(colors), dtype=int)
    assert apart.min() >= 31
    assert apart[:21, :21].min() >= 120
    assert spread_colors(5) == spread_colors(255)[:5]


# Masks ---------------------------------------------------------------------------------------------------------------


def numbers(below: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, below, (HEIGHT, WIDTH)).astype(np.uint8)


def test_masks_come_back_as_stored(tmp_path: Path) -> None:
    values = numbers(256)
    # In the palette all colours are alike: a way through colours would lose the numbers.
    for name, path in {
        "grey": mask(tmp_path / "grey.png", values),
        "palette": mask(tmp_path / "palette.png", values, [9, 9, 9] * 256),
        "16 bits": mask(tmp_path / "deep.png", values.astype(np.uint16)),
    }.items():
        ids = read_mask(path, *everything())
        assert ids.dtype == np.uint8, name
        assert (ids == values).all(), name


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_masks_of_few_bits_come_back_as_stored(tmp_path: Path, bits: int) -> None:
    values = numbers(2**bits)
    packed = np.packbits(np.unpackbits(values[..., None], axis=-1)[..., 8 - bits :].reshape(HEIGHT, -1), axis=-1)
    path = png(tmp_path / "grey.png", [row.tobytes() for row in packed], WIDTH, bits)
    assert (read_mask(path, *everything()) == values).all()
    image = Image.fromarray(values)
    image.putpalette([9, 9, 9] * 2**bits)
    image.save(tmp_path / "palette.png", bits=bits)
    assert (tmp_path / "palette.png").read_bytes()[24:26] == bytes([bits, 3])
    assert (read_mask(tmp_path / "palette.png", *everything()) == values).all()


def test_labels_become_classes(tmp_path: Path) -> None:
    city(tmp_path)
    layout = read_cityscapes(tmp_path)
    values: Values = np.arange(34, dtype=np.uint8)[None].repeat(2, 0)
    for kind in (np.uint8, np.uint16):
        ids = read_mask(mask(tmp_path / "mask.png", values.astype(kind)), layout.lookup, layout.known)
        assert ids[1].tolist() == TRAIN_IDS


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_an_unknown_label_is_refused(tmp_path: Path, kind: type) -> None:
    values: Values = np.array([[0, 1, 2, 34, 34, 255]], kind)
    path = mask(tmp_path / "mask.png", values)
    text = refusal(read_mask, path, *only(0, 1, 2, 255))
    assert f"mask {path} holds label 34 in 2 pixels; known are 0-2, 255" in text
    assert "name or ignore label 34" in text
    assert "34 in 2 pixels and 1 more unknown label;" in refusal(read_mask, path, *only(0, 1, 2))


def test_numbers_of_objects_are_refused(tmp_path: Path) -> None:
    path = mask(tmp_path / "instances.png", np.array([[7, 24000, 26001, 65535]], np.uint16))
    text = refusal(read_mask, path, *everything())
    assert f"mask {path} holds label 24000 in 1 pixel and 2 more unknown labels; known are 0-255" in text
    assert "numbers of objects" in text


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "mask.png"
    Image.new(mode, (4, 4)).save(path)
    text = refusal(read_mask, path, *everything())
    assert f"mask {path} holds colours ({mode}), a mask must hold class numbers" in text


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.new("L", (4, 4)).save(path, format="JPEG")
    assert f"mask {path} is a JPEG file" in refusal(read_mask, path, *everything())


def test_a_truncated_mask_is_reported_in_one_line(tmp_path: Path) -> None:
    path = mask(tmp_path / "mask.png", np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8))
    whole = path.read_bytes()
    for length in (*range(0, len(whole) - 16, 97), 25, 26, 33):
        path.write_bytes(whole[:length])
        assert str(path) in refusal(read_mask, path, *everything())
    path.write_text("a letter")
    assert "no image format is known" in refusal(read_mask, path, *everything())
    path.unlink()
    with pytest.raises(BrokenImage, match="does not exist"):
        read_mask(path, *everything())


# Scenes --------------------------------------------------------------------------------------------------------------


def test_a_scene_is_an_image_and_its_classes(tmp_path: Path) -> None:
    scene = Scene(image(tmp_path / "a.png"), mask(tmp_path / "m.png", numbers(5)))
    pil_image, classes = read_scene(scene, ANY)
    assert (pil_image.mode, pil_image.size, classes.shape) == ("RGB", (WIDTH, HEIGHT), (HEIGHT, WIDTH))
    assert (np.asarray(pil_image) == np.asarray(Image.open(scene.image))).all()


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_of_other_colours_become_rgb(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (WIDTH, HEIGHT)).save(tmp_path / "a.jpg")
    image, _ = read_scene(Scene(tmp_path / "a.jpg", mask(tmp_path / "a.png")), ANY)
    assert (image.mode, image.size) == ("RGB", (WIDTH, HEIGHT))


def test_other_sizes_are_refused(tmp_path: Path) -> None:
    for size in ((9, 6), (HEIGHT, WIDTH)):
        scene = Scene(image(tmp_path / "a.jpg", size), mask(tmp_path / "a.png"))
        text = refusal(read_scene, scene, ANY)
        assert f"{scene.image} is {size[0]} x {size[1]} pixels" in text
        assert f"{scene.mask} is 8 x 6;" in text


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_image_fits_its_mask(tmp_path: Path, orientation: int) -> None:
    """The mask is upright or as stored; its size tells."""
    path = image(tmp_path / "a.png", (WIDTH, HEIGHT), orientation)
    stored = np.asarray(Image.open(path))
    turned = orientation > 4
    upright, _ = read_scene(
        Scene(path, mask(tmp_path / "up.png", np.zeros((WIDTH, HEIGHT) if turned else (HEIGHT, WIDTH), np.uint8))),
        ANY,
    )
    assert upright.size == ((HEIGHT, WIDTH) if turned else (WIDTH, HEIGHT))
    # The corner that orientation says is the first one, by the standard.
    first = [(0, 0), (0, -1), (-1, -1), (-1, 0), (0, 0), (-1, 0), (-1, -1), (0, -1)][orientation - 1]
    assert np.asarray(upright)[0, 0].tolist() == stored[first].tolist()
    as_stored, _ = read_scene(Scene(path, mask(tmp_path / "m.png")), ANY)
    assert as_stored.size == (WIDTH, HEIGHT)
    if turned:
        assert (np.asarray(as_stored) == stored).all()
    wrong = mask(tmp_path / "wrong.png", np.zeros((3, 3), np.uint8))
    assert "3 x 3" in refusal(read_scene, Scene(path, wrong), ANY)


def test_a_broken_image_is_reported(tmp_path: Path) -> None:
    scene = Scene(image(tmp_path / "a.jpg"), mask(tmp_path / "a.png"))
    scene.image.write_bytes(scene.image.read_bytes()[:200])
    assert str(scene.image) in refusal(read_scene, scene, ANY)


# The real data -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not CAMVID.is_dir(), reason="the data set is not here")
def test_camvid_has_its_counts() -> None:
    layout = read_pairs(CAMVID, CAMVID_NAMES, (11,))
    assert counts(layout) == {"train": 367, "val": 101, "test": 233}
    assert not noted(layout, "left out")
    pixels = np.zeros(256, np.int64)
    for part in layout.parts.values():
        for scene in part[::10]:
            image, classes = read_scene(scene, layout)
            assert image.size == (480, 360)
            pixels += np.bincount(classes.ravel(), minlength=256)
    # Road, 29.3% of all pixels, and unlabelled, 3.6%, of a tenth of the images.
    share = pixels / pixels.sum()
    assert share[3] == pytest.approx(0.293, abs=0.02)
    assert share[IGNORED] == pytest.approx(0.036, abs=0.01)
    assert np.flatnonzero(pixels).tolist() == [*range(11), IGNORED]


@pytest.mark.skipif(not CITY_LAYOUT.is_dir(), reason="the data set is not here")
def test_label_ids_become_the_train_ids_beside_them() -> None:
    layout = read_cityscapes(CITY_LAYOUT)
    assert counts(layout) == {"train": 60, "val": 20}
    for part in layout.parts.values():
        for scene in part:
            image, classes = read_scene(scene, layout)
            assert image.size == (256, 192)
            assert (classes == train_ids_beside(scene)).all()


@pytest.mark.skipif(not CITY_SAMPLE.is_dir(), reason="the data set is not here")
def test_a_frame_of_cityscapes() -> None:
    """Its two masks differ in 77 pixels of edges: in each class, most pixels say what the other mask should hold."""
    layout = read_cityscapes(CITY_SAMPLE)
    assert counts(layout) == {"val": 1}
    (scene,) = layout.parts["val"]
    image, classes = read_scene(scene, layout)
    assert image.size == (256, 128)
    beside = train_ids_beside(scene)
    assert (classes != beside).sum() == 77
    stored = np.asarray(Image.open(scene.mask))
    for label in np.unique(stored):
        assert layout.lookup[label] == np.bincount(beside[stored == label]).argmax()


@pytest.mark.skipif(not CITY_SAMPLE.is_dir(), reason="the data set is not here")
def test_the_numbers_of_objects_of_cityscapes_are_refused() -> None:
    layout = read_cityscapes(CITY_SAMPLE)
    path = next(CITY_SAMPLE.glob("gtFine/*/*/*_instanceIds.png"))
    assert "label 24000" in refusal(read_mask, path, layout.lookup, layout.known)
