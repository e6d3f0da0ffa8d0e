"""Transfer: the features of one ticket under the head of another task or data set (Sec. 3.3, Table 2).

The features of a multi-resolution supernet are its stem and stages; those of a ResNet are its stem and blocks with
their attention modules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..config.recipe import Recipe
from ..data import Preprocessing
from ..errors import UserError
from ..models import Head, HRNet, HRNetSpec, ResNet, ResNetSpec, Spec
from ..models.factory import create_spec
from ..models.resnet.network import default_output_stride
from ..ticket import Ticket

_FEATURE_SETTINGS = ("stem_channels", "stem_strides", "channels", "blocks", "expansion", "tokens")
# By family, settings that belong to a head.
_HEAD_SETTINGS: Mapping[type, tuple[str, ...]] = {
    HRNetSpec: ("head_channels", "last_channels", "dropout", "init_std"),
    ResNetSpec: ("output_stride",),
}


def head_settings(ticket: Ticket) -> tuple[str, ...]:
    """Return the settings of a recipe's supernet that a ticket's fresh head takes.

    Raises:
        UserError: The ticket's network cannot be parted into features and head.
    """
    settings = _HEAD_SETTINGS.get(type(ticket.spec))
    if settings is None:
        raise UserError(
            f"transfer joins features of a supernet or a ResNet with a head, which {ticket.spec} has not; "
            "take a ticket of such a network, or train it further with retrain"
        )
    return settings


def check_transfer(ticket: Ticket, head: Ticket | None, recipe: Recipe) -> None:
    """Check that features, head and recipe can be joined, whatever the data is like.

    Raises:
        UserError: The head or the recipe is for another family than the features.
    """
    head_settings(ticket)
    if isinstance(ticket.spec, ResNetSpec):
        if head is not None:
            raise UserError("--head is for tickets of a supernet; the head of a ResNet is fresh, leave --head out")
        return
    if head is not None:
        _supernet_of(head)
    if not recipe.supernet.has_units:
        raise UserError(f"transfer takes the recipe of a supernet; this one's supernet.name is {recipe.supernet.name}")


def join_specs(
    ticket: Ticket, head: Ticket | None, recipe: Recipe, wanted: Head, preprocessing: Preprocessing
) -> Callable[..., Spec]:
    """Return a function that makes the full network with a ticket's features and a head for the target.

    It takes what follows from the data. The head is that of ``head``; the ticket's own if it is for the same task; or
    else the recipe's.

    Args:
        ticket: Ticket with the features.
        head: Ticket with the head, if it is inherited.
        recipe: The target's settings.
        wanted: Kind of head that the target needs.
        preprocessing: Channels and size of the target's images.

    Raises:
        UserError: The features cannot serve the target, or the head does not fit them.
    """
    spec = ticket.spec
    if spec.in_channels != preprocessing.channels:
        raise UserError(
            f"the ticket's features take images of {spec.in_channels} channels, those of {recipe.name} have "
            f"{preprocessing.channels}; take a ticket that was drawn on such images"
        )
    if isinstance(spec, ResNetSpec):
        stride = recipe.supernet.settings.get("output_stride", default_output_stride(wanted))
        fresh = {} if spec.head == wanted else {"head": wanted, "output_stride": stride}
        return partial(dataclasses.replace, spec, **fresh)
    return partial(create_spec, recipe.supernet.name, **_join_settings(ticket, head, recipe, wanted, preprocessing))


def _join_settings(
    ticket: Ticket, head: Ticket | None, recipe: Recipe, wanted: Head, preprocessing: Preprocessing
) -> dict[str, Any]:
    """Return the settings of a full supernet with a ticket's stem and stages, and a head for the target."""
    features = _supernet_of(ticket)
    settings = {name: getattr(features, name) for name in _FEATURE_SETTINGS} | dataclasses.asdict(features.style)
    behind = features if head is None else _supernet_of(head)
    if behind.head == wanted:
        check_join(features, behind)
        return settings | {name: getattr(behind, name) for name in ("head", *_HEAD_SETTINGS[HRNetSpec])}
    if head is not None:
        raise UserError(f"--head is a ticket for {behind.head}, the data is for {wanted}; take one of that task")
    given = recipe.supernet.settings.items()
    chosen = {name: value for name, value in given if name in _HEAD_SETTINGS[HRNetSpec]}
    usual = create_spec(recipe.supernet.name, image_size=preprocessing.size)
    assert isinstance(usual, HRNetSpec)
    branches, widths = len(features.channels[-1]), chosen.get("head_channels", usual.head_channels)
    if wanted == "classification" and len(widths) != branches:
        raise UserError(
            f"the head of {recipe.name} is for {len(widths)} branches (of {list(widths)} channels), the ticket's "
            f"features have {branches}; set supernet.settings.head_channels to {branches} numbers"
        )
    return settings | {"head": wanted} | chosen


def _supernet_of(ticket: Ticket) -> HRNetSpec:
    if not isinstance(ticket.spec, HRNetSpec):
        raise UserError(f"the head of {ticket.spec} does not fit a supernet; give --head a ticket of a supernet")
    return ticket.spec


def check_join(features: HRNetSpec, head: HRNetSpec) -> None:
    """Check that a head was trained over maps like those that the features make.

    Raises:
        UserError: Names the first difference.
    """
    has_tokens = any(units.tokens for name, units in head.units.items() if not _of_features(name))
    pairs: list[tuple[str, Any, Any]] = [
        ("branches", len(features.channels[-1]), len(head.channels[-1])),
        ("channels of the last stage", features.channels[-1], head.channels[-1]),
        ("stem strides", features.stem_strides, head.stem_strides),
        ("kernels", features.style.kernels, head.style.kernels),
        ("expansion", features.expansion, head.expansion),
        *([("grid", features.style.grid, head.style.grid)] if has_tokens else []),
        *([("tokens", features.tokens, head.tokens)] if has_tokens else []),
    ]
    for what, ours, theirs in pairs:
        if ours != theirs:
            raise UserError(
                f"the head does not fit the features: its ticket has {what} {_format(theirs)}, "
                f"theirs has {_format(ours)}; "
                "draw both from supernets with the same stem and stages, or leave --head out"
            )


def join_tickets(
    full: Spec,
    features: Ticket,
    head: Ticket | None,
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
    seed: int,
) -> Ticket:
    """Join features and head, each with its weights, statistics and mask.

    Without a head's ticket the features keep their own if the task is the same, but for the classifier; for another
    task the head is that of the full supernet, with fresh weights. What is fresh stays dense: nothing has been learned
    that could be ranked. It counts as maskable all the same, so that the sparsity is that of the whole network.

    Args:
        full: The network with the wanted head, and all units that features and head may have lost.
        features: Ticket with everything in front of the head.
        head: Ticket with everything behind that, classifier included.
        classes: Names of the outputs.
        preprocessing: Steps from an image to an input.
        seed: Seed of fresh weights.

    Returns:
        A ticket that has not been trained as a whole yet.
    """
    behind = head or (features if features.spec.head == full.head else None)
    spec = full
    if isinstance(full, HRNetSpec):
        spec = _with_units(full, _supernet_of(features), _supernet_of(behind) if behind else full)
    torch.manual_seed(seed)
    module = spec.build()
    assert isinstance(module, HRNet | ResNet)

    def giver(name: str) -> Ticket | None:
        if module.is_feature(name):
            return features
        return head if name.startswith("classifier.") else behind

    weights: dict[str, Tensor] = {}
    for name, fresh in module.state_dict().items():
        ticket = giver(name)
        weights[name] = fresh if ticket is None else ticket.weights[name]
    givers = [ticket for ticket in (features, behind) if ticket is not None]
    masks = [ticket.mask for ticket in givers if ticket.mask]
    mask: dict[str, Tensor] = {}
    if masks:
        masked = [name for names in masks for name in names]
        transformer, classifier = any(".tokens." in name for name in masked), "classifier.weight" in masked
        for name in module.maskable_weights(transformer=transformer, classifier=classifier):
            ticket = giver(name)
            known: Mapping[str, Tensor] = {} if ticket is None else ticket.mask
            mask[name] = known[name] if name in known else torch.ones_like(weights[name], dtype=torch.bool)
    return Ticket(spec, weights, mask, classes, preprocessing, {})


def _with_units(full: HRNetSpec, features: HRNetSpec, behind: HRNetSpec) -> HRNetSpec:
    """Return a supernet with the units that are left in the features of one and in the head of another."""
    units = {name: units for name, units in features.units.items() if _of_features(name)}
    units |= {name: units for name, units in behind.units.items() if not _of_features(name)}
    return dataclasses.replace(full, units=units)


def _of_features(block: str) -> bool:
    return HRNet.is_feature(f"blocks.{block}.")


def _format(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
