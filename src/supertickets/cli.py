"""The command line: one small function per command; the work is elsewhere."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape

from . import __version__
from .errors import UserError, nearest
from .files import list_recipes, load_recipe, settings_parser
from .recipe import setting_names

DONE, DEFECT, USER, STOPPED = 0, 1, 2, 130
_OUT = Console(highlight=False, soft_wrap=True)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status (0 done, 2 wrong input, 1 a defect, 130 stopped)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        parser = _parser()
        if words and not words[0].startswith("-") and words[0] not in COMMANDS:
            raise UserError(f"unknown command '{words[0]}'{nearest(words[0], COMMANDS)}")
        words, settings = _take_settings(words)
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
        _print_json(list_recipes())
        return
    for name, description in list_recipes().items():
        _OUT.print(f"{name:12}  {escape(description)}")


def _draw(options: argparse.Namespace) -> None:
    """search and prune in one training run -> RUN/ticket"""
    from .runs import draw

    recipe = load_recipe(options.recipe, _with_data(options))
    if options.plan:
        _plan(recipe, options.json)
        return
    out = Path(options.out or f"runs/{recipe.name}")
    _trained(lambda: draw(recipe, out), out, options.json)


def _train(options: argparse.Namespace) -> None:
    """train the dense supernet of a recipe: no search, no pruning"""
    from .runs import train

    # A schedule that only matters to search and pruning must not stop a dense training.
    off = ["--prune.ratio", "0", "--search.interval", "0", "--search.last_epoch", "null"]
    recipe = load_recipe(options.recipe, [*off, *_with_data(options)])
    out = Path(options.out or f"runs/{recipe.name}-dense")
    _trained(lambda: train(recipe, out), out, options.json)


def _resume(options: argparse.Namespace) -> None:
    """go on where a run stopped"""
    from .runs import resume

    _trained(lambda: resume(options.out), Path(options.out), options.json)


def _retrain(options: argparse.Namespace) -> None:
    """train a ticket further: same mask, same architecture"""
    from .restate import retrain_recipe
    from .runs import retrain
    from .ticket import load

    ticket = load(options.ticket)
    recipe = retrain_recipe(ticket, options.epochs, _with_data(options))
    out = Path(options.out or f"{str(options.ticket).rstrip('/')}-retrained")
    _trained(lambda: retrain(ticket, recipe, out), out, options.json)


def _transfer(options: argparse.Namespace) -> None:
    """train a ticket's features on other data, or for another task: mask kept, head replaced"""
    from .restate import transfer_recipe
    from .runs import transfer
    from .ticket import load

    ticket = load(options.ticket)
    head = None if options.head == "fresh" else load(options.head)
    recipe = transfer_recipe(ticket, options.recipe, _with_data(options), head)
    out = Path(options.out or f"runs/{recipe.name}")
    _trained(lambda: transfer(ticket, recipe, out, head), out, options.json)


def _prune(options: argparse.Namespace) -> None:
    """prune a finished network in one shot, e.g. one that was searched only"""
    from .restate import prune_recipe
    from .runs import prune
    from .ticket import load

    ticket = load(options.ticket)
    scope = ["--prune.scope", options.scope] if options.scope else []
    recipe = prune_recipe(ticket, options.ratio, options.criterion, [*scope, *_with_data(options)])
    out = Path(options.out or f"{str(options.ticket).rstrip('/')}-pruned")
    _trained(lambda: prune(ticket, recipe, out, options.criterion, options.batches, options.rounds), out, options.json)


def _evaluate(options: argparse.Namespace) -> None:
    """measure a ticket on a split of its data"""
    from .runs import evaluate_ticket
    from .ticket import load

    scores = evaluate_ticket(load(options.ticket), options.data, options.split, options.boxes, options.device)
    if options.json:
        _print_json(scores)
        return
    _OUT.print(", ".join(f"{name} {value:.4g}" for name, value in scores.items()) + f" ({options.split} split)")


def _predict(options: argparse.Namespace) -> None:
    """say what is in pictures, or in all pictures of folders: a class, the class of every pixel, or people's joints"""
    from .data import list_pictures
    from .data.coco import read_boxes
    from .study.paint import lines, predictions
    from .ticket import load

    ticket, images = load(options.ticket), list_pictures(options.images)
    boxes = read_boxes(Path(options.boxes), images) if options.boxes else None
    found = []
    save = Path(options.save) if options.save else None
    for image, said in predictions(ticket, images, boxes, save, options.device):
        if isinstance(said, UserError):  # told, and passed over
            print(f"error: {said}", file=sys.stderr)
            continue
        found.append({"image": str(image), **said})
        if not options.json:
            for line in lines(said):
                _OUT.print(escape(f"{image}: {line}"))
    if options.json:
        _print_json(found)
    if len(found) < len(images):
        raise SystemExit(USER)


def _show(options: argparse.Namespace) -> None:
    """architecture, parameters, MACs and density of a ticket or a recipe's supernet"""
    from .study.tables import architecture_table, cost_lines, describe, training_line

    found = describe(options.what, options.data)
    if options.json:
        hours = {} if found.gpu_hours is None else {"gpu_hours": found.gpu_hours}
        _print_json(found.cost.to_json() | {"spec": found.spec.to_json()} | hours)
        return
    _OUT.print(architecture_table(found.spec, found.mask, found.cost))
    for line in cost_lines(found.cost):
        _OUT.print(line)
    _OUT.print("input    {} x {} x {}, {} outputs".format(*found.spec.input_shape, found.spec.num_classes))
    if (training := training_line(found)) is not None:
        _OUT.print(training)


def _export(options: argparse.Namespace) -> None:
    """write a ticket for another runtime, checked against the ticket"""
    from .deploy import export
    from .ticket import load

    ticket = load(options.ticket)
    suffix = {"onnx": "onnx", "torch": "pt2"}[options.format]
    made = export(ticket, options.out or Path(options.ticket) / f"model.{suffix}", options.format)
    if options.json:
        _print_json({"path": str(made.path), "parity": made.parity, "channels_removed": made.channels_removed})
        return
    _OUT.print(f"wrote {made.path} ({made.path.stat().st_size:,} bytes); {made.channels_removed} dead channels removed")
    _OUT.print(f"checked: outputs differ from the ticket's by at most {made.parity:.1e}")


def _bench(options: argparse.Namespace) -> None:
    """measure latency on this device, per runtime, beside the dense supernet or another ticket"""
    from .deploy import bench, dense_twin
    from .runs import supernet_of
    from .study.tables import bench_table
    from .ticket import load

    ticket = load(options.ticket)
    other = load(options.against) if options.against else dense_twin(ticket, supernet_of(ticket))
    name = options.against or "dense supernet"
    name = f"./{name}" if name == "ticket" else name
    found = bench(
        {name: other, "ticket": ticket}, batch=options.batch, threads=options.threads, repeats=options.repeats
    )
    if options.json:
        _print_json(found.to_json())
        return
    _OUT.print(bench_table(found, name, "ticket"))


def _sweep(options: argparse.Namespace) -> None:
    """run many recipes, methods, ratios and seeds; what they have in common is done once -> DIR/results.csv"""
    from .study.sweep import read_sweep
    from .study.sweeping import results_table, run_sweep

    plan = read_sweep(options.sweep)
    if options.plan:
        for job in plan.jobs:
            begins = f" from {job.parent}" if job.parent else ""
            _OUT.print(f"{job.key}  {job.command}{begins}  {escape(str(dict(job.options) or ''))}")
        _OUT.print(f"{len(plan.points)} results by {len(plan.jobs)} jobs")
        return
    root = Path(options.out or f"runs/{Path(options.sweep).stem}")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    found = run_sweep(plan, root, options.workers, options.threads, console)
    if options.json:
        _print_json(found)
        return
    _OUT.print(results_table(found))
    _OUT.print(f"results  {root / 'results.csv'}")


def _plan(recipe: Any, as_json: bool) -> None:
    from .data import load_splits
    from .schedule import Prune, check_schedule, plan
    from .settle import settle

    if recipe.epochs == 0:
        splits = load_splits(recipe.data)
        recipe, said = settle(recipe, len(splits.train), splits.preprocessing.size[0])
        check_schedule(recipe)
        for line in (*splits.notes, *said):
            print(line, file=sys.stderr)
    found = [
        (t, [f"prune to {e.ratio:.0%}" if isinstance(e, Prune) else type(e).__name__.lower() for e in events])
        for t, events in plan(recipe)
    ]
    if as_json:
        _print_json([{"epoch": t, "events": names} for t, names in found])
        return
    for t, names in found:
        _OUT.print(f"after epoch {t:4d}: {', '.join(names)}")
    _OUT.print(f"after epoch {recipe.epochs:4d}: the ticket is emitted and measured on the test split")


def _trained(work: Callable[[], Any], out: Path, as_json: bool) -> None:
    """Runs a training and tells what came out; Ctrl-C says how to go on."""
    from .study.pictures import run_picture
    from .study.tables import cost_lines
    from .training import Interrupted

    try:
        ticket = work()
    except Interrupted:
        print(f"stopped; go on with: supertickets resume {out}", file=sys.stderr)
        raise SystemExit(STOPPED) from None
    if not _is_main():
        return
    result = out / "result.json"
    picture = run_picture(out, ticket)
    if as_json:
        _print_json({"ticket": str(out / "ticket"), "picture": str(picture), **json.loads(result.read_text())})
        return
    scores = ticket.about["test"]
    _OUT.print(f"\nticket   {out / 'ticket'}\npicture  {picture}")
    _OUT.print("test     " + ", ".join(f"{name} {value:.4g}" for name, value in scores.items()))
    for line in cost_lines(ticket.cost):
        _OUT.print(line)


def _with_data(options: argparse.Namespace) -> list[str]:
    return [*options.settings, *(["--data.dir", options.data] if options.data else [])]


def _take_settings(words: list[str]) -> tuple[list[str], list[str]]:
    """Parts a command's own words from the settings of a recipe (``--name VALUE``), which may stand anywhere."""
    own = {"draw": (), "train": (), "retrain": ("epochs",), "transfer": (), "prune": ()}
    if not words or words[0] not in own:
        return words, []
    names = set(setting_names()) - set(own[words[0]])
    rest, settings, queue = [], [], list(words)
    while queue:
        word = queue.pop(0)
        name = word[2:].split("=")[0]
        if word.startswith("--") and (name in names or name.startswith("supernet.settings.")):
            settings += [word, *queue[:1]] if "=" not in word else [word]
            queue = queue[1:] if "=" not in word else queue
        else:
            rest.append(word)
    return rest, settings


def _is_main() -> bool:
    """Whether this is the one process that talks, also before torchrun's processes have met."""
    return os.environ.get("RANK", "0") == "0"


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    if _is_main():
        print(f"warning: {message}", file=sys.stderr)


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=1))


class _SettingsHelp(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        print(parser.format_help())
        print(f"Any setting of the recipe:\n{settings_parser().format_help()}")
        raise SystemExit(DONE)


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "recipes": _recipes,
    "draw": _draw,
    "train": _train,
    "resume": _resume,
    "retrain": _retrain,
    "transfer": _transfer,
    "prune": _prune,
    "evaluate": _evaluate,
    "predict": _predict,
    "show": _show,
    "export": _export,
    "bench": _bench,
    "sweep": _sweep,
}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="supertickets", description="Draws small vision networks, searched and pruned in one training run."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    made = {}
    for name, run in COMMANDS.items():
        settings = name in ("draw", "train", "retrain", "transfer", "prune")
        made[name] = commands.add_parser(
            name, help=run.__doc__, description=run.__doc__, add_help=not settings, allow_abbrev=False
        )
        made[name].set_defaults(run=run, takes_settings=settings)
        made[name].add_argument("--json", action="store_true", help="print JSON")
        if settings:
            made[name].add_argument(
                "-h", "--help", action=_SettingsHelp, nargs=0, help="show this help and all settings"
            )
            made[name].add_argument("--data", metavar="DIR", help="folder with the data set")
            made[name].add_argument("--out", metavar="RUN", help="run directory")
    for name in ("draw", "train"):
        made[name].add_argument(
            "recipe",
            metavar="RECIPE",
            nargs="?",
            default="digits",
            help="a shipped name or a YAML file (default: digits)",
        )
    made["draw"].add_argument("--plan", action="store_true", help="print what happens when, and do nothing")
    made["resume"].add_argument("out", metavar="RUN")
    for name in ("retrain", "transfer", "prune", "evaluate", "predict", "export", "bench"):
        made[name].add_argument("ticket", metavar="TICKET", help="folder of a ticket, or a run")
    made["retrain"].add_argument("--epochs", type=int, required=True, help="epochs to train")
    made["transfer"].add_argument("recipe", metavar="RECIPE", help="a shipped name or a YAML file, of the target")
    made["transfer"].add_argument(
        "--head", metavar="fresh|TICKET", default="fresh", help="a ticket of the target gives head and classifier"
    )
    made["prune"].add_argument("--ratio", type=float, required=True, help="share of zeros among maskable weights")
    made["prune"].add_argument(
        "--criterion",
        metavar="magnitude|snip|grasp|synflow|random|package.module.name",
        default="magnitude",
        help="how weights are ranked (default: magnitude)",
    )
    made["prune"].add_argument(
        "--scope",
        choices=("global", "layer", "group"),
        help="what is ranked together (default: as in the ticket's recipe)",
    )
    made["prune"].add_argument("--batches", type=int, default=10, help="training batches that it looks at")
    made["prune"].add_argument(
        "--rounds", type=int, help="steps in which weights go, ranked anew in each (default: 100 for synflow, else 1)"
    )
    for name in ("evaluate", "predict"):
        made[name].add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    made["evaluate"].add_argument("--data", metavar="DIR", help="folder with the data set, if it has moved")
    made["evaluate"].add_argument("--split", choices=("test", "validation", "train"), default="test")
    made["evaluate"].add_argument("--boxes", metavar="FILE", help="people's boxes: truth, detected, or COCO detections")
    made["predict"].add_argument("--boxes", metavar="FILE", help="people's boxes: COCO annotations or detections")
    made["predict"].add_argument("images", metavar="IMAGE", nargs="+", help="a picture, or a folder of them")
    made["predict"].add_argument("--save", metavar="DIR", help="write the pictures with what was said of them")
    made["show"].add_argument("what", metavar="TICKET|RECIPE")
    made["show"].add_argument("--data", metavar="DIR", help="show a recipe's supernet as it is for this data")
    made["export"].add_argument("--format", choices=("onnx", "torch"), default="onnx")
    made["export"].add_argument("--out", metavar="FILE", help="default: model.onnx or model.pt2 in the ticket's folder")
    made["sweep"].add_argument("sweep", metavar="SWEEP.yaml", help="recipes, methods, ratios and seeds")
    made["sweep"].add_argument("--plan", action="store_true", help="print the jobs, and do nothing")
    made["sweep"].add_argument("--out", metavar="DIR", help="directory of the sweep (default: runs/NAME)")
    made["sweep"].add_argument("--workers", type=int, default=1, help="processes at once (default: 1)")
    made["sweep"].add_argument("--threads", type=int, default=1, help="CPU threads of each (default: 1)")
    made["bench"].add_argument("--against", metavar="TICKET", help="default: the dense supernet it was drawn from")
    made["bench"].add_argument("--batch", type=int, default=1)
    made["bench"].add_argument("--threads", type=int, default=1)
    made["bench"].add_argument("--repeats", type=int, default=50)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
