"""Evaluation and BN recalibration against computations of their own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supertickets.data import InMemoryImages
from supertickets.tasks import Classification
from supertickets.training import Runtime, evaluate, recalibrate

NONE = InMemoryImages(torch.empty(0, 1, 1, 1), torch.empty(0))  # the samples, which this task does not look at
HERE = Runtime(torch.device("cpu"))
Batch = tuple[Tensor, Tensor]


class Net(nn.Module):
    """Two batch norms with dropout in between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_bn = nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3, momentum=0.3)
        self.drop = nn.Dropout(0.5)
        self.second, self.second_bn = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.out = nn.Linear(4, 6)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.drop(torch.relu(self.first_bn(self.first(x_BCHW))))
        return self.out(self.second_bn(self.second(x_BCHW)).mean((2, 3)))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    net = Net()
    for bn in (net.first_bn, net.second_bn):
        nn.init.uniform_(bn.weight, 0.5, 1.5)
        nn.init.normal_(bn.bias)
        bn.running_mean = torch.randn(bn.num_features)
        bn.running_var = torch.rand(bn.num_features) + 0.5
    return net


@pytest.fixture
def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    sizes = (16, 16, 9)  # the mean is over batches, not over samples
    return [
        (
            torch.randn(n, 1, 8, 8, generator=generator) * (i + 1) + i,
            torch.randint(0, 6, (n,), generator=generator),
        )
        for i, n in enumerate(sizes)
    ]


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_is_accuracy_and_loss_in_eval_mode(net: Net, batches: list[Batch], training: bool) -> None:
    images, labels = (torch.cat([b[i] for b in batches]) for i in (0, 1))
    with torch.no_grad():
        scores = net.eval()(images).double().numpy()
    net.train(training)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    metrics = evaluate(net, batches, NONE, Classification(tuple("abcdef")), HERE)
    own = scores[np.arange(len(labels)), labels.numpy()]
    rank = (scores > own[:, None]).sum(1)
    assert metrics["top1"] == pytest.approx(100 * (rank < 1).mean())
    assert metrics["top5"] == pytest.approx(100 * (rank < 5).mean())
    assert metrics["loss"] == pytest.approx((np.log(np.exp(scores).sum(1)) - own).mean(), rel=1e-5)
    assert net.training is training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def by_hand(net: Net, batches: list[Batch]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Per batch the mean and the unbiased variance in front of both batch norms, without dropout."""
    for images, _ in batches:
        x = torch.nn.functional.conv2d(images, net.first.weight)
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        first = (mean, x.var((0, 2, 3), correction=1))
        shape = (1, -1, 1, 1)
        x = (x - mean.view(shape)) / (var + net.first_bn.eps).sqrt().view(shape)
        x = (x * net.first_bn.weight.view(shape) + net.first_bn.bias.view(shape)).relu()
        x = torch.nn.functional.conv2d(x, net.second.weight)
        yield [first, (x.mean((0, 2, 3)), x.var((0, 2, 3), correction=1))]


@pytest.mark.parametrize("training", [True, False])
def test_recalibrate_takes_the_mean_of_batch_statistics(net: Net, batches: list[Batch], training: bool) -> None:
    net.train(training)
    with torch.no_grad():
        seen = list(by_hand(net, batches))
    assert recalibrate(net, iter(batches), HERE) == 3
    for i, bn in enumerate((net.first_bn, net.second_bn)):
        mean = torch.stack([one[i][0] for one in seen]).mean(0)
        var = torch.stack([one[i][1] for one in seen]).mean(0)
        assert bn.running_mean is not None
        assert bn.running_var is not None
        assert torch.allclose(bn.running_mean, mean, atol=1e-5)
        assert torch.allclose(bn.running_var, var, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_recalibrate_leaves_everything_else(net: Net, batches: list[Batch], training: bool) -> None:
    net.train(training)
    weights = {name: p.clone() for name, p in net.named_parameters()}
    recalibrate(net, batches, HERE)
    assert [m.training for m in net.modules()] == [training] * len(list(net.modules()))
    assert (net.first_bn.momentum, net.second_bn.momentum) == (0.3, 0.1)
    assert all(torch.equal(p, weights[name]) and p.grad is None for name, p in net.named_parameters())


def test_recalibrate_does_not_depend_on_random_numbers(net: Net, batches: list[Batch]) -> None:
    states = []
    for seed in (0, 1):
        torch.manual_seed(seed)  # dropout, were it on, would differ
        recalibrate(net.train(), batches, HERE)
        states.append({name: value.clone() for name, value in net.state_dict().items()})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
