"""The kernels against numpy on random graphs: odd sizes, groups, strides, zeros in every pattern, sums, joined maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_libraries import BACKENDS, NUMPY, run_on, widest_vectors
from random_graphs import random_graph


def check_kernels(data: st.DataObject, width: int) -> None:
    graph, images = random_graph(data)
    wanted, outputs = run_on(NUMPY, graph, images), run_on(width, graph, images)
    for one, other in zip(wanted, outputs, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4 * max(1, float(np.abs(one).max())))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_graphs(data: st.DataObject) -> None:
    check_kernels(data, widest_vectors())


@pytest.mark.long
@pytest.mark.parametrize("width", BACKENDS[1:])
@settings(max_examples=200, deadline=None, report_multiple_bugs=False)
@given(st.data())
def test_many_random_graphs(width: int, data: st.DataObject) -> None:
    check_kernels(data, width)
