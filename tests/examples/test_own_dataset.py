"""The example of a dataset of one's own: it runs, and is short."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_dataset.py"


def test_a_ticket_is_drawn_from_the_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], toy_words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    monkeypatch.setattr(sys, "argv", ["own_dataset.py", *toy_words])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "classes: disc, square; test accuracy: " in capsys.readouterr().out
    assert (tmp_path / "runs/own_dataset/ticket/model.safetensors").is_file()


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 60
