"""Readers of idx files, whole and damaged."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from supertickets import UserError
from supertickets.config.recipe import DataSettings
from supertickets.data import load_splits
from supertickets.data.classification import InMemoryImages
from supertickets.data.idx import read_idx

IdxWriter = Callable[..., Path]


def one_line(error: pytest.ExceptionInfo[UserError], *named: object) -> str:
    text = str(error.value)
    assert "\n" not in text
    for what in named:
        assert str(what) in text
    return text


def images(data: InMemoryImages) -> set[bytes]:
    return {image.numpy().tobytes() for image in data.images}


def counts(data: InMemoryImages) -> list[int]:
    return np.bincount(data.labels.numpy(), minlength=10).tolist()


MNIST = Path(__file__).resolve().parents[2] / "../shared/data/mnist_idx"


NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.mark.parametrize("name", ["x.gz", "x"])
def test_idx_is_read_to_the_byte(tmp_path: Path, name: str) -> None:
    raw = b"\0\0\x08\x03" + b"\0\0\0\x02" + b"\0\0\0\x01" + b"\0\0\0\x03" + bytes([0, 1, 2, 250, 254, 255])
    path = tmp_path / name
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    assert read_idx(path).tolist() == [[[0, 1, 2]], [[250, 254, 255]]]


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("spelling", ["-idx", ".idx"])
def test_all_spellings_of_the_idx_files_are_read(
    tmp_path: Path, write_idx: IdxWriter, suffix: str, spelling: str
) -> None:
    arrays: dict[str, npt.NDArray[np.uint8]] = {}
    for name in NAMES:
        count = 30 if name.startswith("train") else 9
        shape = (count, 8, 8) if "images" in name else (count,)
        values = np.arange(int(np.prod(shape))).reshape(shape) % (256 if "images" in name else 3)
        arrays[name] = values.astype(np.uint8)
        write_idx(tmp_path / (name.replace("-idx", spelling) + suffix), arrays[name])
    splits = load_splits(DataSettings(source="idx", dir=str(tmp_path), validation=0.2))
    assert splits.classes == ("0", "1", "2")
    assert len(splits.train) == 24
    assert len(splits.validation) == 6
    assert splits.test.images[:, 0].numpy().tolist() == arrays[NAMES[2]].tolist()
    assert splits.test.labels.tolist() == arrays[NAMES[3]].tolist()


def _flip(raw: bytes) -> bytes:
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] ^ 0xFF]) + raw[middle + 1 :]


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    # what: (stored as, damage to the plain bytes or to the file, part of the message)
    "empty": ("", lambda raw: b"", "not an idx file"),
    "header cut in its magic": ("", lambda raw: raw[:2], "not an idx file"),
    "header cut in its sizes": ("", lambda raw: raw[:6], "not an idx file"),
    "data cut": ("", lambda raw: raw[:-5], "truncated or damaged"),
    "data too long": ("", lambda raw: raw + b"x", "truncated or damaged"),
    "floats": ("", lambda raw: b"\0\0\x0d" + raw[3:], "not an idx file"),
    "huge sides beside one of zero": ("", lambda raw: b"\0\0\x08\x03" + 8 * b"\xff" + 4 * b"\0", "holds no data"),
    "not idx": ("", lambda raw: b"<html>" + raw[6:], "not an idx file"),
    "gz of cut data": (".gz", lambda raw: gzip.compress(raw[:-5]), "truncated or damaged"),
    "gz that is none": (".gz", lambda raw: raw, "cannot be read"),
    "gz cut": (".gz", lambda raw: gzip.compress(raw)[:-20], "cannot be read"),
    "gz cut in its header": (".gz", lambda raw: gzip.compress(raw)[:5], "cannot be read"),
    "gz with a flipped byte": (".gz", lambda raw: _flip(gzip.compress(raw)), "cannot be read"),
}


@pytest.mark.parametrize("what", DAMAGES)
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_idx_file_is_named(idx_folder: Path, name: str, what: str) -> None:
    suffix, damage, says = DAMAGES[what]
    whole = idx_folder / f"{name}.gz"
    raw = gzip.decompress(whole.read_bytes())
    whole.unlink()
    broken = idx_folder / (name + suffix)
    broken.write_bytes(damage(raw))
    with pytest.raises(UserError) as error:
        load_splits(DataSettings(source="idx", dir=str(idx_folder)))
    one_line(error, broken, says)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_idx_file_is_named(idx_folder: Path, name: str) -> None:
    (idx_folder / f"{name}.gz").unlink()
    with pytest.raises(UserError) as error:
        load_splits(DataSettings(source="idx", dir=str(idx_folder)))
    text = one_line(error, idx_folder, name)
    lacking, _, there = text.partition(", there are ")
    assert [other for other in NAMES if other in lacking] == [name]
    assert name not in there


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_splits(DataSettings(source="idx", dir=str(tmp_path)))
    one_line(error, tmp_path, "is empty")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_splits(DataSettings(source="idx", dir=str(tmp_path / "nowhere")))
    one_line(error, tmp_path / "nowhere", "does not exist")


def test_idx_without_a_folder_says_how_to_give_one() -> None:
    with pytest.raises(UserError) as error:
        load_splits(DataSettings(source="idx"))
    one_line(error, "--data")


@pytest.mark.parametrize("split", ["train", "t10k"])
def test_unequal_numbers_of_images_and_labels_are_named(idx_folder: Path, write_idx: IdxWriter, split: str) -> None:
    write_idx(idx_folder / f"{split}-labels-idx1-ubyte.gz", np.zeros(7, np.uint8))
    with pytest.raises(UserError) as error:
        load_splits(DataSettings(source="idx", dir=str(idx_folder)))
    one_line(error, f"{split}-images-idx3-ubyte.gz", f"{split}-labels-idx1-ubyte.gz", "(7,)")


def test_images_in_the_place_of_labels_are_named(idx_folder: Path) -> None:
    labels = idx_folder / "train-labels-idx1-ubyte.gz"
    labels.write_bytes((idx_folder / "train-images-idx3-ubyte.gz").read_bytes())
    with pytest.raises(UserError) as error:
        load_splits(DataSettings(source="idx", dir=str(idx_folder)))
    one_line(error, labels.name)


def test_a_class_that_only_the_test_split_has_is_named(idx_folder: Path, write_idx: IdxWriter) -> None:
    path = write_idx(idx_folder / "t10k-labels-idx1-ubyte.gz", np.full(20, 9, np.uint8))
    with pytest.raises(UserError) as error:
        load_splits(DataSettings(source="idx", dir=str(idx_folder)))
    one_line(error, path, "9")


@pytest.mark.parametrize("split", ["train", "t10k"])
def test_idx_files_without_samples_are_named(idx_folder: Path, write_idx: IdxWriter, split: str) -> None:
    path = write_idx(idx_folder / f"{split}-images-idx3-ubyte.gz", np.zeros((0, 8, 8), np.uint8))
    write_idx(idx_folder / f"{split}-labels-idx1-ubyte.gz", np.zeros(0, np.uint8))
    with pytest.raises(UserError) as error:
        load_splits(DataSettings(source="idx", dir=str(idx_folder)))
    one_line(error, path.name)


@pytest.mark.skipif(not MNIST.is_dir(), reason="MNIST is not in ../shared/data")
def test_real_mnist_has_the_class_counts_of_its_readme() -> None:
    readme = (MNIST / "README.md").read_text()
    train, test = ([int(n) for n in row.split(",")] for row in re.findall(r"\[([\d, ]+)\]", readme))
    assert train == [1968, 2261, 1980, 2019, 1930, 1830, 2031, 2070, 1896, 2015]
    assert test == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    splits = load_splits(DataSettings(source="idx", dir=str(MNIST), validation=0.1))
    assert [a + b for a, b in zip(counts(splits.train), counts(splits.validation), strict=True)] == train
    assert counts(splits.test) == test
    assert counts(splits.validation) == [round(0.1 * n) for n in train]
    assert splits.train.images.shape[1:] == (1, 28, 28)
    # MNIST's known statistics (0.1307 and 0.3081 over all 60,000), here over 18,000.
    assert splits.preprocessing.mean == pytest.approx([0.1307], abs=0.002)
    assert splits.preprocessing.std == pytest.approx([0.3081], abs=0.002)
