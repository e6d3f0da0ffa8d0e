"""Networks of timm and torchvision with the weights that are published of them, and the images that these want."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..data import Preprocessing
from ..errors import UserError
from ..models import find_maker, library_network


def published_network(library: str, name: str, instead: str, **settings: Any) -> nn.Module:
    """Make a network with its published weights, which the library downloads unless it has them already.

    Args:
        library: "timm" or "torchvision".
        name: Name of the network; a tag behind a dot names one of several weights.
        instead: What to do where there is no network, for the message.
        **settings: What its constructor takes.

    Raises:
        UserError: There are no such weights, or they cannot be downloaded.
    """
    network, _, tag = name.partition(".")
    if library == "timm":
        weights: dict[str, Any] = {"pretrained": True}
    else:
        name, weights = network, {"weights": tag or "DEFAULT"}
    try:
        return library_network(library, name, **weights, **settings)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(
            f"published weights of {library}:{name} cannot be loaded ({why}); connect to the internet, or {instead}"
        ) from None


def published_preprocessing(library: str, name: str) -> Preprocessing:
    """Return how images are prepared for a network's published weights, by the library's own configuration.

    Args:
        library: "timm" or "torchvision".
        name: Name of the network; a tag behind a dot names one of several weights.

    Raises:
        UserError: There is no such network, or the library publishes no such weights.
    """
    find_maker(library, name)
    try:
        return _timm_preprocessing(name) if library == "timm" else _torchvision_preprocessing(name)
    except (RuntimeError, ValueError, KeyError, AttributeError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{library} publishes no weights {name} ({why}); take another tag, or none") from None


def _timm_preprocessing(name: str) -> Preprocessing:
    from timm.data.config import resolve_data_config
    from timm.models import get_pretrained_cfg

    known = get_pretrained_cfg(name)
    config: dict[str, Any] = resolve_data_config(pretrained_cfg={} if known is None else known.to_dict())  # type: ignore[no-untyped-call]
    channels, height, width = config["input_size"]
    return Preprocessing(
        channels,
        (height, width),
        tuple(config["mean"]),
        tuple(config["std"]),
        fit="crop",
        share=config["crop_pct"],
        resample="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
    )


def _torchvision_preprocessing(name: str) -> Preprocessing:
    from torchvision.models import get_model_weights

    network, _, tag = name.partition(".")
    weights: Any = get_model_weights(network)
    prepare = (weights[tag] if tag else weights.DEFAULT).transforms()
    (size,), (resized,) = prepare.crop_size, prepare.resize_size
    return Preprocessing(
        3,
        (size, size),
        tuple(prepare.mean),
        tuple(prepare.std),
        fit="crop",
        share=size / resized,
        resample="bilinear" if prepare.interpolation.value == "bilinear" else "bicubic",
    )
