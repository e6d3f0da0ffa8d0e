"""Settings of the optimizer, and of the learning rate over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .ranges import NonNegativeFloat, OpenUnitInterval, PositiveFloat, UnitIntervalAboveZero, UnitIntervalBelowOne


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The optimizer.

    Attributes:
        name: Name of the update rule.
        lr: Peak learning rate; the schedule multiplies it.
        momentum: Momentum of SGD and RMSprop.
        nesterov: Whether SGD looks ahead along its momentum.
        betas: Moment decays of Adam and AdamW.
        alpha: Decay of RMSprop's accumulator.
        eps: Constant in the denominator; null means the optimizer's usual value.
        weight_decay: L2 strength on weights, not on BN, biases or single vectors (decoupled in AdamW).
        initial_accumulator: First value of RMSprop's accumulator (TensorFlow: 1).
        eps_inside_sqrt: Whether RMSprop adds eps under the square root (TensorFlow does).
        lr_in_momentum: Whether RMSprop's momentum holds the learning rate of every step (TensorFlow) or none (PyTorch).
        clip_norm: Largest norm of all gradients together; null for no clipping.
        layer_decay: Factor of the rate from each block to the one in front of it, counted from the head, which has the
            whole rate; for networks that begin with published weights, e.g. 0.75.
    """

    name: Literal["sgd", "rmsprop", "adam", "adamw"] = "sgd"
    lr: PositiveFloat = 0.1
    momentum: UnitIntervalBelowOne = 0.9
    nesterov: bool = False
    betas: tuple[UnitIntervalBelowOne, UnitIntervalBelowOne] = (0.9, 0.999)
    alpha: UnitIntervalBelowOne = 0.9
    eps: PositiveFloat | None = None
    weight_decay: NonNegativeFloat = 1e-5
    initial_accumulator: NonNegativeFloat = 0.0
    eps_inside_sqrt: bool = False
    lr_in_momentum: bool = False
    clip_norm: PositiveFloat | None = None
    layer_decay: UnitIntervalAboveZero = 1.0


@dataclass(frozen=True, kw_only=True)
class LrSettings:
    """The learning rate over time, as a factor of ``optimizer.lr``.

    Attributes:
        shape: Schedule: "constant", "step", "cosine", "poly", "exponential" or "one_cycle".
        warmup_epochs: Epochs of linear warm-up in front (not for one_cycle, which has its own).
        warmup_from: Factor that the warm-up starts from.
        milestones: Epochs after which "step" multiplies by ``gamma``.
        gamma: Factor of "step" and "exponential".
        decay_epochs: Epochs between two decays of "exponential" (staircase).
        final: Last factor of "cosine".
        power: Exponent of the share of steps that are left, for "poly".
        rise: Share of the steps in which "one_cycle" rises.
        start_divisor: Divisor of the peak rate that gives the first rate of "one_cycle".
        end_divisor: Divisor of the first rate that gives the last rate of "one_cycle".
        cycle_momentum: Whether "one_cycle" lowers momentum (beta1) from 0.95 to 0.85 while the rate rises.
    """

    shape: Literal["constant", "step", "cosine", "poly", "exponential", "one_cycle"] = "cosine"
    warmup_epochs: NonNegativeFloat = 0.0
    warmup_from: float = 0.0
    milestones: tuple[int, ...] = ()
    gamma: PositiveFloat = 0.1
    decay_epochs: PositiveFloat = 1.0
    final: float = 0.0
    power: PositiveFloat = 0.9
    rise: OpenUnitInterval = 0.3
    start_divisor: PositiveFloat = 25.0
    end_divisor: PositiveFloat = 1e4
    cycle_momentum: bool = False
