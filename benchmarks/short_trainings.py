"""Short trainings: sizes of images, and widths of supernets, in a given processor time.

    python benchmarks/short_trainings.py sides DATA OUT.json [--seconds 90 240] [--seeds 10 11]
    python benchmarks/short_trainings.py widths DATA OUT.json [--epochs 16] [--seeds 10 11]
    python benchmarks/short_trainings.py time OUT.json

On 40 classes of Tiny-ImageNet (64 pixels), one thread. ``sides`` trains a plain ResNet-8 of width 16 on images of
several sizes, for as many epochs as the seconds hold by the time of a step. ``widths`` draws tickets with the MACs of
the plain ResNet-8 of width 12 (32 pixels) from wider and wider networks, beside plain networks: once for as many epochs
as take the time of 16 of width 32, once for 16. ``time`` times the networks of the first seed, all interleaved.

Runs are added to the file one by one; those that are there are not repeated. Networks are kept beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import supertickets as st
from supertickets.cost import count
from supertickets.deploy import BenchSettings, bench
from supertickets.models import Spec
from supertickets.models.factory import create_spec
from supertickets.runs.auto_network import strides_for

_CLASSES, _BATCH, _STEPS = 40, 64, 112  # of the data
_SIDES, _WIDTH = (64, 48, 32, 24), 16
_SMALL, _BUDGET_WIDTH, _TIME_WIDTH = 32, 12, 32
_PLAIN, _DRAWN = (12, 16), (16, 24, 32)
_COMMON = "--data.source tiny_imagenet --threads 1 --data.workers 0 --evaluate_every 100"
_DENSE = ("--prune.ratio", "0", "--supernet.init", "family")


def plain(side: int, width: int) -> Spec:
    """Return the plain network that is drawn from or trained."""
    return create_spec("resnet8", image_size=(side, side), num_classes=_CLASSES, width=width, **strides_for(side))


def step_seconds(side: int, width: int) -> float:
    """Return the processor time of a step: network, forward and backward, and the augmentation of its images."""
    module, images = plain(side, width).build().train(), torch.randn(_BATCH, 3, side, side)
    seconds = []
    for _ in range(8):
        begun = time.process_time()
        module(images).sum().backward()
        seconds.append(time.process_time() - begun)
    return statistics.median(seconds) + 0.047  # of the augmentation, measured alone


@dataclass
class Study:
    """The runs of a study, in a file.

    Attributes:
        path: The file.
        data: Folder of Tiny-ImageNet.
    """

    path: Path
    data: str = ""

    def load(self) -> dict[str, Any]:
        """Return what is there."""
        empty: dict[str, Any] = {"runs": []}
        return json.loads(self.path.read_text()) if self.path.exists() else empty

    def folder(self, name: str, seed: int) -> Path:
        """Return the directory of a run."""
        return self.path.with_suffix("") / f"{name}-{seed}"

    def add(self, name: str, seed: int, side: int, width: int, epochs: int, words: Sequence[str]) -> None:
        """Train a network, unless it is there."""
        results = self.load()
        if any((run["name"], run["seed"]) == (name, seed) for run in results["runs"]):
            return
        settings = ["--data.dir", self.data, *_COMMON.split(), "--data.size", str(side), "--seed", str(seed)]
        settings += ["--supernet.settings.width", str(width), "--epochs", str(epochs), *words]
        recipe, begun = st.load_recipe("images", settings), time.process_time()
        ticket = (st.draw if recipe.prune.ratio else st.train)(recipe, self.folder(name, seed))
        run = {
            "name": name,
            "seed": seed,
            "epochs": epochs,
            "side": side,
            "test_top1": round(ticket.about["test"]["top1"], 2),
            "validation_top1": round(ticket.about["validation"]["top1"], 2),
            "masked_macs": ticket.cost.masked_macs,
            "cpu_seconds": round(time.process_time() - begun),
        }
        results["runs"].append(run)
        self.path.write_text(json.dumps(results, indent=1) + "\n")
        print(run, flush=True)


def study_sides(study: Study, seconds: Sequence[float], seeds: Sequence[int]) -> None:
    """Train on images of several sizes for equal times."""
    steps = {side: step_seconds(side, _WIDTH) for side in _SIDES}
    for whole in seconds:
        for seed in seeds:
            for side in _SIDES:
                epochs = max(1, round(whole / (_STEPS * steps[side])))
                study.add(f"{side} pixels, {whole:g} s", seed, side, _WIDTH, epochs, _DENSE)


def study_widths(study: Study, epochs: int, seeds: Sequence[int]) -> None:
    """Draw from networks of several widths for equal times and for equal epochs."""
    steps = {width: step_seconds(_SMALL, width) for width in {*_PLAIN, *_DRAWN}}
    budget = ("--budget.macs", str(count(plain(_SMALL, _BUDGET_WIDTH)).macs))
    for seed in seeds:
        for way in ("time", "epochs"):
            for width, kind in [(one, "plain") for one in _PLAIN] + [(one, "drawn") for one in _DRAWN]:
                if way == "epochs" and width == _TIME_WIDTH:
                    continue  # it is that of equal time
                longer = steps[_TIME_WIDTH] / steps[width] if way == "time" else 1
                name, words = f"{kind} {width}, equal {way}", _DENSE if kind == "plain" else budget
                study.add(name, seed, _SMALL, width, round(longer * epochs), words)


def time_networks(study: Study) -> None:
    """Time the networks of the first seed of equal time."""
    results = study.load()
    first = min(run["seed"] for run in results["runs"])
    names = [run["name"] for run in results["runs"] if run["seed"] == first and run["name"].endswith("equal time")]
    tickets = {name: st.load(study.folder(name, first)) for name in names}
    measured = bench(tickets, BenchSettings(repeats=300, runtimes=("onnxruntime", "sparse")))
    latencies = measured.runs[0].latencies
    results["ms"] = {
        name: {kind: round(latencies[f"{name}/{kind}"].median_ms, 4) for kind in measured.runtimes} for name in names
    }
    results |= {"device": measured.device, "instruction_set": measured.instruction_set, "versions": measured.versions}
    study.path.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results["ms"], indent=1))


def main() -> None:
    """Do one of the studies, or time its networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("sides", "widths", "time"))
    parser.add_argument("paths", nargs="+", type=Path, help="folder of Tiny-ImageNet, unless for time; and the results")
    parser.add_argument("--seconds", type=float, nargs="+", default=(90, 240))
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=(10, 11))
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(options.paths[-1], str(options.paths[0]))
    if options.what == "sides":
        study_sides(study, options.seconds, options.seeds)
    elif options.what == "widths":
        study_widths(study, options.epochs, options.seeds)
    else:
        time_networks(study)


if __name__ == "__main__":
    main()
