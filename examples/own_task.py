"""A task of your own: read a digit as a number, and be judged by how far off the answer is.

Use: python examples/own_task.py [--any.setting VALUE]
or:  PYTHONPATH=examples supertickets draw digits --task own_task:Number
"""

import sys
import tempfile
from typing import Any

import torch
from torch.nn import functional as F

import supertickets as st
from supertickets.config.task_settings import TaskRules
from supertickets.data import load_splits
from supertickets.tasks import Metric, Task


class Number(Task):
    """The mean of the classes' numbers under the network's probabilities (Rothe et al., 2018, for ages)."""

    head = "classification"
    rules = TaskRules(augmentations=frozenset({"shift", "rotate", "scale"}))
    metric = Metric("mae", "mean error", is_error=True)
    outputs = "numbers"

    def numbers(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.softmax(1) @ torch.tensor([float(name) for name in self.classes], device=scores.device)

    def loss(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.smooth_l1_loss(self.numbers(scores), target.float())

    @torch.no_grad()
    def totals(self, module: Any, batches: Any, data: Any, device: torch.device) -> torch.Tensor:
        sums = torch.zeros(4, dtype=torch.float64, device=device)  # samples, loss, errors, numbers
        for images, target in batches:
            scores, target = module(images.to(device)), target.to(device)
            error = (self.numbers(scores) - target).abs().sum()
            loss = self.loss(scores, target) * len(target)
            sums += torch.stack((torch.ones_like(error) * len(target), loss, error, target.sum())).double()
        return sums

    def metrics(self, totals: torch.Tensor, data: Any) -> dict[str, float]:
        samples, loss, error, number = totals.tolist()
        return {"loss": loss / samples, "mae": error / samples, "count": number / samples}

    @torch.no_grad()
    def predict(self, module: Any, prepare: Any, image: Any, *, device: Any = "cpu") -> float:
        return float(self.numbers(module(prepare(prepare.pixels(image)[None]).to(device)))[0])


if __name__ == "__main__":
    words = ["--task", "own_task:Number", "--optimizer.lr", "0.02", "--epochs", "12"]
    recipe = st.load_recipe("digits", [*words, *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as folder:
        ticket = st.draw(recipe, f"{folder}/run")
    image = load_splits(recipe.data).test.images[0, 0].numpy()
    print(f"test error {ticket.about['test']['mae']:.2f}, {ticket.cost.sparsity:.0%} zeros")
    print(f"an image of the test split reads as {ticket.predict(image):.1f}")
