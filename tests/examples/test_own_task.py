"""A task of a user's own, from the recipe to a prediction: the example runs, and commands do with it what they owe."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import supertickets as st
from cli_outcome import Cli
from supertickets import UserError
from supertickets.tasks import find_task

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples can be imported by name, as with PYTHONPATH."""
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.mark.usefixtures("examples")
def test_the_example_runs_and_prints_its_error(
    quick_words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["own_task.py", *quick_words])
    runpy.run_path(str(EXAMPLES / "own_task.py"), run_name="__main__")
    score, image = capsys.readouterr().out.splitlines()
    assert score.startswith("test error ")
    assert score.endswith(", 50% zeros")
    assert 0 < float(score.split()[2].rstrip(",")) < 4.5
    assert 0 <= float(image.split()[-1]) <= 9


@pytest.mark.usefixtures("examples")
def test_the_figures_of_the_example_by_hand() -> None:
    task = find_task("own_task:Number").from_recipe(("0", "4"), {})
    scores = torch.tensor([[0.0, 0.0], [0.0, 50.0]])  # read as 2 and as 4
    module = torch.nn.Identity()
    totals = task.totals(module, [(scores, torch.tensor([4, 4]))], None, torch.device("cpu"))  # type: ignore[arg-type]
    assert totals.tolist() == pytest.approx([2, 1.5, 2, 8])  # errors 2 and 0; smooth L1 of 2 is 1.5
    metrics = task.metrics(totals, None)  # type: ignore[arg-type]
    assert metrics == pytest.approx({"loss": 0.75, "mae": 1, "count": 4})
    assert task.metric.quality(metrics) == pytest.approx(0.75)


@pytest.mark.usefixtures("examples")
def test_commands_serve_a_task_of_ones_own(quick_words: list[str], cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    drawn = cli("draw", "digits", "--task", "own_task:Number", *quick_words, "--out", run, "--json")
    assert drawn.status == 0, drawn.err
    assert "validation mean error" in drawn.err
    assert {"loss", "mae", "count"} <= json.loads(drawn.out)["test"].keys()
    card = (run / "ticket" / "README.md").read_text()
    assert "| task | own_task:Number, 10 numbers |" in card
    with pytest.raises(UserError, match="names code to import: own_task:Number"):
        st.load(run)
    ticket = st.load(run, trust=("own_task",))
    number = ticket.predict(np.zeros((8, 8), np.uint8))
    assert isinstance(number, float)
    assert ticket.task.describe(number) == {"prediction": number}


@pytest.mark.usefixtures("examples")
def test_settings_that_an_own_task_does_not_take_are_refused(cli: Cli, tmp_path: Path) -> None:
    words = ["draw", "digits", "--task", "own_task:Number", "--augment.mixup", "0.2", "--out", tmp_path / "run"]
    refused = cli(*words)
    assert refused.status == 2
    assert refused.err.strip().endswith(
        "augment.mixup is not for own_task:Number; leave it out (own_task:Number takes rotate, scale, shift)"
    )
    assert not (tmp_path / "run").exists()
