"""Published weights of timm and torchvision: their preprocessing without a network, and what is said without one."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torchvision import models

from supertickets import UserError
from supertickets.data import Preprocessing
from supertickets.training.published import published_network, published_preprocessing

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("library", "name", "wanted"),
    [
        # Resized to 256 (V1) or 232 (V2), of which the middle 224 are seen.
        ("torchvision", "resnet50.IMAGENET1K_V1", ((224, 224), *IMAGENET, 224 / 256, "bilinear")),
        ("torchvision", "resnet50", ((224, 224), *IMAGENET, 224 / 232, "bilinear")),
        ("torchvision", "efficientnet_b0", ((224, 224), *IMAGENET, 224 / 256, "bicubic")),
        ("timm", "resnet18", ((224, 224), *IMAGENET, 0.95, "bicubic")),
        ("timm", "resnet18.tv_in1k", ((224, 224), *IMAGENET, 0.875, "bilinear")),
        ("timm", "resnet10t", ((176, 176), *IMAGENET, 0.875, "bicubic")),
        ("timm", "vit_tiny_patch16_224", ((224, 224), (0.5,) * 3, (0.5,) * 3, 0.9, "bicubic")),
    ],
)
def test_preprocessing_is_the_librarys_own(library: str, name: str, wanted: tuple[Any, ...]) -> None:
    if library == "timm":
        pytest.importorskip("timm")
    size, mean, std, share, resample = wanted
    preprocessing = published_preprocessing(library, name)
    assert preprocessing == Preprocessing(3, size, mean, std, "crop", pytest.approx(share), resample)


@pytest.mark.parametrize("name", ["timm:resnet18.best", "torchvision:resnet18.BEST"])
def test_an_unknown_tag_is_named(name: str) -> None:
    library, _, own = name.partition(":")
    if library == "timm":
        pytest.importorskip("timm")
    for ask in (published_preprocessing, lambda *known: published_network(*known, "give a file")):
        with pytest.raises(UserError, match=own.partition(".")[2]) as error:
            ask(library, own)
        assert "\n" not in str(error.value)


def test_without_a_network_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("Name or service\nnot known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(UserError) as error:
        published_network("torchvision", "resnet18", "give a file of them, --supernet.pretrained FILE")
    assert str(error.value) == (
        "published weights of torchvision:resnet18 cannot be loaded (Name or service not known); connect to the "
        "internet, or give a file of them, --supernet.pretrained FILE"
    )


def test_torchvisions_weights_are_its_default_or_those_of_the_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(url: str, **_: object) -> dict[str, torch.Tensor]:
        asked.append(url)
        torch.manual_seed(6)
        return models.resnet50().state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
    for name in ("resnet50", "resnet50.IMAGENET1K_V1"):
        module = published_network("torchvision", name, "")
        assert torch.equal(module.state_dict()["conv1.weight"], load("")["conv1.weight"])
    known = models.ResNet50_Weights
    assert [url for url in asked if url] == [known.IMAGENET1K_V2.url, known.IMAGENET1K_V1.url]


def test_an_unknown_network_is_named_as_such() -> None:
    with pytest.raises(UserError, match="torchvision has no classification network 'resnet19'"):
        published_network("torchvision", "resnet19", "")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("timm", "timm.data", "timm.data.config", "timm.models"):
        monkeypatch.setitem(sys.modules, name, None)
    for ask in (published_preprocessing, lambda *known: published_network(*known, "give a file")):
        with pytest.raises(UserError, match=r"timm:resnet18 needs timm: pip install 'supertickets\[timm\]'"):
            ask("timm", "resnet18")
