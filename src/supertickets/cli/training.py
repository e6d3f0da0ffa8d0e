"""Commands that train or prune: each leaves a run directory with a ticket."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, get_args

from ..config.search_settings import ConnectBy
from ..errors import UserError
from .command import Command, add_data, add_out, add_recipe, add_ticket, add_trust, load_ticket, recipe_words
from .output import FIGURE, print_json, print_plan, print_text, print_trained, progress_console, repeatable


class Draw(Command):
    """Two-in-one training (SuperTickets)."""

    name = "draw"
    help = "Search and prune a network in one training run"
    example = "images --data MY_PHOTOS --out runs/mine"
    takes_settings = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_recipe(parser, default="digits")
        add_data(parser)
        add_out(parser, "runs/RECIPE")
        parser.add_argument("--plan", action="store_true", help="Print the events by epoch, and train nothing")

    def run(self, options: argparse.Namespace) -> None:
        from ..config.loading import load_recipe

        recipe = load_recipe(options.recipe, recipe_words(options))
        if options.plan:
            print_plan(recipe, options.json)
            return
        from ..deploy import measure_network
        from ..runs.api import draw

        out = Path(options.out or recipe.run_dir)
        print_trained(lambda: draw(recipe, out, measure_network), out, options.json)


class Search(Command):
    """Policy searches (TuNAS, LTH4SA) and their baselines."""

    name = "search"
    help = "Search a space to a budget, or the attention connections of a ResNet"
    example = "tunas_proxyless --data MY_PHOTOS --budget.latency_ms 5"
    takes_settings = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_recipe(parser)
        add_data(parser)
        add_out(parser, "runs/RECIPE")
        parser.add_argument(
            "--by",
            choices=("evolution", *get_args(ConnectBy)),
            help="Search algorithm (default: policy). Search spaces: policy, random, evolution; "
            "attention connections: all but evolution",
        )
        connections = parser.add_argument_group("searches for attention connections")
        connections.add_argument(
            "--shared", metavar="RUN", help="Earlier search whose trained network is searched again"
        )
        baselines = parser.add_argument_group("--by random and --by evolution of a space")
        baselines.add_argument("--networks", type=int, help="Number of networks to train (default: 20)")
        baselines.add_argument("--tolerance", type=float, help="Relative distance from the target (default: 0.02)")

    def run(self, options: argparse.Namespace) -> None:
        from ..deploy import measure_latency_table
        from ..runs.api import search
        from ..runs.derive import reject_settings, search_recipe, with_search_method
        from ..runs.model_init import searches_connections

        why = "a policy decides, and nothing is pruned; draw what it finds"
        reject_settings(options.settings, ("prune.", "search."), "search", why)
        recipe = search_recipe(options.recipe, recipe_words(options))
        by: Any = options.by or "policy"
        if connections := searches_connections(recipe):
            recipe = with_search_method(recipe, options.by)
            by = recipe.connect.by
        if by != "policy" and not connections:
            self._search_by_training(options, recipe, by)
            return
        for name in ("networks", "tolerance"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name} is for --by random and evolution of a space; leave it out")
        out = Path(options.out or recipe.run_dir + (f"-{by}" if by != "policy" else ""))
        print_trained(lambda: search(recipe, out, measure_latency_table, options.shared), out, options.json)

    def _search_by_training(self, options: argparse.Namespace, recipe: Any, by: Any) -> None:
        from ..deploy import measure_latency_table
        from ..runs.baseline_search import BaselineSettings, baseline_search
        from .tables import cost_lines

        if options.shared is not None:
            raise UserError("--shared is for searches for connections of a ResNet; leave it out")
        out = Path(options.out or f"{recipe.run_dir}-{by}")
        limits = {name: value for name in ("networks", "tolerance") if (value := getattr(options, name)) is not None}
        with repeatable():
            settings = BaselineSettings(by, **limits)
            ticket = baseline_search(recipe, out, settings, measure_latency_table, progress_console().print)
        if options.json:
            print_json({"ticket": str(out / "ticket"), **json.loads((out / "result.json").read_text())})
            return
        print_text(f"\nticket   {out / 'ticket'}\nnetworks {out / 'networks.csv'}")
        scores = {split: ticket.about[split] for split in ("validation", "test")}
        metric = ticket.task.metric
        best = [f"{split} {metric.text(one)}" for split, one in scores.items() if metric.name in one]
        print_text(f"best     {', '.join(best)}")
        for line in cost_lines(ticket.cost):
            print_text(line)


class Train(Command):
    """Training of a dense network."""

    name = "train"
    help = "Train a recipe's network as it is, without search and pruning"
    example = "images --data MY_PHOTOS"
    takes_settings = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_recipe(parser, default="digits")
        add_data(parser)
        add_out(parser, "runs/RECIPE-dense")

    def run(self, options: argparse.Namespace) -> None:
        from ..config.loading import load_recipe
        from ..runs.api import train
        from ..runs.derive import NO_SEARCH_NO_PRUNING

        recipe = load_recipe(options.recipe, [*NO_SEARCH_NO_PRUNING, *recipe_words(options)])
        out = Path(options.out or f"{recipe.run_dir}-dense")
        print_trained(lambda: train(recipe, out), out, options.json)


class Resume(Command):
    """Continuation of a run."""

    name = "resume"
    help = "Resume an interrupted run"
    example = "runs/mine"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("out", metavar="RUN", help="Directory of a run that was stopped")
        parser.add_argument("--data", metavar="DIR", help="Folder with the data set, if it has moved")
        add_trust(parser)

    def run(self, options: argparse.Namespace) -> None:
        from ..deploy import measure_network
        from ..runs.api import resume
        from ..runs.finalize import is_finished
        from ..training import RunDir

        out = Path(options.out)
        if is_finished(RunDir(out)) and not (out / FIGURE).exists():  # it was stopped while the figure was drawn
            print_trained(lambda: load_ticket(out, options), out, options.json)
            return
        print_trained(lambda: resume(out, options.trust, measure_network, options.data), out, options.json)


class Retrain(Command):
    """Further training of a ticket."""

    name = "retrain"
    help = "Train a ticket further, with the same mask and architecture"
    example = "runs/mine --epochs 10"
    takes_settings = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_ticket(parser)
        parser.add_argument("--epochs", type=int, required=True, help="Number of epochs to train")
        add_data(parser)
        add_out(parser, "TICKET-retrained")

    def run(self, options: argparse.Namespace) -> None:
        from ..runs.api import retrain
        from ..runs.derive import retrain_recipe

        ticket = load_ticket(options.ticket, options)
        recipe = retrain_recipe(ticket, options.epochs, recipe_words(options))
        out = Path(options.out or f"{str(options.ticket).rstrip('/')}-retrained")
        print_trained(lambda: retrain(ticket, recipe, out), out, options.json)


class Transfer(Command):
    """Training of a ticket's features on other data."""

    name = "transfer"
    help = "Train a ticket's features on other data or for another task, with the same mask and a new head"
    example = "runs/mine camvid --data CAMVID"
    takes_settings = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_ticket(parser)
        add_recipe(parser, target=True)
        parser.add_argument(
            "--head",
            metavar="fresh|TICKET",
            default="fresh",
            help="Ticket of the target that gives head and classifier (default: fresh)",
        )
        add_data(parser)
        add_out(parser, "runs/RECIPE")

    def run(self, options: argparse.Namespace) -> None:
        from ..runs.api import transfer
        from ..runs.derive import transfer_recipe

        ticket = load_ticket(options.ticket, options)
        head = None if options.head == "fresh" else load_ticket(options.head, options)
        recipe = transfer_recipe(ticket, options.recipe, recipe_words(options), head)
        out = Path(options.out or recipe.run_dir)
        print_trained(lambda: transfer(ticket, recipe, out, head), out, options.json)


class Prune(Command):
    """Pruning in one shot."""

    name = "prune"
    help = "Prune a finished network in one shot"
    example = "runs/mine --ratio 0.8"
    takes_settings = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_ticket(parser)
        parser.add_argument("--ratio", type=float, required=True, help="Share of zeros among maskable weights")
        parser.add_argument(
            "--criterion",
            metavar="NAME",
            default="magnitude",
            help="Ranking of weights: one of docs/pruning.md, or package.module:name of your own (default: magnitude)",
        )
        parser.add_argument(
            "--scope",
            choices=("global", "layer", "group"),
            help="Weights that are ranked together (default: as in the ticket's recipe)",
        )
        parser.add_argument("--batches", type=int, help="Training batches that a criterion sees (default: 10)")
        parser.add_argument(
            "--rounds",
            type=int,
            help="Pruning steps, with a new ranking in each (default: 100 for synflow, else 1)",
        )
        add_data(parser)
        add_out(parser, "TICKET-pruned")

    def run(self, options: argparse.Namespace) -> None:
        from ..runs.api import prune
        from ..runs.derive import prune_recipe

        ticket = load_ticket(options.ticket, options)
        given = {name: getattr(options, name) for name in ("scope", "batches", "rounds")}
        words = [word for name, value in given.items() if value is not None for word in (f"--prune.{name}", str(value))]
        recipe = prune_recipe(ticket, options.ratio, options.criterion, [*words, *recipe_words(options)])
        out = Path(options.out or f"{str(options.ticket).rstrip('/')}-pruned")
        print_trained(lambda: prune(ticket, recipe, out), out, options.json)


COMMANDS: tuple[Command, ...] = (Draw(), Search(), Train(), Resume(), Retrain(), Transfer(), Prune())
