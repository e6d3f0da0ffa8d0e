"""Draw on few classes from a file of weights of other classes, beside fresh weights.

The classes of a data set in Tiny-ImageNet's layout are parted into two data sets of folders. A network is trained on
the first classes, and its weights are saved as others publish theirs: a state dict in PyTorch's format. On the other
classes, for every seed:

    file        drawn by the recipe `finetune` from the file, whose classifier does not fit
    fresh       the same recipe and epochs, from fresh weights
    fresh flat  likewise with one rate for all layers, since no layer knows anything yet
    fresh long  the better one of the two by validation, for as much CPU time as the file's training and `file` together

Every finished cell is written at once and not repeated. CPU seconds are those of the process, reading and evaluation
included.

Example: python benchmarks/published_weights.py --data.dir DIR --seeds 0 1 2
    --to benchmarks/results/published_weights.json
Further flags are settings of all recipes.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import supertickets as st
from commands import command
from supertickets.cost.latency import device_name
from supertickets.runs.finalize import versions

NETWORK = "--supernet.name resnet18 --supernet.settings.width 16 --supernet.settings.stem small"
SHARED = f"{NETWORK} --supernet.settings.stem_stride 2 --data.size 48 --data.workers 0 --threads 1"
FRESH: dict[str, tuple[str, ...]] = {"fresh": (), "fresh flat": ("--optimizer.layer_decay", "1")}
PLAIN = "--search.interval 0 --search.last_epoch null --prune.ratio 0 --ema_decay 0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data.dir", dest="data", type=Path, required=True, help="Tiny-ImageNet's layout")
    parser.add_argument("--classes", type=int, default=30, help="of which the file's network is trained")
    parser.add_argument("--file-epochs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--macs", default="1e7", help="budget of the draws")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options, words = parser.parse_known_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        first, other = part_classes(options.data, Path(folder), options.classes)
        study = Study(options, (*SHARED.split(), *words), other)
        study.publish(first)
        for seed in options.seeds:
            study.draw("file", seed, ("--supernet.pretrained", str(study.file)))
            study.draw("fresh", seed, FRESH["fresh"])
        for seed in options.seeds:
            study.draw("fresh flat", seed, FRESH["fresh flat"])
        best = max(FRESH, key=lambda arm: study.mean(arm, "validation"))
        work = study.mean("weights", "cpu_seconds") + study.mean("file", "cpu_seconds")
        epochs = round(options.epochs * work / study.mean(best, "cpu_seconds"))
        stretched = ("--epochs", str(epochs), "--search.last_epoch", str(round(0.4 * epochs)))
        interval = ("--prune.interval", str(max(1, round(epochs / options.epochs))))
        for seed in options.seeds:
            study.draw("fresh long", seed, (*FRESH[best], *stretched, *interval))
    print(options.to.read_text())


def part_classes(source: Path, folder: Path, count: int) -> tuple[Path, Path]:
    """Make two data sets of class folders, of links to the images: the first classes, and all others."""
    codes = (source / "wnids.txt").read_text().split()
    rows = (line.split("\t") for line in (source / "val" / "val_annotations.txt").read_text().splitlines())
    tests = [(name, code) for name, code, *_ in rows]
    parts = (folder / "first", codes[:count]), (folder / "other", codes[count:])
    for part, chosen in parts:
        for code in chosen:
            (part / "val" / code).mkdir(parents=True)
            (part / "train").mkdir(exist_ok=True)
            (part / "train" / code).symlink_to((source / "train" / code / "images").resolve())
        for name, code in tests:
            if code in chosen:
                (part / "val" / code / name).symlink_to((source / "val" / "images" / name).resolve())
    return parts[0][0], parts[1][0]


@dataclass(frozen=True)
class Study:
    """The cells of the study.

    Attributes:
        options: Of the command line.
        words: Settings of all recipes.
        data: Folder with the other classes.
    """

    options: argparse.Namespace
    words: tuple[str, ...]
    data: Path

    @property
    def file(self) -> Path:
        """The file of weights."""
        path: Path = self.options.runs / f"{self.options.to.stem}.pth"
        return path

    def publish(self, data: Path) -> None:
        """Train the network on the first classes and save its weights."""

        def run(out: Path) -> st.Ticket:
            words = ("--data.dir", str(data), "--epochs", str(self.options.file_epochs), *PLAIN.split(), *self.words)
            ticket = st.train(st.load_recipe("images", list(words)), out)
            torch.save({"state_dict": ticket.module.state_dict(), "classes": ticket.classes}, self.file)
            return ticket

        self.cell("weights", 0, run)

    def draw(self, arm: str, seed: int, more: tuple[str, ...]) -> None:
        """Draw on the other classes."""

        def run(out: Path) -> st.Ticket:
            fixed = (
                "--data.dir",
                str(self.data),
                "--supernet.pretrained",
                "false",
                "--epochs",
                str(self.options.epochs),
            )
            budget = ("--budget.macs", self.options.macs, "--search.importance", "gate")
            words = (*fixed, *budget, "--seed", str(seed), *self.words, *more)
            return st.draw(st.load_recipe("finetune", list(words)), out)

        self.cell(arm, seed, run)

    def cell(self, arm: str, seed: int, run: Callable[[Path], st.Ticket]) -> None:
        """Do a cell unless it is there, and write all of them."""
        if any((c["arm"], c["seed"]) == (arm, seed) for c in self.cells()):
            return
        clock = time.process_time()
        out = self.options.runs / f"{self.options.to.stem}-{arm.replace(' ', '-')}-seed{seed}"
        ticket = run(out)
        self.write(
            [*self.cells(), {"arm": arm, "seed": seed, **row(ticket), "cpu_seconds": time.process_time() - clock}]
        )

    def cells(self) -> list[dict[str, Any]]:
        """Return the cells that are done."""
        path: Path = self.options.to
        return json.loads(path.read_text())["cells"] if path.exists() else []

    def mean(self, arm: str, name: str) -> float:
        """Return the mean of a figure over the seeds."""
        return statistics.mean(c[name] for c in self.cells() if c["arm"] == arm)

    def write(self, cells: list[dict[str, Any]]) -> None:
        """Write all cells so far, and means over seeds; the file is the old or the new one, whole."""
        arms = dict.fromkeys(c["arm"] for c in cells)
        of_arm = {arm: [c for c in cells if c["arm"] == arm] for arm in arms}
        result = {
            "command": command(),
            "device": device_name(),
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "mean": {
                arm: {name: statistics.mean(c[name] for c in some) for name in ("test", "validation", "cpu_seconds")}
                for arm, some in of_arm.items()
            },
            "cells": cells,
        }
        scratch = self.options.to.with_suffix(".tmp")
        scratch.write_text(json.dumps(result, indent=1) + "\n")
        scratch.replace(self.options.to)


def row(ticket: st.Ticket) -> dict[str, Any]:
    """Return the results of a cell."""
    about, cost = ticket.about, ticket.cost
    return {
        "test": about["test"]["top1"],
        "validation": about["validation"]["top1"],
        "epochs": about["recipe"]["epochs"],
        "params": cost.params,
        "nonzero_params": cost.nonzero_params,
        "macs": cost.macs,
        "masked_macs": cost.masked_macs,
        "pretrained": about.get("pretrained"),
    }


if __name__ == "__main__":
    main()
