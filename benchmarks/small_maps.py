"""Sizes of the map at which matrix products beat depthwise convolutions in a CPU training step.

Times forward and backward of one searching block in train mode, both ways in turn; prints and writes medians and
ratios. Example: python benchmarks/small_maps.py --threads 2 --to benchmarks/results/small_maps.json
"""

import argparse
import json
from functools import partial
from pathlib import Path
from unittest import mock

import torch

from supertickets.cost.latency import device_name, time_interleaved
from supertickets.models import Units
from supertickets.models.hrnet import matrix_products as products
from supertickets.models.hrnet.blocks import BlockShape, BlockStyle, MixBlock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for side in (4, 7, 8, 10, 12, 14, 20):
        for stride in (1, 2):
            block = MixBlock(BlockShape(16, 16, stride), Units(hidden=(32, 32, 32)), BlockStyle())
            block = block.to(memory_format=torch.channels_last).train()
            images = torch.randn(options.batch, 16, side, side).contiguous(memory_format=torch.channels_last)
            times = time_interleaved(
                {way: partial(step, block, images, way == "products") for way in ("convolutions", "products")},
                options.repeats,
            )
            row = {"side": side, "stride": stride} | {f"{way}_ms": t.median_ms for way, t in times.items()}
            row["speedup"] = row["convolutions_ms"] / row["products_ms"]
            row["entries"] = side**2 * (-(-side // stride)) ** 2
            rows.append(row)
            print(row)
    about = {"device": device_name(), "threads": options.threads, "batch": options.batch, "torch": torch.__version__}
    options.to.write_text(json.dumps({**about, "limit": products.LARGEST_MATRIX, "rows": rows}, indent=1) + "\n")


def step(block: MixBlock, images: torch.Tensor, as_products: bool) -> None:
    with mock.patch.multiple(products, LARGEST_MATRIX=2**40 if as_products else 0, MOST_ENTRIES=2**60):
        block.zero_grad()
        block(images).square().mean().backward()


if __name__ == "__main__":
    main()
