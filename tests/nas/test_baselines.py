"""Random search and evolution: costs within the window, every evaluation counted, better than chance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from supertickets import UserError
from supertickets.models import Decision
from supertickets.nas import CostRange, Evolution, Space, evolve, random_networks
from supertickets.nas.baselines import _mutate

SPACE = Space(tuple(Decision(f"l{i}", (0, 1, 2)) for i in range(6)))
WINDOW = CostRange(5, 7)


def cost(networks: Tensor) -> Tensor:
    return networks.sum(dim=1).double()


def quality(networks: Tensor) -> Tensor:
    """The first layers count most."""
    return (networks * torch.tensor([32, 16, 8, 4, 2, 1])).sum(dim=1).double()


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_random_networks_lie_in_the_window() -> None:
    networks = random_networks(SPACE, cost, WINDOW, 100, generator())
    assert networks.shape == (100, 6)
    assert bool(WINDOW.holds(cost(networks)).all())
    assert {5, 6, 7} == set(cost(networks).int().tolist())


def test_a_window_that_holds_nothing() -> None:
    with pytest.raises(UserError, match=r"of 1024 random networks 0 cost between 20 and 21, but 3 are needed; widen"):
        random_networks(SPACE, cost, CostRange(20, 21), 3, generator(), tries=1000)


def test_evolution() -> None:
    asked: list[int] = []

    def counted(networks: Tensor) -> Tensor:
        asked.append(len(networks))
        return quality(networks)

    networks, scores = evolve(SPACE, counted, cost, WINDOW, Evolution(120, 20, 5), generator())
    assert (len(networks), len(scores), sum(asked)) == (120, 120, 120)
    assert bool(WINDOW.holds(cost(networks)).all())
    assert torch.equal(scores.double(), quality(networks))
    assert scores.max() == 2 * 32 + 2 * 16 + 2 * 8 + 4  # the best there is
    assert scores[-20:].mean() > scores[:20].mean()


def test_the_oldest_goes_however_good_it_is() -> None:
    """The first network alone scores; its children differ from it in one place, until it has gone."""
    seen: list[Tensor] = []

    def first_alone(networks: Tensor) -> Tensor:
        seen.extend(networks)
        return torch.tensor([float(len(seen) == len(networks) and i == 0) for i in range(len(networks))])

    networks, _ = evolve(SPACE, first_alone, cost, CostRange(0, 12), Evolution(60, 5, 60), generator())
    changed = (networks != networks[0]).sum(dim=1)
    assert changed[5].item() == 1
    assert int(changed[10:].max()) > 1


def test_inactive_decisions_are_not_mutated() -> None:
    """In a network that leaves the layer out, all that can change is that."""
    space = Space((Decision("kernel", (3, 5), within=("skip", False)), Decision("skip", (False, True))))
    for seed in range(10):
        random = torch.Generator().manual_seed(seed)
        child = _mutate(space, torch.tensor([1, 1]), lambda n: n[:, 1].double(), CostRange(0, 1), random)
        assert int(child[1]) == 0


def test_a_window_that_holds_one_network() -> None:
    with pytest.raises(UserError, match="no other network was found that costs 0 to 0; widen"):
        evolve(SPACE, quality, cost, CostRange(0, 0), Evolution(20, 2), generator())
