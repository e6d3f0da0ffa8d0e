"""A step of the pre-training of a ResNet whose connection schemes are searched (LTH4SA, Algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.randomness import mix_seed
from ..models import ResNetSpec
from .step import Stepper


class SchemeStep:
    """Takes steps with random connection schemes, one for every part of a batch.

    Args:
        stepper: Takes the steps of the weights.
        probability: Of a connection.
    """

    def __init__(self, stepper: Stepper, probability: float) -> None:
        assert isinstance(stepper.state.spec, ResNetSpec)
        self.stepper, self.probability = stepper, probability
        self.names = [decision.name for decision in stepper.state.spec.decisions()]

    def __call__(self, batch: tuple[Tensor, Tensor], epoch: int, step: int) -> Tensor:
        """Takes a step; see `Stepper`."""
        recipe, rank = self.stepper.recipe, self.stepper.runtime.rank
        generator = torch.Generator().manual_seed(mix_seed(recipe.seed, epoch, step, rank, 7))
        flags = torch.rand(recipe.accumulate, len(self.names), generator=generator) < self.probability
        return self.stepper(batch, epoch, step, [dict(zip(self.names, row, strict=True)) for row in flags.tolist()])
