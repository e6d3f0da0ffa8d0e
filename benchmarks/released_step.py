"""One training step of the paper's released code, imported from a checkout of it, for `train_step.py`.

The step is the released one: masked layers in the forward, the L2 term over all parameters and the L1 term over all
scales in the graph, its own optimizer, its running average over parameters and statistics. Modules that it imports
without needing them here are stubbed, and call signatures that PyTorch has dropped are mapped to today's.
"""

import contextlib
import importlib
import importlib.machinery
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.nn import functional as F

from supertickets.models import HRNetSpec
from supertickets.tasks.heatmaps import heatmaps


def released_step(
    folder: Path, spec: HRNetSpec, batch: tuple[torch.Tensor, torch.Tensor], device: torch.device
) -> Callable[[], None]:
    """Build the released network of a spec and return its training step on one batch."""
    with _importable(folder):
        hrnet, prune, optim = (importlib.import_module(name) for name in ("models.hrnet", "utils.prune", "utils.optim"))
        optimizers = {name: importlib.import_module(f"utils.{name}") for name in ("rmsprop", "adamw")}
    dense = spec.head != "classification"
    network = hrnet.HighResolutionNet(
        num_classes=spec.num_classes,
        input_stride=4,
        input_channel=list(spec.stem_channels),
        last_channel=spec.last_channels,
        expand_ratio=spec.expansion,
        kernel_sizes=list(spec.style.kernels),
        inverted_residual_setting=[[len(c), list(b), list(c)] for c, b in zip(spec.channels, spec.blocks, strict=True)],
        head_channels=None if dense else list(spec.head_channels),
        task="segmentation" if dense else "classification",
        active_fn="nn.ReLU",
        round_nearest=2,
        width_mult=1.0,
    ).to(device)
    units = sum(p.numel() for name, p in network.named_parameters())
    print(f"released network: {units:,} parameters")
    for block in network.get_named_block_list().values():
        for op in getattr(block, "ops", []):
            op.n_macs = 1  # its profiler would set this; the time of a step does not depend on it
    flags = types.SimpleNamespace(use_transformer=False, bn_prune_filter="expansion_only")
    flags.get = lambda key, default=None: getattr(flags, key, default)
    info = prune.get_bn_to_prune(network, flags, verbose=False)
    average = optim.ExponentialMovingAverage(0.9999)
    named = dict(network.named_parameters()) | {
        name: buffer for name, buffer in network.named_buffers() if "running" in name
    }
    for name, value in named.items():
        average.register(name, value)
    if dense:
        optimizer = optimizers["adamw"].AdamW(network.parameters(), lr=1e-3, eps=1e-8, weight_decay=0)
    else:
        optimizer = optimizers["rmsprop"].RMSprop(
            network.parameters(), lr=0.016, alpha=0.9, momentum=0.9, eps=1e-3, eps_inside_sqrt=True, weight_decay=0
        )
    images, labels = batch
    if spec.head == "keypoints":  # its loader draws the maps
        labels = heatmaps(labels, (spec.image_size[0] // 4, spec.image_size[1] // 4))[0]
    network.train()
    updates = 0

    def step() -> None:
        nonlocal updates
        with _old_signatures():
            optimizer.zero_grad()
            scores = network(images)
            if isinstance(scores, list):
                scores = scores[0]
            if spec.head == "segmentation":
                scores = F.interpolate(scores, labels.shape[1:], mode="bilinear", align_corners=False)
            keypoints = spec.head == "keypoints"
            loss = 0.5 * (scores - labels).square().mean() if keypoints else F.cross_entropy(scores, labels)
            loss = loss + optim.cal_l2_loss(network, 1e-5, "mnas")
            scales = [named[name] for name in info.weight]
            (loss + prune.cal_bn_l1_loss(scales, info.penalty, 1.8e-4)).backward()
            optimizer.step()
            updates += 1
            current = dict(network.named_parameters()) | dict(network.named_buffers())
            for name in average.average_names():
                average(name, current[name], updates)

    return step


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Put the checkout in front of the path, and empty modules in place of what it need not import."""
    if not (folder / "models" / "hrnet.py").is_file():
        raise SystemExit(f"{folder} is not a checkout of the released code (models/hrnet.py is missing)")
    sys.path.insert(0, str(folder))
    stubs = {
        name: _Stub(name) for name in ("mmcv", "mmcv.utils", "mmcv.runner", "mmseg", "mmseg.utils", "utils.config")
    }
    try:
        with mock.patch.dict(sys.modules, stubs):
            yield
    finally:
        sys.path.remove(str(folder))


class _Stub(types.ModuleType):
    """A module whose every attribute is a function; ``mmseg.utils.resize`` is plain interpolation."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name == "resize":
            return lambda input, size=None, scale_factor=None, mode="nearest", align_corners=None, warning=True: (
                F.interpolate(input, size, scale_factor, mode, align_corners)
            )
        return types.SimpleNamespace()


@contextlib.contextmanager
def _old_signatures() -> Iterator[None]:
    """Bring back ``add_(scalar, tensor)`` and its kin, which PyTorch has dropped."""

    def swapped(method: Callable[..., Any], keyword: str) -> Callable[..., Any]:
        def call(self: torch.Tensor, first: Any, *rest: Any, **others: Any) -> Any:
            if rest and not isinstance(first, torch.Tensor):
                return method(self, *rest, **{keyword: first}, **others)
            return method(self, first, *rest, **others)

        return call

    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")
        for name, keyword in (
            ("add", "alpha"),
            ("add_", "alpha"),
            ("addcmul", "value"),
            ("addcmul_", "value"),
            ("addcdiv", "value"),
            ("addcdiv_", "value"),
        ):
            stack.enter_context(mock.patch.object(torch.Tensor, name, swapped(getattr(torch.Tensor, name), keyword)))
        yield
