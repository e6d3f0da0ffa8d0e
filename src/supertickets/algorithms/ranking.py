"""The choice of the weights that a prune takes out: ranked by the recipe's criterion, in one round or in several."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ..config.recipe import Recipe
from ..cost import layer_costs
from ..errors import UserError
from ..pruning import (
    Criterion,
    CriterionContext,
    Enforcer,
    check_criterion,
    check_ratio,
    check_scores,
    count_protected,
    keep_best,
)
from ..training import Session, TrainState

Tensors = dict[str, Tensor]
_GUESSES = 20  # masks that a cost is asked of
_CLOSE = 0.999  # share of what is allowed that ends the search


def choose_mask(
    session: Session,
    state: TrainState,
    epoch: int,
    ratio: float,
    alive: Mapping[str, Tensor],
    cost: Callable[[Mapping[str, Tensor]], float] | None = None,
) -> Tensors:
    """Return the mask of a prune; the network stays as it is.

    Args:
        session: What stays the same during a run.
        state: The network.
        epoch: Number of the epoch whose calibration batches the criterion looks at; 0 without training.
        ratio: Share of the maskable weights that is zero under the mask.
        alive: Flags of the weights that an earlier mask has left, all others go first; absent layers are whole.
        cost: Function that returns what a mask leaves as a share of what is allowed; as few weights go as this asks
            for, and ``ratio`` is the most that may.

    Raises:
        UserError: The criterion gives no usable score.
    """
    settings = session.recipe.prune
    criterion = check_criterion(settings)
    weights = maskable(state, session.recipe)
    context = CriterionContext(
        module=state.module,
        weights=weights,
        losses=lambda: _losses(session, state, epoch, criterion),
        average_=session.runtime.average_,
        input_shape=state.spec.input_shape,
        settings=settings,
        seed=session.recipe.seed,
        uses=lambda: {row.weight: row.uses for row in layer_costs(state.spec) if row.weight is not None},
    )
    mask: Mapping[str, Tensor] = alive
    rounds = pruning_ratios(state.sparse.sparsity, ratio, settings.rounds or criterion.default_rounds)
    with _unchanged(state.module, weights):
        for number, share in enumerate(rounds):
            if number:
                Enforcer(weights, mask).mask_weights()
            scores = check_scores(criterion.score(context), weights, criterion.name)
            if not criterion.uses_magnitudes:
                session.runtime.average_(list(scores.values()))  # one mask for all processes, whatever happens in each
            keep = partial(keep_best, scores, settings=settings, alive=mask)
            mask = keep(share)
            if cost is not None and (least := cost(mask)) < 1:
                before = rounds[number - 1] if number else state.sparse.sparsity
                mask = keep(least_ratio(partial(_cost_of_ratio, cost, keep), before, share, least))
                break  # further rounds would take more than the budget asks for
    return dict(mask)


def _cost_of_ratio(
    cost: Callable[[Mapping[str, Tensor]], float], keep: Callable[[float], Tensors], ratio: float
) -> float:
    return cost(keep(ratio))


def least_ratio(cost: Callable[[float], float], low: float, high: float, below: float) -> float:
    """Return the smallest ratio, nearly, at which a cost that falls with it is at most 1.

    Between bounds the cost is taken for a line, on which every other guess lies; the rest halve what is left.

    Args:
        cost: Function of the ratio.
        low: Smallest ratio.
        high: Largest ratio.
        below: Cost of the largest ratio, at most 1.
    """
    if (above := cost(low)) <= 1:
        return low
    for turn in range(_GUESSES):
        if below >= _CLOSE or high - low < 1e-7:
            break
        share = (above - 1) / (above - below) if turn % 2 == 0 else 0.5
        middle = low + (high - low) * min(max(share, 0.02), 0.98)
        value = cost(middle)
        if value <= 1:
            high, below = middle, value
        else:
            low, above = middle, value
    return high


def pruning_ratios(now: float, target: float, rounds: int) -> list[float]:
    """Return shares of zeros after each round: the living weights become fewer by the same factor every time.

    Args:
        now: Share of zeros before the first.
        target: Share of zeros after the last, exactly.
        rounds: Number of rounds.
    """
    factor = (1 - target) / (1 - now) if now < 1 else 1.0
    return [1 - (1 - now) * math.pow(factor, k / rounds) for k in range(1, rounds)] + [target]


def maskable(state: TrainState, recipe: Recipe) -> Tensors:
    """Return the weights that pruning covers, by name."""
    named, prune = state.parameters(), recipe.prune
    names = state.module.maskable_weights(transformer=prune.transformer, classifier=prune.classifier)

    def covers(name: str) -> bool:
        return prune.stem if name == names[0] else prune.depthwise or not is_depthwise(named[name])

    return {name: named[name] for name in names if covers(name)}


def expected_zeros(state: TrainState, recipe: Recipe) -> dict[str, float]:
    """Return the share of zeros that ``prune.ratio`` gives each layer on the way to a budget of what is not zero."""
    prune = recipe.prune
    if not recipe.prunes_to_budget:
        return {}
    return {name: prune.ratio for name, w in maskable(state, recipe).items() if w.numel() > prune.exempt_below}


def largest_ratio(state: TrainState, recipe: Recipe) -> float:
    """Return the share of the maskable weights that floors and exemptions do not protect."""
    weights = maskable(state, recipe)
    return 1 - count_protected(weights, recipe.prune) / sum(w.numel() for w in weights.values())


def is_depthwise(weight: Tensor) -> bool:
    """Return whether every filter of a convolution behind the first layer sees one channel alone."""
    return weight.ndim > 2 and weight.shape[1] == 1


def check_prune_ratio(state: TrainState, recipe: Recipe) -> None:
    """Refuse a ratio that cannot be met exactly.

    Raises:
        UserError: Names the nearest ratio that can.
    """
    weights = maskable(state, recipe)
    for name in state.sparse.mask:
        if name not in weights:
            part, setting = _left_out(name, state)
            raise UserError(f"the ticket's {part} is pruned already; set prune.{setting} to true, so that it stays so")
    check_ratio(weights, recipe.prune, state.sparse.mask)


def _left_out(name: str, state: TrainState) -> tuple[str, str]:
    """Return what a weight belongs to that pruning may leave out, and the setting that covers it."""
    always, module = state.module.maskable_weights(), state.module
    if name == always[0]:
        return "first layer", "stem"
    if name in always and is_depthwise(state.parameters()[name]):
        return "depthwise part", "depthwise"
    if name in module.maskable_weights(transformer=True):
        return "Transformer", "transformer"
    return "classifier", "classifier"


def _losses(session: Session, state: TrainState, epoch: int, criterion: Criterion) -> Iterator[Tensor]:
    """Yield losses of the epoch's first calibration batches, with their graphs; every call the same ones."""
    if not criterion.needs_data:
        raise UserError(f"criterion {criterion.name} asks for losses; let it declare needs_data = True")
    for images, target in session.batches.calibration(epoch, session.recipe.prune.batches):
        scores = state.module(images.to(session.runtime.device))
        yield session.task.loss(scores.float(), target.to(session.runtime.device))


@contextlib.contextmanager
def _unchanged(module: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Put a network into eval mode for a while; afterwards its weights and modes are what they were."""
    trained = {name: weight.detach().clone() for name, weight in weights.items()}
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(trained[name])
