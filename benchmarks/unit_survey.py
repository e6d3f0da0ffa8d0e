"""Search units that tracing finds in networks of timm and torchvision, which are checked, and what is left out.

Example: python benchmarks/unit_survey.py --out benchmarks/results/unit_survey.json --page docs/units.md
With names, only these: python benchmarks/unit_survey.py timm:resnet50 torchvision:vgg11_bn
The error is that of a removal of random units that the tracer's own check did not draw, in single precision: the
largest difference of any output between the narrowed network and the one whose removed units are silent.
"""

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

from commands import command
from supertickets.cost.latency import device_name
from supertickets.models.op_counter import count_operations
from supertickets.models.tracing import trace_units
from supertickets.models.tracing.selfcheck import cut_tensors, enliven, largest_difference, silence_units
from supertickets.models.units import STAYS, UnitGroup

# Networks by the side of the images that they are traced with, in pixels.
NETWORKS = {
    64: (
        *("torchvision:resnet18", "timm:resnet50", "timm:seresnet50", "timm:resnetv2_50", "timm:resnext50_32x4d"),
        *(
            "timm:res2net50_26w_4s",
            "timm:skresnet18",
            "timm:resnest14d",
            "timm:nf_resnet26",
            "torchvision:mobilenet_v2",
        ),
        *("torchvision:mobilenet_v3_small", "torchvision:mobilenet_v3_large", "timm:tf_mobilenetv3_small_075"),
        *("timm:mobilenetv4_conv_small", "timm:efficientnet_b0", "timm:tf_efficientnetv2_b0", "timm:regnety_002"),
        *("torchvision:regnet_x_400mf", "torchvision:shufflenet_v2_x0_5", "torchvision:shufflenet_v2_x1_0"),
        *("timm:ghostnet_050", "timm:ghostnetv2_100", "timm:repghostnet_050", "timm:repvgg_a0", "timm:repvit_m0_9"),
        *("timm:mobileone_s0", "torchvision:densenet121", "timm:convnext_atto", "timm:convnextv2_atto"),
        *("timm:mobilevit_xxs", "timm:fastvit_t8", "timm:hrnet_w18_small", "timm:dla34", "torchvision:googlenet"),
        *("timm:efficientvit_b0", "torchvision:squeezenet1_1", "torchvision:mnasnet0_5", "timm:lcnet_050"),
        *("timm:tinynet_e", "timm:cspresnet50", "timm:cspdarknet53", "timm:edgenext_xx_small", "timm:poolformer_s12"),
        *("timm:starnet_s1", "timm:mixnet_s", "timm:fbnetc_100", "timm:ese_vovnet19b_dw", "timm:dpn48b"),
        *("timm:xception41", "timm:selecsls42", "timm:pvt_v2_b0", "torchvision:alexnet", "torchvision:vgg11_bn"),
        *("torchvision:lraspp_mobilenet_v3_large", "torchvision:deeplabv3_mobilenet_v3_large"),
        "torchvision:ssdlite320_mobilenet_v3_large",
    ),
    96: ("torchvision:inception_v3",),
    224: (
        *("timm:vit_tiny_patch16_224", "timm:pit_ti_224", "timm:levit_128s", "timm:efficientformer_l1"),
        *("timm:swin_tiny_patch4_window7_224", "timm:mixer_s32_224", "timm:efficientvit_m0", "timm:tiny_vit_5m_224"),
    ),
}
_CLASSES = 10
_DRAWS = 3  # removals whose largest error is shown
_MARK = "<!-- table of benchmarks/unit_survey.py -->"


class RawDetector(nn.Module):
    """Features and head of a detector of torchvision, without the boxes that are decoded from them."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, x_BCHW: Tensor) -> Any:
        return self.head(list(self.backbone(x_BCHW).values()))


def make_network(name: str) -> nn.Module:
    """Make a network by its name, "timm:NAME" or "torchvision:NAME", with fresh weights."""
    library, _, own = name.partition(":")
    if library == "timm":
        return timm.create_model(own, num_classes=_CLASSES)
    plain = own in torchvision.models.list_models(module=torchvision.models)
    settings = {"init_weights": False} if own in ("googlenet", "inception_v3") else {}
    settings = settings if plain else {"weights": None, "weights_backbone": None}
    network = torchvision.models.get_model(own, num_classes=_CLASSES, **settings)
    return RawDetector(network) if own.startswith("ssd") else network


def survey(name: str, side: int) -> dict[str, Any]:
    """Trace a network, and measure what its units cover and what their removal changes.

    Args:
        name: Name of the network.
        side: Height and width of the images, in pixels.
    """
    start = time.process_time()
    units = trace_units(lambda: make_network(name), (3, side, side))
    seconds = time.process_time() - start
    module = make_network(name).eval()
    owned = owned_entries(module, units.groups)
    weights = dict(module.named_parameters())
    products, _ = count_operations(module, torch.zeros(1, 3, side, side))
    macs = sum(product.macs for product in products)
    own_macs = sum(p.macs * owned.get(p.weight, 0) / weights[p.weight].numel() for p in products if p.weight)
    total = sum(weight.numel() for weight in weights.values())
    return {
        "network": name,
        "side": side,
        "groups": len(units.groups),
        "units": sum(map(len, units.groups)),
        "parameters": round(100 * sum(owned.values()) / total, 1),
        "macs": round(100 * own_macs / macs, 1),
        "error": max(removal_error(make_network(name).eval(), units.groups, side, seed) for seed in range(_DRAWS)),
        "cpu_seconds": round(seconds, 1),
        "left_out": [[group.name, group.size, group.reason] for group in units.left_out],
    }


def owned_entries(module: nn.Module, groups: Sequence[UnitGroup]) -> dict[str, int]:
    """Return the number of entries of every parameter that belong to a unit."""
    stays: dict[str, dict[int, Tensor]] = {}
    for group in groups:
        for axis in group.axes:
            free = axis.index == STAYS
            by_dim = stays.setdefault(axis.tensor, {})
            by_dim[axis.dim] = by_dim[axis.dim] & free if axis.dim in by_dim else free
    owned = {}
    for name, weight in module.named_parameters():
        left = 1.0
        for dim, size in enumerate(weight.shape):
            left *= int(stays.get(name, {}).get(dim, torch.ones(size)).sum())
        owned[name] = weight.numel() - int(left)
    return owned


def removal_error(module: nn.Module, groups: Sequence[UnitGroup], side: int, seed: int) -> float:
    """Return the largest difference that a removal of random silent units makes; see `largest_difference`."""
    generator = torch.Generator().manual_seed(1000 + seed)
    keep = {}
    for group in groups:
        keep[group.name] = torch.rand(len(group), generator=generator) < 0.5
        keep[group.name][int(torch.randint(len(group), (), generator=generator))] = True
    with torch.no_grad():
        enliven(module, generator)
    silent = silence_units(module.state_dict(), groups, keep)
    images = torch.randn(2, 3, side, side, generator=generator)
    return largest_difference(module, silent, cut_tensors(silent, groups, keep), images)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of the results, in Markdown."""
    lines = [
        "| network | groups | units | parameters | MACs | left out | error | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        counts = Counter(short_reason(reason) for _, _, reason in row["left_out"])
        left_out = "; ".join(f"{count} x {reason}" for reason, count in counts.items() if reason != _OUTPUT)
        shares = f"{row['parameters']:.0f}% | {row['macs']:.0f}%"
        figures = f"{row['groups']} | {row['units']:,} | {shares} | {left_out}"
        error = f"{row['error']:.0e}" if row["groups"] else "-"
        lines.append(f"| {row['network']} | {figures} | {error} | {row['cpu_seconds']:.1f} |")
    return "\n".join(lines)


_OUTPUT = "it reaches the output"


def short_reason(reason: str) -> str:
    """Return a reason without the message of the network's own code."""
    return re.sub(r":.*", "", reason)


def write_page(page: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the table into a page, behind its mark."""
    head = page.read_text().partition(_MARK)[0]
    page.write_text(f"{head}{_MARK}\n\n{table(rows)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="networks (default: all of the list)")
    parser.add_argument("--side", type=int, help="height and width of the images (default: as in the list, else 64)")
    parser.add_argument("--out", type=Path, help="file for the results, JSON")
    parser.add_argument("--page", type=Path, help="page whose table is replaced")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sides = {name: side for side, names in NETWORKS.items() for name in names}
    rows = []
    for name in options.names or sides:
        rows.append(survey(name, options.side or sides.get(name, 64)))
        print(table(rows).splitlines()[-1], flush=True)
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__}
    if options.out:
        about = {"command": command(), "device": device_name(), "threads": 1, **versions}
        options.out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    if options.page:
        write_page(options.page, rows)


if __name__ == "__main__":
    main()
