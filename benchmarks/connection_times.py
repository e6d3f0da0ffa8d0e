"""Relative inference time increments of attention modules (LTH4SA, Eq. 7), soundly measured and as released.

Example: python benchmarks/connection_times.py --to benchmarks/results/connection_times.json
All networks of a group are called in turn, in batches, warmed up, in eval mode and without autograd; an increment is
the median over rounds of a network's time over the plain one's of the same round. As released: training mode, autograd
on, and a plain loop over one network after the other.
"""

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from scipy.stats import linregress

from commands import command
from supertickets.analysis.connection_schemes import time_networks
from supertickets.cost.latency import device_name
from supertickets.models import ResNet, ResNetSpec, create_resnet
from supertickets.runs.finalize import versions

BATCH = {"resnet38": 50, "resnet164": 10}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--schemes", nargs="*", default=[], help="of ResNet38, without strokes: what connections.py found"
    )
    parser.add_argument("--share-found", nargs="*", default=[], help="the same with shared modules")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    groups: dict[str, Any] = {"resnet164 shared": proportional("stage"), "resnet164": proportional("none")}
    result: dict[str, Any] = {
        "command": command(),
        "device": device_name(),
        "threads": 1,
        "batch": BATCH,
        "versions": versions(),
    }
    for name, schemes in groups.items():
        sharing = "stage" if "shared" in name else "none"
        rows = rows_of("resnet164", ("0" * 54, *schemes), sharing, 32, options.repeats)
        shares = [scheme.count("1") / 54 for scheme in rows]
        line = linregress(shares, [row["percent"] for row in rows.values()])
        fit = {"slope": line.slope, "intercept": line.intercept, "r": line.rvalue}
        result[name] = {"rows": rows, "percent_over_share": fit}
    for name, schemes in (("resnet38", options.schemes), ("resnet38 shared", options.share_found)):
        chosen = dict.fromkeys(["0" * 12, "1" * 12, *schemes])
        sharing = "stage" if "shared" in name else "none"
        result[name] = {"rows": rows_of("resnet38", chosen, sharing, 16, options.repeats)}
    plain, full = (network("resnet38", digit * 12, "none", 16).build() for digit in "01")
    runs = [100 * (as_released(full) / as_released(plain) - 1) for _ in range(7)]
    result["as_released"] = {"resnet38, all connected": runs}
    options.to.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def proportional(sharing: str) -> list[str]:
    """Return schemes of ResNet164 with more and more connections, spread evenly; and the periodic ones of Table III."""
    spread = ["".join(str(int((i + 1) * k // 54 > i * k // 54)) for i in range(54)) for k in (9, 18, 27, 36, 45, 54)]
    return [*spread, *(["10" * 27, "01" * 27, "100" * 18, "010" * 18] if sharing == "stage" else [])]


def rows_of(name: str, schemes: Iterable[str], sharing: str, side: int, repeats: int) -> dict[str, dict[str, float]]:
    """Measure relative inference time increments of schemes over the network without connections, which comes first."""
    increments = time_networks(
        {scheme: network(name, scheme, sharing, side) for scheme in schemes}, BATCH[name], repeats
    )
    return {scheme: {"connections": scheme.count("1"), **asdict(one)} for scheme, one in increments.items()}


def network(name: str, scheme: str, sharing: str, side: int) -> ResNetSpec:
    """Return the network of a scheme."""
    size = (side, side)
    return create_resnet(name, attention="se", sharing=sharing, scheme=scheme, num_classes=100, image_size=size)


def as_released(module: ResNet, repeats: int = 20) -> float:
    """Measure the seconds of a loop as the released code runs it: no warm-up, training mode, autograd."""
    images = torch.randn(BATCH["resnet38"], *module.spec.input_shape).to(memory_format=torch.channels_last)
    module.train().to(memory_format=torch.channels_last)
    begin = time.perf_counter()
    for _ in range(repeats):
        module(images)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
