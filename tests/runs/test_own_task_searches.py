"""A user's own task in searches, sweeps, analyses and reports: by its metric, and only with trust."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import supertickets as st
from cli_outcome import Cli
from supertickets import UserError
from supertickets.analysis.description import describe
from supertickets.report import write_report
from supertickets.runs.api import search
from supertickets.runs.derive import NO_SEARCH_NO_PRUNING
from supertickets.sweeps.sweep import read_sweep
from supertickets.sweeps.work import run_job, run_sweep, trusted_modules
from sweep_fixtures import AtOnce

pytestmark = pytest.mark.long

# A classification whose score has a name that no task of the package knows.
_TASK = """
from supertickets.tasks import Classification, Metric

class Hits(Classification):
    metric = Metric("hits", "share of hits")

    def metrics(self, totals, data):
        scores = super().metrics(totals, data)
        return {"loss": scores["loss"], "hits": scores["top1"]}
"""
_SHORT = "--threads 1 --epochs 1 --evaluate_every 1 --recalibrate_batches 1 --data.batch 32 --data.limit 96"
_RESNET = """
--supernet.name resnet38 --supernet.settings.attention se --supernet.settings.widths [4,4,8]
--supernet.settings.ratio 4 --connect.steps 2 --connect.by ratios --connect.each 1
"""
_SPACE = """
--supernet.name tunas_proxyless --supernet.settings.width 0.1 --supernet.settings.strides [1,1,2,1,2,1,2,1,1]
--data.validation 0.5 --budget.macs 2e5
"""
_REFUSED = r"names code to import: scores:Hits.*--trust scores"


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the module of the task."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "scores.py").write_text(_TASK)
    return folder


@pytest.fixture(autouse=True)
def importable(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module can be imported, as with PYTHONPATH."""
    monkeypatch.syspath_prepend(str(code))


@pytest.fixture
def recipe() -> Callable[..., st.Recipe]:
    """Make a short recipe from words."""

    def make(words: str, task: str = "scores:Hits") -> st.Recipe:
        return st.load_recipe("digits", [*NO_SEARCH_NO_PRUNING, *_SHORT.split(), *words.split(), "--task", task])

    return make


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_schemes_are_judged_by_the_tasks_own_metric(recipe: Callable[..., st.Recipe], tmp_path: Path, cli: Cli) -> None:
    """As the same classification under its own name; the study and the trial of schemes need trust."""
    search(recipe(_RESNET), tmp_path / "own")
    search(recipe(_RESNET, "classification"), tmp_path / "shipped")
    own, shipped = (
        {row["scheme"]: row["quality"] for row in rows(tmp_path / name / "schemes.csv")} for name in ("own", "shipped")
    )
    assert own == shipped
    assert any(float(quality) > 0 for quality in own.values())

    for words in ((), ("--train", "--repeats", "2", "--batch", "1")):
        refused = cli("schemes", tmp_path / "own", *words)
        assert refused.status == 2
        assert "names code to import: scores:Hits" in refused.err
        done = cli("schemes", tmp_path / "own", *words, "--trust", "scores", "--json")
        assert done.status == 0, done.err
    assert json.loads(done.out)["metric"] == "hits"


def test_baselines_choose_by_the_tasks_own_metric(tmp_path: Path, cli: Cli) -> None:
    words = ("--by", "random", "--networks", "2", "--tolerance", "0.1", "--out", tmp_path / "run")
    task = ("--task", "scores:Hits")
    done = cli("search", "digits", *_SHORT.split(), *_SPACE.split(), *task, *words)
    assert done.status == 0, done.err
    assert "validation " in done.out
    table = rows(tmp_path / "run" / "networks.csv")
    best = max(table, key=lambda row: float(row["validation"]))
    assert st.load(tmp_path / "run", trust=("scores",)).about["test"]["hits"] == float(best["test"])


@pytest.fixture(scope="module")
def swept(code: Path, quick_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of the task: draws with a shared prefix, a pruning and a training of its ticket."""
    folder = tmp_path_factory.mktemp("sweep")
    settings = quick_settings | {"task": "scores:Hits", "prune.progressive": True, "epochs": 3}
    methods: dict[str, Any] = {"ours": {}, "late": {"prune": "magnitude", "retrain": 1}}
    sweep = {"recipe": "digits", "settings": settings, "ratios": [0.1, 0.2], "methods": methods}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(code))
        plan, root = read_sweep(folder / "sweep.yaml"), folder / "run"
        assert [job.command for job in plan.jobs].count("trunk") >= 1
        for job in plan.jobs:
            run_job(job, root)
            assert trusted_modules(job, root)
            assert set(trusted_modules(job, root)) == {"scores"}
        run_sweep(plan, root, AtOnce(root), None, Console(file=io.StringIO()))
    return folder


def test_workers_of_a_sweep_trust_what_its_recipes_name(swept: Path, cli: Cli) -> None:
    """Every job was done, with its parent's ticket or prefix; the table has the task's own metric."""
    done = cli("sweep", swept / "sweep.yaml", "--out", swept / "run")
    assert done.status == 0, done.err
    assert "share of hits, test" in " ".join(done.out.split())
    assert len(rows(swept / "run" / "results.csv")) == 4


def test_workers_of_a_sweep_trust_nothing_else(swept: Path, tmp_path: Path) -> None:
    """A parent whose directory names other code than the sweep's recipes is refused."""
    root = tmp_path / "run"
    shutil.copytree(swept / "run", root)
    child = next(job for job in read_sweep(swept / "sweep.yaml").jobs if job.command == "retrain")
    shutil.rmtree(root / child.key)
    config = root / str(child.parent) / "ticket" / "config.json"
    ticket = json.loads(config.read_text())
    ticket["about"]["recipe"]["prune"]["criterion"] = "strangers:score"
    config.write_text(json.dumps(ticket))
    with pytest.raises(UserError, match="names code to import: strangers:score"):
        run_job(child, root)


def test_a_report_and_a_description_need_trust(swept: Path, tmp_path: Path, cli: Cli) -> None:
    root = swept / "run"
    with pytest.raises(UserError, match=_REFUSED):
        write_report([root], tmp_path / "none")
    done = cli("report", root, "--out", tmp_path / "report", "--trust", "scores")
    assert done.status == 0, done.err
    text = (tmp_path / "report" / "report.md").read_text()
    assert "share of hits" in text
    assert "--trust scores" in text
    assert "cannot be shown" not in text

    run = next(path.parent for path in root.glob("*/ticket"))
    with pytest.raises(UserError, match=_REFUSED):
        describe(str(run))
    assert describe(str(run), trust=("scores",)).cost.params > 0
    assert cli("show", run).status == 2
    assert cli("show", run, "--trust", "scores").status == 0
