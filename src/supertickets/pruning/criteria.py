"""Criteria of one-shot pruning: what every weight of a finished network is worth."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..config.recipe import PruneSettings
from ..errors import UserError, import_by_name, suggest
from .masks import magnitudes, sensitivities


@dataclass(frozen=True, kw_only=True)
class CriterionContext:
    """What a criterion may look at. It leaves all of it as it was.

    Attributes:
        module: The network in eval mode: with its BN statistics, without dropout.
        weights: Its maskable weights by name; what is pruned is zero.
        losses: Yields the loss of one training batch after the other, with its graph; every call the same ones.
        average_: Replaces tensors by their mean over all processes, each of which sees batches of its own.
        input_shape: Channels, height and width of an image.
        settings: Reads ``normalise``.
        seed: Of what is random.
    """

    module: nn.Module
    weights: dict[str, Tensor]
    losses: Callable[[], Iterator[Tensor]]
    average_: Callable[[list[Tensor]], None]
    input_shape: tuple[int, int, int]
    settings: PruneSettings
    seed: int


# Gives a score per weight, by the names of ``Probe.weights``; the lowest are pruned.
Criterion = Callable[[CriterionContext], Mapping[str, Tensor]]


def random(probe: CriterionContext) -> dict[str, Tensor]:
    """Scores by chance ("Rand." in the paper)."""
    generator = torch.Generator().manual_seed(probe.seed)
    return {name: torch.rand(w.shape, generator=generator).to(w.device) for name, w in probe.weights.items()}


def magnitude(probe: CriterionContext) -> dict[str, Tensor]:
    """Scores |w| ("Mag." in the paper), divided as ``prune.normalise`` says."""
    return magnitudes(probe.weights, probe.settings)


def snip(probe: CriterionContext) -> dict[str, Tensor]:
    """Scores |w * dL/dw| ("Grad." in the paper; SNIP, Lee et al., 2019)."""
    return sensitivities(probe.weights, mean_gradients(probe))


def grasp(probe: CriterionContext) -> dict[str, Tensor]:
    """Scores w * (H g): how much gradient flow goes with a weight (GraSP, Wang et al., 2020, Eq. 8, sign turned).

    Gradient g and Hessian H are both means over all batches. The authors' program divides the network's outputs by 200
    besides; here the loss is the task's.
    """
    gradients = mean_gradients(probe)
    products = {name: torch.zeros_like(w) for name, w in probe.weights.items()}
    used = 0
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no second derivative
        for loss in probe.losses():
            found = torch.autograd.grad(loss, list(probe.weights.values()), create_graph=True, allow_unused=True)
            pairs = [(g, gradients[name]) for name, g in zip(products, found, strict=True) if g is not None]
            along = sum(((g * mean).sum() for g, mean in pairs), start=torch.zeros((), device=loss.device))
            if along.requires_grad:  # a loss that is linear in the weights has no Hessian
                second = torch.autograd.grad(along, list(probe.weights.values()), allow_unused=True)
                for total, part in zip(products.values(), second, strict=True):
                    total += 0 if part is None else part
            used += 1
    probe.average_(list(products.values()))
    return {name: probe.weights[name].detach() * total / used for name, total in products.items()}


def synflow(probe: CriterionContext) -> dict[str, Tensor]:
    """Scores |w| * dR/d|w|, R the sum of the outputs of |weights| for an image of ones (SynFlow, Tanaka et al., 2020).

    It needs no data. Batch norms pass everything on as it is, so that R is a product of weights; in double precision,
    since R grows with every layer, and told as shares of the highest score.
    """
    linear = copy.deepcopy(probe.module).double().requires_grad_(False)
    weights = {name: linear.get_parameter(name).requires_grad_() for name in probe.weights}
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.abs_()
        for norm in linear.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                norm.reset_running_stats()
                norm.reset_parameters()
                norm.eps = 0.0
    image = torch.ones(1, *probe.input_shape, dtype=torch.float64, device=next(linear.parameters()).device)
    found = torch.autograd.grad(linear(image).sum(), list(weights.values()), allow_unused=True)
    flows = {name: torch.zeros_like(w) if g is None else g for (name, w), g in zip(weights.items(), found, strict=True)}
    scores = sensitivities(weights, flows)
    highest = max(float(score.max()) for score in scores.values())
    return {name: (score / (highest or 1.0)).float() for name, score in scores.items()}


CRITERIA: dict[str, Criterion] = {
    "magnitude": magnitude,
    "snip": snip,
    "grasp": grasp,
    "synflow": synflow,
    "random": random,
}
WITHOUT_DATA = ("magnitude", "synflow", "random")


def mean_gradients(probe: CriterionContext) -> dict[str, Tensor]:
    """Gradients of the loss, averaged over batches and processes, before any magnitude: as if the batches were one."""
    total, used = {name: torch.zeros_like(w) for name, w in probe.weights.items()}, 0
    for loss in probe.losses():
        found = torch.autograd.grad(loss, list(probe.weights.values()), allow_unused=True)
        for sum_, gradient in zip(total.values(), found, strict=True):
            sum_ += 0 if gradient is None else gradient
        used += 1
    probe.average_(list(total.values()))
    return {name: sum_ / used for name, sum_ in total.items()}


def find_criterion(name: str) -> Criterion:
    """A shipped criterion, or a user's own: a function of a `Probe`, or a class whose instances are called with it.

    Args:
        name: Of a shipped criterion, or ``package.module.name`` of something on the Python path.

    Raises:
        UserError: There is no such criterion.
    """
    if name in CRITERIA:
        return CRITERIA[name]
    if "." not in name:
        raise UserError(f"unknown criterion '{name}'{suggest(name, CRITERIA)} (your own: package.module.name)")
    found = import_by_name(name, "criterion")
    criterion: Criterion = found() if isinstance(found, type) else found
    return criterion


def check_scores(scores: Mapping[str, Tensor], weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """A copy of the scores in the weights' order, if there is a number for every weight.

    Raises:
        UserError: Names the first layer that has none.
    """
    for layer, weight in weights.items():
        if layer not in scores:
            raise UserError(f"criterion {name} gives no score for {layer}; it needs one for every weight it is shown")
        if scores[layer].shape != weight.shape:
            told = " x ".join(map(str, scores[layer].shape))
            raise UserError(f"criterion {name} gives {told} scores for {layer}; it has {tuple(weight.shape)} weights")
        if not bool(scores[layer].isfinite().all()):
            raise UserError(
                f"criterion {name} gives scores for {layer} that are no numbers; is the loss of the ticket on its "
                "training data finite?"
            )
    return {layer: scores[layer].detach().clone(memory_format=torch.contiguous_format) for layer in weights}
