"""The network of a `MobileSpec`: one network, or the weights that all networks of a space share (TuNAS, Sec. 4.1).

*Operations are collapsed*: all options of a layer share its pointwise convolutions, and there is one depthwise
convolution with its batch norm per kernel size. *Channels are masked* by cutting: a narrower network uses the first
channels of every weight, so that what is not chosen is not computed. The cut of one network out of the shared weights
is the network itself.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..base import Choice, Network
from .shared_weights import Style, conv_first, linear_first
from .spec import Layer, MobileSpec, options_per_decision, scale_filters, squeeze_channels
from .ssdlite import SSDLite

# Answers to decisions; None means all options at once, averaged (op warm-up).
Choices = Mapping[str, Choice | None]

_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "swish6": F.hardswish,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": F.hardsigmoid,
}


class MobileNetwork(Network):
    """The network of a `MobileSpec`.

    Shapes: input (B, in_channels, H, W); output (B, num_classes), or for detection that of `SSDLite`.
    """

    def __init__(self, spec: MobileSpec) -> None:
        super().__init__()
        self.spec: MobileSpec = spec
        style = Style(spec, stateless=spec.is_search_space() and spec.statistics == "batch")
        width = spec.in_channels
        self.blocks = nn.ModuleDict()
        for block in spec.blocks:
            layers = nn.ModuleList()
            for layer in block.layers:
                kind = _Layer if spec.collapsed or len(options_per_decision(layer)) == 1 else _SeparatePaths
                layers.append(kind(layer, width, max(block.filters), style))
                width = max(block.filters)
            self.blocks[block.name] = layers
        if spec.head == "detection":
            self.last_halving = spec.last_halving()
            self.detector = SSDLite(max(spec.fine_filters()), width, style)
        else:
            self.last: nn.Linear | None = None
            if spec.last_filters:
                self.last = nn.Linear(width, max(spec.last_filters))
                width = max(spec.last_filters)
            self.dropout = nn.Dropout(spec.dropout)
            self.classifier = nn.Linear(width, spec.num_classes)
        self._initialise()

    def forward(self, x_BCHW: Tensor, choices: Choices | None = None) -> Tensor:
        """Runs the network of these choices.

        Args:
            x_BCHW: Images.
            choices: Answers to the spec's decisions; what is absent is the largest option.
        """
        spec, chosen = self.spec, choices or {}
        fine_BCHW = x_BCHW
        for block in spec.blocks:
            width = _first_channels(chosen, f"{block.name}.filters", block.filters)
            layers = self.blocks[block.name]
            assert isinstance(layers, nn.ModuleList)
            for i, layer in enumerate(layers):
                if spec.head == "detection" and (block.name, i) == self.last_halving:
                    fine_BCHW = x_BCHW
                x_BCHW = layer(x_BCHW, f"{block.name}.{i}", chosen, width)
        if spec.head == "detection":
            predictions: Tensor = self.detector(fine_BCHW, x_BCHW)
            return predictions
        x_BC = x_BCHW.mean((2, 3))
        if self.last is not None:
            x_BC = linear_first(self.last, x_BC, _first_channels(chosen, "last.filters", spec.last_filters))
            x_BC = _ACTIVATIONS[spec.last_activation](x_BC)
        return linear_first(self.classifier, self.dropout(x_BC), spec.num_classes)

    def maskable_weights(self, *, transformer: bool = False, classifier: bool = False) -> list[str]:
        """Names of the weights that pruning covers: all of convolutions and linear layers but the classifier's.

        What makes a detector's predictions counts as its classifier; the rest of its head is pruned like any layer.
        """
        found = [f"{name}.weight" for name, m in self.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        last = {"classifier.weight"}
        if self.spec.head == "detection":
            last = {f"detector.{name}" for name in self.detector.outputs()}
        return [name for name in found if classifier or name not in last]

    def extract_subnet(self, choices: Mapping[str, Choice]) -> MobileNetwork:
        """Copies the network of these choices out of the shared weights; random numbers stay as they are.

        Where all networks use the statistics of their batch, there are no running ones to copy: measure those of the
        copy before it is evaluated.

        Args:
            choices: An answer to every decision that means anything.
        """
        with torch.random.fork_rng(devices=[]):
            network = self.spec.select(choices).build().to(next(self.parameters()))
        network.load_state_dict(slice_state_dict(self.spec, choices, self.state_dict()))
        return network

    def _initialise(self) -> None:
        """He-normal by the inputs of an output, truncated; the classifier's weights have a deviation of 0.01.

        A detector's stay as torchvision has them.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and not name.startswith("detector."):
                deviation = 0.01
                if name != "classifier":
                    deviation = (2 / module.weight[0].numel()) ** 0.5 / 0.87962566  # what truncation takes away
                nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class _Layer(nn.Module):
    """A layer with all its options."""

    def __init__(self, layer: Layer, width_in: int, width_out: int, style: Style) -> None:
        super().__init__()
        self.layer, self.style = layer, style
        self.activation = _ACTIVATIONS[layer.activation]
        self.pads_apart = layer.stride > 1 and style.spec.padding == "same_tf"
        hidden = width_in
        if layer.kind == "bottleneck":
            hidden = scale_filters(width_in, max(layer.expansions))
            self.expand = nn.Conv2d(width_in, hidden, 1, bias=False)
            self.expand_bn = style.batch_norm(hidden)
        mixed = width_out if layer.kind == "conv" else hidden
        groups = 1 if layer.kind == "conv" else hidden
        self.convs = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        for k in layer.kernels:
            padding = 0 if self.pads_apart else k // 2
            self.convs[f"k{k}"] = nn.Conv2d(hidden, mixed, k, layer.stride, padding, groups=groups, bias=False)
            self.norms[f"k{k}"] = style.batch_norm(mixed)
        if True in layer.se:
            self.se = _SqueezeExcite(hidden, _ACTIVATIONS[style.spec.gate])
        if layer.kind != "conv":
            self.project = nn.Conv2d(hidden, width_out, 1, bias=False)
            self.project_bn = style.batch_norm(width_out)

    def forward(self, x_BCHW: Tensor, at: str, chosen: Choices, width: int) -> Tensor:
        """Runs the layer.

        Args:
            x_BCHW: As many channels as were chosen before.
            at: Name of the layer in the decisions.
            chosen: Answers.
            width: Channels out.
        """
        layer = self.layer
        skip = chosen.get(f"{at}.skip", False) if True in layer.skips else False
        if skip is True:
            return x_BCHW
        out = x_BCHW
        if layer.kind == "bottleneck":
            hidden = scale_filters(x_BCHW.shape[1], _first_channels(chosen, f"{at}.expansion", layer.expansions))
            out = self.activation(self.style.normalise(self.expand_bn, conv_first(self.expand, out, hidden)))
        mixed = width if layer.kind == "conv" else out.shape[1]
        kernel = chosen.get(f"{at}.kernel", max(layer.kernels))
        kernels = layer.kernels if kernel is None else (kernel,)
        again = self.style.stateless
        out = _averaged([partial(self._mix, int(k), width=mixed) for k in kernels], out, again=again)
        se = chosen.get(f"{at}.se", max(layer.se))
        if se is None:
            out = _averaged([nn.Identity(), self.se], out, again=again)
        elif se:
            out = self.se(out)
        if layer.kind != "conv":
            out = self.style.normalise(self.project_bn, conv_first(self.project, out, width))
        if skip is None:  # averaged with nothing
            out = out / 2
        return x_BCHW + out if layer.residual else out

    def _mix(self, kernel: int, x_BCHW: Tensor, width: int) -> Tensor:
        """The convolution of one kernel size, its batch norm and activation."""
        conv = self.convs[f"k{kernel}"]
        assert isinstance(conv, nn.Conv2d)
        norm = self.norms[f"k{kernel}"]
        assert isinstance(norm, nn.BatchNorm2d)
        if self.pads_apart:
            x_BCHW = _pad_input(x_BCHW, kernel, self.layer.stride)
        return self.activation(self.style.normalise(norm, conv_first(conv, x_BCHW, width)))


def _averaged(options: Sequence[Callable[[Tensor], Tensor]], x_BCHW: Tensor, *, again: bool) -> Tensor:
    """The mean of the options; several may be computed again in the backward, so that memory holds one at a time."""
    if len(options) == 1:
        return options[0](x_BCHW)
    if again and torch.is_grad_enabled():
        options = [partial(checkpoint, option, use_reentrant=False) for option in options]
    total = options[0](x_BCHW)
    for option in options[1:]:
        total = total + option(x_BCHW)
    return total / len(options)


class _SeparatePaths(nn.Module):
    """A layer whose options share nothing: a whole layer for each."""

    def __init__(self, layer: Layer, width_in: int, width_out: int, style: Style) -> None:
        super().__init__()
        self.layer, self.style = layer, style
        self.options = nn.ModuleDict(
            {_key(option): _Layer(option, width_in, width_out, style) for option in options_per_decision(layer)}
        )

    def forward(self, x_BCHW: Tensor, at: str, chosen: Choices, width: int) -> Tensor:
        """Runs the layer; see `_Layer`."""
        layer = self.layer
        if layer.skips and chosen.get(f"{at}.skip", False) is True:
            return x_BCHW
        largest = _complete_choices(at, max(layer.kernels), max(layer.expansions, default=None), max(layer.se))
        asked = {name: chosen.get(name, answer) for name, answer in largest.items()}
        wanted: list[Callable[[Tensor], Tensor]] = []
        for option in options_per_decision(layer):
            own = _complete_choices(at, option.kernels[0], max(option.expansions, default=None), option.se[0])
            if all(asked[name] is None or asked[name] == own[name] for name in own):
                told = {**own, f"{at}.skip": chosen.get(f"{at}.skip", False)}
                wanted.append(partial(self.options[_key(option)], at=at, chosen=told, width=width))
        return _averaged(wanted, x_BCHW, again=self.style.stateless)


def _complete_choices(at: str, kernel: int, expansion: float | None, se: bool) -> dict[str, Choice]:
    found: dict[str, Choice] = {f"{at}.kernel": kernel, f"{at}.se": se}
    return found if expansion is None else {**found, f"{at}.expansion": expansion}


def _key(option: Layer) -> str:
    """Name of a layer's option among its modules."""
    expansion = f"e{option.expansions[0]:g}".replace(".", "_") if option.expansions else ""
    return f"k{option.kernels[0]}{expansion}{'se' if option.se[0] else ''}"


class SingleLayer(nn.Module):
    """A layer by itself, with one option each, e.g. to measure it."""

    def __init__(self, layer: Layer, width_in: int, width_out: int, spec: MobileSpec) -> None:
        super().__init__()
        self.layer, self.width_out = _Layer(layer, width_in, width_out, Style(spec, stateless=False)), width_out

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.layer(x_BCHW, "", {}, self.width_out)
        return out


class _SqueezeExcite(nn.Module):
    """Scales channels by a gate that sees their means (Hu et al., 2018), on the first channels."""

    def __init__(self, hidden: int, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(hidden, squeeze_channels(hidden), 1)
        self.excite = nn.Conv2d(squeeze_channels(hidden), hidden, 1)
        self.gate = gate

    def forward(self, x_BCHW: Tensor) -> Tensor:
        hidden = x_BCHW.shape[1]
        small = F.relu(conv_first(self.squeeze, x_BCHW.mean((2, 3), keepdim=True), squeeze_channels(hidden)))
        return x_BCHW * self.gate(conv_first(self.excite, small, hidden))


def slice_state_dict(
    spec: MobileSpec, choices: Mapping[str, Choice], shared: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Cuts the tensors of one network out of shared ones: its weights, or masks of them.

    Args:
        spec: Of what is shared.
        choices: An answer to every decision that means anything.
        shared: Named and shaped like the tensors of the shared network; some may be absent.

    Returns:
        Named and shaped like those of ``spec.narrow(choices)``; views.
    """
    network = spec.select(choices)
    with torch.device("meta"):
        own = network.build().state_dict()
    kept = {block.name: block.layers for block in network.blocks}
    places: dict[str, str] = {}
    for block in spec.blocks:
        stays = [i for i in range(len(block.layers)) if choices.get(f"{block.name}.{i}.skip") is not True]
        for new, old in enumerate(stays):
            is_apart = not spec.collapsed and len(options_per_decision(block.layers[old])) > 1
            apart = f"options.{_key(kept[block.name][new])}." if is_apart else ""
            places[f"blocks.{block.name}.{new}."] = f"blocks.{block.name}.{old}.{apart}"
    found = {}
    for name, tensor in own.items():
        prefix = next((p for p in places if name.startswith(p)), "")
        source = places.get(prefix, "") + name.removeprefix(prefix)
        if source in shared:
            found[name] = shared[source][tuple(slice(size) for size in tensor.shape)]
    return found


def _first_channels(chosen: Choices, name: str, options: tuple[float, ...]) -> int:
    """The width, or multiple, that was chosen; the largest if nothing was."""
    found = chosen.get(name)
    return max(options) if found is None else found  # type: ignore[return-value]


def _pad_input(x_BCHW: Tensor, kernel: int, stride: int) -> Tensor:
    """Pads as TensorFlow's "SAME": a convolution then divides the size by its stride and rounds up."""
    sides = []
    for size in reversed(x_BCHW.shape[-2:]):
        total = max(((size + stride - 1) // stride - 1) * stride + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x_BCHW, sides)
