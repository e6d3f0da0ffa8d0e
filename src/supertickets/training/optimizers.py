"""Optimizers, and their tensors by the names of the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from ..config.optimizer_settings import OptimizerSettings
from .chunks import foreach_chunks
from .depths import parameter_depths

# State that must come back unchanged when a weight is reactivated (first moments start from zero instead).
SECOND_MOMENTS = ("exp_avg_sq", "square_avg")
FIRST_MOMENTS = ("exp_avg", "momentum_buffer")
LR_FACTOR = "lr_factor"  # entry of a group: its rate as a share of the recipe's


class RMSprop(Optimizer):
    """RMSprop with the three settings in which TensorFlow and PyTorch differ.

    v = alpha * v + (1 - alpha) * g^2;  b = momentum * b + g / (sqrt(v) + eps);  w = w - lr * b.

    With ``eps_inside_sqrt`` the divisor is sqrt(v + eps). With ``lr_in_momentum`` the learning rate goes into the
    buffer, b = momentum * b + lr * g / (sqrt(v) + eps) and w = w - b, so that a step keeps the rate of its own time.

    Args:
        params: Parameters or groups; a group's weight decay, 0 by default, is the L2 strength added to the gradient.
        settings: Learning rate, alpha, eps, momentum, first value of v, and the two variants.
    """

    def __init__(self, params: Any, settings: OptimizerSettings) -> None:
        defaults = {"lr": settings.lr, "alpha": settings.alpha, "eps": settings.eps or 1e-8}
        super().__init__(params, {**defaults, "momentum": settings.momentum, "weight_decay": 0.0})
        self.initial_accumulator = settings.initial_accumulator
        self.eps_inside_sqrt = settings.eps_inside_sqrt
        self.lr_in_momentum = settings.lr_in_momentum

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if not self.state[p]:
                    self.state[p]["square_avg"] = torch.full_like(p, self.initial_accumulator)
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            for part in foreach_chunks(params):
                self._update(params[part], group)

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        grads = [p.grad for p in params if p.grad is not None]
        if group["weight_decay"]:
            grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
        square = [self.state[p]["square_avg"] for p in params]
        buffer = [self.state[p]["momentum_buffer"] for p in params]
        torch._foreach_mul_(square, group["alpha"])
        torch._foreach_addcmul_(square, grads, grads, value=1 - group["alpha"])
        if self.eps_inside_sqrt:
            root = torch._foreach_add(square, group["eps"])
            torch._foreach_sqrt_(root)
        else:
            root = torch._foreach_sqrt(square)
            torch._foreach_add_(root, group["eps"])
        torch._foreach_mul_(buffer, group["momentum"])
        if self.lr_in_momentum:
            torch._foreach_addcdiv_(buffer, grads, root, value=group["lr"])
            torch._foreach_sub_(params, buffer)
        else:
            torch._foreach_addcdiv_(buffer, grads, root)
            torch._foreach_add_(params, buffer, alpha=-group["lr"])


def make_optimizer(module: nn.Module, settings: OptimizerSettings) -> Optimizer:
    """Make the optimizer.

    Weight decay applies to weights (two dimensions or more) alone. With ``layer_decay`` every depth has groups of its
    own, whose rate is that of the head times ``layer_decay`` to the number of blocks between them.
    """
    groups = _parameter_groups(module, settings)
    if settings.name == "sgd":
        return SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov, fused=True)
    if settings.name == "adam":
        return Adam(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps or 1e-8, fused=True)
    if settings.name == "adamw":
        return AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps or 1e-8, fused=True)
    return RMSprop(groups, settings)


def _parameter_groups(module: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Return the groups of parameters that share a rate and a weight decay; they follow from names and order alone."""
    named = dict(module.named_parameters())
    depths = dict.fromkeys(named, 0) if settings.layer_decay == 1 else parameter_depths(module)
    last = max(depths.values(), default=0)
    groups = []
    for depth in range(last + 1):
        params = [p for name, p in named.items() if depths[name] == depth]
        factor = settings.layer_decay ** (last - depth)
        shared = {"lr": settings.lr * factor, LR_FACTOR: factor}
        groups += [
            {"params": [p for p in params if p.ndim > 1], "weight_decay": settings.weight_decay, **shared},
            {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0, **shared},
        ]
    return [group for group in groups if group["params"]]


def optimizer_tensors(optimizer: Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state as ``"<key>/<parameter>"`` -> tensor."""
    out = {}
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                out[f"{key}/{name}"] = value
    return out


def load_optimizer_tensors(optimizer: Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Set what `optimizer_tensors` read, in the memory format of the parameters."""
    named = dict(module.named_parameters())
    fused = any(group.get("fused") for group in optimizer.param_groups)  # whose step counts are where parameters are
    for key_name, value in tensors.items():
        key, name = key_name.split("/", 1)
        parameter = named[name]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter).copy_(value)
        elif value.ndim == 0:
            value = value.to(parameter.device if fused else "cpu", copy=True)
        optimizer.state[parameter][key] = value


def set_step(optimizer: Optimizer, lr: float, momentum: float | None) -> None:
    """Set the rate, times its factor, (and, if given, the momentum or beta1) of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get(LR_FACTOR, 1.0)
        if momentum is not None and "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        elif momentum is not None:
            group["momentum"] = momentum
