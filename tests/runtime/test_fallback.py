"""Graphs in other engines: the same scores, chosen where they are faster."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_random_graphs import random_graph

from build_graph import one_operation
from kernel_libraries import BACKENDS, NUMPY, kernels_or_skip, run_on
from supertickets import UserError
from supertickets.runtime import Engine, fallback, load
from supertickets.runtime.graph import Graph, save_graph
from supertickets.runtime.onnx_writer import write_onnx
from supertickets.runtime.rivals import RIVALS, OnnxRuntime, Rival, Run

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
CONV = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1, "activation": ("relu",)}
IMAGES = np.random.default_rng(0).standard_normal((2, 3, 6, 5)).astype(np.float32)


def make_graph(density: float = 1.0) -> Graph:
    random = np.random.default_rng(0)
    weight = random.standard_normal((8, 3, 3, 3)) * (random.random((8, 3, 3, 3)) < density)
    return one_operation("conv", (3, 6, 5), [weight.astype(np.float32), np.ones(8, np.float32)], CONV)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Engine]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fallback, "RIVALS", (OnnxRuntime(),))
    library = kernels_or_skip(BACKENDS[-1])
    return lambda density=1.0, threads=1: Engine(make_graph(density), {}, library, threads=threads, fallback="auto")


def clock(monkeypatch: pytest.MonkeyPatch, ours: int, other: int) -> None:
    """Let calls take so many milliseconds, in turn."""
    now, calls = [0.0], [0]

    def read() -> float:
        calls[0] += 1
        if calls[0] % 2 == 0:
            now[0] += 1e-3 * (ours if calls[0] % 4 == 2 else other)
        return now[0]

    monkeypatch.setattr(fallback.time, "thread_time", read)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_graphs_compute_the_same(data: st.DataObject) -> None:
    graph, images = random_graph(data)
    outputs = OnnxRuntime().build(write_onnx(graph, images.shape[1:]), threads=1)(images)
    for one, other in zip(run_on(NUMPY, graph, images), outputs, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4 * max(1, float(np.abs(one).max())))


@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: rival.name)
def test_engines_compute_the_same(rival: Rival) -> None:
    pytest.importorskip(rival.name)
    run = rival.build(write_onnx(make_graph(), (3, 6, 5)), threads=1)
    for images in (IMAGES, IMAGES[:1]):
        [scores] = run(images)
        np.testing.assert_allclose(scores, run_on(NUMPY, make_graph(), images)[0], atol=1e-5)


def test_the_faster_runtime_runs_and_a_warning_says_so_once_per_network(
    engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = run_on(NUMPY, make_graph(), IMAGES)[0]
    clock(monkeypatch, ours=5, other=3)
    network = engine()
    with pytest.warns(UserWarning, match=r"onnxruntime is faster here for images of 3 x 6 x 5, .* fallback='never'"):
        scores = network(IMAGES)
    np.testing.assert_allclose(scores, wanted, atol=1e-4)
    monkeypatch.setattr(network, "_run", lambda images: pytest.fail("onnxruntime shall run"))
    network(IMAGES)
    monkeypatch.setattr(fallback.Fallback, "_time", lambda *_: pytest.fail("that was measured"))
    with pytest.warns(UserWarning, match="faster here"):
        engine()(IMAGES)


def test_the_sparse_runtime_stays_where_it_is_faster(
    engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, ours=3, other=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine()(IMAGES)
    monkeypatch.setattr(OnnxRuntime, "build", lambda *_: pytest.fail("that was measured"))
    engine()(IMAGES)


def test_networks_of_zeros_are_not_timed(engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxRuntime, "build", lambda *_: pytest.fail("nothing is to be timed"))
    assert fallback.share_of_products(make_graph(0.1), (3, 6, 5)) < 0.2
    engine(0.1)(IMAGES)


def test_other_scores_are_refused(engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    build = OnnxRuntime.build

    def build_wrong(*args: Any) -> Run:
        right = build(*args)
        return lambda images: [out + 0.01 for out in right(images)]

    monkeypatch.setattr(OnnxRuntime, "build", build_wrong)
    with pytest.warns(UserWarning, match="computes other scores"):
        np.testing.assert_allclose(engine()(IMAGES), run_on(NUMPY, make_graph(), IMAGES)[0], atol=1e-4)


def test_what_another_engine_cannot_run_stays(engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> bytes:
        raise ValueError("no such thing")

    monkeypatch.setattr(fallback, "write_onnx", refuse)
    with pytest.warns(UserWarning, match="onnxruntime cannot run this network .no such thing."):
        engine()(IMAGES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UserError, match=r"fallback='always': onnxruntime cannot run .* use fallback='auto'"):
            Engine(make_graph(), {}, None, threads=1, fallback="always")(IMAGES)


def test_an_engine_is_freed_at_once(engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, ours=1, other=9)
    gc.disable()
    try:
        one = engine()
        one(IMAGES)
        gone = weakref.ref(one)
        del one
        assert gone() is None
    finally:
        gc.enable()


def test_without_kernels_another_engine_runs_if_its_scores_are_right(
    engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Engine(make_graph(0.05), {}, None, threads=1, fallback="auto")
    with pytest.warns(UserWarning, match="onnxruntime is faster here"):
        scores = slow(IMAGES)
    np.testing.assert_allclose(scores, run_on(NUMPY, make_graph(0.05), IMAGES)[0], atol=1e-5)
    monkeypatch.setattr(OnnxRuntime, "build", lambda *_: lambda images: [np.ones((len(images), 8, 6, 5), np.float32)])
    wrong = Engine(make_graph(0.06), {}, None, threads=1, fallback="auto")
    with pytest.warns(UserWarning, match="computes other scores"):
        np.testing.assert_array_equal(wrong(IMAGES), run_on(NUMPY, make_graph(0.06), IMAGES)[0])


def test_a_folder_of_that_name_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxRuntime, "name", "not_there")
    (tmp_path / "not_there").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not OnnxRuntime().available()


class SecondEngine(Rival):
    """An engine that computes with numpy, under the name of a package that is installed."""

    name = "numpy"

    def build(self, model: bytes, threads: int) -> Run:
        return lambda images: list(run_on(NUMPY, make_graph(), images))


@pytest.fixture
def broken_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let onnxruntime be found, but fail when it is imported, as after an update of the system."""

    def break_it() -> None:
        package = tmp_path / "broken" / "onnxruntime"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise ImportError('libonnxruntime.so: cannot open shared object file')")
        monkeypatch.syspath_prepend(package.parent)
        for name in [name for name in sys.modules if name.partition(".")[0] == "onnxruntime"]:
            monkeypatch.delitem(sys.modules, name)

    return break_it


@pytest.mark.parametrize("mode", ["auto", "always"])
def test_a_remembered_engine_that_is_broken_leaves_the_network_to_the_others(
    mode: Any,
    engine: Callable[..., Engine],
    monkeypatch: pytest.MonkeyPatch,
    broken_library: Callable[[], None],
) -> None:
    library = engine().library
    monkeypatch.setattr(fallback, "RIVALS", (OnnxRuntime(), SecondEngine()))
    monkeypatch.setattr(fallback, "fastest", lambda runs, *_: min(runs, key=["onnxruntime", "numpy", "sparse"].index))
    wanted = run_on(NUMPY, make_graph(), IMAGES)[0]

    def load_and_run() -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            network = Engine(make_graph(), {}, library, threads=1, fallback=mode)
            np.testing.assert_allclose(network(IMAGES), wanted, atol=1e-4)
        return [str(warning.message) for warning in caught]

    faster = ["onnxruntime is faster here"] if mode == "auto" else []
    assert [text[:26] for text in load_and_run()] == faster
    broken_library()
    for _ in range(2):  # what runs instead is not remembered
        texts = load_and_run()
        assert "onnxruntime cannot run this network (libonnxruntime.so: cannot open" in texts[0]
        assert [text[:20] for text in texts[1:]] == (["numpy is faster here"] if mode == "auto" else [])


def test_a_remembered_engine_that_is_broken_leaves_the_network_to_the_sparse_runtime(
    engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, broken_library: Callable[[], None]
) -> None:
    monkeypatch.setattr(fallback, "fastest", lambda runs, *_: list(runs)[-1])
    with pytest.warns(UserWarning, match="onnxruntime is faster here"):
        engine()(IMAGES)
    broken_library()
    with pytest.warns(UserWarning, match="onnxruntime cannot run this network .libonnxruntime.so"):
        np.testing.assert_allclose(engine()(IMAGES), run_on(NUMPY, make_graph(), IMAGES)[0], atol=1e-4)
    with (
        pytest.warns(UserWarning, match="onnxruntime cannot run"),
        pytest.raises(UserError, match="fallback='always': onnxruntime cannot run this network"),
    ):
        Engine(make_graph(), {}, engine().library, threads=1, fallback="always")(IMAGES)


def test_an_engine_that_fails_at_the_images_does_not_run_them(
    engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(images: npt.NDArray[Any]) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(OnnxRuntime, "build", lambda *_: fail)
    with pytest.warns(UserWarning, match="onnxruntime cannot run this network .out of memory."):
        np.testing.assert_allclose(engine()(IMAGES), run_on(NUMPY, make_graph(), IMAGES)[0], atol=1e-4)


def test_without_other_engines(engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxRuntime, "name", "not_there")
    engine()(IMAGES)
    with pytest.raises(UserError, match="needs onnx and not_there"):
        Engine(make_graph(), {}, None, fallback="always")


def test_the_fastest_of_several_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    now, times = [0.0], {"one": 5.0, "two": 2.0, "three": 3.0}

    def call(name: str) -> Run:
        def run(images: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
            now[0] += times[name]
            return [images]

        return run

    monkeypatch.setattr(fallback.time, "thread_time", lambda: now[0])
    assert fallback.fastest({name: call(name) for name in times}, IMAGES, threads=1) == "two"


def test_a_new_version_of_an_engine_is_timed_anew(
    engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine()(IMAGES)
    calls: list[int] = []
    monkeypatch.setattr(fallback, "fastest", lambda *_: calls.append(1) or fallback.OURS)
    engine()(IMAGES)
    assert not calls
    monkeypatch.setattr(OnnxRuntime, "version", lambda _: "99")
    engine()(IMAGES)
    assert calls


def test_engines_are_imported_by_those_who_need_them(tmp_path: Path) -> None:
    save_graph(make_graph(0.1), tmp_path / "net", {})
    code = (
        "import sys, numpy; from supertickets import runtime; network = runtime.load(sys.argv[1])\n"
        "network(numpy.zeros((1, 3, 6, 5), numpy.float32))\n"
        "assert not {'onnx', 'onnxruntime', 'openvino', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "net")], check=True)


def test_the_choice_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_graph(make_graph(), tmp_path / "net", {})
    monkeypatch.setattr(fallback, "RIVALS", (OnnxRuntime(),))
    monkeypatch.setattr(OnnxRuntime, "build", lambda *_: lambda images: [np.zeros(1)])
    assert load(tmp_path / "net", fallback="always")(IMAGES).shape == (1,)
    for settings_ in ({"fallback": "never"}, {"tune": False}, {"kernels": False}):
        assert load(tmp_path / "net", **settings_)(IMAGES).shape == (2, 8, 6, 5)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="fallback='maybe' is unknown; use one of auto, never, always"):
        load(tmp_path / "net", fallback="maybe")  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: rival.name)
def test_a_forked_process_runs(rival: Rival, engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(rival.name)
    monkeypatch.setattr(fallback, "RIVALS", (rival,))
    monkeypatch.setattr(fallback, "fastest", lambda runs, *_: list(runs)[-1])
    network = engine(threads=2)
    with pytest.warns(UserWarning, match=f"{rival.name} is faster"):
        wanted: npt.NDArray[Any] = network(IMAGES)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if np.allclose(network(IMAGES), wanted, atol=1e-5) else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
