"""Random search and evolution: costs within the window, nothing counted twice, better than chance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from supertickets import UserError
from supertickets.search import Space, Window, evolve, random_networks
from supertickets.supernets import Decision

SPACE = Space(tuple(Decision(f"l{i}", (0, 1, 2)) for i in range(6)))
WINDOW = Window(5, 7)


def cost(networks: Tensor) -> Tensor:
    return networks.sum(dim=1).double()


def quality(networks: Tensor) -> Tensor:
    """The first layers count most."""
    return (networks * torch.tensor([32, 16, 8, 4, 2, 1])).sum(dim=1).double()


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_random_networks_lie_in_the_window() -> None:
    found = random_networks(SPACE, cost, WINDOW, 100, generator())
    assert found.shape == (100, 6)
    assert bool(WINDOW.holds(cost(found)).all())
    assert {5, 6, 7} == set(cost(found).int().tolist())


def test_a_window_that_holds_nothing() -> None:
    with pytest.raises(UserError, match=r"of 1024 random networks 0 cost between 20 and 21, but 3 are needed; widen"):
        random_networks(SPACE, cost, Window(20, 21), 3, generator(), tries=1000)


def test_evolution() -> None:
    asked: list[int] = []

    def counted(networks: Tensor) -> Tensor:
        asked.append(len(networks))
        return quality(networks)

    networks, scores = evolve(SPACE, counted, cost, WINDOW, 120, generator(), population=20, tournament=5)
    assert (len(networks), len(scores), sum(asked)) == (120, 120, 120)
    assert bool(WINDOW.holds(cost(networks)).all())
    assert torch.equal(scores.double(), quality(networks))
    assert scores.max() == 2 * 32 + 2 * 16 + 2 * 8 + 4  # the best there is
    assert scores[-20:].mean() > scores[:20].mean()


def test_evolution_with_nested_decisions() -> None:
    """Only what means something is changed."""
    space = Space((Decision("kernel", (3, 5), within=("skip", False)), Decision("skip", (False, True))))
    networks, _ = evolve(
        space, lambda n: n[:, 1].double(), lambda n: n[:, 1].double(), Window(0, 1), 30, generator(), 4, 2
    )
    assert len(networks) == 30
