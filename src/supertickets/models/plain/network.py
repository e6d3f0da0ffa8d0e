"""Plain residual networks: blocks of two 3x3 convolutions (He et al., 2016), for small images as well as for large.

Few operations with many channels each: what a runtime is fastest at, and a usual reference beside searched networks.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import UserError
from ..base import Network, as_tuples
from ..heads import FeatureMap, HeadedSpec, keep_last_of_stride, list_stage_maps

_STEM_STRIDES = {"small": (1, 2), "large": (4,)}


@dataclass(frozen=True, kw_only=True)
class PlainSpec(HeadedSpec):
    """Exact description of a plain residual network.

    Attributes:
        blocks: Blocks per stage.
        widths: Channels per stage.
        strides: Stride of the first block of each stage.
        stem: First layers: a 3x3 convolution ("small"), or one of 7x7 with stride 2 and max-pooling ("large").
        stem_stride: Pixels of the input per cell behind the stem: 1 or 2 for a small one, 4 for a large one.
        dropout: Dropout in front of the classifier.
        in_channels: Channels of the input image.
        image_size: Height and width that costs refer to, in pixels.

    Raises:
        UserError: Stages or stem do not fit together.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    stem: str = "small"
    stem_stride: int = 1
    dropout: float = 0.0
    in_channels: int = 3
    image_size: tuple[int, int] = (32, 32)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stem not in _STEM_STRIDES:
            raise UserError(f"unknown supernet.settings.stem '{self.stem}'; take one of {', '.join(_STEM_STRIDES)}")
        if self.stem_stride not in (known := _STEM_STRIDES[self.stem]):
            options = " or ".join(map(str, known))
            raise UserError(f"supernet.settings.stem_stride is {self.stem_stride}; a {self.stem} stem has {options}")
        if not len(self.blocks) == len(self.widths) == len(self.strides) or not self.blocks:
            raise UserError(
                f"supernet.settings has blocks for {len(self.blocks)} stages, widths for {len(self.widths)} and "
                f"strides for {len(self.strides)}; give one number per stage in each"
            )
        for name in ("blocks", "widths"):
            if any(not isinstance(value, int) or value < 1 for value in getattr(self, name)):
                raise UserError(f"supernet.settings.{name} is {list(getattr(self, name))}; give numbers of at least 1")
        if not 0 <= self.dropout < 1:
            raise UserError(f"supernet.settings.dropout is {self.dropout}; give a share from 0 to below 1")
        if any(stride not in (1, 2) for stride in self.strides):
            raise UserError(f"supernet.settings.strides is {list(self.strides)}; give a 1 or 2 for every stage")

    def __str__(self) -> str:
        return f"a plain ResNet of {sum(self.blocks)} blocks, {self.widths[0]} to {self.widths[-1]} channels wide"

    @property
    def family(self) -> str:
        return "plain"

    @property
    def coarsest_stride(self) -> int:
        """Pixels of the input per cell of the last map, in each direction."""
        return self.stem_stride * math.prod(self.strides)

    def maps(self) -> list[FeatureMap]:
        """List the maps that the stages end with, finest first; of equally fine ones the last."""
        return list_stage_maps(self.widths, self.strides, self.stem_stride)

    def build(self) -> PlainNetwork:
        """Make the network with fresh weights."""
        return PlainNetwork(self)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON with the family's name."""
        return {"family": "plain", **dataclasses.asdict(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> PlainSpec:
        """Read what `to_json` wrote."""
        return PlainSpec(**{name: as_tuples(value) for name, value in data.items() if name != "family"})


class PlainNetwork(Network):
    """The network of a `PlainSpec`.

    Shapes: input (B, in_channels, H, W); output (B, num_classes) for classification, else (B, num_classes, h, w) with
    h = H / s, rounded up, and s the stride of the finest map that the head takes.
    """

    def __init__(self, spec: PlainSpec) -> None:
        super().__init__()
        self.spec: PlainSpec = spec
        width = spec.widths[0]
        kernel, stride = (7, 2) if spec.stem == "large" else (3, spec.stem_stride)
        self.stem = nn.Conv2d(spec.in_channels, width, kernel, stride, kernel // 2, bias=False)
        self.stem_bn = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1) if spec.stem == "large" else nn.Identity()
        self.stages = nn.ModuleList()
        for blocks, out, step in zip(spec.blocks, spec.widths, spec.strides, strict=True):
            shapes = [(width, out, step), *[(out, out, 1)] * (blocks - 1)]
            self.stages.append(nn.Sequential(*(Block(*shape) for shape in shapes)))
            width = out
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        self.head, self.classifier = spec.make_head(spec.maps(), spec.dropout)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.head(self.features(x_BCHW)))
        return out

    def features(self, x_BCHW: Tensor) -> list[Tensor]:
        """Run stem and stages; return the maps of `PlainSpec.maps`."""
        x_BCHW = self.pool(F.relu(self.stem_bn(self.stem(x_BCHW))))
        maps = []
        for stage in self.stages:
            x_BCHW = stage(x_BCHW)
            maps.append(x_BCHW)
        return keep_last_of_stride(maps, self.spec.strides)

    def maskable_weights(self, *, transformer: bool = False, classifier: bool = False) -> list[str]:
        """List the names of the weights that pruning covers: of all layers but the classifier."""
        names = [f"{name}.weight" for name, m in self.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        return [name for name in names if classifier or not name.startswith("classifier.")]

    def folded(self) -> PlainNetwork:
        """Return a copy in eval mode whose shortcuts are one convolution with a stride."""
        copied = copy.deepcopy(self).eval()
        for block in copied.modules():
            if isinstance(block, Block):
                block.fold()
        return copied

    @staticmethod
    def is_feature(name: str) -> bool:
        """Return whether a parameter or buffer of that name belongs to stem or stages, not to the head."""
        return not name.startswith(("head.", "classifier."))


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the map changes its shape.

    A shortcut with a stride takes every second place, then convolves without a stride: with a stride, oneDNN's gradient
    of such weights writes past its memory if there are fewer than 16 channels (uxlfoundation/oneDNN#6035).
    """

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.pick: nn.Module = nn.MaxPool2d(1, stride) if stride > 1 else nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or width != out:
            self.shortcut = nn.Sequential(nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        branch_BCHW = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x_BCHW)))))
        return F.relu(branch_BCHW + self.shortcut(self.pick(x_BCHW)))

    def fold(self) -> None:
        """Give the stride of the shortcut to its convolution: the same function, for a network that is not trained."""
        if isinstance(self.shortcut, nn.Sequential):
            conv = self.shortcut[0]
            assert isinstance(conv, nn.Conv2d)
            conv.stride = self.conv1.stride
            self.pick = nn.Identity()
