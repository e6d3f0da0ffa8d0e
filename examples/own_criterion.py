"""Rank weights by a criterion of your own: a function of the network that returns a score per weight.

Run ``python examples/own_criterion.py``, with settings behind it if you like: ``--epochs 20``. The command line takes
the function too: ``PYTHONPATH=examples supertickets draw digits --prune.normalise none --prune.criterion
own_criterion:change_of_loss``, or ``supertickets prune RUN --ratio 0.5 --criterion own_criterion:change_of_loss``.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from torch import Tensor

import supertickets as st
from supertickets.pruning import CriterionContext

NAME = "own_criterion:change_of_loss"
OUT = Path("runs/own_criterion")


def change_of_loss(context: CriterionContext) -> dict[str, Tensor]:
    """Score (w dL/dw)^2, the squared change of the loss without a weight, summed over batches (Fisher information)."""
    scores = {name: torch.zeros_like(weight) for name, weight in context.weights.items()}
    for loss in context.losses():
        gradients = torch.autograd.grad(loss, list(context.weights.values()), allow_unused=True)
        for (name, weight), gradient in zip(context.weights.items(), gradients, strict=True):
            if gradient is not None:
                scores[name] += (weight.detach() * gradient).square()
    return scores


change_of_loss.needs_data = True  # type: ignore[attr-defined]  # the default; without it, give it no losses
change_of_loss.default_rounds = 2  # type: ignore[attr-defined]  # each prune takes weights out in two steps


def main() -> None:
    """Prune while searching, then search alone and prune in one shot."""
    shutil.rmtree(OUT, ignore_errors=True)
    words = ["--epochs", "10", "--threads", "1", "--prune.ratio", "0.5", "--prune.interval", "2", *sys.argv[1:]]
    own = ["--prune.criterion", NAME, "--prune.normalise", "none"]  # digits divides magnitudes, which these are not
    both = st.draw(st.load_recipe("digits", [*words, *own]), OUT / "two_in_one")
    searched = st.draw(st.load_recipe("digits", [*words, "--prune.ratio", "0"]), OUT / "searched")
    pruned = st.prune(searched, st.prune_recipe(searched, 0.5, NAME), OUT / "pruned")
    for name, ticket in {"two in one": both, "searched, then pruned": pruned}.items():
        print(f"{name}: {ticket.cost.sparsity:.0%} zeros, test accuracy {ticket.about['test']['top1']:.0f}%")


if __name__ == "__main__":
    main()
