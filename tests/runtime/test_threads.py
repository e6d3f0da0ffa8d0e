"""Threads of the kernels: the same bits for any number of them, forks, callers at the same time."""

from __future__ import annotations

import gc
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_libraries import BACKENDS, kernels_or_skip
from random_graphs import random_graph
from supertickets import UserError
from supertickets.runtime import Engine, threads
from supertickets.runtime.graph import Graph, Node
from supertickets.runtime.native import Convolution, Copy
from supertickets.runtime.planner import PlannedStep
from supertickets.runtime.schedule import schedule

PORTABLE = BACKENDS[-1]


def make_engine(count: int, sides: int = 40) -> tuple[Engine, np.ndarray[Any, Any]]:
    """Return three convolutions in bands with some zeros, and an image for them."""
    random = np.random.default_rng(0)
    attributes = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1, "activation": ("relu",)}
    tensors = {f"w{i}": random.standard_normal((24, 24 if i else 3, 3, 3)).astype(np.float32) for i in range(3)}
    tensors = {name: t * (random.random(t.shape) < 0.3) for name, t in tensors.items()}
    nodes = [Node("conv", (f"v{i}" if i else "images", f"w{i}"), (f"v{i + 1}",), attributes) for i in range(3)]
    graph = Graph("images", (None, 3, None, None), (3, sides, sides), ("v3",), tuple(nodes), tensors)
    images = random.standard_normal((1, 3, sides, sides)).astype(np.float32)
    return Engine(graph, {}, kernels_or_skip(PORTABLE), threads=count, tune=False), images


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(2, 5))
def test_results_do_not_depend_on_the_number_of_threads(data: st.DataObject, count: int) -> None:
    graph, images = random_graph(data)
    library = kernels_or_skip(PORTABLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("supertickets.runtime.schedule._SMALL", 20)  # so that even small steps are cut
        one, several = (Engine(graph, {}, library, threads=number, tune=False)(images) for number in (1, count))
    for wanted, out in zip(one, several, strict=True):
        np.testing.assert_array_equal(out, wanted)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(BACKENDS), st.integers(1, 3))
def test_results_do_not_depend_on_what_is_written_past_the_caches(data: st.DataObject, width: int, count: int) -> None:
    graph, images = random_graph(data)
    library, outputs = kernels_or_skip(width), []
    for past in (1, 2**18):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("supertickets.runtime.planner._PAST", past)
            outputs.append(Engine(graph, {}, library, threads=count, tune=False)(images))
    for wanted, out in zip(*outputs, strict=True):
        np.testing.assert_array_equal(out, wanted)


def test_large_maps_that_nothing_of_their_chain_reads_are_written_past_the_caches() -> None:
    for sides, past in ((104, [0, 0, 0]), (105, [0, 0, 1])):  # 24 channels: 259,584 and 264,600 numbers
        engine, images = make_engine(1, sides=sides)
        steps = [step.arguments for step in engine.plan(images.shape[1:]).planned]
        convolutions = [step for step in steps if isinstance(step, Convolution)]
        assert [step.past for step in convolutions] == past


def test_every_thread_takes_pieces_of_large_maps_and_bands_run_beside_each_other() -> None:
    engine, images = make_engine(2, sides=120)
    parts = schedule(engine.plan(images.shape[1:]).planned, 2)
    assert max(part.pieces for part in parts) == threads.most_pieces(2)
    assert 0 in {part.pieces for part in parts}
    alone = schedule(engine.plan(images.shape[1:]).planned, 1)
    assert sorted((id(p.step), p.first, p.last) for p in parts) == sorted((id(p.step), p.first, p.last) for p in alone)


def test_small_steps_are_one_piece() -> None:
    step = PlannedStep(Copy(), work=100)
    assert [part.pieces for part in schedule([step, step], 8)] == [1, 1]


def test_callers_at_the_same_time_and_several_engines() -> None:
    engines = [make_engine(2), make_engine(3)]
    wanted = [engine(images) for engine, images in engines]
    with ThreadPoolExecutor(4) as pool:
        jobs = [(i % 2, pool.submit(engines[i % 2][0], engines[i % 2][1])) for i in range(60)]
        for which, job in jobs:
            np.testing.assert_array_equal(job.result(), wanted[which])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    engine, images = make_engine(2)
    wanted = engine(images)
    plan = engine.plan(images.shape[1:])
    with plan._lock.value:  # as if another thread were running it
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(engine(images), wanted) else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    np.testing.assert_array_equal(engine(images), wanted)


def test_threads_end_with_their_engine() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/task"))

    if not Path("/proc/self/task").exists():
        pytest.skip("the system does not list threads")
    before = count()
    engine, images = make_engine(3)
    engine(images)
    assert count() == before + 2
    del engine
    assert count() == before


def test_no_threads_are_refused() -> None:
    with pytest.raises(UserError, match="threads=0 is out of range"):
        make_engine(0)


def test_cores_that_a_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3, 5}, raising=False)
    for processor, siblings in enumerate(["0-1", "0-1", "2-3", "2-3", "4-5"]):
        (tmp_path / str(processor if processor < 4 else 5)).write_text(siblings + "\n")
    monkeypatch.setattr(threads, "_TOPOLOGY", str(tmp_path / "{}"))
    monkeypatch.setattr(threads, "_QUOTA", tmp_path / "quota")
    assert threads.usable_cores() == 3
    (tmp_path / "quota").write_text("150000 100000\n")
    assert threads.usable_cores() == 2
    (tmp_path / "quota").write_text("max 100000\n")
    assert threads.usable_cores() == 3


def test_the_memory_of_sizes_that_were_left_is_freed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for the collector, which few objects wake."""
    engine, _ = make_engine(1)
    gc.disable()
    try:
        plans = [weakref.ref(engine.plan((3, 40, 40 + 8 * i))) for i in range(20)]
        assert [plan() is not None for plan in plans] == [False] * 4 + [True] * 16
        monkeypatch.setattr("supertickets.runtime.engine._PLAN_BYTES", 0)
        last = engine.plan((3, 48, 48))
        assert not any(plan() for plan in plans)
        assert last.memory > 4 * 3 * 48 * 48
    finally:
        gc.enable()
