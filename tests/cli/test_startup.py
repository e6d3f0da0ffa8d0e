"""Commands that need no network start without PyTorch."""

from __future__ import annotations

import subprocess
import sys

import pytest

RUN = "import sys; from supertickets.cli.main import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass"
LOADED = "\nprint(*sys.modules, file=sys.stderr)"
# Libraries that take long to import.
HEAVY = {"torch", "torchvision", "numpy", "scipy", "sklearn", "matplotlib", "PIL", "onnx"}


def loaded(*words: str) -> set[str]:
    """The modules that a fresh process has loaded after a command, which must have printed something."""
    ran = subprocess.run([sys.executable, "-c", RUN + LOADED, *words], capture_output=True, text=True, check=True)
    assert ran.stdout
    return set(ran.stderr.split())


@pytest.mark.parametrize("words", ["--help", "--version", "recipes", "draw --help", "draw digits --plan"])
def test_a_command_that_trains_nothing_starts_without_torch(words: str) -> None:
    modules = loaded(*words.split())
    assert "supertickets.cli.main" in modules
    assert modules & HEAVY == set()


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, supertickets; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "supertickets" in ran.stdout.split()
    assert set(ran.stdout.split()) & HEAVY == set()


def test_settings_are_explained_without_torch() -> None:
    assert loaded("draw", "--help-settings") & HEAVY == set()
