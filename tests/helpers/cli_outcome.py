"""Outcomes of the command line, of the example script and of exports, as tests look at them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import supertickets as st
from supertickets.deploy import export


@dataclass(frozen=True)
class Outcome:
    """Status and output of a command."""

    status: int
    out: str
    err: str


Cli = Callable[..., Outcome]


def onnx_file(run: Path, folder: Path) -> Path:
    """Return the ONNX file of a run's ticket."""
    made = export(st.load(run), folder / "model.onnx")
    assert made.parity < 1e-4
    return made.path


def onnx_predict(model: Path, image: Path) -> Outcome:
    """Run the example script on one image."""
    script = Path(__file__).parents[2] / "examples" / "onnx_predict.py"
    ran = subprocess.run([sys.executable, script, model, image], capture_output=True, text=True, check=False)
    return Outcome(ran.returncode, ran.stdout, ran.stderr)
