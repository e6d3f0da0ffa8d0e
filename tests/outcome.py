"""What a command line, the example script or an export leaves behind, as tests look at it."""

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
    """What a command left behind."""

    status: int
    out: str
    err: str


Cli = Callable[..., Outcome]


def onnx_file(run: Path, folder: Path) -> Path:
    """The ONNX file of a run's ticket."""
    made = export(st.load(run), folder / "model.onnx")
    assert made.parity < 1e-4
    return made.path


def onnx_predict(model: Path, image: Path) -> Outcome:
    """Runs the example script on one image."""
    script = Path(__file__).parents[1] / "examples" / "onnx_predict.py"
    ran = subprocess.run([sys.executable, script, model, image], capture_output=True, text=True, check=False)
    return Outcome(ran.returncode, ran.stdout, ran.stderr)
