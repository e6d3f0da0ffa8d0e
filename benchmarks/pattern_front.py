"""Accuracy against latency: plain widths, and wide networks with zeros in several patterns, on Tiny-ImageNet.

    python benchmarks/pattern_front.py train DATA [--rows ROW ...] [--seeds 0 1 2] [--epochs 16] [--precision fp32]
    python benchmarks/pattern_front.py time
    python benchmarks/pattern_front.py show [--figure FILE]

Images of 48 pixels. The dense rows are ResNet-8 of width 16, 24 and 32 and run in onnxruntime. The others are pruned
along the cubic path while they train (layers scaled by rms, all but stem and classifier), and run in the sparse
runtime: ResNet-8, MobileNetV2, and an HRNet of 3x3 filters with three stages. Images, augmentation, epochs and
optimizer are the same.

``train`` adds runs to the results one by one, and does not repeat those that are there, so that a study can be made in
pieces. ``time`` times a network per row, one thread, all interleaved: one with as many zeros in every layer as those
that were trained had on average, at random places in the same pattern.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

import supertickets as st
from sparse_engine import draw_mask
from supertickets.analysis.equal_latency import gain_at_equal_latency
from supertickets.config.recipe import Recipe
from supertickets.data import Preprocessing
from supertickets.deploy import BenchSettings, bench
from supertickets.deploy.compaction import compact
from supertickets.models.factory import create_spec

RESULTS = Path(__file__).parent / "results" / "pattern_front.json"
_SIDE, _CLASSES = 48, 40
_REPEATS = 300  # of the timing
_TRAINING = (
    "--data.size 48 --ema_decay 0 --optimizer.nesterov true --optimizer.clip_norm 5 --optimizer.lr 0.1 "
    "--optimizer.weight_decay 1e-4 --label_smoothing 0.1 --lr.shape cosine --lr.warmup_epochs 1 "
    "--threads 1 --data.workers 0 --evaluate_every 100 --search.interval 0 --search.rho 0 --search.last_epoch null "
    "--prune.schedule cubic --prune.progressive false --prune.normalise rms --prune.stem false --prune.layer_floor 0 "
    "--prune.exempt_below 0"
)


@dataclass(frozen=True)
class Row:
    """A network of the study.

    Attributes:
        supernet: Name of the network.
        settings: Its settings.
        zeros: Share of zeros, in [0, 1).
        block: Output channels that share their zeros.
        words: Settings of the recipe besides.
        longer: Epochs as a multiple of those of the others.
    """

    supernet: str
    settings: Mapping[str, Any]
    zeros: float = 0.0
    block: int = 1
    words: Sequence[str] = field(default=())
    longer: float = 1.0

    def recipe(self, data: str, seed: int, epochs: int) -> Recipe:
        """Return the recipe of a seed."""
        pattern = f"block:{self.block}" if self.block > 1 else "unstructured"
        words = ["--data.dir", data, "--supernet.name", self.supernet, *_TRAINING.split(), "--seed", str(seed)]
        words += ["--epochs", str(round(self.longer * epochs))]
        words += ["--prune.ratio", str(self.zeros), "--prune.pattern", pattern]
        for name, value in self.settings.items():
            words += [f"--supernet.settings.{name}", json.dumps(value)]
        return st.load_recipe("tiny_imagenet", [*words, *self.words])

    @property
    def precision(self) -> str:
        """Number format that it is trained in."""
        return self.words[self.words.index("--precision") + 1]

    @property
    def runtime(self) -> str:
        """Name of the runtime that it is for."""
        return "sparse" if self.zeros else "onnxruntime"


def _plain(width: int, zeros: float = 0.0, block: int = 1) -> Row:
    init = "small" if zeros else "family"  # what each does better with
    words = ("--supernet.init", init, "--precision", "fp32")
    return Row("resnet8", {"width": width, "stem_stride": 2}, zeros, block, words)


def list_rows() -> dict[str, Row]:
    """Return the rows by name; the most telling ones of a family first."""
    mobile = {"width": 0.5, "padding": "symmetric", "strides": [2, 1, 2, 2, 1, 1, 2, 1, 1]}
    high = {"kernels": [3], "channels": [[16], [16, 32], [16, 32, 64]], "blocks": [[1], [1, 1], [1, 1, 1]]}
    high |= {"head_channels": [16, 32, 64]}
    rows = {f"dense-{width}": _plain(width) for width in (16, 24, 32)}
    rows["longer-dense-16"] = replace(_plain(16), longer=2.4)  # as much processor time as width 40 with zeros takes
    rows |= {
        "zeros-85-block-8": _plain(32, 0.85, 8),
        "zeros-85-block-4": _plain(32, 0.85, 4),
        "width-40-zeros-85-block-8": _plain(40, 0.85, 8),
        "width-40-zeros-90-block-8": _plain(40, 0.9, 8),
        "width-48-zeros-93-block-8": _plain(48, 0.93, 8),
    }
    for zeros in (0.85, 0.9):
        for block in (1, 4, 8, 16):
            name = f"zeros-{round(100 * zeros)}-{f'block-{block}' if block > 1 else 'single'}"
            rows.setdefault(name, _plain(32, zeros, block))
    for family, name, settings in (("mobilenet", "mobilenet_v2", mobile), ("hrnet", "hrnet_tiny", high)):
        words = ("--supernet.transformer", "false", "--prune.depthwise", "false")
        words += ("--precision", "fp32")  # bfloat16 makes these slower
        rows[f"{family}-dense"] = Row(name, settings, words=words)
        for zeros in (0.85, 0.9):
            for block in (1, 4, 8, 16):
                pattern = f"block-{block}" if block > 1 else "single"
                rows[f"{family}-zeros-{round(100 * zeros)}-{pattern}"] = Row(name, settings, zeros, block, words)
    return rows


ROWS = list_rows()


def train_row(row: Row, data: str, seed: int, epochs: int) -> dict[str, Any]:
    """Train a network; return the figures of its run as JSON."""
    recipe, begin = row.recipe(data, seed, epochs), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        ticket = (st.draw if recipe.prune.ratio else st.train)(recipe, Path(folder) / "run")
    return {
        "seed": seed,
        "epochs": recipe.epochs,
        "precision": recipe.precision,
        "test_top1": round(ticket.about["test"]["top1"], 2),
        "validation_top1": round(ticket.about["validation"]["top1"], 2),
        "macs": ticket.cost.macs,
        "masked_macs": ticket.cost.masked_macs,
        "nonzero_params": ticket.cost.nonzero_params,
        "kept": {layer: round(float(mask.float().mean()), 4) for layer, mask in ticket.mask.items()},
        "cpu_seconds": round(time.process_time() - begin),
        "versions": ticket.about["versions"],
    }


def stand_in(name: str, runs: Sequence[Mapping[str, Any]]) -> st.Ticket:
    """Return a ticket for timing: the network of a row with random weights, and zeros like those of its runs."""
    row = ROWS[name]
    torch.manual_seed(0)
    fitted: dict[str, Any] = {"image_size": (_SIDE, _SIDE), "num_classes": _CLASSES, "transformer": False}
    module = create_spec(row.supernet, **row.settings, **fitted)
    weights = module.build().state_dict()
    kept: dict[str, list[float]] = {}
    for run in runs:
        for layer, share in run["kept"].items():
            kept.setdefault(layer, []).append(share)
    mask = {}
    for layer, shares in kept.items():
        mask[layer] = draw_mask(weights[layer], 1 - statistics.mean(shares), row.block)
        # As large in sum as before: activations that vanish become numbers that processors are slow with.
        weights[layer] = weights[layer] * mask[layer] / max(0.01, statistics.mean(shares)) ** 0.5
    how = Preprocessing(3, (_SIDE, _SIDE), (0.5,) * 3, (0.25,) * 3)
    return st.Ticket(module, weights, mask, tuple(f"c{i}" for i in range(_CLASSES)), how, {"recipe": {}})


def time_rows(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the latencies of all rows that have runs with the zeros of their layers, in ms."""
    by_row = {name: [run for run in runs if run["row"] == name and "kept" in run] for name in ROWS}
    tickets = {name: stand_in(name, some) for name, some in by_row.items() if some}
    # With few blocks at random places a layer may have no way through it, so that nothing behind it lives.
    tickets = {name: one for name, one in tickets.items() if 2 * compact(one).cost.masked_macs > one.cost.masked_macs}
    measured = bench(tickets, BenchSettings(repeats=_REPEATS, runtimes=("onnxruntime", "sparse")))
    latencies = measured.runs[0].latencies
    milliseconds = {
        name: {kind: round(latencies[f"{name}/{kind}"].median_ms, 4) for kind in measured.runtimes} for name in tickets
    }
    about = {"device": measured.device, "instruction_set": measured.instruction_set, "versions": measured.versions}
    return {**about, "threads": 1, "repeats": _REPEATS, "ms": milliseconds}


def table(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a line per row and number format that has runs: accuracies by seed, costs, latency, gain."""
    lines = []
    for (name, row), precision in itertools.product(ROWS.items(), ("bf16", "fp32")):
        runs = [run for run in results["runs"] if run["row"] == name and run["precision"] == precision]
        if not runs:
            continue
        runs.sort(key=lambda run: run["seed"])
        test = [run["test_top1"] for run in runs]
        lines.append(
            {
                "row": name,
                "precision": precision,
                "seeds": [run["seed"] for run in runs],
                "test": test,
                "mean": round(statistics.mean(test), 2),
                "stdev": round(statistics.stdev(test), 2) if len(test) > 1 else None,
                "masked_macs": round(statistics.mean(run["masked_macs"] for run in runs)),
                "runtime": row.runtime,
                "ms": results.get("latency", {}).get("ms", {}).get(name, {}).get(row.runtime),
            }
        )
    return [line | {"gain": _gain(line, lines)} for line in lines]


def _gain(line: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> float | None:
    """Return how far a row is above the front of its family's others at its latency: with zeros above without."""
    family, zeros = _family(line["row"]), ROWS[line["row"]].zeros > 0
    alike = [one for one in lines if _family(one["row"]) == family and one["precision"] == line["precision"]]
    others = [one for one in alike if (ROWS[one["row"]].zeros > 0) != zeros]
    points = [(one["ms"], one["mean"]) for one in others if one["ms"] and ROWS[one["row"]].longer == 1]
    gain = gain_at_equal_latency((line["ms"], line["mean"]), points, 1) if line["ms"] else None
    return None if gain is None else round(gain, 1)


def _family(name: str) -> str:
    return ROWS[name].supernet


def draw_figure(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw accuracy against latency, with the deviation over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    lines = [line for line in lines if line["precision"] == ROWS[line["row"]].precision]
    for kind, marker, wanted in (
        ("ResNet-8, dense, onnxruntime", "o-", lambda row: row.supernet == "resnet8" and not row.zeros),
        ("ResNet-8 with zeros, sparse runtime", "s", lambda row: row.supernet == "resnet8" and row.zeros),
        ("MobileNetV2", "^", lambda row: row.supernet == "mobilenet_v2"),
        ("HRNet", "D", lambda row: row.supernet == "hrnet_tiny"),
    ):
        some = [line for line in lines if wanted(ROWS[line["row"]]) and line["ms"] and ROWS[line["row"]].longer == 1]
        if some:
            xs, ys = [line["ms"] for line in some], [line["mean"] for line in some]
            axes.errorbar(xs, ys, [line["stdev"] or 0 for line in some], fmt=marker, capsize=2, label=kind)
        named = [line for line in some if line["stdev"] is not None or marker != "s"]  # the others would be too many
        for number, line in enumerate(sorted(named, key=lambda line: line["ms"])):
            place, side = ((5, 3), "left") if number else ((-5, 3), "right")  # the fastest two are close together
            if marker == "s":  # some of these have the same latency
                place, side = ((0, (14, -18, 22)[number % 3]), "center")
            words = _short_name(ROWS[line["row"]])
            where = (line["ms"], line["mean"])
            axes.annotate(words, where, xytext=place, textcoords="offset points", ha=side, size=6.5)
    axes.set(xscale="log", xlim=(0.068, 0.63), ylim=(15, 43), xlabel="latency of one image, one thread (ms)")
    axes.set(ylabel="test accuracy (%)", title="ResNet-8 by width: zeros / channels per block")
    ticks = [0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5]
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=150)


def _short_name(row: Row) -> str:
    """Return width, share of zeros and block, as 32: 85%/8."""
    width = str(row.settings["width"]) if row.supernet == "resnet8" else ""
    zeros = f"{row.zeros:.0%}/{row.block}" if row.zeros else "dense"
    return ": ".join(filter(None, (width, zeros)))


def main() -> None:
    """Train, time or show rows; results are kept in one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "time", "show"))
    parser.add_argument("data", nargs="?", help="folder of Tiny-ImageNet, to train")
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=tuple(ROWS), metavar="ROW")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--precision", choices=("bf16", "fp32"), help="instead of the rows' own, to train")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file that is read and written")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    results = json.loads(options.out.read_text()) if options.out.exists() else {"runs": []}
    if options.what == "train":
        there = {(run["row"], run["seed"], run["precision"]) for run in results["runs"]}
        for seed in options.seeds:
            for name in options.rows:
                row = ROWS[name]
                if (name, seed, options.precision or row.precision) not in there:
                    if options.precision:
                        row = replace(row, words=(*row.words, "--precision", options.precision))
                    results["runs"].append({"row": name} | train_row(row, options.data, seed, options.epochs))
                    options.out.write_text(json.dumps(results, indent=1) + "\n")
                    print({key: value for key, value in results["runs"][-1].items() if key != "kept"}, flush=True)
    if options.what == "time":
        results["latency"] = time_rows(results["runs"])
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    if options.what != "train":
        lines = table(results)
        print(*map(json.dumps, lines), sep="\n")
        if options.figure:
            draw_figure(lines, options.figure)


if __name__ == "__main__":
    main()
