"""Criteria of pruning: how much every weight of a network is worth."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from ..config.recipe import PruneSettings
from ..errors import UserError
from ..plugins import find_by_name
from .masks import magnitudes, sensitivities


@dataclass(frozen=True, kw_only=True)
class CriterionContext:
    """The network that a criterion ranks, and its data. It leaves all of it as it was.

    Attributes:
        module: The network in eval mode: with its BN statistics, without dropout.
        weights: Its maskable weights by name; what is pruned is zero.
        losses: Yields the loss of one training batch after the other, with its graph; every call the same ones.
        average_: Replaces tensors by their mean over all processes, each of which sees batches of its own.
        input_shape: Channels, height and width of an image.
        settings: Reads ``normalise``.
        seed: Seed of what is random.
        uses: Returns the number of positions of an image that each weight of a layer is applied at, by name.
    """

    module: nn.Module
    weights: dict[str, Tensor]
    losses: Callable[[], Iterator[Tensor]]
    average_: Callable[[list[Tensor]], None]
    input_shape: tuple[int, int, int]
    settings: PruneSettings
    seed: int
    uses: Callable[[], Mapping[str, int]] = dict


# Gives a score per weight, by the names of ``CriterionContext.weights``; the lowest are pruned.
Score = Callable[[CriterionContext], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Criterion:
    """A way to score weights, and what it needs.

    Attributes:
        name: Name for messages and records.
        score: Function of a `CriterionContext`.
        needs_data: Whether it asks for losses.
        default_rounds: Number of steps in which one prune takes weights out, if ``prune.rounds`` is null.
        uses_magnitudes: Whether scores are magnitudes of the weights as they are. Only these are divided as
            ``prune.normalise`` says; they are the same in every process, and lowest where a weight is pruned already.
    """

    name: str
    score: Score
    needs_data: bool = True
    default_rounds: int = 1
    uses_magnitudes: bool = False


def random(context: CriterionContext) -> dict[str, Tensor]:
    """Score by chance ("Rand." in the paper)."""
    generator = torch.Generator().manual_seed(context.seed)
    return {name: torch.rand(w.shape, generator=generator).to(w.device) for name, w in context.weights.items()}


def magnitude(context: CriterionContext) -> dict[str, Tensor]:
    """Score |w| ("Mag." in the paper), divided as ``prune.normalise`` says."""
    return magnitudes(context.weights, context.settings, context.uses)


def snip(context: CriterionContext) -> dict[str, Tensor]:
    """Score |w * dL/dw| ("Grad." in the paper; SNIP, Lee et al., 2019)."""
    return sensitivities(context.weights, mean_gradients(context))


def grasp(context: CriterionContext) -> dict[str, Tensor]:
    """Score w * (H g): how much gradient flow goes with a weight (GraSP, Wang et al., 2020, Eq. 8, sign turned).

    Gradient g and Hessian H are both means over all batches. The authors' program divides the network's outputs by 200
    besides; here the loss is the task's.
    """
    gradients = mean_gradients(context)
    products = {name: torch.zeros_like(w) for name, w in context.weights.items()}
    used = 0
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no second derivative
        for loss in context.losses():
            first = torch.autograd.grad(loss, list(context.weights.values()), create_graph=True, allow_unused=True)
            pairs = [(g, gradients[name]) for name, g in zip(products, first, strict=True) if g is not None]
            along = sum(((g * mean).sum() for g, mean in pairs), start=torch.zeros((), device=loss.device))
            if along.requires_grad:  # a loss that is linear in the weights has no Hessian
                second = torch.autograd.grad(along, list(context.weights.values()), allow_unused=True)
                for total, part in zip(products.values(), second, strict=True):
                    total += 0 if part is None else part
            used += 1
    context.average_(list(products.values()))
    return {name: context.weights[name].detach() * total / used for name, total in products.items()}


class PositiveFlow(TorchFunctionMode):
    """Within it networks are linear along every path: what saturates would leave the layers in front without slopes.

    Activations and normalisations return their inputs. A gate is open, x / x, and attention goes by shares, x / sum(x),
    where the lower one does not count for slopes: so what decides them shares what flows through them, and R does not
    square at every gate.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of PyTorch, or what stands for it."""
        return _POSITIVE.get(func, func)(*args, **(kwargs or {}))


def _pass_on(x: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    return x


def _open(x: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    return x / _divisor(x)


def _share(x: Tensor, dim: int = -1, *_args: Any, **_kwargs: Any) -> Tensor:
    return x / _divisor(x.sum(dim, keepdim=True))


def _attend(query: Tensor, key: Tensor, value: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    return _share(query @ key.mT) @ value


def _divisor(x: Tensor) -> Tensor:
    x = x.detach()
    return torch.where(x == 0, 1.0, x)


_POSITIVE: Mapping[Callable[..., Any], Callable[..., Any]] = {
    **dict.fromkeys((F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm), _pass_on),
    **dict.fromkeys((F.relu6, F.hardtanh, F.hardswish, F.silu, F.gelu, F.mish, F.elu, F.softplus), _pass_on),
    **dict.fromkeys((torch.tanh, Tensor.tanh, F.tanh), _pass_on),
    **dict.fromkeys((torch.sigmoid, Tensor.sigmoid, F.sigmoid, F.hardsigmoid), _open),
    **dict.fromkeys((F.softmax, torch.softmax, Tensor.softmax), _share),
    F.scaled_dot_product_attention: _attend,
}


def synflow(context: CriterionContext) -> dict[str, Tensor]:
    """Score |w| * dR/d|w|, R the sum of the outputs of |weights| for an image of ones (SynFlow, Tanaka et al., 2020).

    It needs no data. Normalisations and activations pass on what is positive as it is, and gates are open (see
    `PositiveFlow`), so that R is a product of weights; in double precision, since R grows with every layer, and given
    as shares of the highest score.
    """
    linear = copy.deepcopy(context.module).double().requires_grad_(False)
    weights = {name: linear.get_parameter(name).requires_grad_() for name in context.weights}
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.abs_()
    image = torch.ones(1, *context.input_shape, dtype=torch.float64, device=next(linear.parameters()).device)
    with PositiveFlow():
        flow = linear(image).sum()
    slopes = torch.autograd.grad(flow, list(weights.values()), allow_unused=True)
    for (name, weight), slope in zip(weights.items(), slopes, strict=True):
        if slope is not None and not (bool(slope.isfinite().all()) and (bool(slope.any()) or not bool(weight.any()))):
            raise UserError(f"synflow cannot follow what flows through {name}; take another prune.criterion")
    flows = {
        name: torch.zeros_like(w) if g is None else g for (name, w), g in zip(weights.items(), slopes, strict=True)
    }
    scores = sensitivities(weights, flows)
    highest = max(float(score.max()) for score in scores.values())
    return {name: score / (highest or 1.0) for name, score in scores.items()}


CRITERIA = {
    criterion.name: criterion
    for criterion in (
        Criterion("magnitude", magnitude, needs_data=False, uses_magnitudes=True),
        Criterion("snip", snip),
        Criterion("grasp", grasp),
        Criterion("synflow", synflow, needs_data=False, default_rounds=100),
        Criterion("random", random, needs_data=False),
    )
}


def mean_gradients(context: CriterionContext) -> dict[str, Tensor]:
    """Return gradients of the loss, averaged over batches and processes before any magnitude: as if of one batch."""
    total, used = {name: torch.zeros_like(w) for name, w in context.weights.items()}, 0
    for loss in context.losses():
        gradients = torch.autograd.grad(loss, list(context.weights.values()), allow_unused=True)
        for sum_, gradient in zip(total.values(), gradients, strict=True):
            sum_ += 0 if gradient is None else gradient
        used += 1
    context.average_(list(total.values()))
    return {name: sum_ / used for name, sum_ in total.items()}


def find_criterion(name: str) -> Criterion:
    """Return a shipped criterion, or a user's own.

    A user's own is a `Criterion`; or a function of a `CriterionContext`, or a class whose instances are called with
    one. What a `Criterion` declares may be attributes of these; by default they need data and take one round.

    Args:
        name: Name of a shipped criterion, or ``package.module:name``.

    Raises:
        UserError: There is no such criterion.
    """
    own = find_by_name(name, CRITERIA, "criterion")
    if isinstance(own, Criterion):
        return replace(own, name=name)
    score = own() if isinstance(own, type) else own
    if not callable(score):
        raise UserError(f"criterion {name} cannot be called; make it a function of a CriterionContext")
    declared = ("needs_data", "default_rounds", "uses_magnitudes")
    return Criterion(name, score, **{key: getattr(score, key) for key in declared if hasattr(score, key)})


def check_criterion(settings: PruneSettings) -> Criterion:
    """Return the criterion of some settings, if it can work with the rest of them.

    Raises:
        UserError: There is no such criterion, or it cannot be divided as the settings say.
    """
    criterion = find_criterion(settings.criterion)
    if settings.normalise != "none" and not criterion.uses_magnitudes:
        raise UserError(f"prune.normalise divides magnitudes; set it to none for criterion {criterion.name}")
    return criterion


def check_scores(scores: Mapping[str, Tensor], weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return a copy of the scores in the weights' order, if there is a number for every weight.

    Raises:
        UserError: Names the first layer that has none.
    """
    for layer, weight in weights.items():
        if layer not in scores:
            raise UserError(f"criterion {name} gives no score for {layer}; it needs one for every weight it is shown")
        if scores[layer].shape != weight.shape:
            shape = " x ".join(map(str, scores[layer].shape))
            raise UserError(f"criterion {name} gives {shape} scores for {layer}; it has {tuple(weight.shape)} weights")
        if not bool(scores[layer].isfinite().all()):
            raise UserError(
                f"criterion {name} gives scores for {layer} that are no numbers; is the loss of the network on its "
                "training data finite?"
            )
    return {layer: scores[layer].detach().clone(memory_format=torch.contiguous_format) for layer in weights}
