"""The moving average, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from supertickets.training.ema import Ema


@pytest.mark.parametrize(
    ("step", "decay"),
    [(0, 0.1), (1, 2 / 11), (8, 0.5), (71, 72 / 81), (80, 0.9), (10_000, 0.9)],
)
def test_decay_follows_the_steps_up_to_its_bound(step: int, decay: float) -> None:
    """(1 + n) / (10 + n), at most 0.9: average = decay * average + (1 - decay) * value."""
    ema = Ema({"w": torch.tensor([1.0, -4.0])}, 0.9)
    ema.update({"w": torch.tensor([2.0, 6.0])}, {}, step)
    expected = torch.tensor([decay * 1 + (1 - decay) * 2, decay * -4 + (1 - decay) * 6])
    torch.testing.assert_close(ema.tensors["w"], expected)


def test_two_steps_by_hand() -> None:
    ema = Ema({"w": torch.tensor([0.0])}, 0.999)
    ema.update({"w": torch.tensor([10.0])}, {}, 0)  # 0.1 * 0 + 0.9 * 10
    ema.update({"w": torch.tensor([20.0])}, {}, 1)  # 2 / 11 * 9 + 9 / 11 * 20
    assert ema.tensors["w"].item() == pytest.approx((2 * 9 + 9 * 20) / 11)


def test_pruned_entries_are_frozen() -> None:
    """The parameter is zero where it is pruned; its average stays what it was, to the bit."""
    ema = Ema({"free": torch.tensor([1.0]), "w": torch.tensor([0.1, 0.2, 0.3])}, 0.5)
    named = {"w": torch.tensor([1.1, 0.0, 2.3]), "elsewhere": torch.ones(4), "free": torch.tensor([3.0])}
    ema.update(named, {"w": torch.tensor([1.0, 0.0, 1.0])}, 1000)
    assert ema.tensors["w"].tolist() == pytest.approx([0.6, 0.2, 1.3])
    assert ema.tensors["w"][1].item() == torch.tensor(0.2).item()
    assert ema.tensors["free"].item() == 2.0
    assert list(ema.tensors) == ["free", "w"]


def test_parameters_are_read_and_not_touched() -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0]))
    average = torch.tensor([1.0])
    Ema({"w": average}, 0.5).update({"w": weight}, {}, 1000)
    assert (weight.item(), average.item(), average.requires_grad) == (3.0, 2.0, False)
