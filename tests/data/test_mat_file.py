"""MATLAB files: read as scipy writes them, and bounded, whatever they claim."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from generate_crowds import write_mat
from supertickets import UserError
from supertickets.data.mat_file import BadMatFile, read_mat
from supertickets.data.preprocessing import BrokenImage
from supertickets.data.shanghaitech_files import read_points

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8 if kind != 15 else 0)


def matrix(kind: int, shape: tuple[int, ...], content: bytes, name: bytes = b"x") -> bytes:
    head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, head + element(1, name) + content)


def info(points: Any, **more: Any) -> dict[str, Any]:
    """Variables like those of ShanghaiTech, with other fields."""
    fields = {"location": points, **more}
    inside = np.empty((1, 1), [(name, object) for name in fields])
    inside[0, 0] = tuple(fields.values())
    cell = np.empty((1, 1), object)
    cell[0, 0] = inside
    return {"image_info": cell}


def saved(path: Path, content: dict[str, Any], **more: Any) -> Path:
    savemat(path, content, **more)
    return path


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_numbers_are_read_as_they_were_written(tmp_path: Path, dtype: str, compressed: bool) -> None:
    values = np.random.default_rng(0).uniform(0, 100, (7, 2)).astype(dtype)
    path = saved(tmp_path / "a.mat", {"a": values, "small": values[:1, :1]}, do_compression=compressed)
    variables = read_mat(path)
    assert variables["a"].numbers is not None
    assert variables["a"].numbers.tolist() == values.astype(float).tolist()
    assert variables["small"].shape == (1, 1)


def test_what_is_not_needed_is_passed_over(tmp_path: Path) -> None:
    content = info(np.array([[1.0, 2.0]]), name="a text", other=np.array([1 + 2j]), cells=np.array([1, "a"], object))
    points = read_points(saved(tmp_path / "a.mat", {"text": "x", "flag": True, **content}))
    assert points.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("points", "more", "named"),
    [
        (np.zeros((2, 5)), {}, "points of shape 2 x 5; store a row x, y for every point"),
        (np.zeros((5, 3)), {}, "points of shape 5 x 3"),
        (np.zeros((5, 4)), {}, "points of shape 5 x 4"),
        (np.zeros((3, 2)), {"number": np.array([[4]])}, "says that it has 4 points, but holds 3"),
        (np.array([[1.0, np.nan]]), {}, "not finite numbers"),
        (np.array([["a", "b"]]), {}, "no numbers as location"),
    ],
)
def test_points_in_other_shapes_are_refused(tmp_path: Path, points: Any, more: dict[str, Any], named: str) -> None:
    with pytest.raises(BrokenImage, match=named):
        read_points(saved(tmp_path / "a.mat", info(points, **more)))


def test_an_image_without_points_has_none(tmp_path: Path) -> None:
    assert read_points(saved(tmp_path / "a.mat", info(np.zeros((0, 0)), number=np.array([[0]])))).shape == (0, 2)
    path = tmp_path / "b.mat"
    write_mat(path, [])
    assert read_points(path).shape == (0, 2)


def test_other_variables_are_named(tmp_path: Path) -> None:
    with pytest.raises(BrokenImage, match="one that holds annPoints, not image_info"):
        read_points(saved(tmp_path / "a.mat", {"annPoints": np.zeros((2, 2))}))
    with pytest.raises(BrokenImage, match="no MATLAB file of versions 5 to 7"):
        read_points(saved(tmp_path / "b.mat", {"x": np.zeros((2, 2))}, format="4"))


BOMB = HEADER + element(15, zlib.compress(bytes(1 << 27), 9))
HOSTILE = {
    "a bomb": (BOMB, "more than 16 MiB when unpacked"),
    "claimed sizes": (HEADER + matrix(6, (1 << 30, 1 << 30), element(9, bytes(16))), "another size than it says"),
    "huge sides beside one of zero": (
        HEADER + matrix(6, (1 << 30, 1 << 30, 1 << 30, 0), element(9, b"")),
        "another size than it says",
    ),
    "sizes that are no numbers": (
        HEADER + element(14, element(6, struct.pack("<II", 6, 0)) + element(9, struct.pack("<dd", float("nan"), 2))),
        "sizes that are no numbers",
    ),
    "claimed cells": (HEADER + matrix(1, (1 << 30, 4), b""), "too many cells"),
    "claimed fields": (
        HEADER + matrix(2, (1 << 30, 4), element(5, struct.pack("<i", 2)) + element(1, b"a\0")),
        "ends too early",
    ),
    "negative sizes": (HEADER + matrix(6, (-1, 2), element(9, b"")), "without sizes"),
    "an end too early": (HEADER + element(14, bytes(64))[:40], "ends too early"),
    "damaged": (HEADER + element(15, b"\x78\x9c" + bytes(30)), "damaged"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_claims_allocate_nothing(tmp_path: Path, what: str) -> None:
    content, named = HOSTILE[what]
    path = tmp_path / "a.mat"
    path.write_bytes(content)
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(BadMatFile, match=named):
        read_mat(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - start < 5
    assert most < 200e6


def test_cells_in_cells_end(tmp_path: Path) -> None:
    content = matrix(6, (1, 1), element(9, bytes(8)))
    for _ in range(40):
        content = matrix(1, (1, 1), content)
    path = tmp_path / "a.mat"
    path.write_bytes(HEADER + content)
    with pytest.raises(BadMatFile, match="too deep"):
        read_mat(path)


def whole(compressed: bool) -> bytes:
    file = io.BytesIO()
    savemat(file, info(np.arange(20.0).reshape(10, 2), number=np.array([[10]])), do_compression=compressed)
    return file.getvalue()


SEEDS = (whole(False), whole(True))


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    st.integers(0, 3000),
)
def test_damaged_files_are_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, changes: list[tuple[int, int]], length: int
) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    path = tmp_path_factory.getbasetemp() / "fuzz.mat"
    path.write_bytes(bytes(damaged[: max(1, length)]))
    try:
        outcome = f"{read_points(path).shape[1]} columns"
    except UserError as error:
        outcome = str(error)
    assert outcome == "2 columns" or (path.name in outcome and "\n" not in outcome)
