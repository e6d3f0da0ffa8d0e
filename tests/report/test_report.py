"""Reports from made-up records: what is read, what things are called, and figures worked out by hand."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from supertickets import UserError
from supertickets.analysis.statistics import summarize
from supertickets.config.loading import load_recipe
from supertickets.deploy import Bench, BenchSettings
from supertickets.deploy.benchmark import BenchRun, Timing
from supertickets.models.factory import create_spec
from supertickets.report import ticket_latencies as latency
from supertickets.report.claims import (
    Claim,
    check_claims,
    choose_front,
    claim_verdict,
    compare_methods,
    method_means,
    reference_method,
    training_costs,
    training_savings,
)
from supertickets.report.collect import Comparison, Study, collect
from supertickets.report.details import example_runs
from supertickets.report.roles import command_of, identity, method_name, recipe_name, role_of
from supertickets.report.run_figures import count_units
from supertickets.report.tradeoff_figure import Axis, draw_tradeoff
from write_records import write_points, write_run

SEARCH = {"command": "draw", "recipe": "digits", "seed": 0, "samples": 100, "sparsity": 0.0}
DRAWN = SEARCH | {"sparsity": 0.9}
PRUNED = SEARCH | {"command": "prune", "recipe": "digits-pruned", "samples": 0, "sparsity": 0.9, "criterion": "snip"}


def record(folder: Path, *given: Any, **settings: Any) -> dict[str, Any]:
    """The record of a run that is written for it."""
    about: dict[str, Any] = json.loads((write_run(folder, *given, **settings) / "run.json").read_text())
    return about


def sweep(root: Path) -> Path:
    """Two-in-one and search-then-prune at two ratios and seeds, with figures whose comparison is easy by hand.

    Two-in-one is a line through (1 k MACs, 60) and (100 k, 80), five points higher in seed 1.
    """
    points = []
    for seed in (0, 1):
        common: dict[str, Any] = {"seed": seed, "prune.reactivate": "none"}
        write_run(root / f"search{seed}", settings={**common, "prune.ratio": 0.0}, samples=100, seconds=10.0)
        for ratio, macs, score in ((0.5, 100_000, 80.0), (0.8, 1_000, 60.0)):
            of = {**common, "prune.ratio": ratio}
            write_run(
                root / f"two{ratio}{seed}", settings=of, scores=score + 5 * seed, masked_macs=macs, seconds=12.0 + seed
            )
            points.append(("two-in-one", ratio, seed, f"two{ratio}{seed}"))
        lineage = [SEARCH | {"seed": seed}]
        for ratio, macs, score in ((0.5, 1_000_000, 90.0), (0.8, 10_000, 65.0 + 6 * seed)):
            key = f"pruned{ratio}{seed}"
            settings: dict[str, Any] = {"settings": {**common, "prune.ratio": ratio}, "name": "digits-pruned"}
            settings |= {"parent": f"search{seed}", "lineage": lineage, "made": {"criterion": "magnitude"}}
            write_run(root / key, "prune", scores=score, masked_macs=macs, samples=0, seconds=1.0, **settings)
            points.append(("S+P", ratio, seed, key))
            settings |= {"parent": key, "lineage": [*lineage, PRUNED], "made": {}, "name": "digits-pruned-retrained"}
            settings["settings"] = {**common, "prune.ratio": 0.0, "epochs": 5}
            write_run(root / f"{key}-again", "retrain", scores=score + 1, masked_macs=macs, samples=50, **settings)
            points.append(("S+P + retrain", ratio, seed, f"{key}-again"))
    return write_points(root, points)


@pytest.fixture
def compared(tmp_path: Path) -> Comparison:
    (comparison,) = collect([sweep(tmp_path / "sweep")]).comparisons
    return comparison


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "name", "way"),
    [
        ({"command": "train"}, "dense", "other"),
        ({"settings": {"prune.ratio": 0.0}}, "search only", "other"),
        ({}, "two-in-one + IR-S", "two-in-one"),
        (
            {"settings": {"prune.progressive": True, "prune.reactivate": "prune"}},
            "two-in-one + PP + IR-P",
            "two-in-one",
        ),
        (
            {"command": "prune", "lineage": [SEARCH], "made": {"criterion": "snip"}},
            "S+P (snip)",
            "search-then-prune",
        ),
        (
            {"command": "retrain", "lineage": [SEARCH, PRUNED], "settings": {"prune.ratio": 0.0}},
            "S+P (snip) + retrain",
            "search-then-prune",
        ),
        (
            {"command": "retrain", "lineage": [DRAWN], "settings": {"prune.ratio": 0.0}},
            "two-in-one + IR-S + retrain",
            "two-in-one",
        ),
        (
            {"command": "prune", "lineage": [DRAWN], "made": {"criterion": "random"}},
            "two-in-one + IR-S + prune (random)",
            "other",
        ),
        (
            {"command": "transfer", "lineage": [DRAWN | {"recipe": "mnist"}], "name": "digits-from-mnist"},
            "transfer from mnist",
            "other",
        ),
    ],
)
def test_a_run_has_the_method_and_role_of_its_settings(
    tmp_path: Path, settings: dict[str, Any], name: str, way: str
) -> None:
    about = record(tmp_path / "run", **settings)
    assert (method_name(about), role_of(about).way) == (name, way)
    assert role_of(about).retrained == name.endswith("retrain")
    assert recipe_name(about) == "digits"


def test_seed_and_ratio_make_no_other_method(tmp_path: Path) -> None:
    first = record(tmp_path / "a", settings={"seed": 1, "prune.ratio": 0.5})
    assert identity(first) == identity(record(tmp_path / "b", settings={"seed": 2, "prune.ratio": 0.9}))
    assert identity(first) != identity(record(tmp_path / "c", settings={"epochs": 31}))
    short, long = (
        record(tmp_path / name, "prune", lineage=[SEARCH | {"samples": n}]) for name, n in (("d", 1), ("e", 2))
    )
    assert identity(short) != identity(long)


# Commands -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["images", "imagenet", "cityscapes", "coco"])
def test_the_command_of_a_draw_makes_its_recipe_again(name: str) -> None:
    """Read back by the parser of the command line, it is the recipe to the last setting."""
    words = ["--seed", "3", "--prune.ratio", "0.5", "--supernet.settings.dropout", "0.25", "--data.dir", "my data"]
    words += ["--prune.reactivate", "none", "--search.last_epoch", "null", "--recalibrate_batches", "7"]
    recipe = load_recipe(name, words)
    about = {"command": "draw", "recipe": json.loads(json.dumps(recipe.to_json())), "metadata": {}}
    program, command, again, *rest = shlex.split(command_of(about, "runs/x"))
    assert (program, command, again, rest[-2:]) == ("supertickets", "draw", name, ["--out", "runs/x"])
    assert load_recipe(again, rest[:-2]) == recipe


def test_commands_by_hand(tmp_path: Path) -> None:
    plain = record(tmp_path / "a")
    assert command_of(plain, "out") == "supertickets draw digits --seed 0 --out out"
    dense = record(tmp_path / "b", "train", settings={"search.interval": 0, "epochs": 4, "prune.ratio": 0.0})
    assert command_of(dense, "out") == "supertickets train digits --epochs 4 --seed 0 --out out"
    mine = record(tmp_path / "c", name="mine", settings={"seed": 5})
    assert command_of(mine, "out").startswith("supertickets draw mine.yaml --epochs 30 --seed 5 ")
    made = {"criterion": "snip", "batches": 10}
    pruned = record(
        tmp_path / "d", "prune", made=made, lineage=[SEARCH], settings={"data.dir": "x", "prune.ratio": 0.8}
    )
    said = "supertickets prune TICKET --ratio 0.8 --criterion snip --batches 10 --data.dir x --out out"
    assert command_of(pruned, "out") == said
    said = "supertickets prune 'a b' --ratio 0.8 --criterion snip --batches 10 --out out"
    assert command_of(pruned, "out", "a b", alone=False) == said
    settings = {
        "lineage": [DRAWN | {"recipe": "mnist"}],
        "name": "digits-from-mnist",
        "made": {"head": {"kind": "inherited"}},
    }
    moved = record(tmp_path / "e", "transfer", **settings)
    assert command_of(moved, "out") == "supertickets transfer TICKET digits --head HEAD --seed 0 --out out"
    again = record(tmp_path / "f", "retrain", lineage=[DRAWN], settings={"epochs": 7, "optimizer.lr": 0.01})
    assert command_of(again, "out") == "supertickets retrain TICKET --epochs 7 --optimizer.lr 0.01 --out out"
    searched = record(tmp_path / "g", "search", settings={"epochs": 3})
    assert command_of(searched, "out") == "supertickets search digits --epochs 3 --seed 0 --out out"
    assert method_name(searched) == "search"


def test_every_step_of_a_sweep_has_its_command(compared: Comparison, tmp_path: Path) -> None:
    (run,) = (run for run in compared.runs if run.folder.name == "pruned0.81-again")
    root = tmp_path / "sweep"
    assert [folder for folder, _ in run.commands] == [
        f"{root}/{n}" for n in ("search1", "pruned0.81", "pruned0.81-again")
    ]
    search, prune, retrain = (text for _, text in run.commands)
    assert search == (
        f"supertickets draw digits --seed 1 --prune.ratio 0.0 --prune.reactivate none --out {root}/search1"
    )
    assert prune == f"supertickets prune {root}/search1 --ratio 0.8 --criterion magnitude --out {root}/pruned0.81"
    assert retrain == f"supertickets retrain {root}/pruned0.81 --epochs 5 --out {root}/pruned0.81-again"


# Reading --------------------------------------------------------------------------------------------------------------


def test_single_runs_take_the_names_of_a_sweep_and_tell_others_apart(tmp_path: Path) -> None:
    root = write_points(tmp_path / "sweep", [("ours", 0.5, 0, "a")])
    write_run(root / "a", settings={"prune.ratio": 0.5})
    same = write_run(tmp_path / "same", settings={"prune.ratio": 0.5, "seed": 1})
    other = write_run(tmp_path / "other", settings={"epochs": 9})
    third = write_run(tmp_path / "third", settings={"epochs": 8})
    runs = collect([same, root, other, third]).runs
    assert [(run.method, run.ratio, run.seed) for run in runs] == [
        ("ours", 0.5, 1),
        ("ours", 0.5, 0),
        ("two-in-one + IR-S (other)", 0.9, 0),
        ("two-in-one + IR-S (third)", 0.9, 0),
    ]


def test_methods_of_two_sweeps_that_only_share_a_name(tmp_path: Path) -> None:
    for name, epochs in (("one", 9), ("two", 8)):
        root = write_points(tmp_path / name, [("ours", 0.5, 0, "a")])
        write_run(root / "a", settings={"epochs": epochs})
    assert [run.method for run in collect([tmp_path / "one", tmp_path / "two"]).runs] == ["ours (one)", "ours (two)"]


def test_a_run_given_twice_counts_once(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "first"), write_run(tmp_path / "second")
    study = collect([first, first, second])
    assert [run.folder for run in study.runs] == [first]
    assert study.left_out == (f"{second} has method, ratio and seed of {first}, which counts",)


def test_runs_of_one_folder_name_are_told_apart_by_more_of_their_path(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "mine")
    write_run(tmp_path / "b" / "mine", settings={"optimizer.lr": 0.0123})
    (comparison,) = collect([tmp_path / "a" / "mine", tmp_path / "b" / "mine"]).comparisons
    assert [name.rpartition(" (")[2] for name in comparison.methods] == ["a/mine)", "b/mine)"]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_run_without_its_metric_is_left_out_and_named(split: str, tmp_path: Path) -> None:
    for name in ("with", "without"):
        write_run(tmp_path / name)
    path = tmp_path / "without" / "result.json"
    result = json.loads(path.read_text())
    del result[split]["top1"]
    path.write_text(json.dumps(result))
    study = collect([tmp_path / "with", tmp_path / "without"])
    (comparison,) = study.comparisons
    assert [run.folder.name for run in comparison.runs] == ["with"]
    assert f"without has no accuracy: nothing in its {split} split counts; add data" in study.left_out[0]


def test_other_metrics_and_other_data_are_compared_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", data="e" * 64, settings={"seed": 1})
    write_run(tmp_path / "c", scores={"miou": 40.0, "macc": 50.0}, name="streets")
    study = collect([tmp_path / name for name in "abc"])
    assert [(c.title, c.metric.name, c.metric.display_name, len(c.runs)) for c in study.comparisons] == [
        ("digits (data dddddddd)", "top1", "accuracy", 1),
        ("digits (data eeeeeeee)", "top1", "accuracy", 1),
        ("streets", "miou", "mIoU", 1),
    ]


def test_unfinished_runs_are_named(tmp_path: Path) -> None:
    root = write_points(tmp_path / "sweep", [("a", 0.5, 0, "done"), ("b", 0.8, 3, "open")])
    write_run(root / "done")
    (write_run(tmp_path / "run") / "result.json").unlink()
    write_run(tmp_path / "prefix", "shared_prefix")
    study = collect([root, tmp_path / "run", tmp_path / "prefix"])
    assert [run.method for run in study.runs] == ["a"]
    assert study.left_out == (
        f"{root}/open (b, 80%, seed 3) is not finished",
        f"{tmp_path}/run is not finished; go on with: supertickets resume {tmp_path}/run",
        f"{tmp_path}/prefix is the shared prefix of a sweep, which has no ticket",
    )


def test_many_unfinished_results_are_counted(tmp_path: Path) -> None:
    points = [("a", 0.5, 0, "done"), *(("b", 0.8, seed, f"open{seed}") for seed in range(9))]
    root = write_points(tmp_path / "sweep", points)
    write_run(root / "done")
    left_out = collect([root]).left_out
    assert len(left_out) == 6
    assert left_out[4] == f"{root}/open4 (b, 80%, seed 4) is not finished"
    assert left_out[5] == f"4 more results of {root} are not finished"


def test_a_folder_without_a_run_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    broken, other = write_run(tmp_path / "broken"), write_run(tmp_path / "other")
    (broken / "result.json").write_text("{")
    (other / "run.json").write_text('{"format_version": 2}')
    (write_run(tmp_path / "old") / "run.json").write_text('{"made": {}}')
    (write_run(tmp_path / "open") / "result.json").unlink()
    (write_points(tmp_path / "sweep", []) / "points.json").write_text('[{"method": "a"}]')
    for name, said in (
        ("none", "none does not exist"),
        ("empty", "empty is neither a run nor a sweep"),
        ("broken", "broken/result.json cannot be read"),
        ("other", "other/run.json is damaged or of another version"),
        ("old", "old/run.json has format 1"),
        ("open", "nothing to report: .*open is not finished"),
        ("sweep", "sweep/points.json is damaged"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            collect([tmp_path / name])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", [[0], {}, "\ud800", None, 1.5])
def test_a_seed_that_is_no_whole_number_is_refused(seed: object, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    about = json.loads((run / "run.json").read_text())
    about["recipe"]["seed"] = seed
    (run / "run.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="seed is no whole number"):
        collect([run])


def test_the_way_to_a_single_ticket_is_read_off_its_lineage(tmp_path: Path) -> None:
    """100 image passes of search and 50 of retraining; nobody recorded how long the search took."""
    write_run(tmp_path / "run", "retrain", lineage=[SEARCH, PRUNED], settings={"prune.ratio": 0.0}, samples=50)
    (run,) = collect([tmp_path / "run"]).runs
    assert (run.row["samples"], run.row["seconds"], run.ratio) == (150, None, 0.5)


# Arguments ------------------------------------------------------------------------------------------------------------


def test_a_pair_by_hand(compared: Comparison) -> None:
    """At 10 k MACs two-in-one is half way, at 70 and 75; it reaches 65 after 1/4 and 71 after 3/10 of the way."""
    pair = compare_methods(compared, "two-in-one", "S+P")
    dear, cheap = pair.at
    assert (cheap.ratio, cheap.cost, cheap.score) == (0.8, 10_000, 68)
    assert cheap.gain == summarize([70 - 65, 75 - 71])
    assert cheap.saved is not None
    assert cheap.saved.mean == pytest.approx(1 - (1000 * 100**0.25 + 1000 * 100**0.3) / 2 / 10_000)
    assert (dear.gain, dear.saved) == (None, None)  # a million MACs are beyond the curve
    assert pair.paired == {0.5: summarize([-10, -5]), 0.8: summarize([-5, -6])}
    assert reference_method(compared) == "S+P"


def test_claims_are_matched_by_the_role_of_methods(compared: Comparison) -> None:
    claimed = [(claim.text.split()[0], [(p.ours, p.theirs) for p in claim.pairs]) for claim in check_claims(compared)]
    assert claimed == [
        ("Two-in-one", [("two-in-one", "S+P")]),
        ("Two-in-one", [("two-in-one", "S+P + retrain")]),
    ]
    assert claim_verdict(check_claims(compared)[0]) == (
        "Better in 1 of 1 comparisons at equal MACs (1 clearly), worse in 0. Mean difference +4.50 (+4.50 to +4.50)."
    )


def test_a_claim_about_curves_that_do_not_meet() -> None:
    assert "nothing can be said" in claim_verdict(Claim("x", ()))


def test_progressive_pruning_and_reactivation_are_asked_about(tmp_path: Path) -> None:
    ways = {
        "plain": (False, "none"),
        "IR-S": (False, "search"),
        "IR-P": (False, "prune"),
        "PP": (True, "none"),
        "PP + IR-S": (True, "search"),
    }
    for name, (progressive, back) in ways.items():
        write_run(tmp_path / name, settings={"prune.progressive": progressive, "prune.reactivate": back})
    (comparison,) = collect([write_points(tmp_path, [(name, 0.9, 0, name) for name in ways])]).comparisons
    claimed = {claim.text.split()[0]: {(p.ours, p.theirs) for p in claim.pairs} for claim in check_claims(comparison)}
    assert claimed == {
        "Progressive": {("PP", "plain"), ("PP + IR-S", "IR-S")},
        "Reactivation": {("IR-S", "plain"), ("IR-S", "IR-P"), ("IR-P", "plain"), ("PP + IR-S", "PP")},
    }


def test_training_by_hand(compared: Comparison) -> None:
    """A search of 100 passes serves two ratios in both seeds: 200 for four tickets, and 50 more each if retrained."""
    ours, pruned, again = training_costs(compared)
    assert (ours.samples.mean, ours.together, ours.tickets) == (100, 400, 4)
    assert ours.seconds == summarize([12, 12, 13, 13])
    assert (pruned.samples.mean, pruned.together) == (100, 200)
    assert (again.samples.mean, again.together) == (150, 400)
    assert again.seconds == summarize([10 + 1 + 10] * 4)
    ((mine, theirs, samples, seconds),) = training_savings([ours, pruned, again], compared)
    assert (mine, theirs, samples) == ("two-in-one", "S+P + retrain", pytest.approx(1 / 3))
    assert seconds == pytest.approx(1 - 12.5 / 21)


def test_the_front_is_chosen_by_validation(tmp_path: Path) -> None:
    """By test scores the second would be on it alone."""
    for name, test, validation, macs in (("a", 60.0, 90.0, 10), ("b", 95.0, 80.0, 10), ("c", 50.0, 91.0, 20)):
        folder = write_run(tmp_path / name, masked_macs=macs)
        result = json.loads((folder / "result.json").read_text())
        result |= {"test": {"top1": test}, "validation": {"top1": validation}}
        (folder / "result.json").write_text(json.dumps(result))
    (comparison,) = collect([write_points(tmp_path, [(name, 0.5, 0, name) for name in "abc"])]).comparisons
    assert [point.method for point in choose_front(method_means(comparison, "masked_macs"))] == ["a", "c"]


@pytest.mark.parametrize("name", ["short", "two-in-one, " + 8 * "with a long name, ", 30 * "name"])
def test_the_legend_of_the_figure_stays_on_it(name: str, tmp_path: Path) -> None:
    points = []
    for i, macs in enumerate((1_000, 10_000)):
        points += [(f"{name}{j}", 0.5, 0, str(write_run(tmp_path / f"{j}{i}", masked_macs=macs).name)) for j in (1, 2)]
    (comparison,) = collect([write_points(tmp_path, points)]).comparisons
    figure = draw_tradeoff(comparison, Axis("masked_macs", "MACs", True, "macs"), "f").figure
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= 0


def test_of_errors_less_is_better(tmp_path: Path) -> None:
    """Errors of counts: 8 at 10 MACs, 5 at 20; 9 at 20 is beaten; what is gained is what is less."""
    for name, error, macs in (("a", 8.0, 10), ("b", 5.0, 20), ("c", 9.0, 20)):
        write_run(tmp_path / name, scores={"loss": 1.0, "mae": error, "count": 50.0}, masked_macs=macs)
    points = [("ours", 0.5, 0, "a"), ("ours", 0.2, 0, "b"), ("theirs", 0.2, 0, "c")]
    (comparison,) = collect([write_points(tmp_path, points)]).comparisons
    assert (comparison.metric.display_name, comparison.metric.unit) == ("MAE", "")
    front = choose_front(method_means(comparison, "masked_macs"), comparison.metric.sign)
    assert [point.score.mean for point in front] == [8, 5]
    pair = compare_methods(comparison, "ours", "theirs")
    assert pair.paired == {0.2: summarize([4])}
    assert [at.gain for at in pair.at] == [summarize([4])]
    assert claim_verdict(Claim("x", (pair,))).startswith("Better in 1 of 1")


def test_runs_are_shown_from_the_middle(compared: Comparison) -> None:
    assert [(run.method, run.ratio, run.seed) for run in example_runs(compared)] == [
        ("two-in-one", 0.8, 0),
        ("S+P", 0.8, 0),
        ("S+P + retrain", 0.8, 0),
    ]
    many = dataclasses.replace(
        compared,
        runs=tuple(
            dataclasses.replace(run, row={**run.row, "method": f"m{i}", "seed": i})
            for i, run in enumerate(compared.runs * 3)
        ),
    )
    assert len(example_runs(many)) == 12


def test_units_by_place_add_up() -> None:
    spec = create_spec("hrnet_tiny", in_channels=1)
    units_by_place = count_units(spec.unit_table())
    assert {place for place, _ in units_by_place} >= {"stage 1", "fuse 2", "head"}
    full = spec.full_units()
    assert sum(left[0] for left, _ in units_by_place.values()) == sum(units.hidden[0] for units in full.values())
    assert sum(left[-1] for left, _ in units_by_place.values()) == sum(units.tokens for units in full.values())
    halved = {name: dataclasses.replace(units, hidden=(1, *units.hidden[1:])) for name, units in full.items()}
    cut = count_units(dataclasses.replace(spec, units=halved).unit_table())
    blocks = [name for name in full if name.startswith("s1_b0_")]
    assert cut["stage 2", 1][0][0] == len(blocks)
    assert cut["stage 2", 1][1] == units_by_place["stage 2", 1][1]


# Latency --------------------------------------------------------------------------------------------------------------


def test_latencies_are_stored_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs have the same weights, a third has others; a ticket that is drawn anew has no latency any more."""
    root = write_points(tmp_path / "sweep", [("a", 0.5, seed, f"k{seed}") for seed in range(3)])
    for seed, sha in enumerate(("one", "one", "two")):
        folder = write_run(root / f"k{seed}", settings={"seed": seed})
        (folder / "ticket").mkdir()
        (folder / "ticket" / "config.json").write_text(json.dumps({"sha256": {"model.safetensors": sha}}))

    def timed(tickets: dict[str, Path], settings: BenchSettings) -> Bench:
        assert settings.runtimes == latency.RUNTIMES
        assert tickets == {"one": root / "k0", "two": root / "k2"}
        latencies = {f"{n}/{r}": Timing(len(n + r), 1, 9, 2, 8, 20) for n in tickets for r in latency.RUNTIMES}
        return Bench("a processor", "AVX2", {}, tuple(tickets), (BenchRun(1, 1, latencies, {}),))

    monkeypatch.setattr(latency, "bench", timed)
    monkeypatch.setattr(latency, "load", lambda folder, trust: folder)
    study = collect([root])
    path = tmp_path / "latency.json"
    assert latency.load_latencies(path) is None
    latency.measure_latencies(study.runs, path)
    measured = latency.load_latencies(path)
    assert measured is not None
    assert measured.said.startswith("a processor, 1 thread, batch 1: median of 50 ")
    (root / "k2" / "ticket" / "config.json").write_text(json.dumps({"sha256": {"model.safetensors": "new"}}))
    rows = [run.row for run in latency.with_latency(study, measured).runs]
    assert [row.get("latency_torch") for row in rows] == [8, 8, None]
    path.write_text("{}")
    with pytest.raises(UserError, match="measure again with --latency"):
        latency.load_latencies(path)


def test_a_sweep_can_move(tmp_path: Path) -> None:
    sweep(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    study: Study = collect([tmp_path / "there"])
    assert len(study.runs) == 12
