"""A finished sweep that tests of sweeps, engines and reports look at."""

from __future__ import annotations

import io
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from supertickets.sweeps.sweep import Job, read_sweep
from supertickets.sweeps.work import run_job, run_sweep


@dataclass
class AtOnce:
    """Does jobs in this process, which spares the start of others."""

    root: Path

    def submit(self, job: Job) -> Future[None]:
        """Do a job."""
        future: Future[None] = Future()
        future.set_result(run_job(job, self.root))
        return future

    def close(self) -> None:
        """Do nothing: there is nothing to stop."""


@pytest.fixture(scope="session")
def sweep_file(quick_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a toy sweep over digits: two searches at most, one of them pruned and then trained further."""
    methods = {
        "two-in-one": {},
        "S+P": {"prune": "magnitude"},
        "S+P + retrain": {"prune": "magnitude", "retrain": 1},
    }
    path = tmp_path_factory.mktemp("file") / "sweep.yaml"
    sweep = {"recipe": "digits", "settings": quick_settings, "ratios": [0.5], "methods": methods}
    path.write_text(yaml.safe_dump(sweep, sort_keys=False))
    return path


@pytest.fixture(scope="session")
def finished_sweep(sweep_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the sweep and return its directory, done and undisturbed; tests must not change what is in it."""
    root = tmp_path_factory.mktemp("finished")
    run_sweep(read_sweep(sweep_file), root, AtOnce(root), None, Console(file=io.StringIO()))
    return root
