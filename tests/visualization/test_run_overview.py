"""The overview of a run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from check_figures import assert_figure
from supertickets import Ticket
from supertickets.visualization.curves import draw_size
from supertickets.visualization.run_overview import draw_run_overview


@pytest.fixture
def run_copy(toy_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_run, tmp_path / "run"))


def test_a_run_at_a_glance(run_copy: Path, ticket: Ticket) -> None:
    path = draw_run_overview(run_copy, ticket)
    assert path.parent == run_copy
    assert_figure(path, (800, 500), (4000, 3000))


def test_a_dense_run_at_a_glance(run_copy: Path, ticket: Ticket) -> None:
    (run_copy / "events.jsonl").write_text(
        "".join(
            line + "\n"
            for line in (run_copy / "events.jsonl").read_text().splitlines()
            if json.loads(line)["event"] in ("epoch", "recalibrate", "digest")
        )
    )
    assert_figure(draw_run_overview(run_copy, replace(ticket, mask={})), (800, 500), (4000, 3000))


def test_the_budget_stands_beside_the_way_to_it() -> None:
    epochs = [{"epoch": i, "units": 10 - i, "macs": 200, "masked_macs": 200 // i} for i in (1, 2, 3)]
    axis = Figure().subplots()
    draw_size(axis, epochs, 10, 200, {"macs": 80, "latency_ms": 0.5, "measured_ms": 0.4951, "runtime": "sparse"})
    assert axis.get_title("left") == "What is left of the network; budget 0.5 ms, 80 MACs (measured 0.495 ms)"
    lines = {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in axis.lines}
    assert lines["budget of MACs"] == [40, 40]
    assert lines["MACs under the mask"] == [100, 50, 33]
    plain = Figure().subplots()
    draw_size(plain, epochs, 10, 200)
    assert plain.get_title("left") == "What is left of the network"
    assert "budget of MACs" not in [line.get_label() for line in plain.lines]
