"""The overview of a run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from check_figures import assert_figure
from supertickets import Ticket
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
