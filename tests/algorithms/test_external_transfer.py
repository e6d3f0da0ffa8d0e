"""Transfer of networks that other code makes: all but the classifier is carried over, with its mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supertickets import Ticket, UserError
from supertickets.algorithms.transfer import check_transfer, head_settings, join_specs, join_tickets
from supertickets.config.recipe import Recipe
from supertickets.data import Preprocessing
from supertickets.models import Spec, create_spec
from supertickets.models.heads import HEAD_SETTINGS

SMALL = {"num_classes": 3, "in_channels": 3, "image_size": (32, 32)}
WEIGHTS = 0.5  # share of the maskable weights that live


class OwnScores(nn.Module):
    """Scores as the product with a parameter that belongs to no layer."""

    def __init__(self, classes: int, sides: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * sides, 6)
        self.directions = nn.Parameter(torch.randn(6, classes))

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(self.hidden(images.flatten(1))) @ self.directions


def make_network(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    return OwnScores(num_classes, image_size[0] * image_size[1])


def random_ticket(spec: Spec, *, classifier: bool = False) -> Ticket:
    """A ticket of random weights and a random mask."""
    torch.manual_seed(3)
    module = spec.build()
    weights = {name: torch.randn_like(v) if v.is_floating_point() else v for name, v in module.state_dict().items()}
    mask = {name: torch.rand_like(weights[name]) < WEIGHTS for name in module.maskable_weights(classifier=classifier)}
    weights |= {name: weights[name] * flags for name, flags in mask.items()}
    prepare = Preprocessing(spec.in_channels, spec.image_size, (0.5,) * 3, (0.5,) * 3)
    classes = tuple(map(str, range(spec.num_classes)))
    return Ticket(spec, weights, mask, classes, prepare, {"recipe": Recipe().to_json()})


def moved(source: Ticket, classes: int, size: tuple[int, int] = (32, 32)) -> Ticket:
    """The ticket's features with a classifier for other data."""
    check_transfer(source, None, Recipe())
    shape = Preprocessing(3, size, (0.4,) * 3, (0.6,) * 3)
    make = join_specs(source, None, Recipe(), "classification", shape)
    full = make(num_classes=classes, in_channels=3, image_size=size)
    return join_tickets(full, source, None, tuple("abcdefg"[:classes]), shape, seed=8)


@pytest.mark.parametrize(
    ("name", "settings", "fresh"),
    [
        ("timm:test_efficientnet", {"drop_rate": 0.1}, {"classifier.weight", "classifier.bias"}),
        ("timm:levit_128s", {"img_size": 32}, None),  # two heads, each with a batch norm in front
        ("torchvision:shufflenet_v2_x0_5", {}, {"fc.weight", "fc.bias"}),
        ("torchvision:squeezenet1_1", {}, {"classifier.1.weight", "classifier.1.bias"}),  # a convolution
        (f"{__name__}:make_network", {}, {"directions"}),
    ],
)
@pytest.mark.parametrize("classes", [3, 5])  # as many as before, and more
def test_only_the_classifier_is_fresh(
    name: str, settings: Mapping[str, Any], fresh: set[str] | None, classes: int
) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm")
    source = random_ticket(create_spec(name, **SMALL, **settings))
    after = moved(source, classes)
    assert after.spec.to_json() == source.spec.to_json() | {"num_classes": classes}
    new = {name for name, value in after.weights.items() if not _equal(value, source.weights[name])}
    if fresh is None:
        assert {name.split(".")[1] for name in new} == {"head", "head_dist"}
    else:
        assert new == {f"network.{one}" for one in fresh}
    assert all(torch.equal(after.mask[one], flags) for one, flags in source.mask.items())
    assert after.mask.keys() == source.mask.keys()
    assert after.module(torch.zeros(2, 3, 32, 32)).shape == (2, classes)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def test_a_classifier_that_was_pruned_is_dense_again_and_counts() -> None:
    source = random_ticket(create_spec("torchvision:shufflenet_v2_x0_5", **SMALL), classifier=True)
    after = moved(source, 5)
    assert after.mask["network.fc.weight"].shape == (5, 1024)
    assert after.mask["network.fc.weight"].all()
    assert after.mask.keys() == source.mask.keys()


def test_what_cannot_be_joined_is_refused() -> None:
    source = random_ticket(create_spec("torchvision:shufflenet_v2_x0_5", **SMALL))
    with pytest.raises(UserError, match=r"the head of torchvision:shufflenet_v2_x0_5 is fresh, leave --head out"):
        check_transfer(source, source, Recipe())
    grey = Preprocessing(1, (32, 32), (0.5,), (0.5,))
    with pytest.raises(UserError, match="images of 3 channels"):
        join_specs(source, None, Recipe(), "classification", grey)
    own = random_ticket(create_spec(f"{__name__}:make_network", **SMALL))
    with pytest.raises(UserError, match=r"network.hidden.weight \(6, 3072\) does not fit images of 16 x 16 pixels"):
        moved(own, 3, (16, 16))
    assert head_settings(source) == HEAD_SETTINGS
