"""The command line: one small function per command; the work is elsewhere."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from ..config.loading import list_recipes, load_recipe
from ..errors import UserError, suggest
from .output import DONE, OUT, STOPPED, USER, is_main, print_json, print_plan, print_said, print_trained
from .parser import make_parser, take_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status (0 done, 2 wrong input, 1 a defect, 130 stopped)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        parser = make_parser(COMMANDS)
        if words and not words[0].startswith("-") and words[0] not in COMMANDS:
            raise UserError(f"unknown command '{words[0]}'{suggest(words[0], COMMANDS)}")
        words, settings = take_settings(words)
        options, rest = parser.parse_known_args(words)
        if rest and not options.takes_settings:
            raise UserError(
                f"unknown option '{rest[0]}' for {options.command}; see supertickets {options.command} --help"
            )
        options.settings = settings + rest
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            options.run(options)
    except UserError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # once per machine: another one's data may be the cause
            print(f"error: {error}", file=sys.stderr)
        return USER
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        return DONE
    return DONE


def _recipes(options: argparse.Namespace) -> None:
    """list what ships, one line each"""
    if options.json:
        print_json(list_recipes())
        return
    for name, description in list_recipes().items():
        OUT.print(f"{name:12}  {escape(description)}")


def _draw(options: argparse.Namespace) -> None:
    """search and prune in one training run -> RUN/ticket"""
    from ..runs.api import draw

    recipe = load_recipe(options.recipe, _with_data(options))
    if options.plan:
        print_plan(recipe, options.json)
        return
    out = Path(options.out or f"runs/{recipe.name}")
    print_trained(lambda: draw(recipe, out), out, options.json)


def _search(options: argparse.Namespace) -> None:
    """search a space to a budget, by a policy (TuNAS) or by training many; or a ResNet's attention -> RUN/ticket"""
    from ..deploy import measure_latency_table
    from ..runs.api import search
    from ..runs.derive import NO_SEARCH_NO_PRUNING, reject_settings, with_search_method
    from ..runs.model_init import searches_connections

    reject_settings(
        options.settings, ("prune.", "search."), "search", "a policy decides, and nothing is pruned; draw what it finds"
    )
    recipe = load_recipe(options.recipe, [*NO_SEARCH_NO_PRUNING, *_with_data(options)])
    if connections := searches_connections(recipe):
        recipe = with_search_method(recipe, options.by)
    by: Any = options.by or "policy"
    if by == "policy" or connections:
        for name in ("networks", "tolerance"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name} is for --by random and evolution of a space; leave it out")
        by = recipe.connect.by if connections else by
        out = Path(options.out or f"runs/{recipe.name}" + (f"-{by}" if by != "policy" else ""))
        print_trained(lambda: search(recipe, out, measure_latency_table, options.shared), out, options.json)
        return
    if options.shared is not None:
        raise UserError("--shared is for searches for connections of a ResNet; leave it out")
    from ..runs.baseline_search import baseline_search
    from ..tasks import primary_metric
    from ..training import Interrupted
    from .tables import cost_lines

    out = Path(options.out or f"runs/{recipe.name}-{by}")
    say = Console(stderr=True, highlight=False, soft_wrap=True).print
    try:
        asked = {name: value for name in ("networks", "tolerance") if (value := getattr(options, name)) is not None}
        ticket = baseline_search(recipe, out, by, measure=measure_latency_table, say=say, **asked)
    except Interrupted:
        print("stopped; the same command goes on", file=sys.stderr)
        raise SystemExit(STOPPED) from None
    result = json.loads((out / "result.json").read_text())
    if options.json:
        print_json({"ticket": str(out / "ticket"), **result})
        return
    OUT.print(f"\nticket   {out / 'ticket'}\nnetworks {out / 'networks.csv'}")
    scores = {split: ticket.about[split] for split in ("validation", "test")}
    best = [f"{split} {m.text(found)}" for split, found in scores.items() if (m := primary_metric(found)) is not None]
    OUT.print(f"best     {', '.join(best)}")
    for line in cost_lines(ticket.cost):
        OUT.print(line)


def _train(options: argparse.Namespace) -> None:
    """train the dense supernet of a recipe: no search, no pruning"""
    from ..runs.api import train
    from ..runs.derive import NO_SEARCH_NO_PRUNING

    recipe = load_recipe(options.recipe, [*NO_SEARCH_NO_PRUNING, *_with_data(options)])
    out = Path(options.out or f"runs/{recipe.name}-dense")
    print_trained(lambda: train(recipe, out), out, options.json)


def _resume(options: argparse.Namespace) -> None:
    """go on where a run stopped"""
    from ..runs.api import resume

    print_trained(lambda: resume(options.out), Path(options.out), options.json)


def _retrain(options: argparse.Namespace) -> None:
    """train a ticket further: same mask, same architecture"""
    from ..runs.api import retrain
    from ..runs.derive import retrain_recipe
    from ..ticket import load

    ticket = load(options.ticket)
    recipe = retrain_recipe(ticket, options.epochs, _with_data(options))
    out = Path(options.out or f"{str(options.ticket).rstrip('/')}-retrained")
    print_trained(lambda: retrain(ticket, recipe, out), out, options.json)


def _transfer(options: argparse.Namespace) -> None:
    """train a ticket's features on other data, or for another task: mask kept, head replaced"""
    from ..runs.api import transfer
    from ..runs.derive import transfer_recipe
    from ..ticket import load

    ticket = load(options.ticket)
    head = None if options.head == "fresh" else load(options.head)
    recipe = transfer_recipe(ticket, options.recipe, _with_data(options), head)
    out = Path(options.out or f"runs/{recipe.name}")
    print_trained(lambda: transfer(ticket, recipe, out, head), out, options.json)


def _prune(options: argparse.Namespace) -> None:
    """prune a finished network in one shot, e.g. one that was searched only"""
    from ..runs.api import prune
    from ..runs.derive import prune_recipe
    from ..ticket import load

    ticket = load(options.ticket)
    given = {name: getattr(options, name) for name in ("scope", "batches", "rounds")}
    words = [word for name, value in given.items() if value is not None for word in (f"--prune.{name}", str(value))]
    recipe = prune_recipe(ticket, options.ratio, options.criterion, [*words, *_with_data(options)])
    out = Path(options.out or f"{str(options.ticket).rstrip('/')}-pruned")
    print_trained(lambda: prune(ticket, recipe, out), out, options.json)


def _evaluate(options: argparse.Namespace) -> None:
    """measure a ticket on a split of its data"""
    from ..runs.evaluate import evaluate_ticket
    from ..ticket import load

    scores = evaluate_ticket(load(options.ticket), options.data, options.split, options.boxes, options.device)
    if options.json:
        print_json(scores)
        return
    OUT.print(", ".join(f"{name} {value:.4g}" for name, value in scores.items()) + f" ({options.split} split)")


def _predict(options: argparse.Namespace) -> None:
    """say what is in figures, or in folders: a class, the class of every pixel, people's joints, objects, a count"""
    from ..data import list_images
    from ..data.coco_keypoints_json import read_boxes
    from ..ticket import load
    from ..visualization.overlays import predictions

    ticket, images = load(options.ticket), list_images(options.images)
    boxes = read_boxes(Path(options.boxes), images) if options.boxes else None
    save = Path(options.save) if options.save else None
    print_said(predictions(ticket, images, boxes, save, options.device), ticket.task.text_lines, options.json)


def _explain(options: argparse.Namespace) -> None:
    """show where in figures classifiers look (Grad-CAM), several side by side -> DIR"""
    from ..data import list_images
    from ..ticket import load
    from ..visualization.explain import explain_images, format_explanation

    tickets = [(name, load(name)) for name in (options.ticket, *options.beside)]
    images, save = list_images(options.images), Path(options.save)
    found = explain_images(tickets, images, save, options.name, options.device)
    print_said(found, lambda said: [format_explanation(said)], options.json)


def _show(options: argparse.Namespace) -> None:
    """architecture, parameters, MACs and density of a ticket or a recipe's supernet"""
    from ..analysis.description import describe
    from .tables import architecture_table, cost_lines, training_line

    found = describe(options.what, options.data)
    if options.json:
        hours = {} if found.gpu_hours is None else {"gpu_hours": found.gpu_hours}
        print_json(found.cost.to_json() | {"spec": found.spec.to_json()} | hours)
        return
    OUT.print(architecture_table(found.spec, found.mask, found.cost))
    for line in cost_lines(found.cost):
        OUT.print(line)
    OUT.print("input    {} x {} x {}, {} outputs".format(*found.spec.input_shape, found.spec.num_classes))
    if (training := training_line(found)) is not None:
        OUT.print(training)


def _export(options: argparse.Namespace) -> None:
    """write a ticket for another runtime, checked against the ticket"""
    from ..deploy.exporter import export
    from ..ticket import load

    ticket = load(options.ticket)
    suffix = {"onnx": "onnx", "torch": "pt2"}[options.format]
    made = export(ticket, options.out or Path(options.ticket) / f"model.{suffix}", options.format, fixed=options.fixed)
    if options.json:
        print_json({"path": str(made.path), "parity": made.parity, "channels_removed": made.channels_removed})
        return
    OUT.print(f"wrote {made.path} ({made.path.stat().st_size:,} bytes); {made.channels_removed} dead channels removed")
    OUT.print(f"checked: outputs differ from the ticket's by at most {made.parity:.1e}")


def _bench(options: argparse.Namespace) -> None:
    """measure latency on this device, per runtime, beside the dense supernet (of a ResNet, no and all connections)"""
    from ..deploy import reference_twins
    from ..deploy.benchmark import bench
    from ..ticket import load
    from .tables import bench_table

    ticket = load(options.ticket)
    name = f"./{options.against}" if options.against == "ticket" else options.against
    others = {name: load(options.against)} if options.against else reference_twins(ticket)
    asked = {name: getattr(options, name) for name in ("batch", "threads", "repeats")}
    found = bench({**others, "ticket": ticket}, **asked)
    if options.json:
        print_json(found.to_json())
        return
    OUT.print(bench_table(found, list(others), "ticket"))


def _schemes(options: argparse.Namespace) -> None:
    """what a search for connections says of schemes: ratios, scores of blocks; --train: whether it found a ticket"""
    from ..analysis.connection_schemes import read_scheme_search, schemes_table, summarize_schemes, time_schemes
    from ..analysis.scheme_trial import train_candidates, trial_table
    from ..training import Interrupted
    from ..visualization.scheme_figure import draw_scheme_figure

    run, asked = Path(options.run_dir), {name: getattr(options, name) for name in ("batch", "threads", "repeats")}
    words = _with_data(options)
    if words and not options.train:
        raise UserError(f"{words[0]} is for trainings; add --train, or leave it out")
    if options.times and options.train:
        raise UserError("--times measures what was judged; leave it out, --train measures what it trains")
    for name, least in (("times", 0), ("batch", 1), ("threads", 1), ("repeats", 2)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} is {getattr(options, name)}; the nearest possible is {least}")
    if options.train:
        try:
            told = train_candidates(run, words, **asked)
        except Interrupted:
            print("stopped; the same command goes on", file=sys.stderr)
            raise SystemExit(STOPPED) from None
    else:
        seen = read_scheme_search(run)
        times = time_schemes(seen, options.times, **asked) if options.times else {}
        told = summarize_schemes(seen, times)
        draw_scheme_figure(run / "schemes.png", seen, told, times)
    if options.json:
        print_json(told)
        return
    OUT.print(trial_table(told) if options.train else schemes_table(told))
    if not options.train:
        OUT.print(f"figure  {run / 'schemes.png'}")


def _latency_table(options: argparse.Namespace) -> None:
    """time every operation of a mobile space on this device -> FILE, and check what it predicts for whole networks"""
    from ..cost.latency_table import TableSettings
    from ..deploy import measure_latency_table
    from ..models import create_mobile
    from ..models.factory import list_spaces

    if options.space not in list_spaces():
        raise UserError(f"unknown space '{options.space}'{suggest(options.space, list_spaces())}")
    settings = {"width": options.width, "head": options.head, "num_classes": options.classes}
    spec = create_mobile(options.space, image_size=tuple(options.size), **settings)
    out = Path(options.out or f"latency-{options.space}.json")
    if out.is_dir() or not os.access(out.parent, os.W_OK):  # before minutes of measuring
        raise UserError(f"{out} cannot be written; choose another --out")
    words = {name: getattr(options, name) for name in ("runtime", "threads", "repeats", "networks")}
    with Console(stderr=True, highlight=False).status(f"measuring {options.space} on this device") as status:
        table = measure_latency_table(spec, TableSettings(**words), status.update)
    table.save(out)
    if options.json:
        print_json(table.to_json())
        return
    check = table.check
    OUT.print(f"wrote {out}: {len(table.ms)} operations on {table.device}, {table.runtime}, {table.threads} thread(s)")
    OUT.print(
        f"checked: of {check['networks']} other networks of {check['fastest_ms']:.2f} to {check['slowest_ms']:.2f} ms, "
        f"half are predicted within {check['median_error']:.1%}, all within {check['largest_error']:.1%}; "
        f"rank correlation {check['spearman']:.3f}"
    )


def _sweep(options: argparse.Namespace) -> None:
    """run many recipes, methods, ratios and seeds; what they have in common is done once -> DIR/results.csv"""
    from ..sweeps.engines import EngineOptions, open_engine
    from ..sweeps.results import results_table
    from ..sweeps.sweep import read_sweep
    from ..sweeps.work import run_sweep

    changes = {name: getattr(options, name) for name in ("recipe", "ratios", "seeds")}
    plan = read_sweep(options.sweep, {k: v for k, v in changes.items() if v is not None}, _with_data(options))
    if options.plan:
        if options.json:
            print_json([{"key": j.key, "command": j.command, "parent": j.parent, **dict(j.options)} for j in plan.jobs])
            return
        for job in plan.jobs:
            begins = f" from {job.parent}" if job.parent else ""
            OUT.print(f"{job.key}  {job.command}{begins}  {escape(str(dict(job.options) or ''))}")
        OUT.print(f"{len(plan.points)} results by {len(plan.jobs)} jobs")
        return
    root = Path(options.out or f"runs/{Path(options.sweep).stem}")
    asked = {name: getattr(options, name) for name in ("workers", "threads", "cpus", "gpus", "slurm")}
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        engine = open_engine(options.engine, root, EngineOptions(**asked))
        found = run_sweep(plan, root, engine, options.workers, console)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        raise SystemExit(STOPPED) from None
    if options.json:
        print_json(found)
        return
    OUT.print(results_table(found))
    OUT.print(f"results  {root / 'results.csv'}")


def _report(options: argparse.Namespace) -> None:
    """write what runs and sweeps say, as one HTML page and as Markdown: curves, differences, ablations, costs"""
    from ..report import write_report

    made = write_report(options.runs, options.out, latency=options.latency)
    for line in made.left_out:
        print(f"left out: {line}", file=sys.stderr)
    if options.json:
        found = {"html": str(made.html), "markdown": str(made.markdown), "runs": made.runs}
        print_json(found | {"left_out": made.left_out})
        return
    OUT.print(f"report   {made.html}\n         {made.markdown}\nruns     {made.runs}")


def _with_data(options: argparse.Namespace) -> list[str]:
    return [*options.settings, *(["--data.dir", options.data] if options.data else [])]


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    if is_main():
        print(f"warning: {message}", file=sys.stderr)


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "recipes": _recipes,
    "draw": _draw,
    "search": _search,
    "train": _train,
    "resume": _resume,
    "retrain": _retrain,
    "transfer": _transfer,
    "prune": _prune,
    "evaluate": _evaluate,
    "predict": _predict,
    "explain": _explain,
    "show": _show,
    "export": _export,
    "bench": _bench,
    "schemes": _schemes,
    "latency-table": _latency_table,
    "sweep": _sweep,
    "report": _report,
}


if __name__ == "__main__":
    raise SystemExit(main())
