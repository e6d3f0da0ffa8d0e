"""Grad-CAM (Selvaraju et al., 2017): where in an image a network found what speaks for a class.

Shapes: C channels, H x W the map in front of the pooling, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..errors import UserError


def grad_cam(module: nn.Module, x_1CHW: Tensor, k: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the scores of an image, and the heat map of a class.

    Args:
        module: Classifier in eval mode.
        x_1CHW: Image.
        k: Index of the class; None for that with the highest score.

    Returns:
        Scores before the softmax (K,), and heat (H, W), not negative, at the resolution of the last map.

    Raises:
        UserError: The network has no map to look at.
    """
    with torch.enable_grad(), _LastMap() as seen:
        scores_K = module(x_1CHW.detach().requires_grad_())[0]
    if seen.map_1CHW is None:
        size = "x".join(map(str, x_1CHW.shape[-2:]))
        raise UserError(
            f"at {size} pixels the network has no map of several rows and columns in front of its classifier; take a "
            "convolutional network, or one that was trained on larger images"
        )
    score = scores_K.max() if k is None else scores_K[k]
    (gradient_1CHW,) = torch.autograd.grad(score, seen.map_1CHW)
    return scores_K.detach(), weigh_channels(seen.map_1CHW[0].detach(), gradient_1CHW[0])


def weigh_channels(map_CHW: Tensor, gradient_CHW: Tensor) -> Tensor:
    """Add up the channels, weighted by the means of their gradients; keep what is positive (Eqs. 1 and 2)."""
    weights_C = gradient_CHW.mean((1, 2))
    return torch.einsum("c,chw->hw", weights_C, map_CHW).relu()


class _LastMap(TorchFunctionMode):
    """A watcher of a forward: finds the last map whose places an operation does away with.

    That is what a global pooling does, or a flattening, or a last convolution with a stride: whatever the network and
    however it is written. Gates of attention modules pool too, but they come earlier.

    Attributes:
        map_1CHW: Last map.
    """

    def __init__(self) -> None:
        super().__init__()
        self.map_1CHW: Tensor | None = None
        self.padded: tuple[Tensor, Tensor] | None = None  # before and after; what was put around a map is no part of it

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if args and isinstance(args[0], Tensor) and isinstance(out, Tensor):
            before = self.padded[0] if self.padded and args[0] is self.padded[1] else args[0]
            if func is F.pad:
                self.padded = before, out
            elif _loses_places(before, out):
                self.map_1CHW = before
        return out


def _loses_places(before: Tensor, after: Tensor) -> bool:
    """Return whether a map of several rows and columns loses them.

    It then becomes (1, C), (1, C x H x W), or any number of single pixels.
    """
    if before.ndim != 4 or min(before.shape[-2:]) == 1 or before.shape[0] != after.shape[0]:
        return False
    if after.ndim == 2:
        return after.shape[1] in (before.shape[1], before[0].numel())
    return after.ndim == 4 and after.shape[-2:].numel() == 1
