"""Optimizers, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from ..errors import UserError
from ..recipe import LrSettings, OptimizerSettings
from .passes import cache_sized

# State that must come back unchanged when a weight is reactivated (first moments start from zero instead).
SECOND_MOMENTS = ("exp_avg_sq", "square_avg")
FIRST_MOMENTS = ("exp_avg", "momentum_buffer")


class RMSprop(Optimizer):
    """RMSprop with the two settings in which TensorFlow and PyTorch differ.

    v = alpha * v + (1 - alpha) * g^2;  b = momentum * b + g / (sqrt(v) + eps);  w = w - lr * b.

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        alpha: Decay of v.
        eps: Added to sqrt(v), or to v if ``eps_inside_sqrt``.
        momentum: Decay of b.
        weight_decay: L2 strength, added to the gradient.
        initial_accumulator: First value of v.
        eps_inside_sqrt: Whether eps goes under the root.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        alpha: float = 0.9,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        initial_accumulator: float = 0.0,
        eps_inside_sqrt: bool = False,
    ) -> None:
        defaults = {"lr": lr, "alpha": alpha, "eps": eps, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self.initial_accumulator = initial_accumulator
        self.eps_inside_sqrt = eps_inside_sqrt

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Updates all parameters that have a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if not self.state[p]:
                    self.state[p]["square_avg"] = torch.full_like(p, self.initial_accumulator)
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            for part in cache_sized(params):
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
        torch._foreach_addcdiv_(buffer, grads, root)
        torch._foreach_add_(params, buffer, alpha=-group["lr"])


def make_optimizer(module: nn.Module, settings: OptimizerSettings) -> Optimizer:
    """Makes the optimizer; weight decay applies to weights (two dimensions or more) alone."""
    params = list(module.parameters())
    groups = [
        {"params": [p for p in params if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.name == "sgd":
        return SGD(groups, lr=settings.lr, momentum=settings.momentum, fused=True)
    if settings.name == "adam":
        return Adam(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps or 1e-8, fused=True)
    if settings.name == "adamw":
        return AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps or 1e-8, fused=True)
    return RMSprop(
        groups,
        settings.lr,
        settings.alpha,
        settings.eps or 1e-8,
        settings.momentum,
        initial_accumulator=settings.initial_accumulator,
        eps_inside_sqrt=settings.eps_inside_sqrt,
    )


def optimizer_tensors(optimizer: Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state as ``"<key>/<parameter>"`` -> tensor."""
    out = {}
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                out[f"{key}/{name}"] = value
    return out


def load_optimizer_tensors(optimizer: Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Sets what `optimizer_tensors` read, in the memory format of the parameters."""
    named = dict(module.named_parameters())
    for key_name, value in tensors.items():
        key, name = key_name.split("/", 1)
        parameter = named[name]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter).copy_(value)
        optimizer.state[parameter][key] = value.clone() if value.ndim == 0 else value


def set_step(optimizer: Optimizer, lr: float, momentum: float | None) -> None:
    """Sets the rate (and, if given, the momentum or beta1) of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
        if momentum is not None and "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        elif momentum is not None:
            group["momentum"] = momentum


def lr_factor(step: int, total: int, steps_per_epoch: int, settings: LrSettings) -> float:
    """Factor of the peak rate at a step.

    Args:
        step: Steps done, from 0.
        total: Steps of the whole run.
        steps_per_epoch: Steps of an epoch.
        settings: The schedule.
    """
    if settings.shape == "one_cycle":
        return _one_cycle(
            step,
            total,
            settings.rise,
            1 / settings.start_divisor,
            1.0,
            1 / settings.start_divisor / settings.end_divisor,
        )
    warmup = settings.warmup_epochs * steps_per_epoch
    if step < warmup:
        return settings.warmup_from + (1 - settings.warmup_from) * step / warmup
    epochs = step / steps_per_epoch
    if settings.shape == "step":
        return settings.gamma ** sum(epochs >= milestone for milestone in settings.milestones)
    if settings.shape == "exponential":
        return settings.gamma ** math.floor(epochs / settings.decay_epochs)
    done = (step - warmup) / max(total - warmup, 1)
    if settings.shape == "poly":
        return (1 - done) ** settings.power
    if settings.shape == "cosine":
        return settings.final + (1 - settings.final) * (1 + math.cos(math.pi * done)) / 2
    return 1.0


def momentum_at(step: int, total: int, settings: LrSettings) -> float | None:
    """Momentum (beta1) at a step, if the schedule moves it."""
    if settings.shape != "one_cycle" or not settings.cycle_momentum:
        return None
    return _one_cycle(step, total, settings.rise, 0.95, 0.85, 0.95)


def check_optimizer(optimizer: OptimizerSettings, lr: LrSettings) -> None:
    """Raises `UserError` for values that no optimizer takes."""
    if optimizer.lr <= 0:
        raise UserError(f"optimizer.lr is {optimizer.lr:g}; it must be above 0")
    if not 0 <= optimizer.momentum < 1:
        raise UserError(f"optimizer.momentum is {optimizer.momentum:g}; it must be from 0 to below 1")
    if any(not 0 <= beta < 1 for beta in optimizer.betas):
        raise UserError(f"optimizer.betas is {list(optimizer.betas)}; both must be from 0 to below 1")
    if not 0 <= optimizer.alpha < 1:
        raise UserError(f"optimizer.alpha is {optimizer.alpha:g}; it must be from 0 to below 1")
    for name, value in (
        ("optimizer.eps", optimizer.eps),
        ("optimizer.clip_norm", optimizer.clip_norm),
        ("lr.decay_epochs", lr.decay_epochs),
        ("lr.gamma", lr.gamma),
        ("lr.power", lr.power),
        ("lr.start_divisor", lr.start_divisor),
        ("lr.end_divisor", lr.end_divisor),
    ):
        if value is not None and value <= 0:
            raise UserError(f"{name} is {value:g}; it must be above 0")
    if not 0 < lr.rise < 1:
        raise UserError(f"lr.rise is {lr.rise:g}; it is a share between 0 and 1, e.g. 0.3")
    if lr.shape == "step" and not lr.milestones:
        raise UserError("lr.shape is 'step' but lr.milestones is empty; give the epochs, e.g. --lr.milestones [20,30]")


def _one_cycle(step: int, total: int, rise: float, start: float, peak: float, end: float) -> float:
    """Two cosine arcs: start -> peak -> end (the schedule of "super-convergence")."""
    top = rise * total - 1
    if step <= top:
        share, low, high = step / top if top else 1.0, start, peak
    else:
        share, low, high = (step - top) / max(total - 1 - top, 1e-12), peak, end
    return high + (low - high) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
