"""The example of a criterion of one's own: it prunes in one shot and while searching, and is short."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from supertickets.training import read_events

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_criterion.py"


def test_both_ways_prune_by_the_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quick_words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    monkeypatch.setattr(sys, "argv", ["own_criterion.py", *quick_words, "--prune.ratio", "0.5", "--prune.batches", "2"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    said = capsys.readouterr().out
    assert "two in one: 50% zeros, test accuracy " in said
    assert "searched, then pruned: 50% zeros, test accuracy " in said
    for name in ("two_in_one", "pruned"):
        events = read_events(tmp_path / "runs/own_criterion" / name / "events.jsonl")
        assert [event["ratio"] for event in events if event["event"] == "prune"][-1] == 0.5


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 60
