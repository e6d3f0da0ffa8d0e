"""Tickets as C: compiled with one command, the program says the same as the ticket; what cannot be is said."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build_graph import one_operation
from cli_outcome import Cli
from kernel_libraries import NUMPY, run_on
from random_graphs import random_graph
from sparse_tickets import FAMILIES, ticket_of
from supertickets import UserError
from supertickets.deploy import export
from supertickets.deploy.embedded import compile_program, find_compiler, run_program, write_program
from supertickets.deploy.embedded.taps import encode_matrix, encode_taps
from supertickets.models.factory import create_spec
from supertickets.runtime.graph import Graph

Array = npt.NDArray[Any]
ABOUT = {"preprocessing": {"mean": [0.5] * 6, "std": [0.25] * 6}}
QUICK = "cc -O1 -o network main.c network.c -lm"
SANITIZERS = "cc -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -o network main.c network.c -lm"
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")


def scores_of(
    graph: Graph, images: Array, folder: Path, command: str = "cc -O1 -o network main.c network.c -lm"
) -> Array:
    write_program(graph, folder, ABOUT)
    compile_program(folder, folder / "network", command)
    return run_program(folder / "network", images)


def small_graph(factor: float = 1.0) -> Graph:
    """Return the graph that multiplies images of 3 x 2 x 2."""
    weight = factor * np.eye(3, dtype=np.float32)[:, :, None, None]
    attributes = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1), "groups": 1, "activation": ("none",)}
    return one_operation("conv", (3, 2, 2), [weight], attributes)


@needs_compiler
@pytest.mark.parametrize("family", ["plain", pytest.param("hrnet scenes", marks=pytest.mark.long)])
def test_tickets_in_c(family: str, tmp_path: Path) -> None:
    """The exporter compiles with the command that the instructions give, and compares."""
    exported = export(ticket_of(FAMILIES[family](), 0.9), tmp_path / "net", "c")
    assert exported.parity is not None
    assert exported.parity < 1e-5
    names = {"network.c", "network.h", "weights.h", "main.c", "README.md", "Makefile"}
    assert {path.name for path in (tmp_path / "net").iterdir()} > names
    assert "cc -O3" in (tmp_path / "net" / "README.md").read_text()


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_c(family: str, tmp_path: Path) -> None:
    assert export(ticket_of(FAMILIES[family](), 0.9), tmp_path / "net", "c").parity


@needs_compiler
@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_random_graphs_in_c(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Against numpy, with sanitizers, so that no read or write leaves the memory unseen."""
    graph, images = random_graph(data)
    folder = tmp_path_factory.mktemp("c")
    wanted = np.concatenate([out.reshape(len(images), -1) for out in run_on(NUMPY, graph, images)], 1)
    try:
        scores = scores_of(graph, images, folder, SANITIZERS)
    except UserError:  # of which another test has the text
        return
    np.testing.assert_allclose(scores, wanted, atol=1e-4 * max(1, float(np.abs(wanted).max())))


@needs_compiler
def test_steps_longer_than_16_bits(tmp_path: Path) -> None:
    """Two taps 65536 and more floats apart, and an empty row."""
    weight = np.zeros((2, 6, 1, 1), np.float32)
    weight[0, [0, 5], 0, 0] = [1, 2]
    attributes = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1), "groups": 1, "activation": ("tanh",)}
    graph = one_operation("conv", (6, 200, 120), [weight], attributes)
    images = np.random.default_rng(0).standard_normal((1, 6, 200, 120)).astype(np.float32)
    wanted = np.stack([np.tanh(images[0, 0] + 2 * images[0, 5]), np.zeros((200, 120))]).reshape(1, -1)
    np.testing.assert_allclose(scores_of(graph, images, tmp_path), wanted, atol=1e-5)


@given(st.integers(0, 2**20))
def test_taps_come_back(seed: int) -> None:
    random = np.random.default_rng(seed)
    counts = random.integers(0, 5, random.integers(1, 5))
    begins = np.concatenate([[0], np.cumsum(counts)])
    offsets = random.integers(-(10**5), 10**6, begins[-1])
    weights = random.standard_normal((begins[-1], 2)).astype(np.float32)
    taps = encode_taps(begins, offsets, weights)
    for i, start in enumerate(taps.starts):
        part = slice(taps.begins[i], taps.begins[i + 1])
        kept = taps.weights[part].any(1)
        at = start + np.cumsum(taps.steps[part].astype(np.int64))
        given_part = slice(begins[i], begins[i + 1])
        order = np.argsort(offsets[given_part], kind="stable")
        np.testing.assert_array_equal(at[kept], offsets[given_part][order])
        np.testing.assert_array_equal(taps.weights[part][kept], weights[given_part][order])


def test_a_matrix_by_hand() -> None:
    taps = encode_matrix(np.array([[0, 1], [0, 0], [0, 2]], np.float32))
    assert [taps.begins.tolist(), taps.steps.tolist(), taps.weights.tolist()] == [[0, 0, 2], [0, 2], [[1], [2]]]


def test_zeros_are_not_stored(tmp_path: Path) -> None:
    sizes = []
    for density in (1, 0.05):
        random = np.random.default_rng(0)
        weight = random.standard_normal((40, 6)).astype(np.float32)
        weight *= random.random((40, 6)) < density
        write_program(one_operation("linear", (2, 2, 6), [weight], {"activation": ("none",)}), tmp_path, ABOUT)
        sizes.append((tmp_path / "weights.h").stat().st_size)
    assert sizes[1] < 0.2 * sizes[0]


def test_what_has_no_c_is_named(tmp_path: Path) -> None:
    attributes = {"strides": (1, 2), "pads": (1,) * 4, "dilations": (1, 1), "groups": 1, "activation": ("none",)}
    graph = one_operation("conv", (6, 9, 9), [np.ones((2, 6, 3, 3), np.float32)], attributes)
    with pytest.raises(UserError, match="there is no C for conv as this network uses it; export with --format sparse"):
        write_program(graph, tmp_path, ABOUT)


@needs_compiler
def test_images_and_files_that_are_none(tmp_path: Path) -> None:
    """A PNM image is preprocessed as the ticket does it; wrong files are refused in one line."""
    write_program(small_graph(), tmp_path, ABOUT)
    compile_program(tmp_path, tmp_path / "network", QUICK)
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    (tmp_path / "a.ppm").write_bytes(b"P6\n# a comment\n2 2\n255\n" + pixels.tobytes())
    out = subprocess.run([tmp_path / "network", tmp_path / "a.ppm"], capture_output=True, text=True, check=True).stdout
    wanted = (pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.25
    np.testing.assert_allclose([float(word) for word in out.split()], wanted.reshape(-1), atol=1e-6)
    for data, why in (
        (b"P6\n3 2\n255\n" + bytes(18), "is no PNM image of 8 bits and of the size"),
        (b"P6\nx", "is no PNM image"),
        (b"P6\n2 2\n255\n" + bytes(5), "is no PNM image"),
        (bytes(47), "does not hold whole images"),
        (b"", "is empty"),
    ):
        (tmp_path / "b").write_bytes(data)
        done = subprocess.run([tmp_path / "network", tmp_path / "b"], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert why in done.stderr
        assert len(done.stderr.splitlines()) == 1


@needs_compiler
def test_an_image_may_end_in_a_new_line_and_a_number_of_calls_is_one_or_more(tmp_path: Path) -> None:
    write_program(small_graph(), tmp_path, ABOUT)
    compile_program(tmp_path, tmp_path / "network", QUICK)
    image = b"P6\n2 2\n255\n" + bytes(range(12))
    (tmp_path / "a.ppm").write_bytes(image + b"\n")
    done = subprocess.run([tmp_path / "network", tmp_path / "a.ppm"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split()) == 12
    (tmp_path / "b.ppm").write_bytes(image + image)
    for words, why in ((("b.ppm",), "goes on behind its image"), (("--time", "0", "a.ppm"), "a number of calls")):
        done = subprocess.run([tmp_path / "network", *words], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 2
        assert why in done.stderr


@needs_compiler
def test_two_networks_in_one_program_of_cpp(tmp_path: Path) -> None:
    for name, factor in (("one", 1.0), ("two", 2.0)):
        (tmp_path / name).mkdir()
        about = {"preprocessing": {"mean": [0.5] * 3, "std": [0.25] * 3}}
        write_program(small_graph(factor), tmp_path / name, about, name)
        compile_program(tmp_path / name, tmp_path / f"{name}.o", "cc -O1 -c -o network network.c")
    (tmp_path / "both.cpp").write_text(
        '#include "one/network.h"\n#include "two/network.h"\n#include <cstdio>\n'
        "int main() {\n"
        "  float image[ONE_CHANNELS * TWO_HEIGHT * ONE_WIDTH], a[ONE_SCORES], b[TWO_SCORES];\n"
        "  for (int i = 0; i < 12; i++) image[i] = i;\n"
        "  one_run(image, a), two_run(image, b);\n"
        '  std::printf("%g %g", a[5], b[5]);\n'
        "}\n"
    )
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    subprocess.run([compiler, "both.cpp", "one.o", "two.o", "-o", "both", "-lm"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "both"], capture_output=True, text=True, check=True).stdout == "5 10"


def test_names_that_c_does_not_know_are_refused(tmp_path: Path) -> None:
    for name in ("2nd", "a-b", "", "a b", "größe"):
        with pytest.raises(UserError, match="begins no name in C"):
            export(ticket_of(FAMILIES["plain"](), 0.9), tmp_path / "net", "c", name=name)


def test_the_command_without_a_compiler(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket_of(create_spec("resnet8", width=4, num_classes=4)).save_pretrained(tmp_path / "ticket")
    monkeypatch.setenv("PATH", "")
    done = cli("export", tmp_path / "ticket", "--format", "c")
    assert done.status == 0, done.err
    assert "not checked: there is no C compiler here" in done.out
    assert (tmp_path / "ticket" / "model_c" / "network.c").exists()
    assert 'network_classes[NETWORK_SCORES] = {"c0"' in (tmp_path / "ticket" / "model_c" / "network.h").read_text()
    assert cli("export", tmp_path / "ticket", "--format", "c").status == 0  # sources are replaced
    other = cli("export", tmp_path / "ticket", "--format", "c", "--out", tmp_path / "ticket")
    assert other.status == 2
    assert "holds no C sources" in other.err


@needs_compiler
def test_sources_that_differ_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supertickets.deploy.exporter.compile_program", lambda folder, out: None)
    monkeypatch.setattr("supertickets.deploy.exporter.run_program", lambda program, images: np.ones((len(images), 4)))
    with pytest.raises(RuntimeError, match="differs by"):
        export(ticket_of(create_spec("resnet8", width=4, num_classes=4)), tmp_path / "net", "c")
    assert list(tmp_path.iterdir()) == []
