"""The kernels under AddressSanitizer and UBSan on random graphs: nothing is read or written outside its memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fuzz_runtime
from kernel_libraries import kernels_or_skip
from supertickets.runtime.kernels import build

ROOT = Path(__file__).parents[2]
# Every array has memory of its own here, with just the room behind it that kernels may read, so that more is noticed.
PROGRAM = """
import sys
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kernel_libraries
import test_random_graphs
from supertickets.runtime import planner
from supertickets.runtime.arena import Arena
from supertickets.runtime.library import Library


def zeros(self, count, kind=np.float32):
    raw = np.zeros(count + 48, kind)
    first = (-raw.ctypes.data % 64) // raw.itemsize
    return raw[first : first + count + 32][:count]


Arena.zeros = zeros
planner._PAST = 200  # so that both ways to store are there
kernels = Library(Path(sys.argv[1]))
kernel_libraries.kernels_or_skip = lambda width: kernels if width else None


@settings(max_examples=int(sys.argv[2]), deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def check(data):
    test_random_graphs.check_kernels(data, kernels.width)


check()
print("clean")
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", build.possible_widths())
def test_random_graphs_stay_inside_their_memory(width: int, tmp_path: Path) -> None:
    libraries = fuzz_runtime.sanitizer_libraries()
    if libraries is None:
        pytest.skip("the compiler has no sanitizers")
    try:
        path, replaced = fuzz_runtime.compile_sanitized(tmp_path, width)
    except build.NoCompiler as error:
        pytest.skip(str(error))
    if not replaced:
        kernels_or_skip(width)
    environment = {
        **os.environ,
        "LD_PRELOAD": libraries,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join(str(ROOT / place) for place in ("src", "tests/helpers", "tests/runtime")),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), "400"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("clean\n"), done.stderr[-3000:]
