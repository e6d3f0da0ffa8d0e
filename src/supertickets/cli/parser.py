"""The words of the command line: which options every command has, and which are settings of a recipe."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, get_args

from .. import __version__
from ..config.loading import list_sweeps, settings_parser
from ..config.recipe import setting_names
from ..config.search_settings import ConnectBy
from ..errors import UserError

# Commands that take settings of a recipe; those that mean something else to them.
_OWN = {
    "draw": (),
    "search": (),
    "train": (),
    "retrain": ("epochs",),
    "transfer": (),
    "prune": (),
    "schemes": ("threads",),
    "sweep": ("threads",),
}

_EXAMPLES = {
    "recipes": "",
    "draw": "images --data MY_PHOTOS --out runs/mine",
    "search": "tunas_proxyless --data MY_PHOTOS --budget.latency_ms 5",
    "train": "images --data MY_PHOTOS",
    "resume": "runs/mine",
    "retrain": "runs/mine --epochs 10",
    "transfer": "runs/mine camvid --data CAMVID",
    "prune": "runs/mine --ratio 0.8",
    "evaluate": "runs/mine --json",
    "predict": "runs/mine image.png --save painted",
    "explain": "runs/mine image.png --beside runs/other",
    "show": "runs/mine",
    "export": "runs/mine --format onnx",
    "bench": "runs/mine --batch 8",
    "schemes": "runs/cifar100_resnet38 --train --epochs 100",
    "latency-table": "tunas_proxyless --width 0.5 --size 64 64 --classes 10",
    "sweep": "comparison --recipe mnist --data MNIST --workers 2",
    "report": "runs/mine runs/other",
}


def make_parser(commands: Mapping[str, Callable[[argparse.Namespace], None]]) -> argparse.ArgumentParser:
    """The parser of all commands.

    Args:
        commands: What each does; its docstring is its help.
    """
    parser = _Parser(
        prog="supertickets", description="Draws small vision networks, searched and pruned in one training run."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    made = {}
    for name, run in commands.items():
        settings = name in _OWN
        made[name] = parsers.add_parser(
            name,
            help=run.__doc__,
            description=run.__doc__,
            epilog=f"example: supertickets {name} {_EXAMPLES[name]}".rstrip(),
            add_help=not settings,
            allow_abbrev=False,
        )
        made[name].set_defaults(run=run, takes_settings=settings)
        made[name].add_argument("--json", action="store_true", help="print JSON")
        if settings:
            made[name].add_argument(
                "-h", "--help", action=_SettingsHelp, nargs=0, help="show this help and all settings"
            )
            made[name].add_argument("--data", metavar="DIR", help="folder with the data set")
            if name != "schemes":
                made[name].add_argument("--out", metavar="DIR", help="directory of the run, or of the sweep")
    for name in ("draw", "train"):
        made[name].add_argument(
            "recipe",
            metavar="RECIPE",
            nargs="?",
            default="digits",
            help="a shipped name or a YAML file (default: digits)",
        )
    made["search"].add_argument("recipe", metavar="RECIPE", help="a shipped name or a YAML file")
    made["search"].add_argument(
        "--by",
        choices=("evolution", *get_args(ConnectBy)),
        help="how (default: policy); of a space policy, random, evolution, of connections all but evolution",
    )
    made["search"].add_argument(
        "--shared", metavar="RUN", help="take the trained network of another search for connections"
    )
    made["search"].add_argument("--networks", type=int, help="random, evolution: networks to train (default: 20)")
    made["search"].add_argument(
        "--tolerance", type=float, help="random, evolution: distance from the target (default: 0.02)"
    )
    made["draw"].add_argument("--plan", action="store_true", help="print what happens when, and do nothing")
    made["resume"].add_argument("out", metavar="RUN", help="directory of a run that was stopped")
    for name in ("retrain", "transfer", "prune", "evaluate", "predict", "explain", "export", "bench"):
        made[name].add_argument("ticket", metavar="TICKET", help="folder of a ticket, or a run")
    made["retrain"].add_argument("--epochs", type=int, required=True, help="epochs to train")
    made["transfer"].add_argument("recipe", metavar="RECIPE", help="a shipped name or a YAML file, of the target")
    made["transfer"].add_argument(
        "--head", metavar="fresh|TICKET", default="fresh", help="a ticket of the target gives head and classifier"
    )
    made["prune"].add_argument("--ratio", type=float, required=True, help="share of zeros among maskable weights")
    made["prune"].add_argument(
        "--criterion",
        metavar="magnitude|snip|grasp|synflow|random|package.module:name",
        default="magnitude",
        help="how weights are ranked (default: magnitude)",
    )
    made["prune"].add_argument(
        "--scope",
        choices=("global", "layer", "group"),
        help="what is ranked together (default: as in the ticket's recipe)",
    )
    made["prune"].add_argument("--batches", type=int, help="training batches that it looks at (default: 10)")
    made["prune"].add_argument(
        "--rounds", type=int, help="steps in which weights go, ranked anew in each (default: 100 for synflow, else 1)"
    )
    for name in ("evaluate", "predict", "explain"):
        made[name].add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    made["evaluate"].add_argument("--data", metavar="DIR", help="folder with the data set, if it has moved")
    made["evaluate"].add_argument(
        "--split", choices=("test", "validation", "train"), default="test", help="default: test"
    )
    made["evaluate"].add_argument("--boxes", metavar="FILE", help="people's boxes: truth, detected, or COCO detections")
    made["predict"].add_argument("--boxes", metavar="FILE", help="people's boxes: COCO annotations or detections")
    for name in ("predict", "explain"):
        made[name].add_argument("images", metavar="IMAGE", nargs="+", help="an image, or a folder of them")
    made["predict"].add_argument("--save", metavar="DIR", help="write the images with what was said of them")
    made["explain"].add_argument("--beside", metavar="TICKET", nargs="+", default=[], help="others, a column each")
    made["explain"].add_argument("--class", dest="name", metavar="NAME", help="default: what each ticket predicts")
    made["explain"].add_argument("--save", metavar="DIR", default="explained", help="default: explained")
    made["show"].add_argument("what", metavar="TICKET|RECIPE", help="a ticket or run, or the supernet of a recipe")
    made["show"].add_argument("--data", metavar="DIR", help="show a recipe's supernet as it is for this data")
    made["export"].add_argument("--format", choices=("onnx", "torch"), default="onnx", help="default: onnx")
    made["export"].add_argument("--fixed", action="store_true", help="scenes of one size only, which is faster")
    made["export"].add_argument("--out", metavar="FILE", help="default: model.onnx or model.pt2 in the ticket's folder")
    made["sweep"].add_argument("sweep", metavar="SWEEP", help=f"a YAML file, or one of {', '.join(list_sweeps())}")
    made["sweep"].add_argument("--recipe", nargs="+", metavar="RECIPE", help="in place of those of the sweep")
    made["sweep"].add_argument("--ratios", nargs="+", type=float, metavar="R", help="in place of those of the sweep")
    made["sweep"].add_argument("--seeds", nargs="+", type=int, metavar="N", help="in place of those of the sweep")
    made["sweep"].add_argument("--plan", action="store_true", help="print the jobs, and do nothing")
    made["sweep"].add_argument(
        "--engine", choices=("local", "ray", "slurm"), default="local", help="where jobs are done (default: local)"
    )
    made["sweep"].add_argument(
        "--workers", type=int, help="jobs at once (default: 1; with ray and slurm what the cluster has room for)"
    )
    made["sweep"].add_argument("--threads", type=int, default=1, help="CPU threads of each (default: 1)")
    made["sweep"].add_argument("--cpus", type=int, help="ray, slurm: CPUs that each takes (default: its threads)")
    made["sweep"].add_argument("--gpus", type=float, help="ray, slurm: GPUs that each takes, or share of one (ray)")
    made["sweep"].add_argument(
        "--slurm", metavar="NAME=VALUE,...", help="slurm: parameters of sbatch, e.g. time=120,partition=gpu"
    )
    made["report"].add_argument("runs", metavar="RUN", nargs="+", help="directories of runs and of sweeps")
    made["report"].add_argument("--out", metavar="DIR", help="default: report, in the first RUN")
    made["report"].add_argument("--latency", action="store_true", help="time every ticket on this device")
    made["bench"].add_argument(
        "--against",
        metavar="TICKET",
        help="default: the dense supernet it was drawn from; of a ResNet, without and with all connections",
    )
    made["bench"].add_argument("--batch", type=int, default=1, help="images per call (default: 1)")
    made["bench"].add_argument("--threads", type=int, default=1, help="CPU threads per runtime (default: 1)")
    made["bench"].add_argument("--repeats", type=int, default=50, help="rounds, all in turn (default: 50)")
    schemes = made["schemes"]
    schemes.add_argument("run_dir", metavar="RUN", help="directory of a search for connections")
    schemes.add_argument(
        "--train", action="store_true", help="train its candidates, all connected and none alone: is one a ticket?"
    )
    schemes.add_argument("--times", type=int, default=0, help="schemes of every ratio whose time is measured")
    schemes.add_argument("--batch", type=int, default=10, help="images per call (default: 10)")
    schemes.add_argument("--threads", type=int, default=1, help="CPU threads, where times are measured (default: 1)")
    schemes.add_argument("--repeats", type=int, default=30, help="rounds of it (default: 30)")
    table = made["latency-table"]
    table.add_argument(
        "space", metavar="SPACE", help="tunas_proxyless, tunas_proxyless_enlarged, tunas_mobilenetv3, ..."
    )
    table.add_argument("--width", type=float, default=1.0, help="multiplies all widths (default: 1)")
    table.add_argument("--size", type=int, nargs=2, default=(224, 224), metavar=("HEIGHT", "WIDTH"), help="of images")
    table.add_argument("--classes", type=int, default=1000, help="outputs of the network (default: 1000)")
    table.add_argument("--head", default="classification", help="or detection (default: classification)")
    table.add_argument("--runtime", default="torch", help="torch or onnxruntime (default: torch)")
    table.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    table.add_argument("--repeats", type=int, default=60, help="calls of each (default: 60)")
    table.add_argument("--networks", type=int, default=50, help="whole networks for the check (default: 50)")
    table.add_argument("--out", metavar="FILE", help="default: latency-SPACE.json")
    return parser


def take_settings(words: list[str]) -> tuple[list[str], list[str]]:
    """Parts a command's own words from the settings of a recipe (``--name VALUE``), which may stand anywhere."""
    if not words or words[0] not in _OWN:
        return words, []
    names = set(setting_names()) - set(_OWN[words[0]])
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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


class _SettingsHelp(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        print(parser.format_help())
        lines = re.sub(r"\n  --\w+ CONFIG\s+Path to a configuration file\.", "", settings_parser().format_help())
        print(f"Any setting of the recipe:\n{lines}")
        raise SystemExit(0)
