"""The example of a reward of one's own: a search is steered by it, and it is short."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_reward.py"


def test_a_search_is_steered_by_the_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    monkeypatch.setattr(sys, "argv", ["own_reward.py", "--epochs", "2"])
    names = runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "MACs, validation accuracy " in capsys.readouterr().out
    assert (tmp_path / "runs/own_reward/ticket/model.safetensors").is_file()
    rewards = names["no_credit"](torch.tensor([0.8, 0.8]), torch.tensor([1.0, 3.0]), 2.0, -0.5)
    assert rewards.tolist() == pytest.approx([0.8, 0.55])


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 60
