"""Commands on many runs at once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import missing_library
from .command import Command, add_data, add_recipe, add_trust, recipe_words
from .output import print_json, print_table, print_text, progress_console, repeatable


class Sweep(Command):
    """Many runs, of which common parts are done once."""

    name = "sweep"
    help = "Run many recipes, methods, ratios and seeds, with common parts done once"
    example = "comparison --recipe mnist --data MNIST --workers 2"
    takes_settings = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        from ..config.shipped import shipped_names

        shipped = ", ".join(shipped_names("sweeps"))
        parser.add_argument("sweep", metavar="SWEEP", help=f"Sweep: a YAML file, or one of {shipped}")
        parser.add_argument("--plan", action="store_true", help="Print the jobs, and run nothing")
        add_data(parser)
        parser.add_argument("--out", metavar="DIR", help="Directory of the sweep (default: runs/SWEEP)")
        points = parser.add_argument_group("in place of the sweep's own")
        points.add_argument("--recipe", nargs="+", metavar="RECIPE", help="Recipes")
        points.add_argument("--ratios", nargs="+", type=float, metavar="R", help="Pruning ratios")
        points.add_argument("--seeds", nargs="+", type=int, metavar="N", help="Seeds")
        engine = parser.add_argument_group("engine")
        engine.add_argument(
            "--engine", choices=("local", "ray", "slurm"), default="local", help="Engine of the jobs (default: local)"
        )
        engine.add_argument(
            "--workers", type=int, help="Jobs at once (default: 1; ray and slurm: what the cluster has room for)"
        )
        engine.add_argument("--threads", type=int, default=1, help="CPU threads per job (default: 1)")
        engine.add_argument("--cpus", type=int, help="CPUs per job, ray and slurm (default: its threads)")
        engine.add_argument("--gpus", type=float, help="GPUs per job, ray and slurm, or a share of one (ray)")
        engine.add_argument(
            "--slurm", metavar="NAME=VALUE,...", help="Parameters of sbatch, e.g. time=120,partition=gpu"
        )

    def run(self, options: argparse.Namespace) -> None:
        from ..sweeps.engines import EngineOptions, open_engine
        from ..sweeps.results import results_table
        from ..sweeps.sweep import read_sweep
        from ..sweeps.work import run_sweep

        changes = {name: value for name in ("recipe", "ratios", "seeds") if (value := getattr(options, name))}
        plan = read_sweep(options.sweep, changes, recipe_words(options))
        if options.plan:
            self._print_plan(plan, options.json)
            return
        root = Path(options.out or f"runs/{Path(options.sweep).stem}")
        resources = {name: getattr(options, name) for name in ("workers", "threads", "cpus", "gpus", "slurm")}
        with repeatable():
            engine = open_engine(options.engine, root, EngineOptions(**resources))
            rows = run_sweep(plan, root, engine, options.workers, progress_console())
        if options.json:
            print_json(rows)
            return
        print_table(results_table(rows, plan.metrics()))
        print_text(f"results  {root / 'results.csv'}")

    def _print_plan(self, plan: Any, as_json: bool) -> None:
        if as_json:
            print_json([{"key": j.key, "command": j.command, "parent": j.parent, **dict(j.options)} for j in plan.jobs])
            return
        for job in plan.jobs:
            begins = f" from {job.parent}" if job.parent else ""
            print_text(f"{job.key}  {job.command}{begins}  {dict(job.options) or ''}")
        print_text(f"{len(plan.points)} results by {len(plan.jobs)} jobs")


class Compare(Command):
    """Tickets beside the networks that one would train instead."""

    name = "compare"
    help = "Train tickets at three budgets and ordinary networks beside them, and draw accuracy against latency"
    example = "images --data MY_PHOTOS --budget.macs 7e6"
    takes_settings = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_recipe(parser)
        add_data(parser)
        parser.add_argument("--out", metavar="DIR", help="Directory of the comparison (default: runs/RECIPE-compare)")
        parser.add_argument(
            "--references",
            nargs="+",
            default=(),
            metavar="NETWORK",
            help="Networks to train beside the tickets, known ones at three widths "
            "(default: a plain ResNet, for classes also mobilenet_v2 and mobilenet_v3_large)",
        )
        parser.add_argument(
            "--factors",
            nargs="+",
            type=float,
            default=(),
            metavar="FACTOR",
            help="Budgets of the tickets as multiples of the given one (default: 0.5 1 2)",
        )
        parser.add_argument("--seeds", type=int, default=1, help="Number of seeds (default: 1)")
        parser.add_argument(
            "--equal-time", action="store_true", help="Train the references again for as long as the tickets took"
        )
        parser.add_argument("--repeats", type=int, default=200, help="Timing repetitions (default: 200)")

    def run(self, options: argparse.Namespace) -> None:
        from ..config.loading import load_recipe
        from ..sweeps.compare import CompareSettings, compare
        from .tables import comparison_table

        recipe = load_recipe(options.recipe, recipe_words(options))
        out = Path(options.out or f"{recipe.run_dir}-compare")
        settings = CompareSettings(
            networks=tuple(options.references),
            factors=tuple(options.factors),
            seeds=options.seeds,
            equal_time=options.equal_time,
            repeats=options.repeats,
        )
        with repeatable():
            comparison = compare(recipe, out, settings, progress_console().print)
        figure = _draw_comparison(comparison, out)
        if options.json:
            print_json(comparison.to_json() | ({} if figure is None else {"figure": str(figure)}))
            return
        print_table(comparison_table(comparison))
        for line in comparison.headlines:
            print_text(f"{line}.")
        print_text(f"results  {out / 'compare.json'}" + ("" if figure is None else f"\nfigure   {figure}"))


def _draw_comparison(comparison: Any, out: Path) -> Path | None:
    """Draw a comparison; without the library that draws, say so and leave it out."""
    try:
        from ..visualization.latency_figure import draw_comparison
    except ModuleNotFoundError as error:
        print_text(f"no figure: {missing_library(error) or error}", file=sys.stderr)
        return None
    draw_comparison(comparison, out / "compare.svg")
    return draw_comparison(comparison, out / "compare.png")


class Report(Command):
    """One page on many runs."""

    name = "report"
    help = "Write a report on runs and sweeps, as one HTML page and as Markdown"
    example = "runs/mine runs/other"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("runs", metavar="RUN", nargs="+", help="Directories of runs and sweeps")
        parser.add_argument("--out", metavar="DIR", help="Folder to write (default: report, in the first RUN)")
        parser.add_argument("--latency", action="store_true", help="Time every ticket on this device")
        add_trust(parser)

    def run(self, options: argparse.Namespace) -> None:
        from ..report import write_report

        report = write_report(options.runs, options.out, latency=options.latency, trust=options.trust)
        for line in report.left_out:
            print_text(f"left out: {line}", file=sys.stderr)
        if options.json:
            page = {"html": str(report.html), "markdown": str(report.markdown), "runs": report.runs}
            print_json(page | {"left_out": report.left_out})
            return
        print_text(f"report   {report.html}\n         {report.markdown}\nruns     {report.runs}")


COMMANDS: tuple[Command, ...] = (Compare(), Sweep(), Report())
