"""A short part of the campaigns that interrupt runs: kills at random instants, power cuts, and elastic restarts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long
_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def campaign(script: str, *words: str) -> str:
    """Run a campaign, which ends with status 1 if a run came out differently; return what it prints."""
    done = subprocess.run(
        [sys.executable, _BENCHMARKS / script, *words],
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    if "may not mount" in done.stderr:
        pytest.skip("this process may not mount file systems")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_killed_runs_end_equal() -> None:
    figures = json.loads(campaign("kill_campaign.py", "--kills", "3", "--commands", "draw"))
    assert sum(figures["kills"].values()) >= 3
    assert figures["runs"] >= 1
    assert figures["faults"] == []


def test_runs_behind_a_power_cut_end_equal() -> None:
    figures = json.loads(campaign("power_cut.py", "--cuts", "1", "--commands", "draw"))
    assert sum(figures["cuts"].values()) >= 1
    assert figures["faults"] == []
    assert figures["runs_lost"] == 0


@pytest.mark.slow
def test_a_run_that_the_elastic_agent_starts_again_ends_equal(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    campaign("elastic_restart.py", "--processes", "2", "--commands", "draw", "--patience", "90", "--out", str(out))
    (row,) = json.loads(out.read_text())["rows"]
    assert row["restarts"] >= 1
    assert row["faults"] == []
