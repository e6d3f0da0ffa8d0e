"""The network of a `MobileSpec`: one network, or the weights that all networks of a space share (TuNAS, Sec. 4.1).

*Operations are collapsed*: all options of a layer share its pointwise convolutions, and there is one depthwise
convolution with its batch norm per kernel size. *Channels are masked* by cutting: a narrower network uses the first
channels of every weight, so that what is not chosen is not computed. The cut of one network out of the shared weights
is the network itself.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .mobile_spec import Layer, MobileSpec, options_of, scale_filters, squeezed
from .spec import Choice, Network

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

    Shapes: input (B, in_channels, H, W); output (B, num_classes).
    """

    def __init__(self, spec: MobileSpec) -> None:
        super().__init__()
        self.spec: MobileSpec = spec
        style = _Style(spec, stateless=spec.is_open() and spec.statistics == "batch")
        width = spec.in_channels
        self.blocks = nn.ModuleDict()
        for block in spec.blocks:
            layers = nn.ModuleList()
            for layer in block.layers:
                kind = _Layer if spec.collapsed or len(options_of(layer)) == 1 else _Apart
                layers.append(kind(layer, width, max(block.filters), style))
                width = max(block.filters)
            self.blocks[block.name] = layers
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
        for block in spec.blocks:
            width = _only(chosen, f"{block.name}.filters", block.filters)
            layers = self.blocks[block.name]
            assert isinstance(layers, nn.ModuleList)
            for i, layer in enumerate(layers):
                x_BCHW = layer(x_BCHW, f"{block.name}.{i}", chosen, width)
        x_BC = x_BCHW.mean((2, 3))
        if self.last is not None:
            x_BC = _linear(self.last, x_BC, _only(chosen, "last.filters", spec.last_filters))
            x_BC = _ACTIVATIONS[spec.last_activation](x_BC)
        return _linear(self.classifier, self.dropout(x_BC), spec.num_classes)

    def maskable_weights(self, *, transformer: bool = False, classifier: bool = False) -> list[str]:
        """Names of the weights that pruning covers: all of convolutions and linear layers but the classifier's."""
        found = [f"{name}.weight" for name, m in self.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        return [name for name in found if classifier or name != "classifier.weight"]

    def cut(self, choices: Mapping[str, Choice]) -> MobileNetwork:
        """Copies the network of these choices out of the shared weights; random numbers stay as they are.

        Where all networks use the statistics of their batch, there are no running ones to copy: measure those of the
        copy before it is evaluated.

        Args:
            choices: An answer to every decision that means anything.
        """
        with torch.random.fork_rng(devices=[]):
            network = self.spec.narrow(choices).build().to(self.classifier.weight)
        network.load_state_dict(cut_tensors(self.spec, choices, self.state_dict()))
        return network

    def _initialise(self) -> None:
        """He-normal by the inputs of an output, truncated; the classifier's weights have a deviation of 0.01."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                deviation = 0.01
                if module is not self.classifier:
                    deviation = (2 / module.weight[0].numel()) ** 0.5 / 0.87962566  # what truncation takes away
                nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


@dataclass(frozen=True)
class _Style:
    """What all layers share."""

    spec: MobileSpec
    stateless: bool

    def batch_norm(self, channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(channels, eps=self.spec.bn_eps, momentum=self.spec.bn_momentum)

    def normalise(self, bn: nn.BatchNorm2d, x_BCHW: Tensor) -> Tensor:
        """Batch norm of the first channels."""
        channels = x_BCHW.shape[1]
        weight, bias = bn.weight[:channels], bn.bias[:channels]
        if self.stateless:
            # Not `F.batch_norm`, which refuses a single value per channel.
            return torch.batch_norm(x_BCHW, weight, bias, None, None, True, 0.0, bn.eps, torch.backends.cudnn.enabled)
        if channels == bn.num_features:
            whole: Tensor = bn(x_BCHW)
            return whole
        assert bn.running_mean is not None
        assert bn.running_var is not None
        assert bn.num_batches_tracked is not None
        momentum = bn.momentum or 0.0
        if bn.training:
            bn.num_batches_tracked.add_(1)
            if bn.momentum is None:  # cumulative mean
                momentum = 1 / float(bn.num_batches_tracked)
        mean, var = bn.running_mean[:channels], bn.running_var[:channels]
        return F.batch_norm(x_BCHW, mean, var, weight, bias, bn.training, momentum, bn.eps)


class _Layer(nn.Module):
    """A layer with all its options."""

    def __init__(self, layer: Layer, width_in: int, width_out: int, style: _Style) -> None:
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
            hidden = scale_filters(x_BCHW.shape[1], _only(chosen, f"{at}.expansion", layer.expansions))
            out = self.activation(self.style.normalise(self.expand_bn, _conv(self.expand, out, hidden)))
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
            out = self.style.normalise(self.project_bn, _conv(self.project, out, width))
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
            x_BCHW = _padded(x_BCHW, kernel, self.layer.stride)
        return self.activation(self.style.normalise(norm, _conv(conv, x_BCHW, width)))


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


class _Apart(nn.Module):
    """A layer whose options share nothing: a whole layer for each."""

    def __init__(self, layer: Layer, width_in: int, width_out: int, style: _Style) -> None:
        super().__init__()
        self.layer, self.style = layer, style
        self.options = nn.ModuleDict(
            {_key(option): _Layer(option, width_in, width_out, style) for option in options_of(layer)}
        )

    def forward(self, x_BCHW: Tensor, at: str, chosen: Choices, width: int) -> Tensor:
        """Runs the layer; see `_Layer`."""
        layer = self.layer
        if layer.skips and chosen.get(f"{at}.skip", False) is True:
            return x_BCHW
        largest = _answers(at, max(layer.kernels), max(layer.expansions, default=None), max(layer.se))
        asked = {name: chosen.get(name, answer) for name, answer in largest.items()}
        wanted: list[Callable[[Tensor], Tensor]] = []
        for option in options_of(layer):
            own = _answers(at, option.kernels[0], max(option.expansions, default=None), option.se[0])
            if all(asked[name] is None or asked[name] == own[name] for name in own):
                told = {**own, f"{at}.skip": chosen.get(f"{at}.skip", False)}
                wanted.append(partial(self.options[_key(option)], at=at, chosen=told, width=width))
        return _averaged(wanted, x_BCHW, again=self.style.stateless)


def _answers(at: str, kernel: int, expansion: float | None, se: bool) -> dict[str, Choice]:
    found: dict[str, Choice] = {f"{at}.kernel": kernel, f"{at}.se": se}
    return found if expansion is None else {**found, f"{at}.expansion": expansion}


def _key(option: Layer) -> str:
    """Name of a layer's option among its modules."""
    expansion = f"e{option.expansions[0]:g}".replace(".", "_") if option.expansions else ""
    return f"k{option.kernels[0]}{expansion}{'se' if option.se[0] else ''}"


class OneLayer(nn.Module):
    """A layer by itself, with one option each, e.g. to measure it."""

    def __init__(self, layer: Layer, width_in: int, width_out: int, spec: MobileSpec) -> None:
        super().__init__()
        self.layer, self.width_out = _Layer(layer, width_in, width_out, _Style(spec, stateless=False)), width_out

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.layer(x_BCHW, "", {}, self.width_out)
        return out


class _SqueezeExcite(nn.Module):
    """Scales channels by a gate that sees their means (Hu et al., 2018), on the first channels."""

    def __init__(self, hidden: int, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(hidden, squeezed(hidden), 1)
        self.excite = nn.Conv2d(squeezed(hidden), hidden, 1)
        self.gate = gate

    def forward(self, x_BCHW: Tensor) -> Tensor:
        hidden = x_BCHW.shape[1]
        small = F.relu(_conv(self.squeeze, x_BCHW.mean((2, 3), keepdim=True), squeezed(hidden)))
        return x_BCHW * self.gate(_conv(self.excite, small, hidden))


def cut_tensors(spec: MobileSpec, choices: Mapping[str, Choice], shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cuts the tensors of one network out of shared ones: its weights, or masks of them.

    Args:
        spec: Of what is shared.
        choices: An answer to every decision that means anything.
        shared: Named and shaped like the tensors of the shared network; some may be absent.

    Returns:
        Named and shaped like those of ``spec.narrow(choices)``; views.
    """
    network = spec.narrow(choices)
    with torch.device("meta"):
        own = network.build().state_dict()
    kept = {block.name: block.layers for block in network.blocks}
    places: dict[str, str] = {}
    for block in spec.blocks:
        stays = [i for i in range(len(block.layers)) if choices.get(f"{block.name}.{i}.skip") is not True]
        for new, old in enumerate(stays):
            is_apart = not spec.collapsed and len(options_of(block.layers[old])) > 1
            apart = f"options.{_key(kept[block.name][new])}." if is_apart else ""
            places[f"blocks.{block.name}.{new}."] = f"blocks.{block.name}.{old}.{apart}"
    found = {}
    for name, tensor in own.items():
        prefix = next((p for p in places if name.startswith(p)), "")
        source = places.get(prefix, "") + name.removeprefix(prefix)
        if source in shared:
            found[name] = shared[source][tuple(slice(size) for size in tensor.shape)]
    return found


def _only(chosen: Choices, name: str, options: tuple[float, ...]) -> int:
    """The width, or multiple, that was chosen; the largest if nothing was."""
    found = chosen.get(name)
    return max(options) if found is None else found  # type: ignore[return-value]


def _conv(conv: nn.Conv2d, x_BCHW: Tensor, width: int) -> Tensor:
    """A convolution from the first channels to the first channels."""
    if (width, x_BCHW.shape[1]) == (conv.out_channels, conv.in_channels):
        whole: Tensor = conv(x_BCHW)
        return whole
    depthwise = conv.groups > 1
    weight = conv.weight[:width] if depthwise else conv.weight[:width, : x_BCHW.shape[1]]
    bias = None if conv.bias is None else conv.bias[:width]
    return F.conv2d(x_BCHW, weight, bias, conv.stride, conv.padding, groups=width if depthwise else 1)


def _linear(linear: nn.Linear, x_BC: Tensor, width: int) -> Tensor:
    """A linear layer from the first channels to the first channels."""
    if (width, x_BC.shape[1]) == (linear.out_features, linear.in_features):
        whole: Tensor = linear(x_BC)
        return whole
    return F.linear(x_BC, linear.weight[:width, : x_BC.shape[1]], linear.bias[:width])


def _padded(x_BCHW: Tensor, kernel: int, stride: int) -> Tensor:
    """Pads as TensorFlow's "SAME": a convolution then divides the size by its stride and rounds up."""
    sides = []
    for size in reversed(x_BCHW.shape[-2:]):
        total = max(((size + stride - 1) // stride - 1) * stride + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x_BCHW, sides)
