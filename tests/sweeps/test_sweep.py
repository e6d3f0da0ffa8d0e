"""Sweeps: which jobs a file becomes, what they share, and that sharing changes no bit."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import supertickets as tickets
from cli_outcome import Cli
from supertickets import Recipe, UserError
from supertickets.config.recipe import PruneSettings, SearchSettings
from supertickets.config.schedule import pruning_timeline
from supertickets.config.shipped import list_sweeps
from supertickets.sweeps.progress import Progress, count_epochs, format_progress, progress_table
from supertickets.sweeps.results import format_ratio, results_table
from supertickets.sweeps.sweep import Job, Plan, read_sweep, share_prefixes
from supertickets.sweeps.work import WorkerLost, check_end, run_job, run_jobs, run_sweep
from sweep_fixtures import AtOnce

SMALL = {"epochs": 10, "search": {"interval": 4, "last_epoch": 8}, "prune": {"interval": 1, "progressive": True}}


def row(recipe: str, method: str, ratio: float, seed: int, **scores: float) -> dict[str, Any]:
    return {"recipe": recipe, "method": method, "ratio": ratio, "seed": seed} | scores


def test_a_table_has_names_as_they_are_and_no_score_where_there_is_none() -> None:
    rows = [
        row("digits", "mine [fast]", 0.5, 0, test_loss=0.1, test_top1=97.0),
        row("digits", "mine [/b]", 0.5, 0, test_loss=0.1, test_top1=96.0),
        row("boxes", "mine", 0.5, 0, test_loss=0.1, test_ap=40.0, test_ap50=60.0),
        row("boxes", "mine", 0.5, 1, test_loss=0.1),
    ]
    out = io.StringIO()
    Console(file=out, width=200, markup=False).print(results_table(rows))
    text = out.getvalue()
    assert "mine [fast]" in text
    assert "mine [/b]" in text
    assert " 0.00" not in text
    assert [line.split()[:2] for line in text.splitlines() if "40.00" in line] == [["boxes", "(AP)"]]
    assert "digits (accuracy)" in text


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a sweep's file."""

    def write(**settings: Any) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump({"recipe": "digits", "settings": SMALL, **settings}, sort_keys=False))
        return path

    return write


def drawing(**prune: Any) -> Job:
    search = SearchSettings(interval=4, last_epoch=8, rho=0.1)
    return Job(command="draw", recipe=Recipe(epochs=10, search=search, prune=PruneSettings(**prune)))


def list_jobs(plan: Plan) -> list[tuple[str, float | None, int | None, str | None]]:
    """Jobs as (command, ratio of its recipe, until, command of its parent and where that ends)."""
    by_key = {job.key: job for job in plan.jobs}
    jobs = []
    for job in plan.jobs:
        parent = None if job.parent is None else by_key[job.parent]
        from_ = None if parent is None else f"{parent.command} {parent.options.get('until', '')}".strip()
        ratio = job.options.get("ratio") if job.recipe is None else job.recipe.prune.ratio
        jobs.append((job.command, ratio, job.options.get("until"), from_))
    return jobs


# What a file becomes --------------------------------------------------------------------------------------------------


def test_progressive_draws_share_a_tree_by_hand(file: Callable[..., Path]) -> None:
    """Ratios grow by 10% per epoch: 20% stops after epoch 2, 50% after epoch 5, so that they part there."""
    plan = read_sweep(file(ratios=[0.2, 0.5, 0.8], methods={"two-in-one": {}}))
    assert list_jobs(plan) == [
        ("trunk", 0.2, 2, None),
        ("draw", 0.2, None, "trunk 2"),
        ("trunk", 0.5, 5, "trunk 2"),
        ("draw", 0.5, None, "trunk 5"),
        ("draw", 0.8, None, "trunk 5"),
    ]
    assert [(point.method, point.ratio, point.seed) for point in plan.points] == [
        ("two-in-one", ratio, 0) for ratio in (0.2, 0.5, 0.8)
    ]


@pytest.mark.parametrize("setting", [{"minutes": 1}, {"budget": {"macs": 3e5}}])
def test_draws_whose_way_is_chosen_when_they_begin_share_nothing(
    file: Callable[..., Path], setting: dict[str, Any]
) -> None:
    plan = read_sweep(file(ratios=[0.2, 0.5], methods={"two-in-one": {"settings": setting}}))
    assert [(command, parent) for command, _, _, parent in list_jobs(plan)] == [("draw", None)] * 2


def test_recipes_of_one_name_in_two_folders_stay_apart(file: Callable[..., Path], tmp_path: Path) -> None:
    for folder in ("v1", "v2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text("format_version: 2\ndata: {source: digits}\n")
    names = [str(tmp_path / folder / "mine.yaml") for folder in ("v1", "v2")]
    plan = read_sweep(file(ratios=[0.2], methods={"two-in-one": {}}, recipe=[*names, "digits"]))
    assert [point.recipe for point in plan.points] == [*names, "digits"]


def test_search_then_prune_searches_once(file: Callable[..., Path]) -> None:
    """Five ratios and two criteria, with and without retraining: one training per seed."""
    methods = {
        "Mag.": {"prune": "magnitude"},
        "Mag. + retrain": {"prune": "magnitude", "retrain": 3},
        "Grad.": {"prune": "snip", "batches": 2},
        "search": {"search": True},
    }
    plan = read_sweep(file(ratios=[0.5, 0.6, 0.7, 0.8, 0.9], seeds=[0, 1], methods=methods))
    commands = [job.command for job in plan.jobs]
    assert {name: commands.count(name) for name in commands} == {"draw": 2, "prune": 20, "retrain": 10}
    assert len(plan.points) == 2 * (3 * 5 + 1)
    assert len({point.key for point in plan.points if point.method == "search"}) == 2
    assert all(job.parent in {j.key for j in plan.jobs[:i]} for i, job in enumerate(plan.jobs) if job.parent)


def test_settings_of_a_method_and_dense(file: Callable[..., Path]) -> None:
    methods = {"dense": {"train": True}, "one-shot": {"settings": {"prune": {"progressive": False, "interval": 9}}}}
    plan = read_sweep(file(ratios=0.5, methods=methods))
    dense, draw = plan.jobs
    assert (dense.command, draw.command) == ("train", "draw")
    assert dense.recipe is not None
    assert draw.recipe is not None
    assert (dense.recipe.search.interval, dense.recipe.prune.ratio) == (0, 0)
    assert (draw.recipe.prune.progressive, draw.recipe.prune.ratio) == (False, 0.5)


def test_keys_do_not_depend_on_what_else_is_in_the_sweep(file: Callable[..., Path]) -> None:
    few = read_sweep(file(ratios=[0.5], methods={"a": {}, "b": {"prune": "magnitude"}}))
    many = read_sweep(
        file(ratios=[0.2, 0.5, 0.9], methods={"b": {"prune": "magnitude"}, "a": {}, "c": {"train": True}})
    )
    keys = {(point.method, point.ratio): point.key for point in many.points}
    assert all(keys[point.method, point.ratio] == point.key for point in few.points)


PRUNES = st.builds(
    dict,
    ratio=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9]),
    interval=st.sampled_from([1, 2, 3]),
    progressive=st.booleans(),
    reactivate=st.sampled_from(["search", "prune", "none"]),
    restore=st.sampled_from(["stored", "zero"]),
    layer_floor=st.sampled_from([0.0, 0.04]),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(PRUNES, min_size=1, max_size=6))
def test_whatever_a_draw_begins_from_did_what_it_does(prunes: list[dict[str, Any]]) -> None:
    """Along the trunks to a draw, all that pruning does is what it does in the draw itself, epoch by epoch."""
    draws = {job.key: job for job in (drawing(**prune) for prune in prunes)}
    jobs = {job.key: job for job in share_prefixes(list(draws.values()))}
    assert {key for key, job in jobs.items() if job.command == "draw"} == set(draws)
    for key in draws:
        own = pruning_timeline(jobs[key].recipe or Recipe())
        at, ends = jobs[key].parent, []
        while at is not None:
            trunk = jobs[at]
            until = trunk.options["until"]
            assert pruning_timeline(trunk.recipe or Recipe())[:until] == own[:until]
            ends.append(until)
            at = trunk.parent
        assert ends == sorted(set(ends), reverse=True)  # every trunk goes on from an earlier one


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"recipe": []}, "has no recipe"),
        ({"recipe": "digit"}, "did you mean 'digits'"),
        ({"methods": None}, "has no methods"),
        ({"methods": {"a": 3}}, "method 'a'.*must be a mapping"),
        ({"methods": {"a": {"prune": "magnitud"}}}, "did you mean 'magnitude'"),
        ({"methods": {"a": {"search": True, "train": True}}}, "both search and train"),
        ({"methods": {"a": {"batches": 3}}}, "batches, which is for prune"),
        ({"methods": {"a": {"retrain": 0}}}, "retrain is 0; the nearest possible is 1"),
        ({"methods": {"a": {"settings": {"prune.ratoi": 1}}}}, "did you mean 'prune.ratio'"),
        ({"methods": {"a": {"seting": {}}}}, "unknown 'seting'; did you mean 'settings'"),
        ({"ratios": [0.5, 1.5]}, "ratio 1.5 is no share"),
        ({"ratios": ["half"]}, "ratios must be numbers"),
        ({"seeds": [0, 0]}, "seeds has a number twice"),
        ({"seed": 1}, "unknown 'seed'; did you mean 'seeds'"),
        ({"settings": {"seed": 1}}, "takes no seed: seeds"),
        ({"methods": {"a": {"settings": {"seed": 1}}}}, "takes no seed: seeds"),
        ({"methods": {"a": {"settings": {"prune": {"ratio": 0.5}}}}}, "takes no prune.ratio: ratios"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(file: Callable[..., Path], change: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named) as caught:
        read_sweep(file(**{"ratios": [0.5], "methods": {"a": {}}} | change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", ["[010, a]", "[no, yes]", "[1.50, a]", "[~, a]", "[2020-01-01, a]", "[0x1F, a]"])
@pytest.mark.parametrize("place", ["settings: {{{0}}}", "methods: {{a: {{settings: {{{0}}}}}}}"])
def test_names_that_yaml_reads_otherwise_ask_for_quotes_as_in_a_recipe(names: str, place: str, tmp_path: Path) -> None:
    path, methods = tmp_path / "sweep.yaml", "" if place.startswith("methods") else "methods: {a: {}}\n"
    given = place.format(f"data.class_names: {names}")
    path.write_text(f"recipe: digits\nratios: 0.5\n{methods}{given}\n")
    with pytest.raises(UserError, match=r"sweep\.yaml.*: data\.class_names=.*put texts in quotes"):
        read_sweep(path)


@pytest.mark.parametrize("names", ['["010", 7]', "'[010, 7]'"])
def test_names_in_quotes_stay_as_they_are(names: str, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(
        f"recipe: images\nratios: 0.5\nmethods: {{a: {{}}}}\nsettings: {{data: {{class_names: {names}}}}}\n"
    )
    recipe = read_sweep(path).jobs[0].recipe
    assert recipe is not None
    assert recipe.data.class_names == ("010", "7")


@pytest.mark.parametrize("lines", ["recipe: digits\nmethods: {010: {}}", "recipe: digits\nmethods: {no: {}}"])
def test_names_of_methods_that_yaml_reads_otherwise_ask_for_quotes(lines: str, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"ratios: 0.5\n{lines}\n")
    with pytest.raises(UserError, match=r"name of a method=.*put texts in quotes"):
        read_sweep(path)
    path.write_text("ratios: 0.5\nrecipe: [010]\nmethods: {a: {}}\n")
    with pytest.raises(UserError, match=r"recipe=10 is not valid.*put texts in quotes"):
        read_sweep(path)


# Doing it -------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_branch_of_a_trunk_equals_a_draw_of_its_own(
    file: Callable[..., Path], quick_settings: dict[str, Any], tmp_path: Path
) -> None:
    """Ticket and event log to the byte, over a removal, prunes and a reactivation in the trunk."""
    own = quick_settings | {"prune.progressive": True, "epochs": 5}
    plan = read_sweep(file(ratios=[0.1, 0.3], methods={"a": {}}, settings=own))
    assert [job.command for job in plan.jobs] == ["trunk", "draw", "draw"]
    for job in plan.jobs:
        run_job(job, tmp_path / "sweep")
        run_job(job, tmp_path / "sweep")  # what is done is left alone
    job, alone = plan.jobs[-1], tmp_path / "alone"
    tickets.draw(job.recipe or Recipe(), alone)
    for name in ("ticket/model.safetensors", "ticket/mask.safetensors", "ticket/config.json", "events.jsonl"):
        ours, theirs = ((folder / name).read_text("latin-1") for folder in (tmp_path / "sweep" / job.key, alone))
        if name.endswith("jsonl"):
            ours, theirs = (_without_clock(text) for text in (ours, theirs))
        assert ours == theirs, name


@pytest.mark.long
def test_a_branch_is_checked_as_a_draw_of_its_own_is(
    file: Callable[..., Path], quick_settings: dict[str, Any], tmp_path: Path
) -> None:
    own = quick_settings | {"prune.interval": 3, "epochs": 4, "prune.layer_floor": 0.1}
    plan = read_sweep(file(ratios=[0.5, 0.99], methods={"a": {}}, settings=own))
    assert [job.command for job in plan.jobs] == ["trunk", "draw", "draw"]
    for job in plan.jobs[:2]:
        run_job(job, tmp_path / "sweep")
    with pytest.raises(UserError, match=r"prune.ratio 0.99 is impossible.*the nearest possible is"):
        run_job(plan.jobs[2], tmp_path / "sweep")


def _without_clock(log: str) -> str:
    return "\n".join(json.dumps({**json.loads(line), "seconds": 0}) for line in log.splitlines())


class Fake:
    """Workers whose jobs end as planned: None, or an exception for each attempt."""

    def __init__(self, root: Path, **ends: list[BaseException | None]) -> None:
        self.root, self.ends, self.shown_region = root, ends, []  # type: ignore[var-annotated]

    def submit(self, job: Job) -> Future[None]:
        self.shown_region.append(job.key)
        future: Future[None] = Future()
        ends = self.ends.get(job.command, [])
        error = ends.pop(0) if ends else None
        if error is None:
            (self.root / job.key).mkdir(parents=True)
            (self.root / job.key / "result.json").write_text("{}")
            future.set_result(None)
        else:
            future.set_exception(error)
        return future


def chain() -> Plan:
    search = drawing(ratio=0.0)
    prune = Job(command="prune", options={"ratio": 0.5}, parent=search.key)
    return Plan((), (search, prune, Job(command="retrain", options={"epochs": 1}, parent=prune.key)))


def test_lost_workers_jobs_are_taken_up_again(tmp_path: Path) -> None:
    plan, seen = chain(), []
    workers = Fake(tmp_path, draw=[WorkerLost(), WorkerLost()])
    progress = run_jobs(plan, tmp_path, workers.submit, lambda p: seen.append(len(p.done)), 2)
    search, prune, retrain = (job.key for job in plan.jobs)
    assert workers.shown_region == [search, search, search, prune, retrain]  # parents first, nothing twice
    assert (progress.done, progress.lost, progress.failed) == ({search, prune, retrain}, 2, {})
    assert seen == sorted(seen)
    again = Fake(tmp_path)
    assert run_jobs(plan, tmp_path, again.submit, lambda p: None, 2).before == {search, prune, retrain}
    assert again.shown_region == []


def test_a_failure_fails_what_begins_from_it_and_nothing_else(tmp_path: Path) -> None:
    plan = chain()
    search, prune, retrain = (job.key for job in plan.jobs)
    other = drawing(ratio=0.5)
    plan = Plan((), (*plan.jobs, other))
    progress = run_jobs(plan, tmp_path, Fake(tmp_path, prune=[UserError("no\nsuch data")]).submit, lambda p: None, 1)
    assert progress.done == {search, other.key}
    assert progress.failed == {prune: "no\\nsuch data", retrain: "its prune failed"}


def test_a_worker_that_is_always_lost_is_given_up(tmp_path: Path) -> None:
    progress = run_jobs(chain(), tmp_path, Fake(tmp_path, draw=[WorkerLost("gone")] * 9).submit, lambda p: None, 1)
    assert list(progress.failed.values()) == ["gone", "its draw failed", "its prune failed"]


def test_a_job_travels_as_json() -> None:
    for job in chain().jobs:
        again = Job.from_json(json.loads(json.dumps(job.to_json())))
        assert (again, again.key) == (job, job.key)


def test_the_end_of_a_worker() -> None:
    check_end(0, "")
    with pytest.raises(WorkerLost, match="signal 9"):
        check_end(-9, "")
    with pytest.raises(WorkerLost, match="told to stop"):
        check_end(130, "")
    with pytest.raises(UserError, match=r"^no data$"):
        check_end(2, "warning: x\nerror: no data\n")
    with pytest.raises(UserError, match="status 1"):
        check_end(1, "")


def test_ratios_are_written_to_the_digit() -> None:
    assert [format_ratio(ratio) for ratio in (0, 0.5, 0.975, 0.995)] == ["unpruned", "50%", "97.5%", "99.5%"]


def test_epochs_of_a_job(file: Callable[..., Path]) -> None:
    """The tree of the first test above: trunks of 2 and 3 more epochs, draws that go on to the tenth."""
    plan = read_sweep(file(ratios=[0.2, 0.5, 0.8], methods={"two-in-one": {}}))
    jobs = {job.key: job for job in plan.jobs}
    assert [count_epochs(job, jobs) for job in plan.jobs] == [1 + 2, 1 + 8, 1 + 3, 1 + 5, 1 + 5]
    search, prune, retrain = chain().jobs
    assert [count_epochs(job, {search.key: search}) for job in (search, prune, retrain)] == [1 + 10, 1, 1 + 1]


def test_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three searches (11 each), a prune (1), a retraining (2): the second search took 22 s; 11, 1 and 2 are left."""
    search, prune, retrain = chain().jobs
    jobs = {job.key: job for job in (search, drawing(ratio=0.1), drawing(ratio=0.2), prune, retrain)}
    first, second, third = list(jobs)[:3]
    progress = Progress(jobs, {first}, frozenset({first}), began=0)
    monkeypatch.setattr("time.monotonic", lambda: 22.0)
    assert progress.eta is None
    progress.done.add(second)
    progress.running.add(third)
    assert progress.waiting == {prune.key, retrain.key}
    assert progress.eta == 22 / 11 * (11 + 3)


def test_progress_shows_jobs_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 352.0)
    search, prune, retrain = chain().jobs
    other = drawing(ratio=0.1)
    progress = Progress({job.key: job for job in (search, prune, retrain, other)}, {search.key}, began=0, lost=2)
    progress.running, progress.failed = {other.key}, {prune.key: "no data"}
    assert format_progress(progress) == "1 of 4 jobs done, 1 running, 1 failed, 2 resumed; 7 min left"
    table = progress_table(progress)
    cells = list(zip(*(column.cells for column in table.columns), strict=True))
    assert [column.header for column in table.columns] == ["jobs", "done", "running", "waiting", "failed"]
    assert cells == [("draw", "1", "1", "", ""), ("prune", "", "", "", "1"), ("retrain", "", "", "1", "")]
    assert progress.failures() == [f"prune {prune.key}: no data"]


@pytest.mark.long
def test_the_command(cli: Cli, sweep_file: Path, finished_sweep: Path, tmp_path: Path) -> None:
    planned = cli("sweep", sweep_file, "--plan")
    assert planned.out.strip().endswith("3 results by 4 jobs")
    outcome = cli("sweep", sweep_file, "--out", finished_sweep, "--json")
    assert outcome.status == 0, outcome.err
    assert "4 of 4 jobs done (4 done before)" in outcome.err
    rows = json.loads(outcome.out)
    names = ["two-in-one", "S+P", "S+P + retrain"]
    with (finished_sweep / "results.csv").open() as stream:
        assert [row["method"] for row in csv.DictReader(stream)] == [row["method"] for row in rows] == names
    row = rows[-1]
    assert row["sparsity"] == pytest.approx(0.5, abs=1e-3)
    ticket = tickets.load(finished_sweep / row["key"])
    assert row["test_top1"] == ticket.about["test"]["top1"]
    assert row["samples"] == 5 * ticket.about["samples"]  # the whole way: four epochs of search, one of retraining
    assert "S+P + retrain" in cli("sweep", sweep_file, "--out", finished_sweep).out
    broken = cli("sweep", tmp_path / "none.yaml")
    assert (broken.status, broken.err) == (2, f"error: sweep file {tmp_path}/none.yaml does not exist\n")


# Shipped sweeps -------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("name", list(list_sweeps()))
def test_shipped_sweeps_can_be_planned(name: str) -> None:
    if name == "known":
        pytest.importorskip("timm")
    plan = read_sweep(name, {"recipe": "tiny_imagenet", "seeds": [3]}, ["--epochs", "350", "--prune.interval", "25"])
    assert {point.seed for point in plan.points} == {3}
    assert all(job.recipe is None or job.recipe.epochs == 350 for job in plan.jobs)


def test_a_plan_for_programs(cli: Cli) -> None:
    words = ("--recipe", "digits", "--ratios", "0.7", "--seeds", "0", "--plan", "--json")
    jobs = json.loads(cli("sweep", "comparison", *words).out)
    assert {job["command"] for job in jobs} >= {"draw", "prune", "retrain"}
    assert {job["parent"] for job in jobs} <= {None, *(job["key"] for job in jobs)}


def test_a_shipped_sweep_takes_recipe_ratios_and_settings() -> None:
    words = ["--epochs", "40", "--prune.interval", "4", "--prune.progressive", "false"]
    plan = read_sweep("ablation", {"recipe": "digits", "ratios": [0.7], "seeds": [0]}, words)
    assert {(point.recipe, point.ratio, point.seed) for point in plan.points} == {("digits", 0.7, 0)}
    drawn = [job.recipe.prune for job in plan.jobs if job.command == "draw" and job.recipe is not None]
    assert {prune.interval for prune in drawn} == {4}
    assert {prune.progressive for prune in drawn} == {False, True}  # methods have the last word


@pytest.mark.parametrize(
    ("source", "message"),
    [("ablaton", "did you mean 'ablation'"), ("no.yaml", "no.yaml does not exist"), ("ablation", "--recipe")],
)
def test_a_missing_sweep_is_refused(source: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_sweep(source)


def test_the_command_line_names_a_shipped_sweep(cli: Cli) -> None:
    words = ("--recipe", "digits", "--ratios", "0.7", "--seeds", "0", "--prune.interval", "2", "--threads", "2")
    assert "7 results by 10 jobs" in cli("sweep", "ablation", *words, "--plan").out
    assert cli("sweep", "ablation", *words, "--prune.intervall", "2", "--plan").status == 2
    assert "takes no seed: seeds (--seeds) set it" in cli("sweep", "ablation", *words, "--seed=3", "--plan").err


@pytest.mark.parametrize(("ratio", "text"), [(0, "unpruned"), (0.995, "99.5%"), (0.9995, "99.95%"), (0.7, "70%")])
def test_ratios_are_read_with_all_their_digits(ratio: float, text: str) -> None:
    assert format_ratio(ratio) == text


def test_another_sweep_in_the_same_directory_leaves_the_first_in_its_files(
    sweep_file: Path, finished_sweep: Path, tmp_path: Path
) -> None:
    root, other = tmp_path / "sweep", tmp_path / "other.yaml"
    shutil.copytree(finished_sweep, root)
    settings = yaml.safe_load(sweep_file.read_text())
    first = settings["methods"]
    other.write_text(yaml.safe_dump(settings | {"methods": {"mine": first["two-in-one"]}}, sort_keys=False))
    rows = run_sweep(read_sweep(other), root, AtOnce(root), None, Console(file=io.StringIO()))
    assert [row["method"] for row in rows] == ["mine"]
    with (root / "results.csv").open() as file:
        assert {row["method"] for row in csv.DictReader(file)} == {"mine", *first}
    assert len(json.loads((root / "points.json").read_text())) == 1 + len(first)
