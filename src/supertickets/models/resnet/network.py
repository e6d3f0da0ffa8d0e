"""ResNets with self-attention modules on their residual branches, and which of them are connected (LTH4SA).

A *connection scheme* a in {0, 1}^m says for each of the m blocks whether its module scales the branch (Eq. 3). A
network holds the modules of all blocks that its spec connects, and can be run with any scheme within these; the cut of
a scheme has no other modules.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import UserError, suggest
from ..base import Choice, Decision, Head, Network, Spec, TransferTarget, as_tuples
from ..heads import HEAD_SETTINGS, FeatureMap, HeadedSpec, keep_last_of_stride, list_stage_maps
from .attention import State, make_attention
from .dense_head import SQUEEZE, dense_head

EXPANSION = 4  # of a bottleneck: channels out per channel inside
_STEM_STRIDES = {"small": 1, "large": 4}
_STRIDES = (1, 2, 4, 8, 16, 32)
_HEAD_SETTINGS = ("output_stride", *HEAD_SETTINGS)
_BETWEEN = "|"  # of a scheme's stages


@dataclass(frozen=True, kw_only=True)
class ResNetSpec(HeadedSpec):
    """Exact description of a bottleneck ResNet, activation behind the addition.

    Attributes:
        blocks: Per stage; its first block has a 1x1 convolution on the shortcut, and halves the map but in the first
            stage.
        widths: Channels inside the blocks of a stage; four times as many leave them.
        stem: 3x3 on small images; or 7x7 with stride 2 and max-pooling.
        bias: Whether convolutions have biases, as in the paper's networks for ImageNet.
        attention: Kind of module (`attention.make_attention`); None for none.
        sharing: Whether every block has a module of its own (Full-SA), or those of a stage share one (Full-Share).
        ratio: See `attention.make_attention`.
        groups: See `attention.make_attention`.
        connected: The scheme, a flag per block.
        output_stride: Pixels of the input per cell of the last map, at most. A stage that would make it coarser keeps
            its size, and its blocks dilate instead.
        neck: What makes maps: "dilated", a convolution over the last map (`dense_head.dense_head`); or what joins the
            maps of all stages, "fpn" or "lraspp".
        num_classes: Classes or joints; 1 for a density.
        in_channels: Channels of the input image.
        image_size: Height and width that costs refer to, in pixels.

    Raises:
        UserError: There is no such head, neck or stride, a density is one of several kinds of things, or blocks are
            connected to no attention.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    stem: Literal["small", "large"]
    bias: bool = False
    attention: str | None = None
    sharing: Literal["none", "stage"] = "none"
    ratio: int = 16
    groups: int = 4
    connected: tuple[bool, ...] = ()
    output_stride: int = 32
    neck: str = "dilated"
    num_classes: int = 100
    in_channels: int = 3
    image_size: tuple[int, int] = (32, 32)
    head_settings: ClassVar[tuple[str, ...] | None] = _HEAD_SETTINGS
    necks: ClassVar[tuple[str, ...]] = ("dilated", "fpn", "lraspp")

    def __post_init__(self) -> None:
        super().__post_init__()
        strides = [stride for stride in _STRIDES if stride >= _STEM_STRIDES[self.stem]]
        if self.output_stride not in strides:
            known = ", ".join(map(str, strides))
            raise UserError(f"supernet.settings.output_stride is {self.output_stride}; take one of {known}")
        if self.attention is None and any(self.connected):
            raise UserError("a network without attention has connected blocks; name its attention, e.g. se")

    def __str__(self) -> str:
        if self.attention is None:
            return f"a ResNet of {sum(self.blocks)} blocks"
        return f"a ResNet of {sum(self.blocks)} blocks, {self.attention} on {self.scheme}"

    @property
    def family(self) -> str:
        return "resnet"

    @property
    def coarsest_stride(self) -> int:
        """Pixels of the input per cell of the last map, in each direction."""
        return _STEM_STRIDES[self.stem] * math.prod(step for step, _, _ in self.steps())

    @property
    def joins_maps(self) -> bool:
        """Return whether the head takes the maps of all stages, not the last one alone."""
        return self.head == "detection" or (self.head != "classification" and self.neck != "dilated")

    def maps(self) -> list[FeatureMap]:
        """List the maps that the stages end with, finest first; of equally fine ones the last."""
        return list_stage_maps(
            [EXPANSION * width for width in self.widths],
            [step for step, _, _ in self.steps()],
            _STEM_STRIDES[self.stem],
        )

    def steps(self) -> list[tuple[int, int, int]]:
        """Per stage: stride and dilation of its first block, dilation of the others (as torchvision dilates)."""
        steps, stride, dilation = list[tuple[int, int, int]](), _STEM_STRIDES[self.stem], 1
        for stage in range(len(self.blocks)):
            step, before = 2 if stage else 1, dilation
            if stride * step > self.output_stride:
                step, dilation = 1, dilation * step
            stride *= step
            steps.append((step, before, dilation))
        return steps

    def names(self) -> list[list[str]]:
        """Blocks by stage, as decisions name them."""
        return [[f"s{stage}.b{i}" for i in range(number)] for stage, number in enumerate(self.blocks, start=1)]

    def decisions(self) -> tuple[Decision, ...]:
        """List whether each connected block stays so, in the order of the blocks."""
        names = (name for stage in self.names() for name in stage)
        blocks = zip(names, self.connected, strict=True)
        return tuple(Decision(name, (False, True)) for name, is_connected in blocks if is_connected)

    def select(self, choices: Mapping[str, Choice]) -> ResNetSpec:
        """Returns the spec with fewer connections: blocks that ``choices`` names stay connected only if it says so."""
        names = [name for stage in self.names() for name in stage]
        kept = (flag and bool(choices.get(name, True)) for name, flag in zip(names, self.connected, strict=True))
        return dataclasses.replace(self, connected=tuple(kept))

    @property
    def scheme(self) -> str:
        """The connection scheme as text: a digit per block, stages apart, e.g. ``100|1011|010011|011``."""
        digits = iter("1" if flag else "0" for flag in self.connected)
        return _BETWEEN.join("".join(next(digits) for _ in range(number)) for number in self.blocks)

    def with_scheme(self, scheme: str | int) -> ResNetSpec:
        """Returns the spec with fewer connections, as `scheme` writes them.

        Raises:
            UserError: It is no scheme of these blocks, or connects one that has no module.
        """
        connected = read_scheme(scheme, self)
        if any(wanted and not has for wanted, has in zip(connected, self.connected, strict=True)):
            raise UserError(f"supernet.settings.scheme is {scheme}, which is no part of the ticket's, {self.scheme}")
        return dataclasses.replace(self, connected=connected)

    def with_connections(self, connected: bool) -> ResNetSpec:
        """Return the spec with all blocks connected, or none."""
        return dataclasses.replace(self, connected=(connected,) * len(self.connected))

    def refit(self, settings: Mapping[str, Any], fitted: Mapping[str, Any]) -> ResNetSpec:
        """Return the same architecture for other data; ``scheme`` may leave connections out."""
        rest = dict(settings)
        spec = self.with_scheme(rest.pop("scheme")) if "scheme" in rest else self
        return Spec.refit(spec, rest, fitted)

    def reference_specs(self) -> dict[str, Spec]:
        """Return the dense supernet; with attention modules, it has all of them connected.

        A ResNet without a connection then stands in front, so that increments over it can be told (LTH4SA, Eq. 7).
        """
        if self.attention is None:
            return {"dense supernet": self.full()}
        return {"no connection": self.with_connections(False), "all connected": self.with_connections(True)}

    def join_head(self, head: Spec | None, target: TransferTarget) -> Callable[..., Spec]:
        """Return what makes this network with a fresh head, if the target needs another kind."""
        if self.head == target.head:
            return partial(dataclasses.replace, self)
        chosen = {name: value for name, value in target.settings.items() if name in _HEAD_SETTINGS}
        usual = default_output_stride(target.head, chosen.get("neck", self.neck))
        return partial(dataclasses.replace, self, **{"head": target.head, "output_stride": usual, **chosen})

    def build(self) -> ResNet:
        """Makes the network with fresh weights."""
        return ResNet(self)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON with the family's name."""
        return {"family": "resnet", **dataclasses.asdict(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ResNetSpec:
        """Reads what `to_json` wrote.

        Raises:
            UserError: There are not as many flags as blocks.
        """
        spec = ResNetSpec(**{name: as_tuples(value) for name, value in data.items() if name != "family"})
        if len(spec.connected) != sum(spec.blocks):
            raise UserError(f"{len(spec.connected)} flags say which of {sum(spec.blocks)} blocks are connected")
        return spec


def require_resnet(spec: Spec) -> ResNetSpec:
    """Return a spec as that of a ResNet, whose connection schemes are searched.

    Raises:
        UserError: It is of another family.
    """
    if not isinstance(spec, ResNetSpec):
        raise UserError(f"connections are those of a ResNet's attention modules, which {spec} has not; take a ResNet")
    return spec


class ResNet(Network):
    """The network of a `ResNetSpec`.

    Shapes: input (B, in_channels, H, W); output (B, num_classes) for classification, else (B, num_classes, h, w) with
    h = H / s, rounded up, and s the spec's output stride.
    """

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.spec: ResNetSpec = spec
        width = spec.widths[0]
        if spec.stem == "small":
            self.stem = nn.Conv2d(spec.in_channels, width, 3, 1, 1, bias=spec.bias)
        else:
            self.stem = nn.Conv2d(spec.in_channels, width, 7, 2, 3, bias=spec.bias)
        self.stem_bn = nn.BatchNorm2d(width)
        self.blocks = nn.ModuleDict()
        self.attention = nn.ModuleDict()  # by block, or by stage if shared
        flags = iter(spec.connected)
        for names, inside, (step, first, rest) in zip(spec.names(), spec.widths, spec.steps(), strict=True):
            for i, name in enumerate(names):
                stride, dilation = (1, rest) if i else (step, first)
                self.blocks[_key(name)] = _Block(width, inside, stride, dilation, shortcut=i == 0, bias=spec.bias)
                width = EXPANSION * inside
                if next(flags) and (place := self._place(name)) not in self.attention:
                    assert spec.attention is not None
                    self.attention[place] = make_attention(spec.attention, width, spec.ratio, spec.groups)
        self.classifier: nn.Module
        if spec.joins_maps:
            self._initialise()
            self.head, self.classifier = spec.make_head(spec.maps())
            return
        if spec.head == "classification":
            self.classifier = nn.Linear(width, spec.num_classes)
        else:
            self.head = dense_head(width, dropout=0.1 if spec.head == "segmentation" else 0.0)
            self.classifier = nn.Conv2d(width // SQUEEZE, spec.num_classes, 1)
        self._initialise()

    def forward(self, x_BCHW: Tensor, choices: Mapping[str, Choice | Tensor] | None = None) -> Tensor:
        """Runs the network with a connection scheme.

        Args:
            x_BCHW: Images.
            choices: By block, whether its module is connected, or how much (`join`); those that are not named are
                connected if they have one.
        """
        for name in choices or {}:
            if _key(name) not in self.blocks:
                raise UserError(f"no block is named {name}{suggest(name, itertools.chain(*self.spec.names()))}")
        return self.finish(self.features(x_BCHW, choices or {}))

    def features(self, x_BCHW: Tensor, choices: Mapping[str, Choice | Tensor]) -> list[Tensor]:
        """Runs stem and stages with a connection scheme, as `forward`; returns the last map of every stage."""
        x_BCHW = self.begin(x_BCHW)
        flags = iter(self.spec.connected)
        maps = []
        for names in self.spec.names():
            state: State = None
            for name in names:
                connected = next(flags) and choices.get(name, True)
                x_BCHW, state = self.join(name, *self.run_branch(name, x_BCHW), state, connected=connected)
            maps.append(x_BCHW)
        return maps

    def begin(self, x_BCHW: Tensor) -> Tensor:
        """Runs what lies before the blocks."""
        x_BCHW = F.relu(self.stem_bn(self.stem(x_BCHW)))
        return F.max_pool2d(x_BCHW, 3, 2, 1) if self.spec.stem == "large" else x_BCHW

    def run_branch(self, name: str, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the convolutions of a block; returns its branch and its shortcut."""
        branch_BCHW, shortcut_BCHW = self.blocks[_key(name)](x_BCHW)
        return branch_BCHW, shortcut_BCHW

    def join(
        self, name: str, branch_BCHW: Tensor, shortcut_BCHW: Tensor, state: State, *, connected: Choice | Tensor
    ) -> tuple[Tensor, State]:
        """Ends a block: scales its branch, if it is connected, and adds it to the shortcut (Eq. 3).

        Args:
            name: The block.
            branch_BCHW: Its branch.
            shortcut_BCHW: Its shortcut.
            state: What the attention module of its stage remembers.
            connected: Whether the module scales the branch; or a number from 0 to 1, how much.

        Returns:
            The map behind the block; what the module remembers now.
        """
        if isinstance(connected, Tensor):
            scaled_BCHW, state = self.attention_of(name)(branch_BCHW, state)
            branch_BCHW = connected * scaled_BCHW + (1 - connected) * branch_BCHW
        elif connected:
            branch_BCHW, state = self.attention_of(name)(branch_BCHW, state)
        return F.relu(branch_BCHW + shortcut_BCHW), state

    def finish(self, maps: Sequence[Tensor]) -> Tensor:
        """Runs what lies behind the blocks, given the last map of every stage."""
        if self.spec.joins_maps:
            x: Tensor = self.head(keep_last_of_stride(maps, [step for step, _, _ in self.spec.steps()]))
        else:
            x = maps[-1].mean((2, 3)) if self.spec.head == "classification" else self.head(maps[-1])
        out: Tensor = self.classifier(x)
        return out

    def attention_of(self, name: str) -> nn.Module:
        """The attention module of a block, which it may share with others."""
        return self.attention[self._place(name)]

    def maskable_weights(self, *, transformer: bool = False, classifier: bool = False) -> list[str]:
        """Names of the weights that pruning covers: all of convolutions and linear layers but the classifier's."""
        names = [f"{name}.weight" for name, m in self.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        return [name for name in names if classifier or not name.startswith("classifier.")]

    @staticmethod
    def is_feature(name: str) -> bool:
        """Return whether a parameter or buffer of that name belongs to the features, not to the head."""
        return not name.startswith(("head.", "classifier."))

    def _place(self, name: str) -> str:
        """Return the place where a block's module is kept."""
        return name.partition(".")[0] if self.spec.sharing == "stage" else _key(name)

    def _initialise(self) -> None:
        """Convolutions He-normal by their outputs, a classifier of maps near zero; all else as usual."""
        for name, conv in self.named_modules():
            if isinstance(conv, nn.Conv2d) and not name.startswith("attention."):
                usual = math.sqrt(2 / (conv.weight[0, 0].numel() * conv.out_channels))
                nn.init.normal_(conv.weight, std=0.01 if name == "classifier" else usual)
                if name == "classifier" and conv.bias is not None:
                    nn.init.zeros_(conv.bias)


class _Block(nn.Module):
    """A bottleneck: 1x1, 3x3 with stride and dilation, 1x1; returns the branch and the shortcut, to be added."""

    def __init__(self, width: int, inside: int, stride: int, dilation: int, *, shortcut: bool, bias: bool) -> None:
        super().__init__()
        out = EXPANSION * inside
        self.branch = nn.Sequential(
            nn.Conv2d(width, inside, 1, bias=bias),
            nn.BatchNorm2d(inside),
            nn.ReLU(),
            nn.Conv2d(inside, inside, 3, stride, dilation, dilation, bias=bias),
            nn.BatchNorm2d(inside),
            nn.ReLU(),
            nn.Conv2d(inside, out, 1, bias=bias),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if shortcut:
            self.shortcut = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=bias), nn.BatchNorm2d(out))

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        return self.branch(x_BCHW), self.shortcut(x_BCHW)


def default_output_stride(head: Head, neck: str) -> int:
    """The output stride that a head has unless it is set: large stems dilate for the one that sees the last map."""
    return 32 if head in ("classification", "detection") or neck != "dilated" else 8


def read_scheme(scheme: str | int | None, spec: ResNetSpec) -> tuple[bool, ...]:
    """Read a scheme: a flag per block, all of them set if it is absent."""
    if scheme is None:
        return (True,) * sum(spec.blocks)
    # A command line makes a number of digits without strokes.
    text = str(scheme).zfill(sum(spec.blocks)) if isinstance(scheme, int) else str(scheme)
    stages = text.split(_BETWEEN)
    digits = "".join(stages)
    fits = tuple(map(len, stages)) == spec.blocks or len(stages) == 1
    if not fits or len(digits) != sum(spec.blocks) or set(digits) - {"0", "1"}:
        usual = _BETWEEN.join("1" * number for number in spec.blocks)
        raise UserError(f'supernet.settings.scheme is {scheme}; give a 0 or 1 per block, in quotes, e.g. "{usual}"')
    return tuple(digit == "1" for digit in digits)


def _key(name: str) -> str:
    """A block's name among modules."""
    return name.replace(".", "_")
