"""Baselines of a search: random search around the same cost, and regularised evolution.

Shapes: N networks, D decisions; networks are index lists.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError
from .space import Space

Figure = Callable[[Tensor], Tensor]  # index lists (N, D) -> (N,)


@dataclass(frozen=True)
class CostRange:
    """Costs that a network may have, e.g. a target give or take 1 ms.

    Attributes:
        low: Lowest cost.
        high: Highest cost.
    """

    low: float
    high: float

    def holds(self, cost: Tensor) -> Tensor:
        """Return flags of what lies within."""
        return (cost >= self.low) & (cost <= self.high)


def random_networks(
    space: Space, cost: Figure, window: CostRange, count: int, generator: torch.Generator, tries: int = 1_000_000
) -> Tensor:
    """Draw networks until enough lie in the window (rejection sampling, Sec. 3.2); (count, D).

    Raises:
        UserError: There are not enough in so many tries.
    """
    kept, tried = [torch.empty(0, len(space.decisions), dtype=torch.long)], 0
    while sum(map(len, kept)) < count:
        if tried >= tries:
            raise UserError(
                f"of {tried} random networks {sum(map(len, kept))} cost between {window.low:g} and {window.high:g}, "
                f"but {count} are needed; widen the window, or move it to what the space holds"
            )
        drawn = space.sample(256, generator)
        tried += len(drawn)
        kept.append(drawn[window.holds(cost(drawn))])
    return torch.cat(kept)[:count]


@dataclass(frozen=True)
class Evolution:
    """The size of an evolution.

    Attributes:
        evaluations: Number of networks that are evaluated.
        population: Number of networks that live at a time.
        tournament: Number of living networks of which the best has a child.
    """

    evaluations: int
    population: int = 50
    tournament: int = 10


def evolve(
    space: Space, quality: Figure, cost: Figure, window: CostRange, size: Evolution, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Evolve networks (Real et al., 2019): the best of a few has a child, the oldest goes; all lie in the window.

    Returns:
        All networks that were evaluated, in order, and their qualities: (evaluations, D), (evaluations,).
    """
    first = random_networks(space, cost, window, min(size.population, size.evaluations), generator)
    networks, scores = list(first), quality(first).tolist()
    alive = deque(range(len(networks)))
    while len(networks) < size.evaluations:
        picked = torch.randint(len(alive), (size.tournament,), generator=generator).tolist()
        parent = max((alive[i] for i in picked), key=lambda i: scores[i])
        child = _mutate(space, networks[parent], cost, window, generator)
        networks.append(child)
        scores.append(float(quality(child[None])[0]))
        alive.append(len(networks) - 1)
        alive.popleft()
    return torch.stack(networks), torch.tensor(scores)


def _mutate(space: Space, parent: Tensor, cost: Figure, window: CostRange, generator: torch.Generator) -> Tensor:
    """Answer one decision that means something anew; more of them where that alone leaves the window."""
    most = 4 * len(space.decisions)  # ever more of a network may change before it is given up
    for changes in range(1, most):
        children = parent.repeat(64, 1)
        for _ in range(changes):
            active = space.active(children).double()
            places = torch.multinomial(active, 1, generator=generator)[:, 0]
            counts = torch.tensor([len(decision.options) for decision in space.decisions])[places]
            moves = (torch.rand(len(children), generator=generator) * (counts - 1)).long() + 1
            rows = torch.arange(len(children))
            children[rows, places] = torch.where(counts > 1, (children[rows, places] + moves) % counts, 0)
        fits = window.holds(cost(children)) & (children != parent).any(dim=1)
        if fits.any():
            return children[int(fits.nonzero()[0])]
    raise UserError(f"no other network was found that costs {window.low:g} to {window.high:g}; widen the window")
