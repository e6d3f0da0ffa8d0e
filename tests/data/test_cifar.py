"""CIFAR's Python version: whole, of both kinds of keys, damaged and malicious."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supertickets import UserError
from supertickets.config.recipe import DataSettings
from supertickets.data import InMemoryImages, Splits, load_splits
from supertickets.data.cifar import read_pickle

Entries = dict[str, Any]


def batch(count: int, classes: int, seed: int, key: str) -> Entries:
    generator = np.random.default_rng(seed)
    return {
        "batch_label": f"batch {seed}",
        key: [int(i) for i in generator.permutation(np.arange(count) % classes)],
        "data": generator.integers(0, 256, (count, 3072)).astype(np.uint8),
        "filenames": [f"image_{i}.png" for i in range(count)],
    }


def python2_pickle(values: Entries) -> bytes:
    """Return a pickle as Python 2 wrote it: all texts and pixels are bytes (opcodes SHORT_BINSTRING, BINSTRING).

    Python 3 writes no such opcodes, so the few that are needed are put together here.
    """

    def text(value: bytes) -> bytes:
        if len(value) < 256:
            return b"U" + bytes([len(value)]) + value
        return b"T" + len(value).to_bytes(4, "little") + value

    def number(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    def of(value: Any) -> bytes:
        match value:
            case str():
                return text(value.encode())
            case int():
                return number(value)
            case list():
                return b"](" + b"".join(of(entry) for entry in value) + b"e"
            case np.ndarray():
                empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85" + text(b"b")
                kind = b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R"
                kind += b"(" + number(3) + text(b"|") + b"NNN" + number(-1) * 2 + number(0) + b"tb"
                shape = number(value.shape[0]) + number(value.shape[1]) + b"\x86"
                return empty + b"\x87R(" + number(1) + shape + kind + b"\x89" + text(value.tobytes()) + b"tb"
        raise TypeError(value)

    return b"\x80\x02}(" + b"".join(of(key) + of(value) for key, value in values.items()) + b"u."


def python3_pickle(values: Entries) -> bytes:
    return pickle.dumps(values, protocol=2)


def bytes_keys(values: Entries) -> bytes:
    """As of who read the published files with ``encoding="bytes"`` and wrote them again."""
    return pickle.dumps({key.encode(): value for key, value in values.items()}, protocol=2)


WRITERS: dict[str, Callable[[Entries], bytes]] = {
    "python 2": python2_pickle,
    "python 3": python3_pickle,
    "bytes": bytes_keys,
}


def cifar10(folder: Path, write: Callable[[Entries], bytes] = python2_pickle) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"class{i}" for i in range(10)]
    (folder / "batches.meta").write_bytes(write({"label_names": names, "num_cases_per_batch": 20}))
    for i in range(1, 6):
        (folder / f"data_batch_{i}").write_bytes(write(batch(20, 10, i, "labels")))
    (folder / "test_batch").write_bytes(write(batch(20, 10, 6, "labels")))
    return folder


def cifar100(folder: Path, write: Callable[[Entries], bytes] = python2_pickle) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    meta = {"fine_label_names": [f"fine{i}" for i in range(100)], "coarse_label_names": [f"c{i}" for i in range(20)]}
    (folder / "meta").write_bytes(write(meta))
    for name, count, seed in (("train", 400, 1), ("test", 200, 2)):
        values = batch(count, 100, seed, "fine_labels")
        (folder / name).write_bytes(write(values | {"coarse_labels": [i // 5 for i in values["fine_labels"]]}))
    return folder


def load(folder: Path) -> Splits:
    ten = any((folder / name).exists() for name in ("test_batch", "batches.meta", "cifar-10-batches-py"))
    return load_splits(DataSettings(source="cifar10" if ten else "cifar100", dir=str(folder), validation=0.25))


def refusal(folder: Path, *named: object) -> str:
    with pytest.raises(UserError) as error:
        load(folder)
    text = str(error.value)
    assert "\n" not in text
    for what in named:
        assert str(what) in text
    return text


def samples(*parts: object) -> dict[bytes, int]:
    labels = {}
    for part in parts:
        assert isinstance(part, InMemoryImages)
        labels |= {image.numpy().tobytes(): int(label) for image, label in zip(part.images, part.labels, strict=True)}
    return labels


def stored(values: Entries, key: str) -> dict[bytes, int]:
    return {row.tobytes(): label for row, label in zip(values["data"], values[key], strict=True)}


# Whole ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITERS)
def test_cifar_10_is_read_to_the_byte(tmp_path: Path, write: str) -> None:
    splits = load(cifar10(tmp_path, WRITERS[write]))
    assert splits.classes == tuple(f"class{i}" for i in range(10))
    wanted: dict[bytes, int] = {}
    for i in range(1, 6):
        wanted |= stored(batch(20, 10, i, "labels"), "labels")
    assert samples(splits.train, splits.validation) == wanted
    assert samples(splits.test) == stored(batch(20, 10, 6, "labels"), "labels")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [80, 20, 20]


@pytest.mark.parametrize("write", WRITERS)
def test_cifar_100_is_read_with_its_fine_labels(tmp_path: Path, write: str) -> None:
    splits = load(cifar100(tmp_path, WRITERS[write]))
    assert splits.classes == tuple(f"fine{i}" for i in range(100))
    assert samples(splits.train, splits.validation) == stored(batch(400, 100, 1, "fine_labels"), "fine_labels")
    assert samples(splits.test) == stored(batch(200, 100, 2, "fine_labels"), "fine_labels")


def test_pixels_are_stored_by_channel_and_row(tmp_path: Path) -> None:
    """CIFAR's description: 1,024 red entries, then green, then blue, each in row-major order."""
    cifar10(tmp_path)
    row = np.zeros((1, 3072), np.uint8)
    row[0, 1024 + 2 * 32 + 5] = 77
    (tmp_path / "test_batch").write_bytes(python2_pickle({"labels": [3], "data": row}))
    test = load(tmp_path).test
    assert isinstance(test, InMemoryImages)
    assert test.images.nonzero().tolist() == [[0, 1, 2, 5]]
    assert test.images[0, 1, 2, 5] == 77


@pytest.mark.parametrize(("name", "write"), [("cifar-10-batches-py", cifar10), ("cifar-100-python", cifar100)])
def test_the_folder_around_it_may_be_given(tmp_path: Path, name: str, write: Callable[[Path], Path]) -> None:
    write(tmp_path / name)
    assert samples(load(tmp_path).test) == samples(load(tmp_path / name).test)


def test_of_both_the_one_that_was_asked_for_is_read(tmp_path: Path) -> None:
    cifar10(tmp_path / "cifar-10-batches-py")
    cifar100(tmp_path / "cifar-100-python")
    for source, classes in (("cifar10", 10), ("cifar100", 100)):
        assert len(load_splits(DataSettings(source=source, dir=str(tmp_path))).classes) == classes
    with pytest.raises(UserError, match="holds no meta"):
        load_splits(DataSettings(source="cifar100", dir=str(tmp_path / "cifar-10-batches-py")))


def test_new_images_are_cut_to_shape(tmp_path: Path) -> None:
    prepare = load(cifar10(tmp_path)).preprocessing
    assert (prepare.channels, prepare.size, prepare.fit, prepare.resample) == (3, (32, 32), "crop", "bicubic")


# Malicious -----------------------------------------------------------------------------------------------------------


class Runs:
    """Calls a function while it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("name", ["batches.meta", "data_batch_3", "test_batch"])
def test_a_file_that_runs_a_command_is_refused_before_it_does(tmp_path: Path, name: str) -> None:
    cifar10(tmp_path)
    trace = tmp_path / "trace"
    raw = pickle.dumps({"data": Runs(os.system, f"touch {trace}")}, protocol=2)
    (tmp_path / name).write_bytes(raw)
    refusal(tmp_path, tmp_path / name, "system")
    assert not trace.exists()
    pickle.loads(raw)  # it is one that would have
    assert trace.exists()


@pytest.mark.parametrize(
    "function", [eval, exec, getattr, __import__, os.remove, np.load, np.fromfile, np.lib.format.open_memmap]
)
def test_no_function_is_let_in(tmp_path: Path, function: Callable[..., Any]) -> None:
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps({"data": Runs(function, "1")}, protocol=2))
    with pytest.raises(UserError) as error:
        read_pickle(path)
    assert function.__name__ in str(error.value)


def test_no_function_is_reached_by_its_dotted_name(tmp_path: Path) -> None:
    """Protocol 4 looks dotted names up attribute by attribute."""
    path = tmp_path / "file"
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x12ndarray.__class__.\x93.")
    with pytest.raises(UserError, match="ndarray"):
        read_pickle(path)


def test_an_array_of_objects_lets_nothing_in_either(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    values = np.empty(1, object)
    values[0] = Runs(os.system, f"touch {trace}")
    (tmp_path / "file").write_bytes(pickle.dumps({"data": values}, protocol=2))
    with pytest.raises(UserError):
        read_pickle(tmp_path / "file")
    assert not trace.exists()


# Damaged -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("write", ["python 2", "python 3"])
def test_a_truncated_batch_is_named(tmp_path: Path, write: str, share: float) -> None:
    cifar10(tmp_path, WRITERS[write])
    path = tmp_path / "data_batch_2"
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    refusal(tmp_path, path, "unpack the archive again")


def test_a_batch_that_claims_to_be_huge_is_named(tmp_path: Path) -> None:
    cifar10(tmp_path)
    (tmp_path / "test_batch").write_bytes(b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f.")  # a text of 2^60 bytes
    refusal(tmp_path, tmp_path / "test_batch")


@pytest.mark.parametrize("raw", [b"<html>not found</html>", b"\x80\x02K\x07.", b"\x80\x02]."])
def test_a_file_without_a_dictionary_is_named(tmp_path: Path, raw: bytes) -> None:
    cifar10(tmp_path)
    (tmp_path / "test_batch").write_bytes(raw)
    refusal(tmp_path, tmp_path / "test_batch", "not a CIFAR file")


@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_5", "test_batch"])
def test_a_missing_batch_is_named(tmp_path: Path, name: str) -> None:
    (cifar10(tmp_path) / name).unlink()
    refusal(tmp_path, tmp_path / name, "is missing")


def test_a_missing_description_is_named(tmp_path: Path) -> None:
    (cifar10(tmp_path) / "batches.meta").unlink()
    refusal(tmp_path, tmp_path, "batches.meta")


def test_a_description_without_names_is_named(tmp_path: Path) -> None:
    (cifar10(tmp_path) / "batches.meta").write_bytes(python2_pickle({"num_cases_per_batch": 20}))
    refusal(tmp_path, tmp_path / "batches.meta", "label_names")


GOOD = batch(20, 10, 2, "labels")
WRONG: dict[str, tuple[Entries, str]] = {
    "another size": (GOOD | {"data": GOOD["data"][:, :3071]}, "N x 3072"),
    "images as cubes": (GOOD | {"data": GOOD["data"].reshape(-1, 3, 32, 32)}, "N x 3072"),
    "floats": (GOOD | {"data": GOOD["data"].astype(np.float32)}, "not of bytes"),
    "a list of pixels": (GOOD | {"data": [[0] * 3072] * 20}, "N x 3072"),
    "no pixels": ({"labels": GOOD["labels"]}, "N x 3072"),
    "no labels": ({"data": GOOD["data"]}, "'labels'"),
    "too few labels": (GOOD | {"labels": GOOD["labels"][:-1]}, "'labels'"),
    "labels as texts": (GOOD | {"labels": ["1"] * 20}, "'labels'"),
    "a label too large": (GOOD | {"labels": [*GOOD["labels"][:-1], 10]}, "labels from 0 to 10"),
    "a negative label": (GOOD | {"labels": [*GOOD["labels"][:-1], -1]}, "labels from -1 to 9"),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("name", ["data_batch_2", "test_batch"])
def test_a_batch_of_the_wrong_shape_is_named(tmp_path: Path, name: str, what: str) -> None:
    values, says = WRONG[what]
    (cifar10(tmp_path) / name).write_bytes(python3_pickle(values))
    refusal(tmp_path, tmp_path / name, says)
