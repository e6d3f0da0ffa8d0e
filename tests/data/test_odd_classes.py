"""Classes that people have: masks of 0 and 255, names in other orders, forms and spellings, splits that are none."""

from __future__ import annotations

import sys
import types
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_outcome import Cli
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
from supertickets import UserError, load_recipe
from supertickets.config.recipe import DataSettings
from supertickets.data import published_shape
from supertickets.data.file_lists import natural_key, split_of

PARTS = ("background", "gear", "bolt")


def own(monkeypatch: pytest.MonkeyPatch, kind: type) -> str:
    """Return the source that a user's own class is."""
    module = types.ModuleType("odd_mine")
    module.Data = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "odd_mine", module)
    return "odd_mine:Data"


def scenes_of(values: tuple[int, ...], names: Any = ("background", "road")) -> type:
    """Return a user's class of scenes, whose masks hold some labels."""

    class Scenes:
        task = "segmentation"
        classes = names

        def __init__(self, folder: Path | None, split: str) -> None:
            self.count = 10 if split == "train" else 0

        def __len__(self) -> int:
            return self.count

        def __getitem__(self, position: int) -> Any:
            mask = np.resize(np.array(values, np.uint8), (10, 12))
            return np.full((10, 12, 3), position, np.uint8), mask

    return Scenes


# Masks of 0 and 255 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_gb", [0.0, 1.0])
def test_masks_whose_object_is_ignored_are_refused(tmp_path: Path, keep_gb: float) -> None:
    text = refusal("masks", pairs(tmp_path, (0, 255)), class_names=("background", "road"), keep_gb=keep_gb)
    assert "class 'background' alone" in text
    assert "(50% of pixels) is ignored" in text
    assert "--data.ignore []" in text


def test_masks_of_0_and_255_are_read_as_two_classes(tmp_path: Path) -> None:
    splits = read("masks", pairs(tmp_path, (0, 255)), class_names=("background", "road"), ignore=())
    _, mask = splits.train.scene(0)  # type: ignore[attr-defined]
    assert mask[0].tolist() == [0] * 6 + [1] * 6
    assert noted(splits, "0 is 'background', 255 is 'road'")


def test_masks_of_0_1_and_255_are_not_guessed(tmp_path: Path) -> None:
    text = refusal("masks", pairs(tmp_path, (0, 1, 255)), class_names=("background", "road"), ignore=())
    assert "label 255 in 40 pixels" in text


def test_masks_of_0_and_255_in_vocs_layout_are_refused(tmp_path: Path) -> None:
    assert "class 'background' alone" in refusal("voc", voc(tmp_path, (0, 255)), class_names=("background", "road"))


def test_masks_in_which_all_is_ignored_are_refused(tmp_path: Path) -> None:
    assert "masks hold no class, all else (100% of pixels)" in refusal("cityscapes", city(tmp_path / "a", (0, 255)))
    assert "hold no class" in refusal("ade20k", ade(tmp_path / "b", (0, 255)), class_names=PARTS)


def test_masks_of_0_and_255_of_a_class_of_ones_own_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    source = own(monkeypatch, scenes_of((0, 255)))
    assert "class 'background' alone" in refusal(source, None, size=(16, 16))


# Classes without samples ---------------------------------------------------------------------------------------------


def test_a_class_that_no_training_mask_has_is_said(tmp_path: Path) -> None:
    splits = read("masks", pairs(tmp_path / "a", (0, 1)), class_names=PARTS)
    assert noted(splits, "class 'bolt' never occurs in a training mask")
    splits = read("masks", tmp_path / "a", class_names=PARTS, keep_gb=0)
    assert noted(splits, "class 'bolt' never occurs in a training mask of 7 looked at")
    assert not noted(read("masks", pairs(tmp_path / "b", (0, 1, 2)), class_names=PARTS), "never occurs")


def test_classes_that_no_mask_of_ade20k_has_are_counted(tmp_path: Path) -> None:
    assert noted(read("ade20k", ade(tmp_path)), "classes '3', '4', '5', ... (148 in all) never occur in a training")


def test_a_class_that_no_sample_of_ones_own_has_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    source = own(monkeypatch, scenes_of((0, 1), PARTS))
    assert noted(read(source, None, size=(16, 16)), "class 'bolt' never occurs")


def test_a_label_that_idx_files_skip_is_said(tmp_path: Path, write_idx: Any) -> None:
    for name, count in (("train", 20), ("t10k", 4)):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte.gz", np.zeros((count, 4, 4), np.uint8))
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 2 * 2)  # 0 and 2
    assert noted(read("idx", tmp_path), "class '1' never occurs in a training image")


def test_a_label_that_cifar_lacks_is_said(tmp_path: Path) -> None:
    root = cifar(tmp_path, names=[f"c{i}" for i in range(11)])
    assert noted(read("cifar10", root), "class 'c10' never occurs")


# Own classes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "write", "stored"), [("voc", voc, (0, 1, 2)), ("cityscapes", city, (0, 1, 2))])
def test_names_of_ones_own_are_those_of_the_stored_labels(
    tmp_path: Path, source: str, write: Any, stored: tuple[int, ...]
) -> None:
    root = write(tmp_path, stored)
    splits = read(source, root, class_names=PARTS)
    assert splits.classes == PARTS
    assert splits.train.scene(0)[1][0].tolist() == [0] * 4 + [1] * 4 + [2] * 4  # type: ignore[attr-defined]
    assert "label 2 in 40 pixels" in refusal(source, root, class_names=PARTS[:2])
    (root / "classes.txt").write_text("\n".join(PARTS))
    assert read(source, root).classes == PARTS


def test_names_of_ones_own_begin_at_label_1_in_the_layout_of_ade20k(tmp_path: Path) -> None:
    splits = read("ade20k", ade(tmp_path, (0, 1, 2)), class_names=("gear", "bolt"))
    assert splits.classes == ("gear", "bolt")
    assert splits.train.scene(0)[1][0].tolist() == [255] * 4 + [0] * 4 + [1] * 4  # type: ignore[attr-defined]


def test_names_of_ones_own_replace_those_of_a_class_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    source = own(monkeypatch, scenes_of((0, 1)))
    assert read(source, None, size=(16, 16), class_names=("floor", "wall")).classes == ("floor", "wall")


def test_a_plan_counts_classes_of_ones_own() -> None:
    assert published_shape(DataSettings(source="voc", class_names=PARTS))["num_classes"] == 3
    assert published_shape(DataSettings(source="voc"))["num_classes"] == 21


def test_palettes_that_differ_are_refused(tmp_path: Path) -> None:
    """Drawing programs number the colours of each image anew."""
    root, black, red, green = pairs(tmp_path), [0, 0, 0], [255, 0, 0], [0, 255, 0]
    for i in range(10):
        labels(root / "masks" / f"{i}.png", (0, 1), palette=black + (green if i == 3 else red))
    text = refusal("masks", root, class_names=PARTS)
    assert "number 1 is (255, 0, 0) in" in text
    assert f"but (0, 255, 0) in {root / 'masks' / '3.png'}" in text
    labels(root / "masks" / "3.png", (0, 2), palette=black + green + red)
    assert "colour (255, 0, 0) is 1 in" in refusal("masks", root, class_names=PARTS)
    labels(root / "masks" / "3.png", (0, 1), palette=black + red + green)  # one colour more, which it does not use
    assert total(read("masks", root, class_names=PARTS)) == 10


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["cifar10", "cifar100"])
def test_names_and_labels_that_were_repacked_are_read(tmp_path: Path, source: str) -> None:
    """As ``pickle.load(..., encoding="bytes")`` and numpy have them."""
    names = ["café".encode(), *(f"c{i}".encode() for i in range(1, 10 if source == "cifar10" else 100))]
    splits = read(source, cifar(tmp_path, source, names, np.array))
    assert splits.classes[:3] == ("café", "c1", "c2")
    assert splits.test.labels.tolist()[:3] == [0, 1, 2]  # type: ignore[attr-defined]


def test_labels_that_are_numpys_numbers_are_read(tmp_path: Path) -> None:
    splits = read("cifar10", cifar(tmp_path, numbers=lambda values: [np.int64(i) for i in values]))
    assert splits.test.labels.tolist()[:3] == [0, 1, 2]  # type: ignore[attr-defined]


@pytest.mark.parametrize("names", [[0, 1], [None] * 10, "abcdefghij", [], ["a"] * 10])
def test_names_of_cifar_that_are_no_different_texts_are_refused(tmp_path: Path, names: Any) -> None:
    assert "name" in refusal("cifar10", cifar(tmp_path, names=names))


def test_names_that_are_bytes_are_refused_of_a_class_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    source = own(monkeypatch, scenes_of((0, 1), [b"a", b"b"]))
    assert "give a list of two or more different names" in refusal(source, None, size=(16, 16))


def test_a_list_of_names_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    root = tiny_imagenet(tmp_path)
    (root / "words.txt").write_bytes(b"n01\tcaf\xe9\n")
    assert "words.txt is not UTF-8 text" in refusal("tiny_imagenet", root)


def test_folders_that_are_numbers_are_in_natural_order(tmp_path: Path) -> None:
    names = tuple(f"name{i}" for i in range(12))
    splits = read("folders", class_tree(tmp_path, map(str, range(12))), class_names=names)
    assert class_of(splits) == {str(i): f"name{i}" for i in range(12)}
    assert noted(splits, "2 is 'name2', 3 is 'name3'")


def test_leaves_that_are_numbers_are_in_natural_order(tmp_path: Path) -> None:
    splits = read("folders", class_tree(tmp_path, [f"lot/{i}" for i in range(12)]), class_level="leaf")
    assert splits.classes[:4] == ("0", "1", "2", "3")


def test_names_that_are_the_folders_own_say_their_order(tmp_path: Path) -> None:
    splits = read("folders", class_tree(tmp_path, ["cat", "dog"]), class_names=("dog", "cat"))
    assert splits.classes == ("dog", "cat")
    assert class_of(splits) == {"cat": "cat", "dog": "dog"}


@pytest.mark.parametrize("source", ["cifar10", "cifar100"])
def test_a_name_that_another_class_has_is_refused(tmp_path: Path, source: str) -> None:
    own_names = [f"c{i}" for i in range(10 if source == "cifar10" else 100)]
    root = cifar(tmp_path, source)
    swapped = (own_names[1], own_names[0], *own_names[2:])
    assert f"calls class '{own_names[0]}' {own_names[1]}" in refusal(source, root, class_names=swapped)
    assert "given twice" in refusal(source, root, class_names=("x", "x", *own_names[2:]))


def test_natural_order() -> None:
    assert sorted(["10", "b2", "9", "b10", "a", "010"], key=natural_key) == ["9", "010", "10", "a", "b2", "b10"]


@pytest.mark.parametrize("words", ["[no, yes]", "[0, 1]", "[010, ~]", "[2020-01-01, null]"])
def test_names_on_the_command_line_are_texts(tmp_path: Path, cli: Cli, words: str) -> None:
    outcome = cli("draw", "images", "--data", class_tree(tmp_path, "ab", 6), "--data.class_names", words, "--plan")
    assert outcome.status == 0, outcome.err
    first, second = words.strip("[]").split(", ")
    assert f"a is '{first}', b is '{second}'" in outcome.err


def recipe_with_names(folder: Path, words: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(
        f"format_version: 2\ndata: {{source: folders, class_names: {words}}}\nsupernet: {{name: resnet8}}\n"
    )
    return str(path)


@pytest.mark.parametrize(
    "words", ["[no, yes]", "[~, a]", "[2020-01-01, a]", "[010, a]", "[0x1F, a]", "[1_000, a]", "[1.50, a]"]
)
def test_names_in_a_recipe_that_are_no_texts_ask_for_quotes(tmp_path: Path, words: str) -> None:
    with pytest.raises(UserError, match="put texts in quotes"):
        load_recipe(recipe_with_names(tmp_path, words))


def test_names_in_a_recipe_that_are_texts_or_plain_numbers_stay_as_they_are(tmp_path: Path) -> None:
    named = load_recipe(recipe_with_names(tmp_path, '["010", 7]'), ["--prune.ratio", "0"]).data.class_names
    assert named == ("010", "7")


# Splits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "second"),
    [
        *(("training_set", "test_set"), ("seg_train", "seg_test"), ("train", "eval"), ("train", "dev")),
        *(("train", "validate"), ("Train", "VALIDATION"), ("trainset", "valset"), ("train2017", "val2017")),
    ],
)
def test_splits_are_no_classes(tmp_path: Path, train: str, second: str) -> None:
    class_tree(tmp_path / train, ["cat", "dog"], 6)
    class_tree(tmp_path / second, ["cat", "dog"], 2)
    splits = read("folders", tmp_path)
    assert splits.classes == ("cat", "dog")
    assert [path.parts[-3] for path in splits.test.paths] == [second] * 4  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("train", "second"), [("training_set", "test_set"), ("Train", "dev"), ("seg_train", "seg_test")]
)
def test_splits_of_scenes_in_other_words(tmp_path: Path, train: str, second: str) -> None:
    pairs(tmp_path, images=f"images/{train}", masks=f"masks/{train}")
    pairs(tmp_path, count=3, images=f"images/{second}", masks=f"masks/{second}")
    assert len(read("masks", tmp_path, class_names=PARTS[:2]).test) == 3
    other = tmp_path / "other"
    pairs(other, images=f"{train}/images", masks=f"{train}/masks")
    pairs(other, count=4, images=f"{second}/images", masks=f"{second}/masks")
    assert len(read("masks", other, class_names=PARTS[:2]).test) == 4


def test_splits_of_published_layouts_in_other_words(tmp_path: Path) -> None:
    assert total(read("cityscapes", city(tmp_path / "city", splits=("Train", "valid")))) == 10
    assert total(read("ade20k", ade(tmp_path / "ade", splits=("train", "val")))) == 10
    lists = {"Training": range(6), "valid": range(6, 8), "test": range(8, 10)}
    assert len(read("voc", voc(tmp_path / "voc", **lists)).test) == 2


@pytest.mark.parametrize(
    ("name", "split"),
    [("TRAIN", "train"), ("test_data", "test"), ("validation_split", "val"), ("data-train", "train"), ("test1", "test")]
    + [(name, None) for name in ("trainer", "contest", "evaluate_me", "train_extra", "cat", "devil", "1")],  # type: ignore[list-item]
)
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_folders_beside_used_splits_are_said(tmp_path: Path) -> None:
    for name in ("train", "val", "test", "dev", "extra"):
        class_tree(tmp_path / name, ["cat", "dog"])
    splits = read("folders", tmp_path)
    assert noted(splits, tmp_path / "dev", "not used", "val is the val split")
    assert noted(splits, "1 folder beside the splits", "extra")
    root = city(tmp_path / "city", splits=("train", "val", "train_extra"))
    assert noted(read("cityscapes", root), "in no split", "train_extra")
    root = voc(tmp_path / "voc", train=range(8), val=range(8, 10), all=range(10), trainval=range(10))
    assert [note for note in read("voc", root).notes if "not used" in note] == [
        f"{root / 'ImageSets/Segmentation/all.txt'} is not used"
    ]


def test_a_split_without_labels_is_left_out(tmp_path: Path) -> None:
    """As contests have it: train/cat, train/dog, test/1.jpg."""
    class_tree(tmp_path / "train", ["cat", "dog"], 8)
    for i in range(3):
        write_image(tmp_path / "test" / f"{i}.png", i)
    splits = read("folders", tmp_path)
    assert (splits.classes, total(splits)) == (("cat", "dog"), 16)
    assert noted(splits, "3 images", tmp_path / "test", "without labels")


def test_one_split_beside_classes_is_refused_unless_it_looks_like_one_of_them(tmp_path: Path) -> None:
    class_tree(tmp_path / "a" / "train", ["cat", "dog"])
    class_tree(tmp_path / "a", ["bus"])
    assert "holds folders, as a split does, but is beside bus" in refusal("folders", tmp_path / "a")
    splits = read("folders", class_tree(tmp_path / "b", ["train", "bus"]))  # trains and buses
    assert splits.classes == ("bus", "train")
    assert noted(splits, "taken for a class")


# Spellings -----------------------------------------------------------------------------------------------------------

COMPOSED, APART = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")


def test_two_spellings_of_a_class_are_one_class(tmp_path: Path) -> None:
    class_tree(tmp_path / "train", [COMPOSED, "dog"])
    class_tree(tmp_path / "test", [APART, "dog"])
    assert read("folders", tmp_path).classes == (COMPOSED, "dog")
    class_tree(tmp_path / "train", [APART])
    splits = read("folders", tmp_path)
    assert splits.classes == (COMPOSED, "dog")
    assert noted(splits, "two spellings of one name")
    assert read("folders", tmp_path, class_names=("dog", APART)).classes == ("dog", COMPOSED)


def test_two_spellings_of_an_image_and_its_mask_are_a_pair(tmp_path: Path) -> None:
    pairs(tmp_path / "a", count=8)
    write_image(tmp_path / "a" / "images" / f"{COMPOSED}.png")
    labels(tmp_path / "a" / "masks" / f"{APART}.png", 0)
    assert total(read("masks", tmp_path / "a", class_names=PARTS[:2])) == 9
    root = voc(tmp_path / "b")
    write_image(root / "JPEGImages" / f"{COMPOSED}.jpg")
    labels(root / "SegmentationClass" / f"{COMPOSED}.png", 0)
    with (root / "ImageSets" / "Segmentation" / "train.txt").open("a") as file:
        file.write(f"{APART}\n")
    assert total(read("voc", root)) == 11


def test_two_spellings_of_an_image_and_its_annotation_are_one(tmp_path: Path) -> None:
    root = tiny_imagenet(tmp_path)
    write_image(root / "val" / "images" / f"{APART}.JPEG", 7, (16, 16))
    with (root / "val" / "val_annotations.txt").open("a") as file:
        file.write(f"{COMPOSED}.JPEG\tn01\t0\t0\t15\t15\n")
    assert len(read("tiny_imagenet", root).test) == 3


def test_equal_names_in_different_folders_are_different_scenes(tmp_path: Path) -> None:
    for number, town in enumerate(("ulm", "bonn")):
        for i in range(5):
            write_image(tmp_path / "images" / town / f"{i}.png", i)
            labels(tmp_path / "masks" / town / f"{i}.png", number)
    splits = read("masks", tmp_path, class_names=PARTS[:2])
    for part in (splits.train, splits.validation, splits.test):
        for i, path in enumerate(part.images):  # type: ignore[attr-defined]
            assert part.scene(i)[1].max() == ["ulm", "bonn"].index(path.parent.name)  # type: ignore[attr-defined]
    assert len(set(image_paths(splits))) == 10


def test_names_that_a_source_does_not_take_are_refused(tmp_path: Path) -> None:
    root = market(tmp_path, {"train2017": 4, "val2017": 4})
    assert "data.class_names is not for coco_boxes" in refusal("coco_boxes", root, size=32, class_names=PARTS)
