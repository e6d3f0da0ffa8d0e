"""Grad-CAM: values worked out by hand, class activation maps as the oracle, and every family of networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from supertickets import UserError, create_supernet
from supertickets.models import HRNet, ResNet
from supertickets.visualization.grad_cam import grad_cam, weigh_channels

MAP = torch.tensor([[[1.0, 2.0], [0.0, 3.0]], [[4.0, 0.0], [2.0, 2.0]]])  # its means are 1.5 and 2


def stirred(module: nn.Module) -> nn.Module:
    """In eval mode and double precision, with batch norms that do something."""
    generator = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values, low in ((layer.weight, 0.5), (layer.bias, -0.5), (layer.running_mean, -0.2)):
                assert values is not None
                values.data.copy_(low + torch.rand(values.shape, generator=generator))
    return module.eval().double()


def cam(weight_KC: Tensor, map_CHW: Tensor, k: int) -> Tensor:
    """A class activation map (Zhou et al., 2016), only what is positive."""
    return F.relu((weight_KC[k][:, None, None] * map_CHW).sum(0))


class Product(nn.Module):
    """Scores of the two pooled channels p and q: p q, and -p."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        p_B, q_B = x_BCHW.mean((2, 3)).unbind(1)
        return torch.stack((p_B * q_B, -p_B), dim=1)


def test_heat_by_hand() -> None:
    gradient = torch.tensor([[[4.0, 0.0], [0.0, 0.0]], [[-1.0, -1.0], [0.0, 0.0]]])  # means 1 and -1/2
    assert weigh_channels(MAP, gradient).tolist() == [[0.0, 2.0], [0.0, 2.0]]  # of -1, 2, -1, 2


def test_a_tiny_network_by_hand() -> None:
    """The score p q = 3 has the gradients q / 4 = 1/2 and p / 4 = 3/8 at every place; -p has -1/4 and 0."""
    scores, heat = grad_cam(Product(), MAP[None])
    assert scores.tolist() == [3.0, -1.5]
    assert heat.tolist() == [[2.0, 1.0], [0.75, 2.25]]
    assert not grad_cam(Product(), MAP[None], 1)[1].any()


@pytest.mark.parametrize("attention", [None, "se", "sge", "dia"])
def test_a_resnets_heat_is_its_class_activation_map(attention: str | None) -> None:
    """Behind global average pooling and a linear layer, the gradient at each place is the class's weight / (H W)."""
    torch.manual_seed(0)
    sharing = {} if attention is None else {"attention": attention, "sharing": "stage"}
    network = stirred(create_supernet("resnet38", widths=(4, 4, 8), num_classes=5, **sharing))
    assert isinstance(network, ResNet)
    x = torch.randn(1, 3, 16, 24).double()
    with torch.no_grad():
        last = network.features(x, {})[-1]
        expected = network(x)[0]
    assert last.shape[-2:] == (4, 6)
    for k in range(5):
        scores, heat = grad_cam(network, x, k)
        torch.testing.assert_close(scores, expected)
        torch.testing.assert_close(24 * heat, cam(network.classifier.weight.detach(), last[0], k))
    best = grad_cam(network, x)[1]
    assert torch.equal(best, grad_cam(network, x, int(expected.argmax()))[1])
    assert any(grad_cam(network, x, k)[1].any() for k in range(5))


def test_a_supernets_heat_is_its_class_activation_map() -> None:
    torch.manual_seed(0)
    network = stirred(create_supernet("hrnet_tiny", image_size=(32, 32)))
    assert isinstance(network, HRNet)
    seen: list[Tensor] = []
    network.last_bn.register_forward_hook(lambda *args: seen.append(args[-1].detach().relu()))
    hot = 0
    for k in range(10):
        heat = grad_cam(network, torch.randn(1, 3, 32, 32).double(), k)[1]
        last = seen.pop()[0]
        expected = cam(network.classifier.weight.detach(), last, k)
        torch.testing.assert_close(last[0].numel() * heat, expected)
        hot += bool(expected.any())
    assert hot


def test_torchvisions_resnet() -> None:
    torch.manual_seed(0)
    network = stirred(resnet18(num_classes=4))
    seen: list[Tensor] = []
    network.avgpool.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    heat = grad_cam(network, torch.randn(1, 3, 64, 96).double(), 2)[1]
    torch.testing.assert_close(6 * heat, cam(network.fc.weight.detach(), seen[0][0], 2))


@pytest.mark.parametrize(
    ("name", "size", "places"),
    [
        ("mobilenet_v2", 64, (2, 2)),
        ("mobilenet_v3_large", 96, (3, 3)),  # gates, and a layer behind the pooling
        ("mobilenet_v2", 32, (2, 2)),  # its last map is a pixel: the one before, without its padding
        ("mobilenet_v2", 8, (2, 2)),
        ("torchvision:shufflenet_v2_x0_5", 64, (2, 2)),
        ("torchvision:squeezenet1_1", 64, (3, 3)),  # pools its scores
        ("torchvision:convnext_tiny", 64, (2, 2)),  # channels last, in parts
        ("timm:test_efficientnet", 64, (2, 2)),
    ],
)
def test_the_last_map_of_other_families(name: str, size: int, places: tuple[int, int]) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    network = create_supernet(name, image_size=(size, size), num_classes=4).eval()
    before = [p.clone() for p in network.parameters()]
    x = torch.randn(1, 3, size, size)
    scores, heat = grad_cam(network, x)
    assert tuple(heat.shape) == places
    assert bool((heat >= 0).all())
    assert not heat.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(network(x)[0], scores)
    assert all(p.grad is None and torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))
    assert not x.requires_grad


def test_a_flattened_map_counts_too() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 9, 4))
    heat = grad_cam(network, x := torch.randn(1, 1, 3, 3), 1)[1]
    map_CHW, weight_CHW = network[:2](x)[0], network[3].weight[1].view(2, 3, 3)
    torch.testing.assert_close(heat, weigh_channels(map_CHW, weight_CHW).detach())


def test_networks_without_maps_are_refused() -> None:
    tokens = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Flatten(2), nn.Linear(4, 1), nn.Flatten(), nn.Linear(8, 2))
    with pytest.raises(UserError, match="at 8x8 pixels the network has no map"):
        grad_cam(tokens, torch.randn(1, 3, 8, 8))
