"""Importance of units: scales, and gradients of gates beside autograd's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from supertickets.models.units import Axis, UnitGroup
from supertickets.nas import gate_gradients, rank_within_groups, scale_magnitudes

EVERY = (0, 1, 2, 3)


def make_group(names: list[str], gates: list[str]) -> UnitGroup:
    axes = {name: Axis(name, 0, EVERY) for name in names}
    return UnitGroup("g", "channel", 4, tuple(axes.values()), tuple(axes[name] for name in gates))


class Gated(nn.Module):
    """Two branches, summed; every channel of the sum passes a gate, which is 1."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(3, 4, 1)
        self.na = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.nb = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.read = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        out: Tensor = self.read((self.na(self.a(x)) + self.nb(self.b(x))) * gate[:, None, None]).relu()
        return out


@pytest.mark.parametrize("norm", [True, False])
def test_the_gradient_of_a_gate_is_that_of_autograd(norm: bool) -> None:
    torch.manual_seed(0)
    net, gate = Gated(norm), torch.ones(4, requires_grad=True)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    (net(torch.randn(2, 3, 5, 5), gate) ** 2).sum().backward()
    gates = ["na", "nb"] if norm else ["a", "b"]
    names = [f"{layer}.{kind}" for layer in gates for kind in ("weight", "bias")]
    group = make_group(names, names)
    assert gate.grad is not None
    [(_, squared)] = gate_gradients([group], dict(net.named_parameters())).items()
    torch.testing.assert_close(squared, gate.grad**2, rtol=1e-4, atol=1e-4)


def test_several_scales_count_by_their_mean() -> None:
    names = ["na.weight", "nb.weight", "na.running_var", "nb.running_var"]
    group = make_group(names, names[:2])
    tensors = {"na.weight": torch.tensor([1.0, -2, 0, 4]), "nb.weight": torch.tensor([-3.0, 2, 0, 0])}
    assert scale_magnitudes(group, tensors).tolist() == [2, 2, 0, 2]


def test_one_scale_is_its_magnitude_to_the_bit() -> None:
    group = make_group(["n.weight", "n.running_var"], ["n.weight"])
    scale = torch.tensor([1e-30, -0.1, 0.3, -7.7])
    assert torch.equal(scale_magnitudes(group, {"n.weight": scale}), scale.abs())


def test_scales_are_ranked_within_their_group() -> None:
    ranks = rank_within_groups({"a": torch.tensor([1.0, 3.0, 2.0, 9.0]), "b": torch.tensor([0.03, 0.01])})
    assert {name: values.tolist() for name, values in ranks.items()} == {"a": [0.25, 0.75, 0.5, 1], "b": [1, 0.5]}


def test_groups_without_scales_stay() -> None:
    assert rank_within_groups({"a": torch.full((3,), torch.inf)})["a"].isinf().all()
