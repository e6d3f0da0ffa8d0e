"""Optional libraries: what needs one says in one line how to install it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cli_outcome import Cli
from supertickets import UserError
from supertickets.errors import missing_library, require_libraries


def block(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make a library look as if it were not installed, and what imported it as if it had not."""
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)
    for module in [*sys.modules]:
        if module.startswith(("supertickets.report", "supertickets.visualization")):
            monkeypatch.delitem(sys.modules, module)


def test_export_names_its_extra(cli: Cli, quick_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block(monkeypatch, "onnx")
    outcome = cli("export", quick_run, "--out", tmp_path / "model.onnx")
    assert outcome.status == 2
    assert outcome.err == (
        "error: library onnx is not installed. Install it with: pip install 'supertickets[export]'\n"
    )
    assert not (tmp_path / "model.onnx").exists()


def test_report_names_its_extra(cli: Cli, quick_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block(monkeypatch, "matplotlib")
    outcome = cli("report", quick_run, "--out", tmp_path / "report")
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    assert "pip install 'supertickets[report]'" in outcome.err


def test_a_training_goes_without_its_figure(
    cli: Cli, quick_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block(monkeypatch, "matplotlib")
    outcome = cli("draw", "digits", "--out", tmp_path / "run", *quick_words)
    assert outcome.status == 0
    assert "no figure: library matplotlib is not installed" in outcome.err
    assert "figure" not in outcome.out
    assert (tmp_path / "run" / "ticket" / "config.json").is_file()


def test_other_missing_modules_are_defects() -> None:
    assert missing_library(ModuleNotFoundError("x", name="supertickets.nothing")) is None
    with pytest.raises(ModuleNotFoundError):
        require_libraries("no_such_library_anywhere")
    assert issubclass(UserError, ValueError)
