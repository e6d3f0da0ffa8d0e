"""Images in folders: which trees are understood, what is left out and said, and a whole run on them."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cli_outcome import Cli
from supertickets import UserError
from supertickets.config.recipe import AugmentSettings, DataSettings
from supertickets.data import Batches, ImageFiles, InMemoryImages, Samples, Splits, load_splits
from supertickets.data.preprocessing import BrokenImage

REAL_TINY = Path(__file__).resolve().parents[2] / "../shared/data/tiny_imagenet_40"


def image(path: Path, seed: int, size: tuple[int, int] = (12, 10)) -> Path:
    """A file of random colours, no two alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def tree(root: Path, classes: Iterable[str], count: int = 8, ending: str = "png") -> Path:
    """A folder for every class, with ``count`` images each."""
    for number, name in enumerate(classes):
        for i in range(count):
            image(root / name / f"{i:02}.{ending}", 1000 * number + i)
    return root


def load(root: Path, **settings: object) -> Splits:
    return load_splits(DataSettings(source="folders", dir=str(root), validation=0.2, **settings))  # type: ignore[arg-type]


def refusal(root: Path, **settings: object) -> str:
    with pytest.raises(UserError) as error:
        load(root, **settings)
    text = str(error.value)
    assert "\n" not in text
    return text


def paths(data: Samples) -> list[Path]:
    assert isinstance(data, ImageFiles)
    return list(data.paths)


def every_path(splits: Splits) -> list[Path]:
    return sorted(path for part in (splits.train, splits.validation, splits.test) for path in paths(part))


def noted(splits: Splits, *words: object) -> bool:
    return any(all(str(word) in note for word in words) for note in splits.notes)


# Trees ---------------------------------------------------------------------------------------------------------------


def test_every_folder_is_a_class(tmp_path: Path) -> None:
    splits = load(tree(tmp_path, ["cat", "dog", "eel"]))
    assert splits.classes == ("cat", "dog", "eel")
    for part in (splits.train, splits.validation, splits.test):
        assert [splits.classes[int(label)] for label in part.labels] == [path.parent.name for path in paths(part)]
    assert every_path(splits) == sorted(tmp_path.glob("*/*.png"))


def test_the_notes_tell_classes_counts_and_size(tmp_path: Path) -> None:
    splits = load(tree(tmp_path, ["cat", "dog"], 20), test=0.25, size=24)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [24, 6, 10]
    assert noted(splits, "2 classes", "cat 12", "dog 12")
    assert noted(splits, "24 training, 6 validation, 10 test images", "25% of every class")
    assert noted(splits, "24 x 24")


def test_folders_below_a_class_belong_to_it(tmp_path: Path) -> None:
    tree(tmp_path, ["cat/young/small", "cat/old", "dog"])
    splits = load(tmp_path)
    assert splits.classes == ("cat", "dog")
    assert len(every_path(splits)) == 24
    assert sum(int((part.labels == 0).sum()) for part in (splits.train, splits.validation, splits.test)) == 16


@pytest.mark.parametrize("wrapper", ["pets", "data/pets"])
def test_a_folder_without_siblings_may_hold_splits(tmp_path: Path, wrapper: str) -> None:
    tree(tmp_path / wrapper / "train", ["cat", "dog"])
    tree(tmp_path / wrapper / "val", ["cat", "dog"], count=2)
    splits = load(tmp_path)
    assert splits.classes == ("cat", "dog")
    assert len(splits.test) == 4


@pytest.mark.parametrize("wrapper", ["pets", "data/pets"])
def test_a_folder_without_siblings_is_looked_into(tmp_path: Path, wrapper: str) -> None:
    tree(tmp_path / wrapper, ["cat", "dog"])
    (tmp_path / "README.txt").write_text("pets")
    assert load(tmp_path).classes == ("cat", "dog")


def test_the_leaves_are_the_classes_if_asked_for(tmp_path: Path) -> None:
    tree(tmp_path, ["cat/old", "cat/young", "dog/old"])
    splits = load(tmp_path, class_level="leaf")
    assert splits.classes == ("cat/old", "cat/young", "dog/old")
    for part in (splits.train, splits.validation, splits.test):
        names = [str(path.parent.relative_to(tmp_path)) for path in paths(part)]
        assert [splits.classes[int(label)] for label in part.labels] == names


def test_an_empty_folder_is_noted_and_left_out(tmp_path: Path) -> None:
    tree(tmp_path, ["cat", "dog"])
    (tmp_path / "bird" / "nest").mkdir(parents=True)
    (tmp_path / "bird" / "list.csv").write_text("nothing")
    splits = load(tmp_path)
    assert splits.classes == ("cat", "dog")
    assert noted(splits, tmp_path / "bird", "no images")


def test_endings_may_be_upper_case_and_of_many_kinds(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for i, ending in enumerate(("JPG", "jpeg", "PNG", "Bmp", "webp", "TIFF", "gif")):
            image(tmp_path / name / f"{i}.{ending}", i)
    assert len(every_path(load(tmp_path))) == 14


def test_files_that_are_no_images_by_their_ending_are_passed_over(tmp_path: Path) -> None:
    tree(tmp_path, ["cat", "dog"])
    for name in ("Thumbs.db", "notes.txt", "labels.csv", "clip.mp4", "png", "cat.png.bak"):
        (tmp_path / "cat" / name).write_bytes(b"no image")
    splits = load(tmp_path, broken="refuse")
    assert every_path(splits) == sorted(tmp_path.glob("*/*.png"))
    (note,) = [note for note in splits.notes if "left out" in note]
    # Thumbs.db is what a system leaves behind.
    assert note.startswith("5 files with other endings than those of images left out: ")


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    tree(tmp_path, ["cat", "dog"])
    wanted = sorted(tmp_path.glob("*/*.png"))
    tree(tmp_path, [".trash", "cat/.thumbnails"])
    (tmp_path / "cat" / "._00.png").write_bytes(b"what another system leaves behind")
    splits = load(tmp_path, broken="refuse")
    assert splits.classes == ("cat", "dog")
    assert every_path(splits) == wanted


def test_a_hidden_folder_is_no_sibling(tmp_path: Path) -> None:
    tree(tmp_path / "pets", ["cat", "dog"])
    tree(tmp_path, [".cache"])
    assert load(tmp_path).classes == ("cat", "dog")


# Refused -------------------------------------------------------------------------------------------------------------


def test_one_image_per_class_is_refused(tmp_path: Path) -> None:
    text = refusal(tree(tmp_path, ["cat", "dog"], 1))
    assert "class 'cat' has 1 readable image, at least 3" in text


def test_a_class_with_too_few_readable_images_is_named(tmp_path: Path) -> None:
    tree(tmp_path, ["cat", "dog"], 4)
    for i in range(2):
        (tmp_path / "dog" / f"{i:02}.png").write_bytes(b"broken")
    assert "class 'dog' has 2 readable images, at least 3" in refusal(tmp_path)


def test_three_images_per_class_are_enough(tmp_path: Path) -> None:
    splits = load(tree(tmp_path, ["cat", "dog"], 3))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [2, 2, 2]


def test_images_in_no_folder_are_refused(tmp_path: Path) -> None:
    for i in range(5):
        image(tmp_path / f"{i}.png", i)
    text = refusal(tmp_path)
    assert str(tmp_path) in text
    assert "5 images" in text
    assert "one folder per class" in text


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    text = refusal(tmp_path)
    assert str(tmp_path) in text
    assert "one folder per class" in text


@pytest.mark.parametrize("others", [[], ["dog"]])
def test_a_single_class_is_refused(tmp_path: Path, others: list[str]) -> None:
    tree(tmp_path, ["cat"])
    for name in others:
        (tmp_path / name).mkdir()
    text = refusal(tmp_path)
    assert "cat" in text
    assert "one folder per class" in text


def test_the_wrong_number_of_class_names_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, ["cat", "dog"])
    text = refusal(tmp_path, class_names=("a", "b", "c"))
    assert "3 names" in text
    assert "2 classes" in text
    assert load(tmp_path, class_names=("Katze", "Hund")).classes == ("Katze", "Hund")


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_an_impossible_share_for_the_test_split_is_refused(tmp_path: Path, share: float) -> None:
    assert "data.test" in refusal(tree(tmp_path, ["cat", "dog"]), test=share)


def test_a_validation_share_that_leaves_a_class_no_training_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, ["cat", "dog"], 40)
    tree(tmp_path, ["eel"], 3)
    with pytest.raises(UserError) as error:
        load_splits(DataSettings(source="folders", dir=str(tmp_path), validation=0.8))
    assert "class 'eel'" in str(error.value)
    assert "data.validation" in str(error.value)


@pytest.mark.parametrize("made", [False, True])
def test_a_missing_or_empty_folder_is_named(tmp_path: Path, made: bool) -> None:
    root = tmp_path / "here"
    if made:
        root.mkdir()
    text = refusal(root)
    assert str(root) in text
    assert ("is empty" if made else "does not exist") in text


# Given splits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "second"),
    [("train", "val"), ("train", "test"), ("Training", "Validation"), ("train", "valid"), ("TRAIN", "testing")],
)
def test_of_two_given_splits_the_second_is_the_test_split(tmp_path: Path, train: str, second: str) -> None:
    tree(tmp_path / train, ["cat", "dog"], 10)
    tree(tmp_path / second, ["cat", "dog"], 3)
    splits = load(tmp_path)
    assert splits.classes == ("cat", "dog")
    assert sorted(paths(splits.test)) == sorted((tmp_path / second).glob("*/*.png"))
    assert sorted(paths(splits.train) + paths(splits.validation)) == sorted((tmp_path / train).glob("*/*.png"))
    assert np.bincount(splits.validation.labels.numpy()).tolist() == [2, 2]
    assert noted(splits, "splits as given")


def test_three_given_splits_stay_as_they_are(tmp_path: Path) -> None:
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        tree(tmp_path / split, ["cat", "dog"], count)
    splits = load(tmp_path)
    for split, part in (("train", splits.train), ("val", splits.validation), ("test", splits.test)):
        assert sorted(paths(part)) == sorted((tmp_path / split).glob("*/*.png"))


def test_a_training_folder_alone_is_split(tmp_path: Path) -> None:
    tree(tmp_path / "train", ["cat", "dog"])
    splits = load(tmp_path)
    assert splits.classes == ("cat", "dog")
    assert len(every_path(splits)) == 16


def test_a_class_that_training_lacks_is_named_with_the_nearest(tmp_path: Path) -> None:
    tree(tmp_path / "train", ["lizard", "dog"])
    tree(tmp_path / "val", ["lizards", "dog"])
    text = refusal(tmp_path)
    assert "class 'lizards'" in text
    assert "'lizard'" in text.replace("'lizards'", "")


def test_a_class_that_the_test_split_lacks_is_no_obstacle(tmp_path: Path) -> None:
    tree(tmp_path / "train", ["cat", "dog"])
    tree(tmp_path / "test", ["dog"])
    tree(tmp_path / "test", ["cat"], 0)
    (tmp_path / "test" / "cat").mkdir()
    splits = load(tmp_path)
    assert splits.classes == ("cat", "dog")
    assert set(splits.test.labels.tolist()) == {1}


def test_a_test_split_of_a_single_class_is_no_obstacle(tmp_path: Path) -> None:
    tree(tmp_path / "train", ["cat", "dog"])
    tree(tmp_path / "test", ["dog"])
    assert set(load(tmp_path).test.labels.tolist()) == {1}


# Broken files --------------------------------------------------------------------------------------------------------


def test_broken_files_are_left_out_and_named(tmp_path: Path) -> None:
    tree(tmp_path, ["cat", "dog"])
    text, cut = tmp_path / "cat" / "text.jpg", tmp_path / "dog" / "cut.jpg"
    text.write_text("I am no image")
    raw = image(cut, 5, (64, 64)).read_bytes()
    cut.write_bytes(raw[: len(raw) // 2])
    splits = load(tmp_path)
    assert every_path(splits) == sorted(tmp_path.glob("*/*.png"))
    assert noted(splits, "left out", text)
    assert noted(splits, "left out", cut)
    for part in (splits.train, splits.validation, splits.test):
        assert [splits.classes[int(label)] for label in part.labels] == [path.parent.name for path in paths(part)]


def test_very_many_broken_files_are_counted(tmp_path: Path) -> None:
    tree(tmp_path, ["cat", "dog"])
    for i in range(25):
        (tmp_path / "cat" / f"broken{i:02}.png").write_bytes(b"")
    notes = [note for note in load(tmp_path).notes if "left out" in note]
    assert len(notes) == 21
    assert "5 more" in notes[-1]


def test_broken_files_end_the_run_if_asked_for(tmp_path: Path) -> None:
    tree(tmp_path, ["cat", "dog"])
    broken = tmp_path / "cat" / "03.png"
    broken.write_bytes(b"broken")
    (tmp_path / "dog" / "03.png").write_bytes(b"broken")
    text = refusal(tmp_path, broken="refuse")
    assert str(broken) in text
    assert "2 such in all" in text


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_of_a_set_that_is_not_kept(tmp_path: Path, workers: int) -> None:
    """In training another of its class takes its place; in an evaluation it does not count."""
    tree(tmp_path, ["cat", "dog"], count=30)
    (tmp_path / "cat" / "03.png").write_bytes(b"broken")
    settings = DataSettings(source="folders", dir=str(tmp_path), keep_gb=0, batch=4, workers=workers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which tell of it
        splits = load_splits(settings)
        batches = Batches(splits, settings, AugmentSettings(), seed=0)
        parts = (splits.train, splits.validation, splits.test)
        read = [sum(len(labels) for _, labels in batches.evaluation(part)) for part in parts]
        trained = sum(len(labels) for _, labels in batches.train(0))
    assert sum(read) == sum(map(len, parts)) - 1
    assert trained == batches.steps_per_epoch * 4


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_of_a_set_that_is_not_kept_is_refused_in_one_line(tmp_path: Path, workers: int) -> None:
    tree(tmp_path, ["cat", "dog"], count=30)
    settings = DataSettings(
        source="folders", dir=str(tmp_path), keep_gb=0, batch=4, workers=workers, broken="refuse", validation=0.5
    )
    splits = load_splits(settings)
    assert isinstance(splits.validation, ImageFiles)
    splits.validation.paths[-1].write_bytes(b"broken")
    batches = Batches(splits, settings, AugmentSettings(), seed=0)
    with pytest.raises(BrokenImage) as error:
        list(batches.evaluation(splits.validation))
    assert "\n" not in str(error.value)
    assert str(splits.validation.paths[-1]) in str(error.value)


def test_a_given_split_without_a_readable_image_is_refused(tmp_path: Path) -> None:
    tree(tmp_path / "train", ["cat", "dog"])
    for path in tree(tmp_path / "test", ["cat", "dog"], 2).glob("*/*.png"):
        path.write_bytes(b"broken")
    assert "test" in refusal(tmp_path)


def test_a_share_that_makes_everything_the_test_split_is_refused(tmp_path: Path) -> None:
    assert "data.test" in refusal(tree(tmp_path, ["cat", "dog"]), test=0.99)


# Pixels --------------------------------------------------------------------------------------------------------------


def inputs(splits: Splits) -> dict[Path, np.ndarray]:  # type: ignore[type-arg]
    pixels = {}
    for part in (splits.train, splits.validation, splits.test):
        for i, path in enumerate(paths(part)):
            pixels[path] = splits.preprocessing.pixels(part.image(i)).numpy().astype(int)
    return pixels


def test_images_that_are_not_kept_are_the_same(tmp_path: Path) -> None:
    """They are decoded at another size before the last resize, so that they differ by rounding alone."""
    y, x = np.mgrid[0:200, 0:260]
    for name, turn in (("cat", 0), ("dog", 1)):
        (tmp_path / name).mkdir()
        for i in range(4):
            colours = np.stack((y * 250 / 200, x * 250 / 260, 20.0 * i + 0 * x), 2).astype(np.uint8)
            Image.fromarray(np.rot90(colours, turn)).save(tmp_path / name / f"{i}.jpg", quality=95)
    kept, fresh = load(tmp_path, size=16), load(tmp_path, size=16, keep_gb=0)
    assert isinstance(kept.train, ImageFiles)
    assert isinstance(fresh.train, ImageFiles)
    assert all(image is not None for image in kept.train.kept)
    assert all(image is None for image in fresh.train.kept)
    assert [min(kept.train.image(i).size) for i in range(len(kept.train))] == [24] * len(kept.train)
    assert every_path(kept) == every_path(fresh)
    before, after = inputs(kept), inputs(fresh)
    assert all(np.array_equal(before[path], after[path]) for path in before)
    assert kept.preprocessing == fresh.preprocessing


def test_all_splits_together_fit_into_memory_or_none_is_kept(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        tree(tmp_path / split, ["cat", "dog"])
    each = 16 * 4 * 12 * 10 / 1e9  # GB of a split: four bytes a pixel
    for splits, kept in ((2.5, False), (3.5, True)):
        sets = load(tmp_path, keep_gb=splits * each)
        for part in (sets.train, sets.validation, sets.test):
            assert isinstance(part, ImageFiles)
            assert all((image is not None) == kept for image in part.kept)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("val/val_annotations.txt", "tiny_imagenet"),
        ("unpacked/tiny-imagenet-200/val/val_annotations.txt", "tiny_imagenet"),
        ("train-labels-idx1-ubyte.gz", "idx"),
        ("cifar-10-batches-py/data_batch_1", "cifar10"),
        ("meta", "cifar100"),
    ],
)
def test_a_published_form_is_told_with_its_source(tmp_path: Path, file: str, source: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    assert f"--data.source {source}" in refusal(tmp_path)


def test_classes_called_like_files_of_published_forms_are_read(tmp_path: Path) -> None:
    assert load(tree(tmp_path, ["meta", "data_batch_1"])).classes == ("data_batch_1", "meta")


def test_images_that_are_not_kept_are_read_every_time(tmp_path: Path) -> None:
    splits = load(tree(tmp_path, ["cat", "dog"]), keep_gb=0, broken="refuse")
    path = paths(splits.train)[0]
    before = np.asarray(splits.train.image(0))
    image(path, 99)
    assert not np.array_equal(np.asarray(splits.train.image(0)), before)
    path.unlink()
    with pytest.raises(BrokenImage, match=path.name):
        splits.train.image(0)


def test_normalisation_is_that_of_the_training_images(tmp_path: Path) -> None:
    splits = load(tree(tmp_path, ["cat", "dog"]), size=16)
    prepare = splits.preprocessing
    assert (prepare.size, prepare.fit, prepare.share, prepare.channels) == ((16, 16), "crop", 0.875, 3)
    values = np.stack([prepare.pixels(splits.train.image(i)).numpy() for i in range(len(splits.train))]) / 255
    assert prepare.mean == pytest.approx(values.mean((0, 2, 3)), rel=1e-4)
    assert prepare.std == pytest.approx(values.std((0, 2, 3)), rel=1e-4)


@pytest.mark.parametrize(
    ("size", "chosen"),
    [((10, 12), 16), ((20, 90), 16), ((40, 50), 40), ((47, 47), 40), ((90, 80), 80), ((640, 480), 224)],
)
def test_the_size_follows_the_shorter_side(tmp_path: Path, size: tuple[int, int], chosen: int) -> None:
    for name in ("cat", "dog"):
        for i in range(3):
            image(tmp_path / name / f"{i}.png", i, size)
    assert load(tmp_path).preprocessing.size == (chosen, chosen)


def test_the_size_is_that_of_most_images(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for i in range(3):
            image(tmp_path / name / f"{i}.jpg", i, (32, 33))
        image(tmp_path / name / "large.jpg", 3, (600, 500))
        (tmp_path / name / "broken.jpg").write_bytes(b"")
    assert load(tmp_path).preprocessing.size == (32, 32)


# Splits --------------------------------------------------------------------------------------------------------------


def test_splits_are_disjoint_and_a_function_of_their_seed(tmp_path: Path) -> None:
    tree(tmp_path, ["cat", "dog"], 20)
    first, again, other = (load(tmp_path, split_seed=seed) for seed in (0, 0, 1))
    everything = every_path(first)
    assert len(everything) == len(set(everything)) == 40
    for part in ("train", "validation", "test"):
        assert paths(getattr(first, part)) == paths(getattr(again, part))
    assert set(paths(first.test)) != set(paths(other.test))
    assert set(paths(first.validation)) != set(paths(other.validation))


def test_the_share_held_out_does_not_touch_the_test_split_of_folders(tmp_path: Path) -> None:
    tree(tmp_path, ["cat", "dog"], 20)
    splits = [load_splits(DataSettings(source="folders", dir=str(tmp_path), validation=share)) for share in (0.1, 0.5)]
    assert paths(splits[0].test) == paths(splits[1].test)
    assert len(splits[1].validation) > len(splits[0].validation)


def test_splits_do_not_depend_on_where_the_folder_is(tmp_path: Path) -> None:
    both = [load(tree(tmp_path / name, ["cat", "dog"], 10)) for name in ("here", "there")]
    names = [[path.relative_to(path.parents[1]) for path in paths(splits.test)] for splits in both]
    assert names[0] == names[1]


# Tiny-ImageNet -------------------------------------------------------------------------------------------------------

CODES = ("n03", "n01", "n02")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The published layout: three classes, six training and two validation images each."""
    root = tmp_path / "tiny-imagenet-200"
    rows = []
    for number, code in enumerate(CODES):
        for i in range(6):
            image(root / "train" / code / "images" / f"{code}_{i}.JPEG", 100 * number + i, (16, 16))
        (root / "train" / code / f"{code}_boxes.txt").write_text(f"{code}_0.JPEG\t0\t0\t15\t15\n")
        for i in range(2):
            name = f"val_{3 * i + number}.JPEG"
            image(root / "val" / "images" / name, 100 * number + 50 + i, (16, 16))
            rows.append(f"{name}\t{code}\t0\t0\t15\t15")
    (root / "wnids.txt").write_text("\n".join(CODES) + "\n")
    (root / "words.txt").write_text("n01\tfish, sea fish\nn02\tcrane\nn03\tcrane\nn04\tsomething else\n")
    (root / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    image(root / "test" / "images" / "test_0.JPEG", 9999, (16, 16))
    return root


def load_tiny(root: Path) -> Splits:
    return load_splits(DataSettings(source="tiny_imagenet", dir=str(root), validation=0.34))


def decoded(path: Path) -> bytes:
    return np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1).tobytes()


def test_tiny_imagenet_as_published(tiny: Path) -> None:
    splits = load_tiny(tiny)
    # Names may be shared by classes; their order is that of wnids.txt.
    assert splits.classes == ("crane (n03)", "fish", "crane (n02)")
    label_of = {decoded(path): CODES.index(path.parts[-3]) for path in tiny.glob("train/*/images/*")}
    annotations = (line.split("\t") for line in (tiny / "val" / "val_annotations.txt").read_text().splitlines())
    tests = {decoded(tiny / "val" / "images" / row[0]): CODES.index(row[1]) for row in annotations}
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [12, 6, 6]
    for part, wanted in ((splits.train, label_of), (splits.validation, label_of), (splits.test, tests)):
        assert isinstance(part, InMemoryImages)
        assert tuple(part.images.shape[1:]) == (3, 16, 16)
        for image, label in zip(part.images, part.labels, strict=True):
            assert wanted.pop(image.numpy().tobytes()) == int(label)
    assert label_of == tests == {}


@pytest.mark.parametrize("missing", ["wnids.txt", "val/val_annotations.txt"])
def test_a_missing_list_of_tiny_imagenet_is_named(tiny: Path, missing: str) -> None:
    (tiny / missing).unlink()
    with pytest.raises(UserError) as error:
        load_tiny(tiny)
    assert f"{missing} is missing" in str(error.value)
    assert str(tiny) in str(error.value)


def test_tiny_imagenet_without_words_has_codes_for_names(tiny: Path) -> None:
    (tiny / "words.txt").unlink()
    assert load_tiny(tiny).classes == CODES


def test_a_missing_image_of_tiny_imagenet_is_noted(tiny: Path) -> None:
    gone = tiny / "val" / "images" / "val_0.JPEG"
    gone.unlink()
    splits = load_tiny(tiny)
    assert len(splits.test) == 5
    assert noted(splits, gone, "does not exist")


def test_a_strange_class_of_tiny_imagenet_is_named(tiny: Path) -> None:
    with (tiny / "val" / "val_annotations.txt").open("a") as file:
        file.write("val_9.JPEG\tn77\t0\t0\t15\t15\n")
    with pytest.raises(UserError, match="'n77'"):
        load_tiny(tiny)


def test_tiny_imagenet_is_made_to_a_size(tiny: Path) -> None:
    splits = load_splits(DataSettings(source="tiny_imagenet", dir=str(tiny), size=8))
    assert isinstance(splits.test, InMemoryImages)
    assert tuple(splits.test.images.shape[1:]) == (3, 8, 8)
    assert splits.preprocessing.size == (8, 8)


def test_a_class_of_tiny_imagenet_without_images_is_named(tiny: Path) -> None:
    shutil.rmtree(tiny / "train" / "n01")
    with pytest.raises(UserError, match="n01"):
        load_tiny(tiny)


def test_tiny_imagenet_without_validation_images_is_refused(tiny: Path) -> None:
    shutil.rmtree(tiny / "val" / "images")
    with pytest.raises(UserError, match="val"):
        load_tiny(tiny)


def test_real_tiny_imagenet_has_the_counts_of_its_readme() -> None:
    if not REAL_TINY.is_dir():
        pytest.skip("tiny_imagenet_40 is not here")
    readme = (REAL_TINY / "README.md").read_text()
    (classes,) = (int(count) for count in re.findall(r"(\d+) of 200 classes", readme))
    parts = re.findall(r"(\d+) (train|val) \((\d+) per class\)", readme)
    assert (classes, parts) == (40, [("8000", "train", "200"), ("2000", "val", "50")])
    splits = load_splits(DataSettings(source="tiny_imagenet", dir=str(REAL_TINY), validation=0.1))
    assert (len(set(splits.classes)), splits.notes) == (classes, ())  # every file can be read
    for part, each in ((splits.train, 180), (splits.validation, 20), (splits.test, 50)):
        assert isinstance(part, InMemoryImages)
        assert tuple(part.images.shape) == (classes * each, 3, 64, 64)
        assert torch.bincount(part.labels).tolist() == [each] * classes


def test_an_image_of_another_size_in_tiny_imagenet_is_named(tiny: Path) -> None:
    odd = image(tiny / "train" / "n01" / "images" / "n01_3.JPEG", 7, (16, 20))
    with pytest.raises(UserError, match=odd.name):
        load_tiny(tiny)


# A whole run ---------------------------------------------------------------------------------------------------------


def test_the_plan_names_the_chosen_settings(tmp_path: Path, cli: Cli) -> None:
    outcome = cli("draw", "images", "--data", tree(tmp_path, ["cat", "dog"], 12), "--plan")
    assert outcome.status == 0, outcome.err
    assert "2 classes" in outcome.err
    assert "chosen: 120 epochs" in outcome.err
    assert "chosen: resnet8 of width 32" in outcome.err
    lines = outcome.out.splitlines()
    assert any("prune to 85%" in line for line in lines)
    assert lines[-1].split(":")[0] == "after epoch  120"
    plain = cli("draw", "images", "--data", tmp_path, "--plan", "--json")
    assert json.loads(plain.out)[-1]["epoch"] == 120


TINY = """
--epochs 3 --data.workers 0 --data.size 16 --supernet.settings.width 8 --data.batch 8 --threads 1
"""


def test_a_ticket_is_drawn_from_folders_and_used(tmp_path: Path, cli: Cli) -> None:
    data, out = tree(tmp_path / "data", ["cat", "dog", "eel"], 12), tmp_path / "run"
    for i in range(12):  # one class is easy to tell
        Image.new("RGB", (16, 16), (250, 20 * i, 10)).save(data / "eel" / f"{i:02}.png")
    (data / "cat" / "broken.png").write_bytes(b"broken")
    drawn = cli("draw", "images", "--data", data, "--out", out, "--json", *TINY.split())
    assert drawn.status == 0, drawn.err
    assert "broken.png" in drawn.err
    outcome = cli("predict", out, data / "eel" / "00.png", "--json")
    assert outcome.status == 0, outcome.err
    (answer,) = json.loads(outcome.out)
    assert {entry["name"] for entry in answer["classes"]} == {"cat", "dog", "eel"}
    assert sum(entry["probability"] for entry in answer["classes"]) == pytest.approx(1, abs=1e-4)
    scores = json.loads(cli("evaluate", out, "--json").out)
    assert scores["top1"] == pytest.approx(json.loads(drawn.out)["test"]["top1"])
    other = cli("evaluate", out, "--data", tree(tmp_path / "other", ["cat", "dog"], 6))
    assert (other.status, other.out) == (2, "")
    assert other.err.startswith("error: ")
    assert other.err.count("\n") == 1
    assert "2" in other.err
    assert "3" in other.err


def test_the_digest_differs_with_samples_and_splits_but_not_places(tmp_path: Path) -> None:
    tree(tmp_path / "a", ["cat", "dog"])
    one = load(tmp_path / "a").digest()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert load(tmp_path / "b").digest() == one
    assert load(tmp_path / "b", split_seed=1).digest() != one
    assert load(tmp_path / "b", keep_gb=0).digest() == one
    next((tmp_path / "b" / "cat").iterdir()).unlink()
    assert load(tmp_path / "b").digest() != one
