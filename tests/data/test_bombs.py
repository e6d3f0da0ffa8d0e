"""Idx files, pickles and images that claim or unpack to much: refused in one line, within time and memory."""

from __future__ import annotations

import gzip
import pickle
import resource
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fuzz_data import IDX, use_image
from odd_data import write_image
from supertickets import UserError
from supertickets.data.cifar import read_pickle
from supertickets.data.idx import read_idx


def bounded(read: Callable[[Path], Any], path: Path, raw: bytes, megabytes: int = 200) -> str:
    """Return the error of a reader; an empty text if it succeeds. It takes a bounded time and memory."""
    path.write_bytes(raw)
    memory, begin, text = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), ""
    try:
        read(path)
    except UserError as error:
        text = str(error)
        assert "\n" not in text
        assert str(path) in text
    assert time.process_time() - begin < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 1000 * megabytes
    return text


def test_a_gzip_bomb_is_read_no_further_than_its_header_claims(tmp_path: Path) -> None:
    """100 MB of zeros behind a header that claims 24 bytes."""
    bomb = gzip.compress(IDX[:16] + bytes(100_000_000), 1)
    assert "more than 24 data bytes" in bounded(read_idx, tmp_path / "x.gz", bomb, 50)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_that_claim_much_allocate_nothing(tmp_path: Path, packed: bool) -> None:
    raw = b"\0\0\x08\x03" + struct.pack(">III", 60_000, 10_000, 10_000) + bytes(1000)
    text = bounded(read_idx, tmp_path / "x", gzip.compress(raw) if packed else raw, 50)
    assert "1000 of 6000000000000 data bytes" in text


def test_an_idx_file_of_more_than_a_gibibyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.write(b"\0\0\x08\x03" + struct.pack(">III", 2, 1 << 15, 1 << 15))
        file.truncate((1 << 31) + 16)  # a hole, which takes no place
    with pytest.raises(UserError, match=r"claims 2,147,483,648 bytes of data, at most 1,073,741,824 are read"):
        read_idx(path)


ARRAY = np.zeros(1 << 20, np.uint8)
BOMBS = {
    "a memo of 4 GB": b"\x80\x02}r\xff\xff\xff\x7f.",
    "bytes that are claimed": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
    "a text that is claimed": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b".",
    "texts made again": (
        b"\x80\x02X"
        + struct.pack("<I", 1 << 20)
        + b"x" * (1 << 20)
        + b"q\x000c_codecs\nencode\nq\x010]("
        + b"h\x01h\x00\x85R" * 1000
        + b"e."
    ),
    # One copy is made of it, not one for each of its names.
    "an array of 1 MB under many names": pickle.dumps(dict.fromkeys(map(str, range(20_000)), ARRAY), protocol=2),
}


@pytest.mark.parametrize("what", BOMBS)
def test_pickles_that_claim_much_allocate_nothing(tmp_path: Path, what: str) -> None:
    text = bounded(read_pickle, tmp_path / "data_batch_1", BOMBS[what], 60)
    assert ("is not a CIFAR file or is damaged" in text) == ("claimed" in what or "again" in what)


def test_an_image_beyond_the_limit_is_refused_by_its_head(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png")
    raw = path.read_bytes()
    head = b"IHDR" + struct.pack(">II", 11_000, 10_001) + raw[24:29]
    raw = raw[:12] + head + struct.pack(">I", zlib.crc32(head)) + raw[33:]
    assert "11000 x 10001 pixels are too many, 110000000 at most are read" in bounded(use_image, path, raw, 20)
