"""The kernels against PyTorch on random graphs: groups, strides, dilation, odd sizes and widths, empty filters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_libraries import BACKENDS, run_on, widest_vectors
from random_graphs import STEPS, random_graph
from supertickets.runtime.graph import Graph
from torch_graph import run_in_torch


def check_beside_torch(data: st.DataObject, width: int) -> Graph:
    graph, images = random_graph(data, [step for step in STEPS if step != "pool"])  # whose windows torch cuts otherwise
    for one, other in zip(run_in_torch(graph, images), run_on(width, graph, images), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4 * max(1, float(np.abs(one).max())))
    return graph


def list_properties(graph: Graph) -> set[str]:
    """Return what of the hard cases the convolutions of a graph have."""
    covered = set()
    for node in graph.nodes:
        if node.operation == "conv":
            weight, take = graph.tensors[node.inputs[1]], node.attributes
            filters = weight.reshape(len(weight), -1)
            cases = {
                "groups": take["groups"] > 1,
                "stride 2": take["strides"] == (2, 2),
                "dilation": take["dilations"] == (2, 2),
                "odd width": len(weight) % 4 != 0,
                "odd size": graph.example[1] % 2 == 1 or graph.example[2] % 2 == 1,
                "empty rows": 0 < np.count_nonzero(filters.any(axis=1)) < len(weight),
                "no weight": not weight.any(),
                "some zeros": 0 < np.count_nonzero(weight) < weight.size,
                "dense": bool(weight.all()),
            }
            covered |= {name for name, holds in cases.items() if holds}
    return covered


def test_random_graphs_beside_torch() -> None:
    covered: set[str] = set()

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        covered.update(list_properties(check_beside_torch(data, widest_vectors())))

    check()
    assert covered == {
        *("groups", "stride 2", "dilation", "odd width", "odd size", "empty rows", "no weight", "some zeros", "dense")
    }


@pytest.mark.long
@pytest.mark.parametrize("width", BACKENDS[1:])
@settings(max_examples=200, deadline=None, report_multiple_bugs=False)
@given(st.data())
def test_many_random_graphs_beside_torch(width: int, data: st.DataObject) -> None:
    check_beside_torch(data, width)
