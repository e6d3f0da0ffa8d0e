"""Self-attention modules for the residual branches of a ResNet (LTH4SA, Sec. III and V-A).

All are called alike, with a map (B, C, H, W) and what the module remembers of the blocks before; they return the map,
scaled, and what they remember now (only "dia" remembers anything).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn import functional as F

from ...errors import UserError, suggest
from ...plugins import is_plugin, load_plugin

State = tuple[Tensor, Tensor] | None
KINDS = ("se", "sge", "dia")


# Not torchvision's `SqueezeExcitation`: it calls its layers fc1 and fc2, and the names are those of stored weights and
# masks; the module of mobile networks also runs on the first channels of its weights.
class SqueezeExcite(nn.Module):
    """Scales every channel by a gate that sees the means of all (Hu et al., 2018)."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // ratio, 1)
        self.excite = nn.Conv2d(channels // ratio, channels, 1)

    def forward(self, x_BCHW: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Returns the scaled map; remembers nothing."""
        small = F.relu(self.squeeze(x_BCHW.mean((2, 3), keepdim=True)))
        return x_BCHW * torch.sigmoid(self.excite(small)), state


class SpatialGroupEnhance(nn.Module):
    """Scales every place of a group of channels by how like the group's mean it is (Li et al., 2019).

    The likeness is normalised over the places, with the unbiased deviation, and scaled and shifted per group; weights
    begin at 0 and biases at 1, so that every gate begins at sigmoid(1).
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.zeros(1, groups, 1, 1))
        self.bias = nn.Parameter(torch.ones(1, groups, 1, 1))

    def forward(self, x_BCHW: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Returns the scaled map; remembers nothing."""
        grouped = x_BCHW.unflatten(1, (self.groups, -1))
        like_BGHW = (grouped * grouped.mean((3, 4), keepdim=True)).sum(2)
        centered = like_BGHW - like_BGHW.mean((2, 3), keepdim=True)
        single = statically_known_true(like_BGHW.shape[2] * like_BGHW.shape[3] == 1)  # a place is like itself
        correction = 0 if single else 1
        like_BGHW = centered / (like_BGHW.std((2, 3), correction=correction, keepdim=True) + 1e-5)
        gate_BGHW = torch.sigmoid(like_BGHW * self.weight + self.bias)
        return (grouped * gate_BGHW[:, :, None]).flatten(1, 2), state


class DenseImplicitAttention(nn.Module):
    """Scales every channel by what a recurrent cell makes of the means of all blocks so far (Huang et al., 2020).

    An LSTM cell whose output is o * sigmoid(c), with narrow layers in the place of its two matrices. It begins with
    zeros at the first block that it is called for.
    """

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.from_input = _narrow(channels, channels // ratio)
        self.from_hidden = _narrow(channels, channels // ratio)

    def forward(self, x_BCHW: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Returns the scaled map, and the hidden and cell states (B, C)."""
        x_BC = x_BCHW.mean((2, 3))
        hidden_BC, cell_BC = (torch.zeros_like(x_BC),) * 2 if state is None else state
        gates = self.from_input(x_BC) + self.from_hidden(hidden_BC)
        keep, write, candidate, read = gates.chunk(4, dim=1)
        cell_BC = torch.sigmoid(keep) * cell_BC + torch.sigmoid(write) * torch.tanh(candidate)
        hidden_BC = torch.sigmoid(read) * torch.sigmoid(cell_BC)
        return x_BCHW * hidden_BC[:, :, None, None], (hidden_BC, cell_BC)


class ParameterlessAttention(nn.Module):
    """A user's own module: takes a map, returns the scaled map; remembers nothing."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x_BCHW: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Returns what the module makes of the map."""
        return self.module(x_BCHW), state


def make_attention(kind: str, channels: int, ratio: int, groups: int) -> nn.Module:
    """Makes a module.

    Args:
        kind: One of `KINDS`, or "package.module:MyAttention", a user's own class of ``nn.Module``: made of the number
            of channels, it takes and returns maps (B, C, H, W).
        channels: Of the maps.
        ratio: By how much "se" and "dia" are narrower inside.
        groups: Of "sge".

    Raises:
        UserError: There is no such module, or the channels cannot be divided.
    """
    if kind == "sge":
        if channels % groups:
            raise UserError(f"supernet.settings.groups is {groups}, which does not divide {channels} channels")
        return SpatialGroupEnhance(channels, groups)
    if kind in ("se", "dia"):
        if not 1 <= ratio <= channels:
            raise UserError(f"supernet.settings.ratio is {ratio}; with {channels} channels take 1 to {channels}")
        return (SqueezeExcite if kind == "se" else DenseImplicitAttention)(channels, ratio)
    try:
        return ParameterlessAttention(_user_attention(kind)(channels))
    except TypeError as error:
        raise UserError(f"supernet.settings.attention {kind} is not made of a number of channels ({error})") from None


def _user_attention(kind: str) -> type[nn.Module]:
    """Import a user's class; anything else is refused, and never called."""
    if not is_plugin(kind):
        hint = suggest(kind, KINDS, "")
        if "." in kind and ":" not in kind:
            module, _, name = kind.rpartition(".")
            hint = f"; a class of your own is written with a colon, {module}:{name}"
        raise UserError(
            f"unknown supernet.settings.attention '{kind}'{hint}; take one of {', '.join(KINDS)} or "
            "package.module:MyAttention"
        )
    attention: Any = load_plugin(kind, "supernet.settings.attention")
    if not (isinstance(attention, type) and issubclass(attention, nn.Module)):
        raise UserError(f"supernet.settings.attention {kind} is no class of torch.nn.Module")
    return attention


def _narrow(channels: int, inside: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, inside), nn.ReLU(), nn.Linear(inside, 4 * channels))
