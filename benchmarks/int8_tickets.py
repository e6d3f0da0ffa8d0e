"""Export five tickets in 8-bit integers: score before and after, and latency beside float32.

``python benchmarks/int8_tickets.py DATA --out FILE``: short trainings, one after the other, in DATA's folders
``mnist_idx``, ``tiny_imagenet_40``, ``camvid`` and ``mbm_cells``. Tickets that are there already are not trained again.
"""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import supertickets as st
from supertickets.deploy import BenchSettings, bench
from supertickets.deploy.int8 import export_int8

_REPEATS = 60
_PRUNED = "--search.interval 0 --prune.schedule cubic --prune.ratio 0.85 --prune.pattern block:4 --prune.steps 5"
_PLAIN = "--supernet.name resnet8 --search.last_epoch null --threads 1 --recalibrate_batches 4 " + _PRUNED


@dataclass(frozen=True)
class Case:
    """A ticket: its recipe, the folder of its data, and further settings."""

    title: str
    recipe: str
    folder: str
    words: str


CASES = (
    Case("digits 8 px, ResNet-8 width 16", "digits", "", f"{_PLAIN} --supernet.settings.width 16 --epochs 12"),
    Case(
        "MNIST 28 px, ResNet-8 width 16",
        "mnist",
        "mnist_idx",
        f"{_PLAIN} --supernet.settings.width 16 --epochs 3 --evaluate_every 3 --data.limit 6000",
    ),
    Case(
        "MBM cells 160 px, ResNet-8 with FPN",
        "mbm_cells_fpn",
        "mbm_cells",
        f"--threads 1 --evaluate_every 100 {_PRUNED}",
    ),
    Case(
        "Tiny-ImageNet-40 48 px, ResNet-8 width 32",
        "tiny_imagenet",
        "tiny_imagenet_40",
        f"{_PLAIN} --supernet.settings '{{width: 32}}' --epochs 5 --evaluate_every 5 --data.size 48 --data.workers 0",
    ),
    Case(
        "CamVid 180x240, ResNet-8 with FPN",
        "camvid_fpn",
        "camvid",
        f"--threads 1 --epochs 4 --evaluate_every 4 --data.workers 0 --lr.warmup_epochs 1 {_PRUNED}",
    ),
)


def measure(case: Case, data: Path, runs: Path) -> dict[str, Any]:
    """Return the figures of a ticket, which is trained if it is not there."""
    folder = runs / case.recipe
    words = [*shlex.split(case.words), *(["--data.dir", str(data / case.folder)] if case.folder else [])]
    if not (folder / "ticket").exists():
        st.draw(st.load_recipe(case.recipe, words), folder)
    ticket = st.load(folder)
    made = export_int8(ticket, folder / "model.int8.onnx", force=True)
    result = bench({"ticket": ticket}, BenchSettings(repeats=_REPEATS, runtimes=("onnxruntime", "sparse", "int8")))
    latencies = {name: round(timing.median_ms, 4) for name, timing in result.runs[0].by_runtime("ticket").items()}
    row = {
        "ticket": case.title,
        "zeros": round(ticket.cost.sparsity, 4),
        "metric": made.metric,
        "before": round(made.before[made.metric], 3),
        "after": round(made.after[made.metric], 3),
        "ms": latencies,
        "failures": dict(result.runs[0].failures),
    }
    return {**row, "about": {"device": result.device, "instruction_set": result.instruction_set, **result.versions}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/int8"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "int8_tickets.json")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for case in CASES:
        rows.append(measure(case, options.data, options.runs))
        print(json.dumps(rows[-1]), flush=True)
        about = {"threads": 1, "repeats": _REPEATS, **rows[-1]["about"]}
        kept = [{key: value for key, value in row.items() if key != "about"} for row in rows]
        options.out.write_text(json.dumps({**about, "rows": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
