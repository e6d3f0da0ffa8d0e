"""Random search and evolution by training networks of a space, each alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import supertickets as st
from cli_outcome import Cli
from supertickets.cost import count
from supertickets.runs import api as runs
from supertickets.runs import baseline_search

pytestmark = pytest.mark.long

_SHORT = """
--threads 1 --epochs 1 --recalibrate_batches 1 --data.validation 0.5 --data.batch 32 --data.limit 64
--supernet.name tunas_proxyless --supernet.settings.width 0.1 --supernet.settings.strides [1,1,2,1,2,1,2,1,1]
--budget.macs 2e5
"""
WORDS = _SHORT.split()


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "networks.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_best_of_some_random_networks(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*WORDS, "--by", "random", "--networks", "3", "--tolerance", "0.05", "--out", tmp_path / "run")
    done = cli("search", "digits", *words, "--json")
    result, table = json.loads(done.out), rows(tmp_path / "run")
    assert len({row["network"] for row in table}) == 3
    assert all(abs(float(row["cost"]) / 2e5 - 1) <= 0.05 for row in table)
    best = max(table, key=lambda row: float(row["validation"]))
    assert (result["by"], result["network"]) == ("random", best["network"])
    assert result["samples"] == sum(int(row["samples"]) for row in table) == 3 * 64
    ticket = st.load(tmp_path / "run")
    assert count(ticket.spec).macs == float(best["cost"])
    assert ticket.about["test"]["top1"] == float(best["test"])

    # Called again it trains nothing anew.
    monkeypatch.setattr(baseline_search, "train", lambda *_: pytest.fail("trained anew"))
    assert json.loads(cli("search", "digits", *words, "--json").out) == result


def test_evolution_goes_on_with_what_was_interrupted(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*WORDS, "--by", "evolution", "--networks", "3", "--tolerance", "0.1")
    whole = cli("search", "digits", *words, "--out", tmp_path / "whole", "--json")

    class Crash(BaseException):
        pass

    def save(self: st.Ticket, folder: Path) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(st.Ticket, "save_pretrained", save)
        with pytest.raises(Crash):
            cli("search", "digits", *words, "--out", tmp_path / "run")
    taken_up = []
    resume = runs.resume
    monkeypatch.setattr(runs, "resume", lambda out, *others: taken_up.append(out) or resume(out, *others))
    done = cli("search", "digits", *words, "--out", tmp_path / "run")
    assert "best     validation" in done.out
    assert len(taken_up) == 1
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    assert json.loads(whole.out)["by"] == "evolution"


def test_a_directory_is_for_one_search(run_of_two: Path, toy_run: Path, cli: Cli) -> None:
    """Other settings, or a run of another kind, are not mixed up with it."""
    words = (*WORDS, "--by", "random", "--networks", "2", "--tolerance", "0.2", "--out")
    for more in (("--epochs", "2"), ("--seed", "5"), ("--data.limit", "96")):
        refused = cli("search", "digits", *words, run_of_two, *more)
        assert refused.status == 2
        assert "holds a search with other settings or data; choose another --out" in refused.err
    before = (toy_run / "result.json").read_text()
    refused = cli("search", "digits", *words, toy_run)
    assert refused.status == 2
    assert "holds a finished run" in refused.err
    assert (toy_run / "result.json").read_text() == before


@pytest.fixture
def run_of_two(tmp_path: Path, cli: Cli) -> Path:
    words = (*WORDS, "--by", "random", "--networks", "2", "--tolerance", "0.2", "--out", tmp_path / "two")
    assert cli("search", "digits", *words).status == 0
    return tmp_path / "two"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--networks", "0"], "--networks is 0; the nearest possible is 1"),
        (["--tolerance", "0"], "--tolerance is 0; it is a share of the target"),
        (["--budget.macs", "1e9"], "budget.macs is 1000000000, but networks of tunas_proxyless have"),
    ],
)
def test_impossible_searches_are_refused(words: list[str], named: str, tmp_path: Path, cli: Cli) -> None:
    refused = cli("search", "digits", *WORDS, "--by", "random", *words, "--out", tmp_path / "run")
    assert refused.status == 2
    assert named in refused.err
