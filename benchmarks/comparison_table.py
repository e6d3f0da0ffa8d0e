"""Cut the results of a sweep down to what is kept, and print the table and differences of docs/results.md.

Example: python benchmarks/comparison_table.py runs/comparison/results.csv --to benchmarks/results/mnist_comparison.csv
Differences are at equal MACs under the mask, seed by seed: the one method along the other's curve.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from supertickets.analysis.statistics import compare_at_equal_score, group_rows, paired_differences, summarize

KEPT = ("validation_top1", "test_top1", "nonzero_params", "macs", "masked_macs", "paper_macs", "samples")
PAIRS = (
    ("two-in-one", "S+P (Mag.)"),
    ("two-in-one", "S+P (Grad.)"),
    ("+ PP", "two-in-one"),
    ("+ PP + IR-S", "+ IR-S"),
    ("+ IR-S", "two-in-one"),
    ("+ PP + IR-S", "+ PP"),
    ("+ PP + IR-S", "+ PP + IR-P"),
    ("two-in-one", "S+P (Mag.) + retrain"),
    ("two-in-one", "S+P (Grad.) + retrain"),
    ("+ PP + IR-S", "S+P (Mag.) + retrain"),
    ("+ PP + IR-S", "S+P (Grad.) + retrain"),
)


def read(path: Path) -> list[dict[str, Any]]:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return [
        {"recipe": "", "method": row["method"], "ratio": float(row["ratio"]), "seed": int(row["seed"])}
        | {name: float(row[name]) for name in KEPT}
        for row in rows
    ]


def keep(rows: Sequence[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = ("method", "ratio", "seed", *KEPT)
        writer.writerow(names)
        writer.writerows(
            [f"{row[n]:g}" if n.endswith("top1") else row[n] if n in names[:3] else int(row[n]) for n in names]
            for row in rows
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results.csv of a sweep, or what --to wrote")
    parser.add_argument("--to", type=Path)
    options = parser.parse_args()
    rows = read(options.results)
    methods = group_rows(rows, lambda row: row["method"])
    if options.to:
        keep(
            [row for name in methods for row in sorted(methods[name], key=lambda r: (r["seed"], r["ratio"]))],
            options.to,
        )
    ratios = sorted({row["ratio"] for row in rows if row["ratio"]})
    print("| test accuracy, % | " + " | ".join(f"{ratio:.0%}" for ratio in ratios) + " |")
    print("|---" * (len(ratios) + 1) + "|")
    for name, rows_of_method in methods.items():
        cells = []
        for ratio, some in group_rows(rows_of_method, lambda row: row["ratio"]).items():
            top, macs = summarize(row["test_top1"] for row in some), summarize(row["masked_macs"] for row in some)
            assert top is not None
            assert macs is not None
            spread = "" if top.deviation is None else f" ± {top.deviation:.1f}"
            cells.append((ratio, f"{top.mean:.1f}{spread} ({macs.mean / 1e3:.0f} k)"))
        print(f"| {name} | " + " | ".join(cell for _, cell in sorted(cells)) + " |")
    for ours, theirs in PAIRS:
        if ours not in methods or theirs not in methods:
            continue
        print(f"\n{ours} beside {theirs}")
        same = {
            ratio: paired_differences(some, methods[theirs], "test_top1")
            for ratio, some in group_rows(methods[ours], lambda row: row["ratio"]).items()
        }
        print(
            "  at the same ratio:",
            ", ".join(f"{ratio:.0%} {difference}" for ratio, difference in sorted(same.items())),
        )
        equal = compare_at_equal_score(methods[ours], methods[theirs], "masked_macs", "test_top1")
        print(
            "  at equal MACs:    ",
            ", ".join(f"{at.ratio:.0%} {at.gain} ({at.gain.count if at.gain else 0})" for at in equal),
        )
    for name in ("searched", "two-in-one", "+ PP + IR-S", "S+P (Mag.) + retrain"):
        if name in methods:
            print(f"image passes of {name}: {int(methods[name][0]['samples']):,}")


if __name__ == "__main__":
    main()
