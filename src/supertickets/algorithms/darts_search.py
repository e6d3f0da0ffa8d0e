"""Connections as numbers that follow the gradient of the validation loss (DARTS; Liu et al., 2019; LTH4SA, Table I)."""

from __future__ import annotations

import math
from itertools import islice

import torch
from torch.optim import Adam

from ..models import ResNet
from ..nas import Judge, SearchStep, evaluate_schemes
from ..training import Session


def darts_search(session: Session, module: ResNet, judge: Judge) -> list[SearchStep]:
    """Let the connections of a trained network follow the gradient; weights stay.

    Args:
        session: What stays the same; a pass over its validation split is a step.
        module: The network of all schemes, in eval mode.
        judge: Function that returns the quality of a scheme; after every pass it gets the connections
            above 0.5.

    Returns:
        A step per pass; its probability is the mean certainty of the connections.
    """
    settings, batches, device = session.recipe.connect, session.batches, session.runtime.device
    names = [decision.name for decision in module.spec.decisions()]
    module.requires_grad_(False)
    logits_M = torch.zeros(len(names), device=device, requires_grad=True)
    optimizer = Adam([logits_M], lr=settings.lr)
    size, share = session.recipe.data.batch, session.recipe.data.batch // session.runtime.world
    passes = []
    for epoch in range(settings.epochs):
        steps = math.ceil(len(batches.splits.validation) / size)
        for images, target in islice(batches.search_eval_batches(epoch, share), steps):
            scores = module(images.to(device), dict(zip(names, torch.sigmoid(logits_M), strict=True)))
            optimizer.zero_grad()
            session.task.loss(scores, target.to(device)).backward()
            assert logits_M.grad is not None
            session.runtime.average_([logits_M.grad])
            optimizer.step()
        logits = logits_M.detach().cpu()
        step = evaluate_schemes(logits[None] > 0, judge, settings)
        passes.append(step._replace(probability=float(logits.abs().sigmoid().mean())))
    return passes
