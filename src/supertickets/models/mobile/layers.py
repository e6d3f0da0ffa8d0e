"""Layers that hold the weights of all their options, and run with one of them or several (TuNAS, Sec. 4.1).

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..base import Choice
from .layer_spec import Layer, options_per_decision, scale_filters, squeeze_channels
from .shared_weights import Style, conv_first

# Answers to decisions; None means all options at once, averaged (op warm-up).
Choices = Mapping[str, Choice | None]

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "swish6": F.hardswish,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": F.hardsigmoid,
}


class MixedLayer(nn.Module):
    """A layer with all its options."""

    def __init__(self, layer: Layer, width_in: int, width_out: int, style: Style) -> None:
        super().__init__()
        self.layer, self.style = layer, style
        self.activation = ACTIVATIONS[layer.activation]
        self.pads_apart = layer.stride > 1 and style.padding == "same_tf"
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
            self.se = _SqueezeExcite(hidden, ACTIVATIONS[style.gate])
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
            hidden = scale_filters(x_BCHW.shape[1], first_channels(chosen, f"{at}.expansion", layer.expansions))
            if len(layer.expansions) == 1 and x_BCHW.shape[1] == self.expand.in_channels:
                hidden = self.expand.out_channels  # of which search units may be gone
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


class SeparatePaths(nn.Module):
    """A layer whose options share nothing: a whole layer for each."""

    def __init__(self, layer: Layer, width_in: int, width_out: int, style: Style) -> None:
        super().__init__()
        self.layer, self.style = layer, style
        self.options = nn.ModuleDict(
            {
                option_key(option): MixedLayer(option, width_in, width_out, style)
                for option in options_per_decision(layer)
            }
        )

    def forward(self, x_BCHW: Tensor, at: str, chosen: Choices, width: int) -> Tensor:
        """Runs the layer; see `MixedLayer`."""
        layer = self.layer
        if layer.skips and chosen.get(f"{at}.skip", False) is True:
            return x_BCHW
        largest = _complete_choices(at, max(layer.kernels), max(layer.expansions, default=None), max(layer.se))
        asked = {name: chosen.get(name, answer) for name, answer in largest.items()}
        wanted: list[Callable[[Tensor], Tensor]] = []
        for option in options_per_decision(layer):
            own = _complete_choices(at, option.kernels[0], max(option.expansions, default=None), option.se[0])
            if all(asked[name] is None or asked[name] == own[name] for name in own):
                answers = {**own, f"{at}.skip": chosen.get(f"{at}.skip", False)}
                wanted.append(partial(self.options[option_key(option)], at=at, chosen=answers, width=width))
        return _averaged(wanted, x_BCHW, again=self.style.stateless)


def _complete_choices(at: str, kernel: int, expansion: float | None, se: bool) -> dict[str, Choice]:
    choices: dict[str, Choice] = {f"{at}.kernel": kernel, f"{at}.se": se}
    return choices if expansion is None else {**choices, f"{at}.expansion": expansion}


def option_key(option: Layer) -> str:
    """Name of a layer's option among its modules."""
    expansion = f"e{option.expansions[0]:g}".replace(".", "_") if option.expansions else ""
    return f"k{option.kernels[0]}{expansion}{'se' if option.se[0] else ''}"


class SingleLayer(nn.Module):
    """A layer by itself, with one option each, e.g. to measure it."""

    def __init__(self, layer: Layer, width_in: int, width_out: int, style: Style) -> None:
        super().__init__()
        self.layer, self.width_out = MixedLayer(layer, width_in, width_out, style), width_out

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
        squeezed = squeeze_channels(hidden) if hidden < self.squeeze.in_channels else self.squeeze.out_channels
        small = F.relu(conv_first(self.squeeze, x_BCHW.mean((2, 3), keepdim=True), squeezed))
        return x_BCHW * self.gate(conv_first(self.excite, small, hidden))


def first_channels(chosen: Choices, name: str, options: tuple[float, ...]) -> int:
    """The width, or multiple, that was chosen; the largest if nothing was."""
    width = chosen.get(name)
    return max(options) if width is None else width  # type: ignore[return-value]


def _pad_input(x_BCHW: Tensor, kernel: int, stride: int) -> Tensor:
    """Pads as TensorFlow's "SAME": a convolution then divides the size by its stride and rounds up."""
    sides = []
    for size in reversed(x_BCHW.shape[-2:]):
        total = max(((size + stride - 1) // stride - 1) * stride + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x_BCHW, sides)
