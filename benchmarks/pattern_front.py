"""Accuracy against latency: plain widths, and a wide network with zeros in several patterns, on Tiny-ImageNet.

    python benchmarks/pattern_front.py DATA [--seeds 3] [--epochs 16] [--out FILE] [--runs FOLDER]

ResNet-8 at 48 pixels. The dense rows have width 16, 24 and 32 and run in onnxruntime; the others have width 32 (one
has 48), are pruned along the cubic path while they train (layers scaled by rms, all but stem and classifier), and run
in the sparse runtime. Same images, augmentation, epochs and optimizer. Runs that are there are not repeated: seed by
seed, so that a study that is stopped has whole seeds. Latencies are of the first seed's tickets: one thread, all
interleaved.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import supertickets as st
from commands import command
from supertickets.deploy import BenchSettings, bench

COMMON = [
    *("--supernet.name", "resnet8", "--supernet.settings.stem_stride", "2", "--data.size", "48"),
    *("--ema_decay", "0", "--optimizer.nesterov", "true", "--optimizer.clip_norm", "5", "--optimizer.lr", "0.1"),
    *("--optimizer.weight_decay", "1e-4", "--label_smoothing", "0.1", "--lr.shape", "cosine"),
    *(
        "--precision",
        "auto",
        "--lr.warmup_epochs",
        "1",
        "--threads",
        "1",
        "--data.workers",
        "0",
        "--evaluate_every",
        "100",
    ),
    *("--search.interval", "0", "--search.rho", "0", "--search.last_epoch", "null"),
    *("--prune.schedule", "cubic", "--prune.progressive", "false", "--prune.normalise", "rms"),
    *("--prune.stem", "false", "--prune.layer_floor", "0", "--prune.exempt_below", "0"),
]
_REPEATS = 300  # of the timing


def row_words(width: int, zeros: float, pattern: str) -> list[str]:
    """Return the settings of a row."""
    return [
        *("--supernet.settings.width", str(width)),
        *("--prune.ratio", str(zeros), "--prune.pattern", pattern),
        *("--supernet.init", "small" if zeros else "family"),  # what each does better with
    ]


# Name of a row -> settings, and the runtime that it is for; the most telling rows first.
ROWS: dict[str, tuple[list[str], str]] = {
    "dense-16": (row_words(16, 0, "unstructured"), "onnxruntime"),
    "zeros-85-block-8": (row_words(32, 0.85, "block:8"), "sparse"),
    "zeros-85-block-4": (row_words(32, 0.85, "block:4"), "sparse"),
    "dense-24": (row_words(24, 0, "unstructured"), "onnxruntime"),
    "zeros-85-single": (row_words(32, 0.85, "unstructured"), "sparse"),
    "zeros-90-block-4": (row_words(32, 0.9, "block:4"), "sparse"),
    "zeros-90-block-8": (row_words(32, 0.9, "block:8"), "sparse"),
    "dense-32": (row_words(32, 0, "unstructured"), "onnxruntime"),
    "zeros-85-block-16": (row_words(32, 0.85, "block:16"), "sparse"),
    "zeros-90-single": (row_words(32, 0.9, "unstructured"), "sparse"),
    "zeros-90-block-16": (row_words(32, 0.9, "block:16"), "sparse"),
    "width-48-zeros-93-block-8": (row_words(48, 0.93, "block:8"), "sparse"),
}


def run(name: str, data: str, seed: int, epochs: int, folder: Path) -> st.Ticket:
    """Return the ticket of a row and a seed, made now if it is not there."""
    words = ["--data.dir", data, *COMMON, *ROWS[name][0], "--seed", str(seed), "--epochs", str(epochs)]
    recipe = st.load_recipe("tiny_imagenet", words)
    make = st.draw if recipe.prune.ratio else st.train
    return st.load_or_run(folder / f"{name}-{seed}", lambda out: make(recipe, out))


def row_figures(name: str, tickets: list[st.Ticket], folder: Path) -> dict[str, Any]:
    """Return the figures of a row as JSON."""
    test = [ticket.about["test"]["top1"] for ticket in tickets]
    results = [json.loads((folder / f"{name}-{seed}/result.json").read_text()) for seed in range(len(tickets))]
    return {
        "network": name,
        "test_top1": [round(value, 2) for value in test],
        "validation_top1": [round(ticket.about["validation"]["top1"], 2) for ticket in tickets],
        "mean": round(statistics.mean(test), 2),
        "stdev": round(statistics.stdev(test), 2) if len(test) > 1 else None,
        "macs": tickets[0].cost.macs,
        "masked_macs": [ticket.cost.masked_macs for ticket in tickets],
        "nonzero_params": [ticket.cost.nonzero_params for ticket in tickets],
        "training_seconds": [round(result["seconds"]) for result in results],
    }


def main() -> None:
    """Run all rows, then time them and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/pattern_front"))
    options = parser.parse_args()
    tickets: dict[str, list[st.Ticket]] = {name: [] for name in ROWS}
    for seed in range(options.seeds):
        for name in ROWS:
            tickets[name].append(run(name, options.data, seed, options.epochs, options.runs))
            print(name, seed, tickets[name][-1].about["test"]["top1"], flush=True)
    settings = BenchSettings(repeats=_REPEATS, runtimes=("onnxruntime", "sparse"))
    measured = bench({name: row[0] for name, row in tickets.items()}, settings)
    latencies = measured.runs[0]
    table = []
    for name, drawn in tickets.items():
        row = row_figures(name, drawn, options.runs)
        times = {runtime: latencies.latencies[f"{name}/{runtime}"].median_ms for runtime in measured.runtimes}
        row |= {"runtime": ROWS[name][1], "ms": {runtime: round(ms, 4) for runtime, ms in times.items()}}
        table.append(row)
        print(json.dumps(row))
    if options.out is not None:
        about = {"command": command(), "epochs": options.epochs, "versions": tickets["dense-16"][0].about["versions"]}
        about |= {"device": measured.device, "threads": latencies.threads}
        options.out.write_text(json.dumps({**about, "rows": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
