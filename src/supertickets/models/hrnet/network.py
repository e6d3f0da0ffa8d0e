"""The multi-resolution supernet of HR-NAS and SuperTickets, as a spec and the module it builds.

Stem, five (or fewer) stages of *fuse* and *parallel* modules on up to four branches, and a head for classification,
segmentation or keypoints. Every convolution between the stem and the classifier is a searching block.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...config.network_families import find_family
from ...errors import UserError
from ..base import Head, Network, Spec, TransferTarget, UnitRow, Units, UnitTable, as_tuples
from ..resize import resize
from ..units import UnitGroup
from .blocks import BlockShape, BlockStyle, MixBlock, block_groups
from .folded import fold_norms


@dataclass(frozen=True, kw_only=True)
class HRNetSpec(Spec):
    """Exact description of a (shrunk) multi-resolution network.

    Attributes:
        head: What the last layers make: class scores, or maps at the resolution of the first branch.
        num_classes: Classes or joints.
        in_channels: Channels of the input image.
        image_size: Height and width that costs refer to, in pixels.
        stem_channels: Output channels of the stem's 3x3 convolutions.
        stem_strides: Their strides.
        channels: Channels per branch, for each stage.
        blocks: Blocks per branch of the parallel module, for each stage.
        expansion: Hidden channels *per kernel size*, as a multiple of a block's input.
        head_channels: Widths the classification head raises the branches to.
        last_channels: Width in front of the classifier.
        dropout: Dropout in front of the classifier (classification only).
        tokens: Tokens of a full block; 0 switches the Transformer path off.
        init_std: Standard deviation of every convolution at the start; None means sqrt(2 / fan_out).
        style: What all blocks share.
        units: What is left in each block; empty means everything.
    """

    head: Head = "classification"
    num_classes: int = 1000
    in_channels: int = 3
    image_size: tuple[int, int] = (224, 224)
    stem_channels: tuple[int, ...] = (24, 24)
    stem_strides: tuple[int, ...] = (2, 2)
    channels: tuple[tuple[int, ...], ...] = ((24,), (18, 36), (18, 36, 72), (18, 36, 72, 144), (18, 36, 72, 144))
    blocks: tuple[tuple[int, ...], ...] = ((1,), (2, 2), (2, 2, 3), (2, 2, 3, 4), (2, 2, 3, 4))
    expansion: int = 4
    head_channels: tuple[int, ...] = (36, 72, 144, 320)
    last_channels: int = 1600
    dropout: float = 0.2
    tokens: int = 64
    init_std: float | None = None
    style: BlockStyle = field(default_factory=BlockStyle)
    units: Mapping[str, Units] = field(default_factory=dict)
    heads: ClassVar[tuple[Head, ...]] = ("classification", "segmentation", "keypoints", "density")
    head_settings: ClassVar[tuple[str, ...]] = ("head_channels", "last_channels", "dropout", "init_std")

    def __post_init__(self) -> None:
        for name in ("num_classes", "in_channels", "expansion", "last_channels", "tokens"):
            if not isinstance(value := getattr(self, name), int):
                raise UserError(f"{name} is {value!r}; give a whole number")
        full = self.full_units()
        # Units are listed one by one, and a file may claim any number of them.
        if (most := max((max(sum(units.hidden), units.tokens) for units in full.values()), default=0)) > _MOST_UNITS:
            raise UserError(f"a block has {most:,} channels or tokens; {_MOST_UNITS:,} are possible")
        if not self.units:
            object.__setattr__(self, "units", full)

    def __str__(self) -> str:
        channels = sum(sum(units.hidden) for units in self.units.values())
        tokens = sum(units.tokens for units in self.units.values())
        return f"a network of {len(self.channels[-1])} branches, {channels:,} channels and {tokens:,} tokens"

    @property
    def family(self) -> str:
        return "hrnet"

    @property
    def coarsest_stride(self) -> int:
        """Pixels of the input per cell of the coarsest branch, in each direction."""
        return math.prod(self.stem_strides) * 2 ** (max(map(len, self.channels)) - 1)

    def shapes(self) -> dict[str, BlockShape]:
        """Every searching block by name, in the order in which data meets them."""
        shapes: dict[str, BlockShape] = {}
        previous: tuple[int, ...] = (self.stem_channels[-1],)
        for s, (channels, depths) in enumerate(zip(self.channels, self.blocks, strict=True)):
            for target, width in enumerate(channels):
                if target < len(previous):
                    for source in _neighbours(target, len(previous)):
                        stride = 2 if target > source else 1
                        shapes[f"s{s}_fuse_{source}to{target}"] = BlockShape(previous[source], width, stride)
                else:
                    shapes[f"s{s}_new_{target}"] = BlockShape(channels[target - 1], width, 2)
            for b, depth in enumerate(depths):
                for d in range(depth):
                    shapes[f"s{s}_b{b}_{d}"] = BlockShape(channels[b], channels[b])
            previous = channels
        if self.head == "classification":
            for b, (low, high) in enumerate(zip(previous, self.head_channels, strict=True)):
                shapes[f"head_raise_{b}"] = BlockShape(low, high)
                if b:
                    shapes[f"head_down_{b}"] = BlockShape(self.head_channels[b - 1], high, 2)
        else:
            shapes["head_transform"] = BlockShape(sum(previous), self.last_channels)
        return shapes

    def full_units(self) -> dict[str, Units]:
        """The units of the supernet that this spec was cut from."""
        return {
            name: Units(
                hidden=(self.expansion * shape.channels_in,) * len(self.style.kernels),
                tokens=self.tokens if shape.is_identity else 0,
            )
            for name, shape in self.shapes().items()
        }

    def build(self) -> HRNet:
        """Makes the module with fresh weights."""
        return HRNet(self)

    def unit_groups(self) -> tuple[UnitGroup, ...]:
        """Lists the hidden channels and the tokens that are left."""
        groups = []
        for name, units in self.units.items():
            groups += block_groups(name, f"blocks.{name}", units, self.style.kernels)
        return tuple(groups)

    def full(self) -> HRNetSpec:
        """Returns the spec with all units."""
        return dataclasses.replace(self, units={})

    def keep(self, kept: Mapping[str, Tensor]) -> HRNetSpec:
        """Returns the spec with only the units flagged in ``kept`` (bool vectors by group name)."""
        units = {}
        for name, old in self.units.items():
            hidden, tokens = old.hidden, old.tokens
            if (flags := kept.get(f"{name}.hidden")) is not None:
                hidden = tuple(int(part.sum()) for part in flags.split(hidden))
            if (flags := kept.get(f"{name}.tokens")) is not None:
                tokens = int(flags.sum())
            units[name] = Units(hidden=hidden, tokens=tokens)
        return dataclasses.replace(self, units=units)

    def unit_table(self) -> UnitTable:
        """Return the search units by block: those of every kernel size, and tokens."""
        full = self.full_units()
        rows = []
        for name, shape in self.shapes().items():
            place, branch = _place(name)
            text = f"{shape.channels_in}->{shape.channels_out}" + (f" /{shape.stride}" if shape.stride > 1 else "")
            left, most = ((*units.hidden, units.tokens) for units in (self.units[name], full[name]))
            rows.append(UnitRow(name, text, place, branch, f"blocks.{name}.", left, most))
        return UnitTable((*(f"{kernel}x{kernel}" for kernel in self.style.kernels), "tokens"), tuple(rows))

    def check_transfer(self, head: Spec | None, network: str) -> None:
        """Refuse a head, or the network of a recipe, of another family."""
        if head is not None:
            _check_supernet(head)
        if find_family(network).name != self.family:
            raise UserError(f"transfer takes the recipe of a supernet; this one's supernet.name is {network}")

    def join_head(self, head: Spec | None, target: TransferTarget) -> Callable[..., Spec]:
        """Return what makes a full supernet with this stem and these stages, and a head for the target.

        The head is that of ``head``; this one's own if it is for the same task; or else the recipe's.
        """
        settings = {name: getattr(self, name) for name in _FEATURE_SETTINGS} | dataclasses.asdict(self.style)
        behind = self if head is None else _check_supernet(head)
        if behind.head == target.head:
            check_join(self, behind)
            kept = {name: getattr(behind, name) for name in ("head", *self.head_settings)}
            return partial(target.create, target.network, **settings, **kept)
        if head is not None:
            raise UserError(
                f"--head is a ticket for {behind.head}, the data is for {target.head}; take one of that task"
            )
        chosen = {name: value for name, value in target.settings.items() if name in self.head_settings}
        usual = _check_supernet(target.create(target.network, image_size=target.image_size))
        branches, widths = len(self.channels[-1]), chosen.get("head_channels", usual.head_channels)
        if target.head == "classification" and len(widths) != branches:
            raise UserError(
                f"the head of {target.name} is for {len(widths)} branches (of {list(widths)} channels), the ticket's "
                f"features have {branches}; set supernet.settings.head_channels to {branches} numbers"
            )
        return partial(target.create, target.network, **settings, head=target.head, **chosen)

    def join_units(self, features: Spec, behind: Spec) -> HRNetSpec:
        """Return the spec with the units left in stem and stages of one network and in the head of another."""
        own, others = _check_supernet(features).units, _check_supernet(behind).units
        units = {name: left for name, left in own.items() if _of_features(name)}
        return dataclasses.replace(
            self, units=units | {name: left for name, left in others.items() if not _of_features(name)}
        )

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON with the family's name."""
        return {"family": "hrnet", **dataclasses.asdict(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> HRNetSpec:
        """Reads what `to_json` wrote."""
        fields = {k: as_tuples(v) for k, v in data.items() if k not in ("family", "style", "units")}
        style = BlockStyle(**{k: as_tuples(v) for k, v in data["style"].items()})
        units = {k: Units(hidden=tuple(u["hidden"]), tokens=u["tokens"]) for k, u in data["units"].items()}
        return HRNetSpec(**fields, style=style, units=units)


def _neighbours(branch: int, count: int) -> range:
    """The branches that a fuse module adds up for one output: itself and those next to it."""
    return range(max(branch - 1, 0), min(branch + 2, count))


_MOST_UNITS = 1 << 16  # of a block
_FEATURE_SETTINGS = ("stem_channels", "stem_strides", "channels", "blocks", "expansion", "tokens")


def _place(block: str) -> tuple[str, int]:
    """Return the place of a block, for tables and figures, and its branch from 1.

    Places are the parallel and the fuse modules of every stage, and the head; what leads to a branch belongs to it.
    """
    if match := re.fullmatch(r"s(\d+)_b(\d+)_\d+", block):
        return f"stage {int(match[1]) + 1}", int(match[2]) + 1
    if match := re.fullmatch(r"s(\d+)_(?:fuse_\d+to|new_)(\d+)", block):
        return f"fuse {int(match[1]) + 1}", int(match[2]) + 1
    match = re.search(r"_(\d+)$", block)
    return "head", int(match[1]) + 1 if match else 1


def _check_supernet(spec: Spec) -> HRNetSpec:
    if not isinstance(spec, HRNetSpec):
        raise UserError(f"the head of {spec} does not fit a supernet; give --head a ticket of a supernet")
    return spec


def check_join(features: HRNetSpec, head: HRNetSpec) -> None:
    """Refuse a head that was trained over other maps than the features make.

    Raises:
        UserError: Names the first difference.
    """
    has_tokens = any(units.tokens for name, units in head.units.items() if not _of_features(name))
    pairs: list[tuple[str, Any, Any]] = [
        ("branches", len(features.channels[-1]), len(head.channels[-1])),
        ("channels of the last stage", features.channels[-1], head.channels[-1]),
        ("stem strides", features.stem_strides, head.stem_strides),
        ("kernels", features.style.kernels, head.style.kernels),
        ("expansion", features.expansion, head.expansion),
        *([("grid", features.style.grid, head.style.grid)] if has_tokens else []),
        *([("tokens", features.tokens, head.tokens)] if has_tokens else []),
    ]
    for what, ours, theirs in pairs:
        if ours != theirs:
            raise UserError(
                f"the head does not fit the features: its ticket has {what} {_format(theirs)}, "
                f"theirs has {_format(ours)}; "
                "draw both from supernets with the same stem and stages, or leave --head out"
            )


def _of_features(block: str) -> bool:
    return HRNet.is_feature(f"blocks.{block}.")


def _format(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


class HRNet(Network):
    """The network of an `HRNetSpec`.

    Shapes: input (B, in_channels, H, W); output (B, num_classes) for classification, else
    (B, num_classes, H / s, W / s) with s the stem's stride.
    """

    def __init__(self, spec: HRNetSpec) -> None:
        super().__init__()
        self.spec: HRNetSpec = spec
        widths = (spec.in_channels, *spec.stem_channels)
        self.stem = nn.Sequential()
        for low, high, stride in zip(widths, spec.stem_channels, spec.stem_strides, strict=False):
            self.stem.append(nn.Conv2d(low, high, 3, stride, 1, bias=False))
            self.stem.append(spec.style.batch_norm(high))
            self.stem.append(nn.ReLU(inplace=True))
        self.blocks = nn.ModuleDict(
            {name: MixBlock(shape, spec.units[name], spec.style) for name, shape in spec.shapes().items()}
        )
        if spec.head == "classification":
            self.last_conv = nn.Conv2d(spec.head_channels[-1], spec.last_channels, 1, bias=False)
            self.last_bn = spec.style.batch_norm(spec.last_channels)
            self.dropout = nn.Dropout(spec.dropout)
            self.classifier: nn.Linear | nn.Conv2d = nn.Linear(spec.last_channels, spec.num_classes)
        else:
            self.classifier = nn.Conv2d(spec.last_channels, spec.num_classes, 1)
        self._initialise()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        branches = self.features(x_BCHW)
        return self._scores(branches) if self.spec.head == "classification" else self._maps(branches)

    def maskable_weights(self, *, transformer: bool = False, classifier: bool = False) -> list[str]:
        """Names of the weights that pruning covers: every convolution but the classifier, stem and shortcuts included.

        Args:
            transformer: Whether the Transformer's convolutions and linear layers count too.
            classifier: Whether the classifier counts too.
        """

        def counts(name: str, layer: nn.Module) -> bool:
            if name == "classifier":
                return classifier
            if ".tokens." in name:
                return transformer and isinstance(layer, nn.Conv2d | nn.Linear)
            return isinstance(layer, nn.Conv2d)

        return [f"{name}.weight" for name, layer in self.named_modules() if counts(name, layer)]

    @staticmethod
    def is_feature(name: str) -> bool:
        """Return whether a parameter or buffer of that name belongs to stem or stages, not to the head."""
        return name.startswith("stem.") or (name.startswith("blocks.") and not name.startswith("blocks.head_"))

    def folded(self) -> HRNet:
        """Return a copy in eval mode whose searching blocks are in their form for inference; see `fold_norms`."""
        return fold_norms(self)

    def features(self, x_BCHW: Tensor) -> list[Tensor]:
        """Runs stem and stages; returns one map per branch, finest first."""
        branches = [self.stem(x_BCHW)]
        for s, depths in enumerate(self.spec.blocks):
            branches = self._fuse(s, branches)
            for b, depth in enumerate(depths):
                for d in range(depth):
                    branches[b] = self.blocks[f"s{s}_b{b}_{d}"](branches[b])
        return branches

    def _fuse(self, s: int, sources: list[Tensor]) -> list[Tensor]:
        fused = []
        for target in range(len(sources)):
            total: Tensor | None = None
            for source in _neighbours(target, len(sources)):
                part = self.blocks[f"s{s}_fuse_{source}to{target}"](sources[source])
                if source > target:
                    part = F.interpolate(part, scale_factor=2, mode="nearest")
                # An upsampled map may be larger by one (odd inputs).
                total = part if total is None else total + resize(part, *total.shape[-2:])
            assert total is not None
            fused.append(F.relu(total))
        for target in range(len(sources), len(self.spec.channels[s])):
            fused.append(self.blocks[f"s{s}_new_{target}"](fused[-1]))
        return fused

    def _scores(self, branches: list[Tensor]) -> Tensor:
        total = self.blocks["head_raise_0"](branches[0])
        for b in range(1, len(branches)):
            total = self.blocks[f"head_raise_{b}"](branches[b]) + self.blocks[f"head_down_{b}"](total)
        pooled = F.relu(self.last_bn(self.last_conv(total))).mean((2, 3))
        return self.classifier(self.dropout(pooled))

    def _maps(self, branches: list[Tensor]) -> Tensor:
        fine = [branches[0]]
        for branch in branches[1:]:
            fine.append(F.interpolate(branch, size=branches[0].shape[-2:], mode="bilinear", align_corners=False))
        return self.classifier(self.blocks["head_transform"](torch.cat(fine, dim=1)))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels * math.prod(module.kernel_size) // module.groups
                nn.init.normal_(module.weight, std=self.spec.init_std or math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if isinstance(self.classifier, nn.Conv2d) and self.spec.init_std is None:
            # Features add up over the stages; scores that start in the tens cost a short training its first epochs.
            nn.init.normal_(self.classifier.weight, std=0.01)
        if isinstance(self.classifier, nn.Linear):
            bound = 1 / math.sqrt(self.classifier.out_features)
            nn.init.uniform_(self.classifier.weight, -bound, bound)
            nn.init.zeros_(self.classifier.bias)
