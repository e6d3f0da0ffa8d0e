"""Forms that are chosen by timing, and the file that keeps the choices."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from build_graph import one_operation
from kernel_libraries import BACKENDS, kernels_or_skip
from supertickets.runtime import Engine
from supertickets.runtime.choices import Choices, digest, load_choices
from supertickets.runtime.native import Copy
from supertickets.runtime.tuning import Tuner

CONV = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1, "activation": ("relu",)}


class Clock:
    """Kernels whose steps take the milliseconds that stand in them."""

    def __init__(self) -> None:
        self.calls = 0

    def time(self, table: Any, repeats: int) -> float:
        self.calls += 1
        return float(table[0].last)


def choose(tuner: Tuner, times: dict[int, int], estimates: dict[int, float]) -> int:
    return tuner.choose(estimates, [b"layer"], lambda form: [(Copy(), times[form])])


def test_the_fastest_of_the_forms_that_are_close_by_the_model() -> None:
    clock = Clock()
    make = lambda: Tuner(clock, Choices(None))  # type: ignore[arg-type]  # noqa: E731
    assert choose(make(), {1: 100, 2: 80, 4: 10}, {1: 1e6, 2: 1.1e6, 4: 9e6}) == 2
    assert choose(make(), {1: 100, 2: 99}, {1: 1e6, 2: 1.1e6}) == 1  # within what timing is good for
    calls = clock.calls
    assert choose(make(), {}, {1: 1e6, 2: 9e6}) == 1
    assert choose(make(), {}, {1: 10, 2: 11}) == 1
    assert clock.calls == calls


def test_choices_are_measured_once(tmp_path: Path) -> None:
    clock = Clock()
    for times in ({1: 100, 2: 80}, {1: 80, 2: 100}):
        tuner = Tuner(clock, Choices(tmp_path / "file"))  # type: ignore[arg-type]
        assert choose(tuner, times, {1: 1e6, 2: 1.1e6}) == 2
        tuner.finish()
    assert clock.calls == 6


def test_no_time_is_spent_above_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supertickets.runtime.tuning._BUDGET", 0.0)
    assert choose(Tuner(Clock(), Choices(None)), {}, {1: 1e6, 2: 1.1e6}) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"k": 3}', '{"k": "other"}', "[" * 100_000, "\xff" * 9])
def test_damaged_files_are_ignored_and_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(text.encode("latin-1"))
    choices = Choices(path)
    assert choices.get("k", ["a"]) is None
    choices.put("k", "a")
    choices.save()
    assert Choices(path).get("k", ["a"]) == "a"


def test_files_that_cannot_be_written_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    for path in (tmp_path / "missing" / "file", tmp_path / "file", None):
        choices = Choices(path)
        choices.put("k", "a")
        choices.save()
        assert choices.get("k", ["a"]) == "a"
    assert os.listdir(tmp_path) == ["file"]


def test_a_cache_that_is_no_folder_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    choices = load_choices(4)
    choices.put("k", "a")
    choices.save()
    assert choices.get("k", ["a"]) == "a"


def test_several_writers_leave_a_whole_file(tmp_path: Path) -> None:
    def write(number: int) -> None:
        choices = Choices(tmp_path / "file")
        choices.put(f"k{number}", "a" * 1000)
        choices.save()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(40)))
    assert set(json.loads((tmp_path / "file").read_text()).values()) == {"a" * 1000}


def test_digests_tell_parts_apart() -> None:
    assert digest([b"ab", b"c"]) != digest([b"a", b"bc"])


def test_engines_keep_what_they_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = kernels_or_skip(BACKENDS[-1])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("supertickets.runtime.tuning._CLOSE", 9.0)
    random = np.random.default_rng(0)
    graph = one_operation("conv", (16, 40, 40), [random.standard_normal((16, 16, 3, 3)).astype(np.float32)], CONV)
    images = random.standard_normal((1, 16, 40, 40)).astype(np.float32)
    wanted = Engine(graph, {}, library, threads=1, tune=False)(images)
    assert not list(tmp_path.rglob("choices-*"))
    np.testing.assert_allclose(Engine(graph, {}, library, threads=1)(images), wanted, atol=1e-4)
    [file] = tmp_path.rglob("choices-*")
    assert len(json.loads(file.read_text())) == 1
    monkeypatch.setattr("supertickets.runtime.library.Library.time", lambda *_: pytest.fail("it was timed before"))
    Engine(graph, {}, library, threads=1)(images)
