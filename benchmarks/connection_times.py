"""Relative inference time increments of attention modules (LTH4SA, Eq. 7), soundly measured and as released.

Example: python benchmarks/connection_times.py --to benchmarks/results/connection_times.json
All networks of a group are called in turn, in batches, warmed up, in eval mode and without autograd; an increment is
the median over rounds of a network's time over the plain one's of the same round. As released: training mode, autograd
on, and a plain loop over one network after the other.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from scipy.stats import linregress
from torch import nn

from commands import command
from supertickets.cost.latency import device_name
from supertickets.emit import versions
from supertickets.supernets import create_resnet

BATCH = {"resnet38": 50, "resnet164": 10}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--schemes", nargs="*", default=[], help="of ResNet38, without strokes: what connections.py found"
    )
    parser.add_argument("--share-found", nargs="*", default=[], help="the same with shared modules")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--to", type=Path, required=True)
    told = parser.parse_args()
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
        made = {scheme: network("resnet164", scheme, sharing, 32) for scheme in ("0" * 54, *schemes)}
        rows = increments(made, BATCH["resnet164"], told.repeats)
        shares = [scheme.count("1") / 54 for scheme in rows]
        line = linregress(shares, [row["percent"] for row in rows.values()])
        fit = {"slope": line.slope, "intercept": line.intercept, "r": line.rvalue}
        result[name] = {"rows": rows, "percent_over_share": fit}
    for name, schemes in (("resnet38", told.schemes), ("resnet38 shared", told.share_found)):
        chosen = dict.fromkeys(["0" * 12, "1" * 12, *schemes])
        sharing = "stage" if "shared" in name else "none"
        made = {scheme: network("resnet38", scheme, sharing, 16) for scheme in chosen}
        result[name] = {"rows": increments(made, BATCH["resnet38"], told.repeats)}
    plain, full = (network("resnet38", digit * 12, "none", 16) for digit in "01")
    runs = [100 * (as_released(full) / as_released(plain) - 1) for _ in range(7)]
    result["as_released"] = {"resnet38, all connected": runs}
    told.to.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def proportional(sharing: str) -> list[str]:
    """Schemes of ResNet164 with more and more connections, spread evenly; and the periodic ones of Table III."""
    spread = ["".join(str(int((i + 1) * k // 54 > i * k // 54)) for i in range(54)) for k in (9, 18, 27, 36, 45, 54)]
    return [*spread, *(["10" * 27, "01" * 27, "100" * 18, "010" * 18] if sharing == "stage" else [])]


def network(name: str, scheme: str, sharing: str, side: int) -> nn.Module:
    """The cut of a scheme, with fresh weights."""
    torch.manual_seed(0)
    spec = create_resnet(name, attention="se", sharing=sharing, scheme=scheme, num_classes=100, image_size=(side, side))
    return spec.build().eval().to(memory_format=torch.channels_last)


def increments(networks: Mapping[str, nn.Module], batch: int, repeats: int) -> dict[str, dict[str, float]]:
    """Percent by which networks take longer than the first, by scheme; it is left out.

    Args:
        networks: By scheme, all for pictures of one size.
        batch: Pictures per call.
        repeats: Rounds, after three that do not count.
    """
    side = next(iter(networks.values())).spec.image_size[0]  # type: ignore[union-attr, index]
    images = torch.randn(batch, 3, int(side), int(side)).to(memory_format=torch.channels_last)
    times: dict[str, list[float]] = {scheme: [] for scheme in networks}
    with torch.inference_mode():
        for turn in range(3 + repeats):
            for scheme, module in networks.items():
                begin = time.perf_counter()
                module(images)
                if turn >= 3:
                    times[scheme].append(time.perf_counter() - begin)
    plain, *others = networks
    found = {}
    for scheme in others:
        ratios = [100 * (own / first - 1) for own, first in zip(times[scheme], times[plain], strict=True)]
        quarters = statistics.quantiles(ratios, n=4)
        found[scheme] = {
            "connections": scheme.count("1"),
            "percent": statistics.median(ratios),
            "quarter": quarters[0],
            "three_quarters": quarters[2],
            "ms": 1e3 * statistics.median(times[scheme]),
        }
    return found


def as_released(module: nn.Module, repeats: int = 20) -> float:
    """Seconds of a loop as the released code runs it: no warm-up, training mode, autograd."""
    side = int(module.spec.image_size[0])  # type: ignore[union-attr, index]
    images = torch.randn(BATCH["resnet38"], 3, side, side).to(memory_format=torch.channels_last)
    module.train()
    begin = time.perf_counter()
    for _ in range(repeats):
        module(images)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
