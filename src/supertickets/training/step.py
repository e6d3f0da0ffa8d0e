"""One training step: forward, backward, averaging over processes, penalty, optimizer, mask, running average."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..config.lr_schedule import lr_factor, momentum_at
from ..data.randomness import mix_seed
from ..models import Choices
from ..models.hrnet.matrix_products import mark_constants
from ..nas import Penalty, unit_weights
from ..pruning import Enforcer
from .algorithm import Session
from .optimizers import LR_FACTOR, set_step
from .state import TrainState
from .teacher import EmaTeacher, distillation_loss


class Stepper:
    """The steps of a network until it is rebuilt.

    Args:
        session: Settings, task, processes and teacher.
        state: The network, its optimizer, averages and mask.
        on_gradients: Function that looks at the gradients of every step, averaged over processes.
    """

    def __init__(self, session: Session, state: TrainState, on_gradients: Callable[[], None] | None = None) -> None:
        recipe = session.recipe
        self.on_gradients = on_gradients
        self.recipe, self.state, self.task, self.runtime = recipe, state, session.task, session.runtime
        self.steps_per_epoch, self.chunks = session.batches.steps_per_epoch, session.parts
        # Compiled once per network, however many steppers it sees; evaluation goes on without.
        self.forward: Callable[..., Any] = state.module
        if recipe.compile:
            mark_constants()
            self.forward = torch.compile(state.module, dynamic=False)
        self.named = state.parameters()
        self.params = list(self.named.values())
        self.averaged = EmaTeacher(state, recipe) if recipe.distill.teacher == "ema" else None
        self.teacher = self.averaged or session.teacher
        self.remask()
        weights = unit_weights(state.spec, session.supernet, recipe.search.penalty_exponent)
        rates = {id(p): group.get(LR_FACTOR, 1.0) for group in state.optimizer.param_groups for p in group["params"]}
        factors = {name: rates[id(p)] for name, p in self.named.items() if id(p) in rates}
        self.penalty = Penalty.of(self.named, weights, recipe.search, factors)
        self.images_format = torch.channels_last if recipe.channels_last else torch.contiguous_format

    def __call__(
        self, batch: tuple[Tensor, Tensor], epoch: int, step: int, choices: Sequence[Choices] | None = None
    ) -> Tensor:
        """Take a step.

        Args:
            batch: Images and labels.
            epoch: Epochs that are complete.
            step: Steps of this epoch that are done.
            choices: The network that every part of the batch goes through, if the weights are those of a space.

        Returns:
            The loss before the step; it stays on the device, so that nothing waits for it.
        """
        recipe, done = self.recipe, epoch * self.steps_per_epoch + step
        total = recipe.epochs * self.steps_per_epoch
        lr = recipe.optimizer.lr * lr_factor(done, total, self.steps_per_epoch, recipe.lr)
        lr *= 0.5**self.state.position.retries
        set_step(self.state.optimizer, lr, momentum_at(done, total, recipe.lr))
        torch.manual_seed(mix_seed(recipe.seed, epoch, step, self.runtime.rank))
        loss = self.gradients(batch, choices)
        self.runtime.average_([p.grad for p in self.params if p.grad is not None])
        self.enforcer.mask_gradients()
        if self.on_gradients is not None:
            self.on_gradients()
        if recipe.optimizer.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.params, recipe.optimizer.clip_norm, foreach=True)
        epochs_done = done / self.steps_per_epoch
        self.penalty.add_to_gradients(epochs_done)  # behind the clipping, which would weaken it
        self.state.optimizer.step()
        self.penalty.shrink_scales(epochs_done, lr)
        self.enforcer.mask_weights()
        if self.state.ema is not None:
            self.state.ema.update(self.named, self.masks, self.state.position.total_steps)
        return loss

    def remask(self) -> None:
        """Take over the mask of the state, which may have changed between two steps."""
        mask = self.state.sparse.mask
        self.enforcer = Enforcer(self.named, mask)
        self.masks = dict(zip(mask, self.enforcer.masks, strict=True))
        if self.averaged is not None:
            self.averaged.remask(mask)

    def gradients(self, batch: tuple[Tensor, Tensor], choices: Sequence[Choices] | None = None) -> Tensor:
        """Forward and backward; every parameter ends up with a gradient, zero where the graph does not reach it.

        Returns:
            The mean loss over the batch, detached.
        """
        recipe, device, module = self.recipe, self.runtime.device, self.state.module
        module.zero_grad(set_to_none=True)
        total = torch.zeros((), device=device)
        parts = [tensor.chunk(self.chunks) for tensor in batch]
        networks = [()] * self.chunks if choices is None else [(chosen,) for chosen in choices]
        for images, labels, network in zip(*parts, networks, strict=True):
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            images = images.contiguous(memory_format=self.images_format)
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                scores = self.forward(images, *network)
                target = None if self.teacher is None else self.teacher(images)
            loss = self.task.loss(scores.float(), labels)
            if target is not None:
                loss = distillation_loss(loss, scores, target, recipe.distill)
            (loss / self.chunks).backward()
            total += loss.detach() / self.chunks
        for parameter in self.params:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return total
