"""Commands that look at recipes and use tickets."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from .command import Command, add_device, add_runtime, add_ticket, add_trust, load_for_runtime, load_ticket
from .output import print_images, print_json, print_table, print_text

if TYPE_CHECKING:
    from ..ticket import Ticket


class Recipes(Command):
    """The recipes that ship."""

    name = "recipes"
    help = "List the shipped recipes"

    def run(self, options: argparse.Namespace) -> None:
        from ..config.shipped import list_recipes

        if options.json:
            print_json(list_recipes())
            return
        recipes = list_recipes()
        width = max(map(len, recipes))
        for name, description in recipes.items():
            print_text(f"{name:{width}}  {description}")


class Show(Command):
    """Architecture and costs."""

    name = "show"
    help = "Show architecture, parameters, MACs and density of a ticket or a recipe's supernet"
    example = "runs/mine"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("what", metavar="TICKET|RECIPE", help="Folder of a ticket or a run; or a recipe")
        parser.add_argument("--data", metavar="DIR", help="Data set that a recipe's supernet is fitted to")
        add_trust(parser)

    def run(self, options: argparse.Namespace) -> None:
        from ..analysis.description import describe
        from .tables import architecture_table, cost_lines, training_line

        description = describe(options.what, options.data, options.trust)
        spec, cost, hours = description.spec, description.cost, description.gpu_hours
        if options.json:
            print_json(cost.to_json() | {"spec": spec.to_json()} | ({} if hours is None else {"gpu_hours": hours}))
            return
        print_table(architecture_table(spec, description.mask, cost))
        for line in cost_lines(cost):
            print_text(line)
        print_text("input    {} x {} x {}, {} outputs".format(*spec.input_shape, spec.num_classes))
        if (training := training_line(description)) is not None:
            print_text(training)


class Evaluate(Command):
    """Scores on data."""

    name = "evaluate"
    help = "Measure a ticket on a split of its data"
    example = "runs/mine --json"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_ticket(parser)
        parser.add_argument("--data", metavar="DIR", help="Folder with the data set, if it has moved")
        parser.add_argument(
            "--split", choices=("test", "validation", "train"), default="test", help="Split (default: test)"
        )
        parser.add_argument("--boxes", metavar="FILE", help="Boxes of people: truth, detected, or COCO detections")
        add_device(parser)
        add_runtime(parser)

    def run(self, options: argparse.Namespace) -> None:
        from ..runs.evaluate import evaluate_ticket

        ticket = load_for_runtime(options.ticket, options)
        scores = evaluate_ticket(ticket, options.data, options.split, options.boxes, options.device)
        if options.json:
            print_json(scores)
            return
        print_text(", ".join(f"{name} {value:.4g}" for name, value in scores.items()) + f" ({options.split} split)")


class Predict(Command):
    """Inference on images."""

    name = "predict"
    help = "Run inference on images and optionally save overlays"
    example = "runs/mine image.png --save painted"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_ticket(parser)
        parser.add_argument("images", metavar="IMAGE", nargs="+", help="Image, or a folder of images")
        parser.add_argument("--boxes", metavar="FILE", help="Boxes of people: COCO annotations or detections")
        parser.add_argument("--save", metavar="DIR", help="Folder for images with predictions drawn")
        add_device(parser)
        add_runtime(parser)

    def run(self, options: argparse.Namespace) -> None:
        from ..data import list_images
        from ..data.person_boxes import read_boxes
        from ..visualization.overlays import predictions

        ticket, images = load_for_runtime(options.ticket, options), list_images(options.images)
        boxes = read_boxes(Path(options.boxes), images) if options.boxes else None
        save = Path(options.save) if options.save else None
        print_images(predictions(ticket, images, boxes, save, options.device), ticket.task.text_lines, options.json)


class Explain(Command):
    """Grad-CAM of classifiers."""

    name = "explain"
    help = "Show where in images classifiers look (Grad-CAM), several tickets side by side"
    example = "runs/mine image.png --beside runs/other"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_ticket(parser)
        parser.add_argument("images", metavar="IMAGE", nargs="+", help="Image, or a folder of images")
        parser.add_argument("--beside", metavar="TICKET", nargs="+", default=[], help="Other tickets, a column each")
        parser.add_argument(
            "--class", dest="label", metavar="NAME", help="Class to explain (default: what each ticket predicts)"
        )
        parser.add_argument("--save", metavar="DIR", default="explained", help="Folder to write (default: explained)")
        add_device(parser)

    def run(self, options: argparse.Namespace) -> None:
        from ..data import list_images
        from ..visualization.explain import explain_images, format_explanation

        tickets = [(name, load_ticket(name, options)) for name in (options.ticket, *options.beside)]
        images, save = list_images(options.images), Path(options.save)
        results = explain_images(tickets, images, save, options.label, options.device)
        print_images(results, lambda result: [format_explanation(result)], options.json)


class Bench(Command):
    """Latency on this device."""

    name = "bench"
    help = "Measure the latency of a ticket on this device, per runtime, beside other networks"
    example = "runs/mine --batch 8"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_ticket(parser)
        parser.add_argument(
            "--against",
            metavar="TICKET",
            help="Ticket beside it (default: the dense supernet, or none and all connections, and ordinary networks)",
        )
        parser.add_argument("--batch", default="1", metavar="N,...", help="Images per call (default: 1)")
        parser.add_argument(
            "--threads", default="1", metavar="N,...", help="CPU threads per runtime, e.g. 1,all (default: 1)"
        )
        parser.add_argument("--repeats", type=int, default=50, help="Timing repetitions (default: 50)")
        parser.add_argument(
            "--runtimes", metavar="NAME,...", default="", help="Runtimes (default: all that are installed)"
        )
        parser.add_argument("--data", metavar="DIR", help="Folder with the data set, to calibrate int8 on")

    def run(self, options: argparse.Namespace) -> None:
        from ..deploy.bench_ticket import advise, bench_ticket
        from ..deploy.benchmark import BenchSettings, all_threads
        from .bench_table import advice_lines, bench_table, comparison_lines

        settings = BenchSettings(
            threads=_numbers("threads", options.threads, {"all": all_threads()}),
            batch=_numbers("batch", options.batch),
            repeats=options.repeats,
            runtimes=tuple(name.strip() for name in options.runtimes.split(",") if name.strip()),
        )
        ticket, against = load_ticket(options.ticket, options), None
        if options.against:
            name = f"./{options.against}" if options.against == "ticket" else options.against
            against = {name: load_ticket(options.against, options)}
        result = bench_ticket(ticket, settings, against=against, data_dir=options.data)
        advice = advise(result, ticket, options.ticket)
        if options.json:
            print_json(result.to_json() | {"deploy": None if advice is None else asdict(advice)})
            return
        for run in result.runs:
            print_table(bench_table(result, run))
        for line in (*comparison_lines(result), *advice_lines(result, advice)):
            print_text(line)


def _numbers(option: str, text: str, words: Mapping[str, int] | None = None) -> tuple[int, ...]:
    """Return the whole numbers of a list with commas, each once; some words stand for numbers.

    Raises:
        UserError: Something is neither.
    """
    words = words or {}
    numbers = []
    for part in text.split(","):
        word = part.strip()
        if not word.lstrip("-").isdigit() and word not in words:
            more = "".join(f" or {name}" for name in words)
            raise UserError(f"--{option} has '{word}'; give whole numbers{more}, e.g. 1,4")
        numbers.append(words[word] if word in words else int(word))
    return tuple(dict.fromkeys(numbers))


class Export(Command):
    """Files for other runtimes."""

    name = "export"
    help = "Export a ticket for another runtime, checked against the ticket"
    example = "runs/mine --format onnx"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_ticket(parser)
        parser.add_argument(
            "--format",
            choices=("onnx", "torch", "sparse", "c"),
            default="onnx",
            help="Format; sparse is for supertickets.runtime, c for devices with nothing but C (default: onnx)",
        )
        parser.add_argument("--fixed", action="store_true", help="Fix the size of scenes, which runs faster")
        parser.add_argument(
            "--int8", action="store_true", help="Quantise to 8-bit integers (ONNX), calibrated on the ticket's data"
        )
        parser.add_argument("--data", metavar="DIR", help="Folder with the data set for --int8, if it has moved")
        parser.add_argument("--most-loss", type=float, help="Points that --int8 may lose on validation (default: 1)")
        parser.add_argument("--force", action="store_true", help="Write what --int8 makes, whatever it loses")
        parser.add_argument("--name", help="Word that names in C begin with, for --format c (default: network)")
        parser.add_argument(
            "--out",
            metavar="FILE",
            help="File to write, or folder for c (default: model.onnx, .int8.onnx, .pt2, .sparse or model_c in the "
            "ticket's folder)",
        )

    def run(self, options: argparse.Namespace) -> None:
        from ..deploy.exporter import export

        ticket = load_ticket(options.ticket, options)
        if options.name and options.format != "c":
            raise UserError("--name is for --format c; leave it out")
        if options.out and options.format != "c" and options.out.endswith(("/", os.sep)):
            raise UserError(f"{options.out} is a folder; give --out the name of a file, e.g. {options.out}model.onnx")
        if options.int8:
            self._quantize(ticket, options)
            return
        for name, value in (("data", options.data), ("most_loss", options.most_loss), ("force", options.force or None)):
            if value is not None:
                raise UserError(f"--{name.replace('_', '-')} is for --int8; leave it out")
        name = {"onnx": "model.onnx", "torch": "model.pt2", "sparse": "model.sparse", "c": "model_c"}[options.format]
        out = options.out or Path(options.ticket) / name
        result = export(ticket, out, options.format, fixed=options.fixed, name=options.name or "network")
        path, parity, removed = result.path, result.parity, result.channels_removed
        if options.json:
            print_json({"path": str(path), "parity": parity, "channels_removed": removed})
            return
        size = sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))
        print_text(f"wrote {path} ({size:,} bytes); {removed} dead channels removed")
        if parity is None:
            print_text("not checked: there is no C compiler here; README.md in the folder has the command")
        else:
            print_text(f"checked: outputs differ from the ticket's by at most {parity:.1e}")

    @staticmethod
    def _quantize(ticket: Ticket, options: argparse.Namespace) -> None:
        from ..deploy.int8 import MOST_LOSS, export_int8

        if options.format != "onnx":
            raise UserError(f"--int8 writes ONNX, not --format {options.format}; leave one of them out")
        out = options.out or Path(options.ticket) / "model.int8.onnx"
        most = MOST_LOSS if options.most_loss is None else options.most_loss
        limits = {"force": options.force, "fixed": options.fixed}
        result = export_int8(ticket, out, options.data, most_loss=most, **limits)
        if options.json:
            print_json({**asdict(result), "path": str(result.path)})
            return
        metric = ticket.task.metric
        print_text(f"wrote {result.path} ({result.path.stat().st_size:,} bytes), 8-bit integers")
        before, after = metric.text(result.before), metric.text(result.after)
        print_text(f"validation {metric.display_name}: {before} in float, {after} in 8-bit integers")


RECIPES: tuple[Command, ...] = (Recipes(), Show())
COMMANDS: tuple[Command, ...] = (Evaluate(), Predict(), Explain(), Bench(), Export())
