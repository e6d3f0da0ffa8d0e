"""Files of the sparse runtime: what is written is read, and damaged or hostile files are refused in one line."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from build_graph import one_operation
from supertickets import UserError
from supertickets.runtime import load
from supertickets.runtime.arena import Arena
from supertickets.runtime.graph import FORMAT, load_graph, save_graph
from supertickets.runtime.operations import OPERATIONS
from supertickets.runtime.tensor_file import read_tensors, write_tensors
from supertickets.runtime.zeros import pack_zeros, unpack_zeros

CONV = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1, "activation": ("relu",)}


def weights(density: float = 0.2) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(0)
    return (random.standard_normal((8, 3, 3, 3)) * (random.random((8, 3, 3, 3)) < density)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    graph = one_operation("conv", (3, 6, 5), [weights(), np.ones(8, np.float32)], CONV)
    save_graph(graph, tmp_path / "net.sparse", {"classes": '["a", "b"]', "note": "no JSON"})
    return tmp_path / "net.sparse"


def test_what_is_written_is_read(path: Path) -> None:
    engine = load(path)
    assert engine.about == {"classes": ["a", "b"], "note": "no JSON"}
    np.testing.assert_array_equal(engine.graph.tensors["w0"], weights())
    assert engine(np.zeros((2, 3, 6, 5))).shape == (2, 8, 6, 5)
    assert not list(path.parent.glob("*partial*"))


def test_the_library_reads_what_we_write_and_we_read_what_it_writes(tmp_path: Path) -> None:
    tensors = {"a": weights(), "b": np.arange(5), "empty": np.zeros((0, 3), np.float32)}
    write_tensors(tmp_path / "ours", {"k": "v"}, tensors)
    save_file(tensors, tmp_path / "theirs", {"k": "v"})
    theirs = load_file(tmp_path / "ours")
    metadata, ours = read_tensors(tmp_path / "theirs")
    assert metadata == {"k": "v"}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(theirs[name], tensor)
        np.testing.assert_array_equal(ours[name], tensor)


@given(st.floats(0, 1), st.lists(st.integers(0, 5), max_size=4))
def test_zeros_are_stored_as_bits(density: float, shape: list[int]) -> None:
    random = np.random.default_rng(0)
    tensor = np.asarray(random.standard_normal(shape) * (random.random(shape) < density), np.float32)
    stored = pack_zeros({"w": tensor, "n": np.arange(3)})
    assert sum(part.nbytes for part in stored.values()) <= tensor.nbytes + 24 + 8 * tensor.ndim
    back = unpack_zeros(stored)
    np.testing.assert_array_equal(back["w"], tensor)
    assert back["w"].shape == tensor.shape


def test_nine_zeros_of_ten_take_a_sixth_of_the_bytes() -> None:
    tensor = np.zeros((100, 100), np.float32)
    tensor[:10] = 1  # 1,000 values of 4 bytes, 10,000 bits, 2 sizes of 8 bytes
    assert sum(part.nbytes for part in pack_zeros({"w": tensor}).values()) == 4000 + 1250 + 16


def test_arrays_begin_on_a_cache_line_and_memory_has_a_limit() -> None:
    arena = Arena(limit=3 * 8 * 2**20)  # three pieces
    arrays = [arena.zeros(count, kind) for count in (1, 1000, 7) for kind in (np.float32, np.int32)]
    assert [array.ctypes.data % 64 for array in arrays] == [0] * 6
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
    arena.zeros(2**20)
    arena.zeros(2**21)
    for count in (2**21, 2**40):
        with pytest.raises(UserError, match="too much memory"):
            arena.zeros(count)
    with pytest.raises(UserError, match="there is no memory for"):
        Arena(limit=2**70).zeros(2**60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_memory_of_its_own() -> None:
    array = Arena().zeros(4)
    child = os.fork()
    if not child:
        array[:] = 1
        os._exit(0)
    os.waitpid(child, 0)
    assert array.sum() == 0


def test_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    save_graph(one_operation("conv", (3, 64, 64), [weights(), np.ones(8, np.float32)], CONV), tmp_path / "net", {})
    engine = load(tmp_path / "net")
    images = np.random.default_rng(1).standard_normal((40, 1, 3, 64, 64)).astype(np.float32)
    alone = [engine(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(engine, images))
    np.testing.assert_array_equal(together, alone)


def test_torch_is_not_imported(path: Path) -> None:
    code = (
        "import sys, numpy, supertickets.runtime as r\n"
        f"print(r.load({str(path)!r})(numpy.ones((1, 3, 6, 5))).shape)\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'safetensors', 'scipy', 'yaml'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or 0)"
    )
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(source)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "(1, 8, 6, 5)\n"), done.stderr


def refused(path: Path, why: str) -> None:
    with pytest.raises(UserError, match=why) as caught:
        load(path)
    assert len(str(caught.value).splitlines()) == 1


def test_truncated_at_every_byte(path: Path) -> None:
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        refused(path, "is damaged|is no file of this runtime")


Header = dict[str, Any]


def rewritten(path: Path, change: Callable[[Header], object]) -> None:
    """Change the header of a file, whose data stay."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def test_a_header_longer_than_the_file(path: Path) -> None:
    data = path.read_bytes()
    for length in (len(data), 2**63, 2**64 - 1, 0, 1):
        path.write_bytes(struct.pack("<Q", length) + data[8:])
        refused(path, "it does not begin as a file of export --format sparse")


@pytest.mark.parametrize(
    ("offsets", "shape"),
    [([0, 10**9], [8]), ([-32, 0], [8]), ([4, 36], [8]), ([0, 32], [9]), ([0, 32], [-8]), ([0.0, 32.0], [8]),
     ([0, 32], [8.0]), ([0, 32], [True]), ([0, 32], [2**62, 4]), ([0, "32"], [8]), ([0, 32], "8"),
     ([0], [8]), (None, [8])],
)  # fmt: skip
def test_bytes_that_are_not_where_they_belong(path: Path, offsets: Any, shape: Any) -> None:
    def change(header: Header) -> None:
        header["w1"] |= {"data_offsets": offsets, "shape": shape}

    rewritten(path, change)
    refused(path, "is damaged")


def test_tensors_that_overlap(path: Path) -> None:
    rewritten(path, lambda header: header.update(again=dict(header["w1"])))
    refused(path, "not where they belong")


def set_graph(path: Path, change: Callable[[Any], object]) -> None:
    def both(header: Header) -> None:
        graph = json.loads(header["__metadata__"]["graph"])
        change(graph)
        header["__metadata__"]["graph"] = json.dumps(graph)

    rewritten(path, both)


def put(value: Any, *keys: Any) -> Callable[[Any], None]:
    """Return a function that sets one entry, deep inside."""

    def change(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return change


NODE = ("nodes", 0)
ATTRIBUTE = (*NODE, "attributes")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (put("explode", *NODE, "operation"), "no operation 'explode'"),
        (put(["images", "w9"], *NODE, "inputs"), "not there"),
        (put(["images"], *NODE, "inputs"), "1 inputs"),
        (put(["images", ""], *NODE, "inputs"), "lacks an input"),
        (put(["w0"], *NODE, "outputs"), "already is"),
        (put(["o", "o"], *NODE, "outputs"), "already is"),
        (put([], *NODE, "outputs"), "0 outputs"),
        (put([0, 0], *ATTRIBUTE, "strides"), "from 1 to"),
        (put([1, 10**9], *ATTRIBUTE, "strides"), "from 1 to"),
        (put([1, float("nan")], *ATTRIBUTE, "strides"), "no whole number"),
        (put([-1, 0, 0, 0], *ATTRIBUTE, "pads"), "from 0 to"),
        (put([1, 1, 1], *ATTRIBUTE, "pads"), "no list"),
        (put(3, *ATTRIBUTE, "groups"), "do not fit"),
        (put(0, *ATTRIBUTE, "groups"), "from 1 to"),
        (put(["clip", float("inf"), 0], *ATTRIBUTE, "activation"), "are no numbers"),
        (put(["clip", 0], *ATTRIBUTE, "activation"), "no activation"),
        (put("more", *ATTRIBUTE, "more"), "has attributes"),
        (put(["nowhere"], "outputs"), "an output is not computed"),
        (put([], "outputs"), "an output is not computed"),
        (put([None, 3, 2**30, 5], "shape"), "are impossible"),
        (put([3, 2**20, 2**20], "example"), "too large"),
        (put([4, 6, 5], "example"), "do not fit 4 channels"),
        (put([3, 1.5, 5], "example"), "are impossible"),
        (put("w0", "input"), "no name of their own"),
        (put(7, "nodes"), "cannot run"),
        (put([7], "nodes"), "cannot run"),
    ],
)
def test_graphs_that_cannot_run(path: Path, change: Callable[[Any], None], why: str) -> None:
    set_graph(path, change)
    refused(path, why)


def test_other_files(path: Path, tmp_path: Path) -> None:
    save_file({"a": weights()}, tmp_path / "other.safetensors")
    refused(tmp_path / "other.safetensors", "is no file of this runtime")
    refused(tmp_path / "none", "cannot be read")
    refused(tmp_path, "cannot be read")
    rewritten(path, lambda header: header["__metadata__"].update(graph="{" * 10_000))
    refused(path, "cannot run")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("w.shape", np.array([2**40, 2**40])),
        ("w.shape", np.array([-4, 2])),
        ("w.shape", np.array([3, 4])),
        ("w.nonzero_values", np.ones(2, np.float32)),
        ("w.nonzero_bits", np.full(2, 255, np.uint8)),
        ("w.nonzero_bits", np.full(1, 255, np.int64)),
    ],
)
def test_packed_tensors_whose_parts_do_not_fit(name: str, tensor: np.ndarray[Any, Any]) -> None:
    parts = {
        "w.shape": np.array([2, 4]),
        "w.nonzero_bits": np.full(1, 128, np.uint8),
        "w.nonzero_values": np.ones(1, np.float32),
    }
    assert unpack_zeros(parts)["w"].sum() == 1
    with pytest.raises(UserError, match="do not fit together"):
        unpack_zeros(parts | {name: tensor})


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    broken = weights()
    broken[0, 0, 0, 0] = np.nan
    save_graph(one_operation("conv", (3, 6, 5), [broken], CONV), tmp_path / "nan", {})
    refused(tmp_path / "nan", "not a finite number")


def test_a_reshape_to_a_huge_size_is_refused(tmp_path: Path) -> None:
    for operation, sizes in (("expand", [1, 2**31, 2**31, 1]), ("resize", [1, 3, 2**40, 1]), ("reshape", [7, 7])):
        attributes = {
            "expand": {},
            "resize": {"mode": "nearest", "centres": "asymmetric"},
            "reshape": {"zero_copies": True},
        }
        graph = one_operation(operation, (3, 1, 1), [np.array(sizes)], attributes[operation])
        save_graph(graph, tmp_path / "huge", {})
        refused(tmp_path / "huge", "cannot run on images")


def test_images_that_do_not_fit(path: Path) -> None:
    set_graph(path, put([None, 3, 6, None], "shape"))
    engine = load(path)
    assert engine(np.ones((1, 3, 6, 9))).shape == (1, 8, 6, 9)
    for shape in ((1, 3, 5, 5), (3, 6, 5), (1, 4, 6, 5), (0, 3, 6, 5)):
        with pytest.raises(UserError, match="give an array of any x 3 x 6 x any, one image at least"):
            engine(np.ones(shape))
    with pytest.raises(UserError, match="images are uint8, not preprocessed; give float32"):
        engine(np.ones((1, 3, 6, 9), np.uint8))


@given(st.data())
def test_damaged_bytes_never_crash(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    place = tmp_path_factory.getbasetemp() / "damaged.sparse"
    save_graph(one_operation("conv", (3, 6, 5), [weights()], CONV), place, {})
    content = bytearray(place.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    place.write_bytes(content)
    with contextlib.suppress(UserError):
        load_graph(place)


def test_the_format_is_named() -> None:
    assert FORMAT == "supertickets-graph-1"


def test_a_split_may_have_many_parts_and_other_lists_few_numbers() -> None:
    """A shuffle of 96 channels splits them one by one."""
    check = OPERATIONS["split"].attributes["sizes"]
    assert check([1] * 96) == (1,) * 96
    for name, attribute, most in (("split", "sizes", 1024), ("mean", "axes", 64)):
        with pytest.raises(ValueError, match="no list of whole numbers of its length"):
            OPERATIONS[name].attributes[attribute]([0] * (most + 1))
