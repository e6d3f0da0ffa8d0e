"""Damaged files and odd shapes: every input ends in scores or in one UserError; what fuzzing has found stays mended."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fuzz_runtime
from build_graph import one_operation
from kernel_libraries import BACKENDS, NUMPY, kernels_or_skip, run_on
from supertickets import UserError
from supertickets.runtime import limits, planner
from supertickets.runtime.graph import Graph, Node
from supertickets.runtime.kernels import build
from supertickets.runtime.operations import OPERATIONS

CONV = {"strides": (2, 2), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1, "activation": ("none",)}


@pytest.fixture
def small_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LARGEST", 2**20)
    monkeypatch.setattr(planner, "LARGEST", 2**20)


@pytest.mark.usefixtures("small_values")
def test_damaged_files_end_in_scores_or_in_one_line(tmp_path: Path) -> None:
    kernels = kernels_or_skip(BACKENDS[-1])
    assert kernels is not None
    ends = Counter(fuzz_runtime.run_case(seed, kernels, tmp_path / "file") for seed in range(300))
    assert not [end for end in ends if end.startswith("fault")], ends
    assert {"whole: scores", "header: scores", "header: refused", "bytes: refused"} <= set(ends)


def test_faults_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> Any:
        raise KeyError("no such entry")

    monkeypatch.setattr(fuzz_runtime, "load_graph", broken)
    kernels = kernels_or_skip(BACKENDS[-1])
    assert kernels is not None
    end = fuzz_runtime.run_case(0, kernels, tmp_path / "file")
    assert end.startswith("fault: ")
    assert "KeyError: 'no such entry'" in end


@pytest.mark.slow
@pytest.mark.parametrize("width", build.possible_widths())
def test_damaged_files_under_sanitizers(width: int, tmp_path: Path) -> None:
    try:
        path, replaced = fuzz_runtime.compile_sanitized(tmp_path, width)
        if not replaced:
            kernels_or_skip(width)
        ends, faults = fuzz_runtime.fuzz(path, 10**6, 1500)
    except build.NoCompiler as error:
        pytest.skip(str(error))
    assert faults == [], json.dumps(ends)


@pytest.mark.parametrize("backend", BACKENDS[1:])
@pytest.mark.parametrize("operation", ["conv", "max_pool", "avg_pool"])
def test_windows_over_several_maps_that_were_one(backend: int, operation: str) -> None:
    """A graph may make a batch of one image; kernels took the first of it alone."""
    random = np.random.default_rng(0)
    pool = {"kernel": (2, 2), "strides": (2, 2), "pads": (0,) * 4, "ceil": False}
    attributes: dict[str, dict[str, Any]] = {
        "conv": CONV,
        "max_pool": pool | {"dilations": (1, 1)},
        "avg_pool": pool | {"count_pads": True},
    }
    weight = random.standard_normal((3, 2, 3, 3)).astype(np.float32)
    sizes = np.array([2, 2, 6, 6])
    inputs = ("maps", "w") if operation == "conv" else ("maps",)
    nodes = (
        Node("reshape", ("images", "s"), ("maps",), {"zero_copies": True}),
        Node(operation, inputs, ("out",), attributes[operation]),
    )
    graph = Graph("images", (None, 4, 6, 6), (4, 6, 6), ("out",), nodes, {"w": weight, "s": sizes})
    images = random.standard_normal((1, 4, 6, 6)).astype(np.float32)
    [wanted], [out] = run_on(NUMPY, graph, images), run_on(backend, graph, images)
    np.testing.assert_allclose(out, wanted, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_windows_over_nothing(backend: int) -> None:
    """A slice may leave no map; kernels took one."""
    nodes = (
        Node("slice", ("images",), ("none",), {"axes": (0,), "starts": (1,), "ends": (2,), "steps": (1,)}),
        Node("conv", ("none", "w"), ("out",), CONV),
    )
    tensors = {"w": np.ones((3, 4, 3, 3), np.float32)}
    graph = Graph("images", (None, 4, 6, 6), (4, 6, 6), ("out",), nodes, tensors)
    assert run_on(backend, graph, np.ones((1, 4, 6, 6), np.float32))[0].shape == (0, 3, 3, 3)


@pytest.mark.usefixtures("small_values")
@pytest.mark.parametrize(
    ("operation", "weights", "attributes"),
    [
        ("resize", [np.array([1, 3, 2**16, 2**16])], {"mode": "linear", "centres": "half_pixel"}),
        ("add", [np.ones((2**18, 1, 1, 1, 1), np.float32)], {"activation": ("none",)}),
        ("gather", [np.zeros(2**19, np.int64)], {"axis": 1}),
        ("concat", [np.ones((1, 2**18, 2, 2), np.float32)], {"axis": 1}),
    ],
)
def test_values_too_large_are_refused_before_they_are_made(
    operation: str, weights: list[Any], attributes: dict[str, Any]
) -> None:
    graph = one_operation(operation, (3, 2, 2), weights, attributes)
    with pytest.raises(ValueError, match="too large"):
        OPERATIONS[operation].run(np.ones((1, 3, 2, 2), np.float32), *weights, **attributes)
    with pytest.raises(UserError, match="too large"):
        run_on(BACKENDS[-1], graph, np.ones((1, 3, 2, 2), np.float32))
